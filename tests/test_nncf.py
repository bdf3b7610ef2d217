"""Codes and scales of NNCF, bit for bit, and better logits at the same settings (where NNCF is installed)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from written import Source, decoder, normal, run, written

from batchconv import ops, packing
from batchconv.formats import FORMATS, Quantised
from batchconv.graph import Graph, Value
from batchconv.quantize import Compression
from batchconv.tensor import Array, DType, Spec

pytestmark = [pytest.mark.nncf, pytest.mark.filterwarnings("ignore")]

MODES = [name for name, row in FORMATS.items() if row.rule is not None and name != "fp8_e5m2"]
PARTS = {"codes": "", "scale": "/scale", "zero_point": "/zero_point", "second_order_scale": "/second_order_scale"}


@pytest.fixture(scope="module")
def nncf() -> Any:
    pytest.importorskip("openvino")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("nncf")
    import logging

    module.set_log_level(logging.ERROR)
    return module


def compressed_constants(nncf: Any, w: Array, turned: bool, name: str, group: int) -> dict[str, Any]:
    """The Constants of a MatMul's weight `W` as NNCF leaves them, by name."""
    import openvino as ov
    from openvino import opset13

    x = opset13.parameter([-1, w.shape[1 if turned else 0]], ov.Type.f32)
    model = ov.Model([opset13.matmul(x, opset13.constant(w, name="W"), False, turned)], [x])
    options = {} if name.startswith("int8") else {"all_layers": True, "group_size": group}
    made = nncf.compress_weights(model, mode=getattr(nncf.CompressWeightsMode, name.upper()), **options)
    return {op.get_friendly_name(): op for op in made.get_ops() if op.get_type_name() == "Constant"}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", MODES)
def test_codes_and_scales_equal_those_of_nncf(nncf: Any, name: str, turned: bool) -> None:
    rng = np.random.default_rng(7)
    for shape in ((192, 128), (64, 128)):  # computed by OpenVINO, and (under 10,000 elements) by numpy
        w = (rng.standard_t(4, size=shape) * 0.05).astype(np.float32)
        w[:, 3] = w[5] = 0
        group = FORMATS[name].group if FORMATS[name].group in (-1, 16, 32) else 64
        theirs = compressed_constants(nncf, w, turned, name, group)
        encoder = Quantised(name, (1 if turned else 0,), group)
        spec = Spec(DType.F32, shape)
        made = encoder.encode(w, spec).parts
        for part, out in encoder.outputs(spec).items():
            constant = theirs["W_nncf_codebook_idxs" if (name, part) == ("cb4", "codes") else "W" + PARTS[part]]
            assert tuple(constant.shape) == out.shape
            assert packing.pack(made[part], out.dtype) == constant.data.tobytes(), (name, part, shape)


def heads(source: Source, seed: int) -> Graph:
    """Seven MatMuls, each of the input or of one before it; what nothing reads is a Result."""
    random = np.random.default_rng(seed)
    x = ops.parameter("x", DType.F32, (1, 64)).value()
    values, loose = [x], list[Value]()
    for i in range(7):
        inner = values[random.integers(len(values))]
        weight = source.constant(f"w{i}", normal(64, 64, seed=7 * seed + i) * np.float32(random.uniform(0.1, 4)))
        value = ops.relu(ops.matmul(inner, weight).op.named(f"n{random.integers(100)}-{i}").value())
        values.append(value)
        loose = [other for other in (*loose, value) if other is not inner]
    order = random.permutation(len(loose))
    return Graph((x.op,), tuple(ops.result(loose[i], f"y{i}") for i in order), "heads")


@pytest.mark.parametrize("ratio", [1.0, 0.5])
@pytest.mark.parametrize("seed", range(8))
def test_of_several_heads_the_same_is_the_last_layer(nncf: Any, tmp_path: Path, seed: int, ratio: float) -> None:
    import openvino as ov

    source = Source(tmp_path / "source")
    graph = heads(source, seed)
    written(graph, Compression(), tmp_path)
    model = ov.Core().read_model(tmp_path / "model.xml")
    theirs = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_SYM, ratio=ratio, group_size=32)
    (tmp_path / "ours").mkdir()
    report = written(graph, Compression("int4_sym", ratio=ratio, group_size=32), tmp_path / "ours")
    chosen = {op.get_friendly_name() for op in theirs.get_ops() if op.get_element_type().get_type_name() == "i4"}
    assert chosen == {line.layer for line in report if line.format == "int4_sym"}


def test_logits_are_nearer_than_those_of_nncf_at_the_same_settings(nncf: Any, tmp_path: Path) -> None:
    import openvino as ov

    source = Source(tmp_path / "source")
    graph = decoder(source, turned=True)
    ids = np.random.default_rng(0).integers(0, 256, (1, 8))
    written(graph, Compression(), tmp_path)
    (exact,) = run(tmp_path / "model.xml", ids)
    model = ov.Core().read_model(tmp_path / "model.xml")
    theirs = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_SYM, ratio=0.8, group_size=64)
    (tmp_path / "peer").mkdir()
    ov.save_model(theirs, tmp_path / "peer" / "model.xml", compress_to_fp16=False)
    (peer,) = run(tmp_path / "peer" / "model.xml", ids)
    (tmp_path / "ours").mkdir()
    report = written(graph, Compression("int4_sym", ratio=0.8, group_size=64), tmp_path / "ours")
    (ours,) = run(tmp_path / "ours" / "model.xml", ids)
    chosen = {op.get_friendly_name() for op in theirs.get_ops() if op.get_element_type().get_type_name() == "i4"}
    assert chosen == {line.layer for line in report if line.format == "int4_sym"}
    assert 0 < len(chosen) < 8
    assert all(line.error is not None and 0 < line.error < 0.2 for line in report)
    sizes = [(tmp_path / folder / "model.bin").stat().st_size for folder in ("ours", "peer")]
    assert sizes[0] <= sizes[1] + 64 * 64  # alignment
    assert np.linalg.norm(ours - exact) < 0.98 * np.linalg.norm(peer - exact)
