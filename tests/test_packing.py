"""Packed elements: the examples of ir.md section 3, there and back, and as OpenVINO reads them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchconv.packing import pack, unpack
from batchconv.tensor import Array, DType, Region, Spec
from batchconv.weight import inline, read

PACKED = [DType.U1, DType.U2, DType.U3, DType.U4, DType.U6, DType.I4, DType.NF4, DType.F4E2M1]

EXAMPLES = [
    (DType.U4, [1, 2, 3, 4, 5], "21 43 05"),
    (DType.I4, [1, -1, -8, 7, -3], "f1 78 0d"),
    (DType.NF4, [0, 7, 15], "70 0f"),
    (DType.F4E2M1, [15, 1], "1f"),
    (DType.U2, [1, 2, 3, 0, 2], "39 02"),
    (DType.U1, [1, 0, 0, 0, 0, 0, 0, 0, 1, 1], "80 c0"),
    # low two bits of v0..v3 and of v4..v7, v0 on top, then the high bits
    (DType.U3, [0, 1, 2, 3, 4, 5, 6, 7], "1b 1b 0f"),
    (DType.U3, [4, 0, 0, 0, 0, 0, 0, 0], "00 00 80"),
    (DType.U3, [3], "c0 00 00"),
    # low nibbles v0 v1, v2 v3, then the top two bits of each
    (DType.U6, [0x11, 0x22, 0x3F, 0x04], "12 f4 6c"),
    (DType.U6, [0, 0, 0, 0, 0x21], "00 00 00 10 00 80"),
    (DType.I16, [1, -2], "01 00 fe ff"),
    (DType.BOOLEAN, [True, False], "01 00"),
]


@pytest.mark.parametrize(("dtype", "codes", "packed"), EXAMPLES)
def test_examples(dtype: DType, codes: list[int], packed: str) -> None:
    array = np.array(codes, dtype.numpy)
    assert pack(array, dtype).hex(" ") == packed
    assert len(bytes.fromhex(packed)) == Spec(dtype, array.shape).nbytes


@given(st.sampled_from(PACKED), st.integers(0, 70), st.integers(0, 2**32))
def test_there_and_back(dtype: DType, count: int, seed: int) -> None:
    codes = random_codes(dtype, count, seed)
    packed = pack(codes, dtype)
    assert len(packed) == Spec(dtype, (count,)).nbytes
    back = unpack(packed, dtype, count)
    assert back.dtype == dtype.numpy
    np.testing.assert_array_equal(back, codes)
    for start in range(0, count, 7):
        np.testing.assert_array_equal(read(inline(codes, dtype), Region((start,), (count,))), codes[start:])


def random_codes(dtype: DType, count: int, seed: int) -> Array:
    low = -8 if dtype is DType.I4 else 0
    return np.asarray(np.random.default_rng(seed).integers(low, low + (1 << dtype.bits), count), dtype.numpy)


@pytest.mark.parametrize("dtype", [d for d in DType if d.bits], ids=lambda d: d.ir)
@pytest.mark.parametrize("count", [1, 5, 8, 17])
def test_size_is_that_of_openvino(dtype: DType, count: int) -> None:
    ov = pytest.importorskip("openvino")
    assert ov.Tensor(getattr(ov.Type, dtype.ir), ov.Shape([count])).byte_size == Spec(dtype, (count,)).nbytes


@pytest.mark.parametrize("dtype", PACKED, ids=lambda d: d.ir)
def test_openvino_reads_the_codes(dtype: DType) -> None:
    codes = random_codes(dtype, 16, 3)
    np.testing.assert_allclose(read_by_openvino(dtype, pack(codes, dtype)), meant(dtype, codes), atol=1e-6)


def meant(dtype: DType, codes: Array) -> Array:
    """The numbers that codes stand for."""
    if dtype is DType.F4E2M1:
        sizes = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
        return np.where(codes & 8, -sizes[codes & 7], sizes[codes & 7])
    return NF4[codes] if dtype is DType.NF4 else codes


_LOW = [-1, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.09105]
_HIGH = [0, 0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.562617, 0.7229568, 1]
NF4 = np.array(_LOW + _HIGH)


def read_by_openvino(dtype: DType, packed: bytes) -> Array:
    """16 elements of packed bytes as OpenVINO's constant folding converts them to f32."""
    ov = pytest.importorskip("openvino")
    passes = pytest.importorskip("openvino.passes")
    tensor = ov.Tensor(getattr(ov.Type, dtype.ir), ov.Shape([16]))
    tensor.data.reshape(-1).view(np.uint8)[:] = np.frombuffer(packed, np.uint8)
    converted = ov.opset13.convert(ov.opset13.constant(tensor), "f32")
    model = ov.Model([ov.opset13.result(converted)], [])
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(model)
    return np.asarray(model.get_results()[0].input_value(0).get_node().data)
