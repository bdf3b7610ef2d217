"""ONNX files as Models: what is read, what stays in the file, and the one line each damaged file gives."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from batchconv import storage
from batchconv.errors import BadModel, ConversionError, Unsupported
from batchconv.frontends.onnx import read, registry
from batchconv.frontends.onnx.decode import varint_array
from batchconv.frontends.translate import Model, translate
from batchconv.shape import ANY
from batchconv.steps import Slice, Transpose
from batchconv.tensor import DType, Region
from batchconv.weight import INLINE, Extent, Weight
from batchconv.weight import read as read_weight

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
RELU = helper.make_node("Relu", ["x"], ["y"], name="relu")


def model_of(
    nodes: Any = (RELU,), inputs: Any = None, outputs: Any = ("y",), weights: Any = (), opset: int = 17, **more: Any
) -> Any:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, None, 8])
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(list(nodes), "net", [x] if inputs is None else inputs, made, list(weights), **more)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.me", 3)])


@pytest.fixture
def load(tmp_path: Path) -> Callable[[Any], Model]:
    def of(model: Any) -> Model:
        data = model if isinstance(model, bytes) else model.SerializeToString()
        (tmp_path / "m.onnx").write_bytes(data)
        return read(str(tmp_path / "m.onnx"))

    return of


def test_nodes_names_and_versions(load: Callable[[Any], Model]) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", ""], ["a"], name="conv", pads=[1, 1, 1, 1], auto_pad="NOTSET"),
        helper.make_node("Own", ["a"], ["", "y"], domain="com.me", alpha=0.5, names=["p", "q"], scales=[0.5, 2.0]),
        helper.make_node("Relu", ["a"], ["z"], name="conv"),
        helper.make_node("Relu", ["a"], ["v"], domain="ai.onnx"),
    ]
    model = load(model_of(nodes))
    assert [(n.op, n.name, n.inputs, n.outputs, n.domain, n.version) for n in model.nodes] == [
        ("Conv", "conv", ("x", "w", ""), ("a",), "", 17),
        ("Own", "y", ("a",), ("", "y"), "com.me", 3),
        ("Relu", "z", ("a",), ("z",), "", 17),
        ("Relu", "v", ("a",), ("v",), "", 17),
    ]
    assert model.nodes[0].attributes() == {"pads": (1, 1, 1, 1), "auto_pad": "NOTSET"}
    assert model.nodes[1].attributes() == {"alpha": 0.5, "names": ("p", "q"), "scales": (0.5, 2.0)}
    assert (model.name, model.outputs, model.framework) == ("net", ["y"], "onnx")


def test_inputs(load: Callable[[Any], Model]) -> None:
    infos = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["n", 3, None, 8]),
        helper.make_tensor_value_info("any", TensorProto.INT64, None),
        helper.make_tensor_value_info("scalar", TensorProto.BOOL, []),
        helper.make_tensor_value_info("w", TensorProto.FLOAT, [2]),
    ]
    model = load(model_of(inputs=infos, weights=[numpy_helper.from_array(np.ones(2, np.float32), "w")]))
    assert [(i.name, i.dtype, i.shape) for i in model.inputs] == [
        ("x", DType.F16, (ANY, 3, ANY, 8)),
        ("any", DType.I64, None),
        ("scalar", DType.BOOLEAN, ()),
    ]


NUMBERS = [
    "FLOAT", "DOUBLE", "INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64", "BOOL", "FLOAT16",
    "BFLOAT16", "INT4", "UINT4", "FLOAT8E4M3FN", "FLOAT8E5M2",
]  # fmt: skip


@pytest.mark.parametrize("size", [7, 4321])
@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("name", NUMBERS)
def test_every_way_to_store_a_tensor(load: Callable[[Any], Model], name: str, raw: bool, size: int) -> None:
    code = TensorProto.DataType.Value(name)
    values = np.arange(size) % 15 - (7 if name[0] != "U" and name != "BOOL" else 0)
    tensor = helper.make_tensor("w", code, [size], values if name != "BOOL" else values % 2)
    if raw:
        tensor = numpy_helper.from_array(numpy_helper.to_array(tensor), "w")
    weight = load(model_of(weights=[tensor])).weights["w"]
    assert isinstance(weight.source, bytes) or weight.stored.nbytes > INLINE
    expected = numpy_helper.to_array(tensor)
    found = read_weight(weight)
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found.astype(np.float64), expected.astype(np.float64))


def test_varints_by_blocks(load: Callable[[Any], Model], monkeypatch: pytest.MonkeyPatch) -> None:
    """Any box of a large varint tensor, with steps behind it, equals the same box of the whole."""
    monkeypatch.setattr("batchconv.frontends.onnx.decode.BLOCK", 500)
    values = (np.random.default_rng(1).integers(-(2**62), 2**62, (40, 6, 5)) >> np.arange(5) * 12).astype(np.int64)
    weight = load(model_of(weights=[helper.make_tensor("w", TensorProto.INT64, values.shape, values.ravel())])).weights[
        "w"
    ]
    for region in (Region((3, 0, 0), (9, 6, 5)), Region((0, 2, 1), (40, 3, 4)), Region((39, 5, 4), (40, 6, 5))):
        np.testing.assert_array_equal(read_weight(weight, region), values[region.slices])
    moved = weight.then(Transpose((2, 0, 1)), Slice(1, 5, 30))
    np.testing.assert_array_equal(read_weight(moved), values.transpose(2, 0, 1)[:, 5:30])


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_varint_array(values: list[int]) -> None:
    data = bytearray()
    for value in values:
        rest = value % 2**64
        while rest > 127:
            data.append(rest & 127 | 128)
            rest >>= 7
        data.append(rest)
    assert varint_array(bytes(data)).tolist() == values


def key(number: int, wire: int) -> bytes:
    return bytes([number << 3 | wire])


def test_unpacked_numbers(load: Callable[[Any], Model]) -> None:
    floats = b"".join(key(4, 5) + np.float32(v).tobytes() for v in (1.5, -2, 3))
    ints = b"".join(key(7, 0) + bytes([v]) for v in (1, 2, 3))
    first = key(1, 0) + b"\x03" + key(2, 0) + b"\x01" + key(8, 2) + b"\x01f" + floats
    second = key(1, 0) + b"\x03" + key(2, 0) + b"\x07" + key(8, 2) + b"\x01i" + ints
    graph = b"".join(key(5, 2) + bytes([len(t)]) + t for t in (first, second))
    weights = load(b"\x08\x08" + key(7, 2) + bytes([len(graph)]) + graph).weights
    assert read_weight(weights["f"]).tolist() == [1.5, -2, 3]
    assert read_weight(weights["i"]).tolist() == [1, 2, 3]


CONSTANTS = [
    ({"value": numpy_helper.from_array(np.float32([[1, 2]]))}, [[1, 2]], DType.F32),
    ({"value_float": 2.5}, 2.5, DType.F32),
    ({"value_floats": [2.5, 3]}, [2.5, 3], DType.F32),
    ({"value_int": -4}, -4, DType.I64),
    ({"value_ints": [5, -6]}, [5, -6], DType.I64),
]


@pytest.mark.parametrize(("attribute", "value", "dtype"), CONSTANTS)
def test_constant_nodes(load: Callable[[Any], Model], attribute: Any, value: Any, dtype: DType) -> None:
    model = load(model_of([helper.make_node("Constant", [], ["c"], **attribute)]))
    assert (read_weight(model.weights["c"]).tolist(), model.weights["c"].spec.dtype) == (value, dtype)
    assert not model.nodes


def test_old_attributes_without_type(load: Callable[[Any], Model]) -> None:
    node = helper.make_node("Op", ["x"], ["y"], a=3, b=[1.0, 2.0], c="t")
    for attribute in node.attribute:
        attribute.ClearField("type")
    assert load(model_of([node])).nodes[0].attributes() == {"a": 3, "b": (1.0, 2.0), "c": "t"}


def external(tmp_path: Path, entries: Mapping[str, str], shape: tuple[int, ...] = (4, 3)) -> Path:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    for name, value in entries.items():
        tensor.external_data.add(key=name, value=value)
    path = tmp_path / "zoo" / "m.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model_of(weights=[tensor]).SerializeToString())
    return path


def test_external_data(tmp_path: Path) -> None:
    path = external(tmp_path, {"location": "sub/w.data", "offset": "16", "length": "48"})
    (path.parent / "sub").mkdir()
    (path.parent / "sub/w.data").write_bytes(bytes(16) + np.arange(12, dtype=np.float32).tobytes())
    model = read(str(path))
    weight = model.weights["w"]
    assert weight.source == Extent(str(path.parent / "sub/w.data"), 16, 48)
    np.testing.assert_array_equal(read_weight(weight), np.arange(12).reshape(4, 3))
    assert model.sources == (str(path), str(path.parent / "sub/w.data"))


def test_external_data_without_offset_and_length(tmp_path: Path) -> None:
    path = external(tmp_path, {"location": "w.data"})
    (path.parent / "w.data").write_bytes(np.ones(12, np.float32).tobytes())
    assert read_weight(read(str(path)).weights["w"]).sum() == 12


def test_external_data_in_a_store(tmp_path: Path) -> None:
    data = external(tmp_path, {"location": "w.data", "offset": "16"}).read_bytes()
    storage.put("memory://zoo/m.onnx", data)
    with pytest.raises(BadModel, match=r"external data 'w.data' is missing"):
        read("memory://zoo/m.onnx")
    storage.put("memory://zoo/w.data", bytes(16) + np.arange(12, dtype=np.float32).tobytes())
    model = read("memory://zoo/m.onnx")
    assert read_weight(model.weights["w"]).sum() == 66
    assert model.sources == ("memory://zoo/m.onnx", "memory://zoo/w.data")


OUTSIDE = "m.onnx: tensor 'w': external data {!r} is not a file in the folder of the model"
EXTERNAL = [
    ({"location": "../w.data"}, OUTSIDE.format("../w.data")),
    ({"location": "a/../../w.data"}, OUTSIDE.format("a/../../w.data")),
    ({"location": "..\\w.data"}, OUTSIDE.replace("{!r}", "'..\\w.data'")),
    ({"location": "/etc/passwd"}, OUTSIDE.format("/etc/passwd")),
    ({"location": "http://a/b"}, OUTSIDE.format("http://a/b")),
    ({"location": "C:\\w"}, OUTSIDE.replace("{!r}", "'C:\\w'")),
    ({}, OUTSIDE.format("")),
    ({"location": "link"}, "m.onnx: tensor 'w': external data 'link' is a link that leaves the folder of the model"),
    ({"location": "gone"}, "m.onnx: tensor 'w': external data 'gone' is missing"),
    ({"location": "w.data", "offset": "100"},
     "m.onnx: tensor 'w': its data are bytes 100 to 148 of 'w.data', which has 64"),
    ({"location": "w.data", "length": "40"}, "m.onnx: tensor 'w': f32[4, 3] needs 48 bytes, its external data has 40"),
    ({"location": "w.data", "offset": "-1"}, "m.onnx: tensor 'w': external data: offset '-1' is not a number"),
    ({"location": "w.data", "offset": "x"}, "m.onnx: tensor 'w': external data: offset 'x' is not a number"),
]  # fmt: skip


@pytest.mark.parametrize(("entries", "message"), EXTERNAL)
def test_external_data_refused(tmp_path: Path, entries: Mapping[str, str], message: str) -> None:
    path = external(tmp_path, entries)
    (path.parent / "w.data").write_bytes(bytes(64))
    (tmp_path / "w.data").write_bytes(bytes(64))
    os.symlink(tmp_path / "w.data", path.parent / "link")
    with pytest.raises(BadModel) as caught:
        read(str(path))
    assert str(caught.value) == message


def tensor_of(**fields: Any) -> Any:
    return model_of(weights=[TensorProto(name="w", **fields)])


def with_input(shape: Any, code: int = TensorProto.FLOAT) -> Any:
    return model_of(inputs=[helper.make_tensor_value_info("x", code, shape)])


def renamed(model: Any, old: bytes, new: bytes) -> bytes:
    data: bytes = model.SerializeToString()
    return data.replace(old, new)


GOOD = model_of(weights=[numpy_helper.from_array(np.ones(900, np.float32), "w")]).SerializeToString()
CYCLE = [helper.make_node("Add", ["x", "b"], ["a"], name="p"), helper.make_node("Relu", ["a"], ["b"], name="q")]
DAMAGED = [
    ("empty", b"", "not an ONNX model: the file is empty"),
    ("text", b"<html>not a model</html>",
     "not an ONNX model: byte 0: field 7 ends a group that was not started"),
    ("other protobuf", b"\x0a\x03abc\x12\x00", "not an ONNX model: byte 2: field 1 has wire type 2"),
    ("no graph", b"\x08\x07\x12\x04pyth", "not an ONNX model: it has no graph"),
    ("cut short", GOOD[:2000],
     "damaged or cut short: byte 2: field 7 has 3678 bytes, of which 1995 are there"),
    ("2^60", tensor_of(data_type=1, dims=[1 << 60], raw_data=bytes(8)),
     "tensor 'w': f32[1152921504606846976] needs 4611686018427387904 bytes, 8 are there"),
    ("2^60 four times", tensor_of(data_type=1, dims=[1 << 60] * 4),
     f"tensor 'w': f32{[1 << 60] * 4} needs {4 << 240} bytes, 0 are there"),
    ("2^60 varints", tensor_of(data_type=7, dims=[1 << 60], int64_data=[1] * 2000),
     "tensor 'w': i64[1152921504606846976] has 1152921504606846976 numbers, which 2000 bytes cannot hold"),
    ("too few varints", tensor_of(data_type=7, dims=[5], int64_data=[1, 2]),
     "tensor 'w': i64[5] needs 40 bytes, 16 are there"),
    ("negative", tensor_of(data_type=1, dims=[-3]), "tensor 'w': shape [-3] has a negative dimension"),
    ("no data", tensor_of(data_type=1, dims=[3]), "tensor 'w': f32[3] needs 12 bytes, 0 are there"),
    ("no such type", tensor_of(data_type=99, dims=[]), "tensor 'w': element type 99 does not exist"),
    ("wrong field", tensor_of(data_type=7, dims=[1], float_data=[1]), "tensor 'w': i64[1] cannot lie in float_data"),
    ("input of 2^60", with_input([1 << 60]), "input 'x': dimension 1152921504606846976 is too large"),
    ("input of no type", with_input([1], 0), "input 'x': element type 0 does not exist"),
    ("name not UTF-8", renamed(model_of(), b"relu", b"re\xff\xfe"), "byte 16: a name is not UTF-8"),
    ("cycle", model_of(CYCLE, outputs=["b"]), "Relu 'q': the graph has a cycle through tensor 'b'"),
    ("missing tensor", model_of(outputs=["gone"]), "tensor 'gone' is not made by any node"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "message"), [case[1:] for case in DAMAGED], ids=[case[0] for case in DAMAGED])
def test_damaged(load: Callable[[Any], Model], model: Any, message: str) -> None:
    with pytest.raises(BadModel) as caught:
        translate(load(model), registry)
    assert str(caught.value) == f"m.onnx: {message}"


TEXTS = helper.make_tensor("t", TensorProto.STRING, [1], [b"a"])
LISTS = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
REFUSED = [
    ("complex", model_of(weights=[numpy_helper.from_array(np.ones(2, np.complex64), "w")]),
     "tensor 'w': element type complex64 is not supported"),
    ("texts", model_of([helper.make_node("Relu", ["t"], ["y"])], weights=[TEXTS]),
     "no translator for tensor of texts ('t')"),
    ("text constant", model_of([helper.make_node("Constant", [], ["y"], value_string="a")]),
     "no translator for Constant of texts or sparse values ('y')"),
    ("sequence", model_of([helper.make_node("SequenceAt", ["s", "s"], ["y"])], inputs=[LISTS]),
     "no translator for input that is no tensor ('s'), SequenceAt ('y')"),
    ("body", model_of([helper.make_node("If", ["x"], ["y"], then_branch=model_of().graph, name="if")]),
     "no translator for If ('if')"),
    ("attribute", model_of([helper.make_node("Relu", ["x"], ["y"], name="r", speed=1)]),
     "Relu 'r': attribute 'speed' is not supported (see onnx/activation.py)"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refused(load: Callable[[Any], Model], model: Any, message: str) -> None:
    with pytest.raises(Unsupported) as caught:
        translate(load(model), registry)
    assert str(caught.value) == f"m.onnx: {message}"


def test_a_file_cut_anywhere_gives_one_line(tmp_path: Path) -> None:
    data = (LIGHT / "light_squeezenet.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    for size in range(0, len(data), 37):
        path.write_bytes(data[:size])
        with pytest.raises(BadModel) as caught:
            read(str(path))
        assert str(caught.value).startswith("cut.onnx: ")
        assert "\n" not in str(caught.value)


def test_bytes_changed_anywhere_give_a_graph_or_one_line(tmp_path: Path) -> None:
    data = bytearray(model_of(weights=[numpy_helper.from_array(np.ones(3, np.float32), "w")]).SerializeToString())
    path, told = tmp_path / "changed.onnx", 0
    for at in range(len(data)):
        for bit in (1, 8, 128):
            data[at] ^= bit
            path.write_bytes(data)
            try:
                translate(read(str(path)), registry)
            except ConversionError as error:
                told += str(error).startswith("changed.onnx: ") and "\n" not in str(error)
            data[at] ^= bit
    assert told > 100


def test_a_large_model_is_opened_by_its_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = numpy_helper.from_array(np.zeros(4_000_000, np.float32), "w")
    path = tmp_path / "big.onnx"
    path.write_bytes(model_of(weights=[big]).SerializeToString())
    seen: list[int] = []
    pread = storage.read
    monkeypatch.setattr(storage, "read", lambda url, at, size: seen.append(size) or pread(url, at, size))
    weight: Weight = read(str(path)).weights["w"]
    assert isinstance(weight.source, Extent)
    assert weight.source.length == 16_000_000
    assert sum(seen) < 300_000
