"""What is compressed, by which subgraph, and that OpenVINO computes with it what the formula says."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from growth import is_linear
from test_formats import SCALED, dequantised
from written import Source, decoder, normal, run, written

from batchconv import ops, quantize
from batchconv.errors import BadModel
from batchconv.formats import FORMATS, Quantised
from batchconv.graph import Graph, Op, Value
from batchconv.ir import layout
from batchconv.passes.compress import Compressed, candidates, compress, compressed
from batchconv.quantize import Compression
from batchconv.tensor import DType, Spec
from batchconv.weight import BLOCK, Extent, Weight, inline

NOWHERE = Extent("/nowhere/model", 0, 1 << 40)
"""A source that cannot be read: planning must not try."""


def far(name: str, *shape: int, dtype: DType = DType.F32) -> Value:
    return ops.constant(Weight(Spec(dtype, shape), NOWHERE), name)


def chain(*links: tuple[str, int, int], dtype: DType = DType.F32) -> Graph:
    """MatMuls one after another, [in, out] weights that cannot be read."""
    x = ops.parameter("x", DType.F32, (1, links[0][1]))
    value = x.value()
    for name, rows, columns in links:
        value = ops.matmul(value, far(name, rows, columns, dtype=dtype), name=f"{name}.mm")
    return Graph((x,), (ops.result(value, "y"),), "chain")


def named(graph: Graph) -> dict[str, Op]:
    return {op.name: op for op in graph.ops() if op.name}


def formats(made: Compressed) -> dict[str, tuple[str, int]]:
    return {line.layer: (line.format, line.group) for line in made.report}


def test_fp32_changes_nothing() -> None:
    graph = chain(("w", 64, 64))
    assert compress(graph, Compression()) is graph


def test_int8_subgraph_has_the_names_and_types_of_nncf() -> None:
    text = str(compress(chain(("w", 64, 32)), Compression("int8_asym")))
    assert text.splitlines()[1:-1] == [
        "%1 = Constant() {weight=u8[64, 32]|Encoded} : u8[64,32] 'w'",
        "%2 = Convert(%1) {destination_type=f16} : f16[64,32] ''",
        "%3 = Constant() {weight=u8[1, 32]|Encoded} : u8[1,32] 'w/zero_point'",
        "%4 = Convert(%3) {destination_type=f16} : f16[1,32] ''",
        "%5 = Subtract(%2, %4) {auto_broadcast=numpy} : f16[64,32] 'w/zero_point/subtract'",
        "%6 = Constant() {weight=f16[1, 32]|Encoded} : f16[1,32] 'w/scale'",
        "%7 = Multiply(%5, %6) {auto_broadcast=numpy} : f16[64,32] 'w/fq_weights_1'",
        "%8 = Convert(%7) {destination_type=f32} : f32[64,32] 'w/fq_weights_1/convert'",
        "%9 = MatMul(%0, %8) {transpose_a=False, transpose_b=False} : f32[1,32] 'w.mm'",
    ]


def test_groups_get_a_reshape() -> None:
    text = str(compress(chain(("w", 256, 32)), Compression("int4_sym", all_layers=True)))
    assert text.splitlines()[1:-2] == [
        "%1 = Constant() {weight=i4[2, 128, 32]|Encoded} : i4[2,128,32] 'w'",
        "%2 = Convert(%1) {destination_type=f16} : f16[2,128,32] ''",
        "%3 = Constant() {weight=f16[2, 1, 32]|Encoded} : f16[2,1,32] 'w/scale'",
        "%4 = Multiply(%2, %3) {auto_broadcast=numpy} : f16[2,128,32] 'w/fq_weights_1'",
        "%5 = Constant() {weight=i64[2]=[256, 32]} : i64[2] ''",
        "%6 = Reshape(%4, %5) {special_zero=False} : f16[256,32] ''",
        "%7 = Convert(%6) {destination_type=f32} : f32[256,32] 'w/fq_weights_1/convert'",
    ]


def test_a_half_source_keeps_its_own_convert() -> None:
    x = ops.parameter("x", DType.F32, (1, 64))
    w = ops.convert(far("w", 64, 32, dtype=DType.F16), name="w32", destination_type=DType.F32)
    graph = Graph((x,), (ops.result(ops.matmul(x.value(), w)),))
    made = named(compress(graph, Compression("int8_sym")))
    assert made["w32"].inputs[0].op is made["w/fq_weights_1"]
    assert "w/fq_weights_1/convert" not in made


def test_of_several_heads_that_of_the_first_result_is_the_last_layer(tmp_path: Path) -> None:
    source = Source(tmp_path / "source")
    x = ops.parameter("x", DType.F32, (1, 64)).value()
    heads = [ops.matmul(x, source.constant(f"w{i}", normal(64, 64, seed=i))) for i in range(3)]
    graph = Graph((x.op,), tuple(ops.result(heads[i]) for i in (1, 2, 0)), "g")
    found = compressed(graph, Compression("int4_sym", group_size=64)).report
    assert [(line.layer, line.format) for line in found] == [
        ("w0", "int4_sym"),
        ("w2", "int4_sym"),
        ("w1", "int8_asym"),
    ]


def test_last_matmul_and_embedding_get_the_backup(tmp_path: Path) -> None:
    made = formats(compressed(decoder(Source(tmp_path / "w")), Compression("int4_sym", group_size=64)))
    assert {name: kind for name, kind in made.items() if kind[0] != "int4_sym"} == {
        "embedding": ("int8_asym", -1),
        "head.weight": ("int8_asym", -1),
    }
    assert set(made.values()) == {("int4_sym", 64), ("int8_asym", -1)}


def test_all_layers_takes_them_too(tmp_path: Path) -> None:
    settings = Compression("nf4", group_size=64, all_layers=True)
    assert set(formats(compressed(decoder(Source(tmp_path / "w")), settings)).values()) == {("nf4", 64)}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Compression("int4_sym", backup="none"), ("f32", -1)),
        (Compression("int4_sym", backup="int8_sym"), ("int8_sym", -1)),
        (Compression("mxfp4"), ("mxfp8_e4m3", 32)),
        (Compression("fp4", group_size=64), ("fp8_e4m3", 64)),
        (Compression("fp4", group_size=-1), ("fp8_e4m3", -1)),
        (Compression("nvfp4"), ("int8_asym", -1)),
    ],
)
def test_backup_follows_nncf(settings: Compression, expected: tuple[str, int]) -> None:
    assert formats(compressed(chain(("a", 128, 128), ("b", 128, 128)), settings))["b"] == expected


def test_group_size_falls_back_layer_by_layer() -> None:
    made = compressed(chain(("a", 256, 192), ("b", 192, 80), ("c", 80, 256), ("d", 256, 8)), Compression("int4_sym"))
    assert formats(made) == {
        "a": ("int4_sym", 128),
        "b": ("int4_sym", 64),
        "c": ("int8_asym", -1),
        "d": ("int8_asym", -1),
    }
    assert [line.reason for line in made.report] == [
        "asked for",
        "groups of 128 do not divide it",
        "no group of at least 32 divides it",
        "last layer",
    ]
    assert formats(compressed(chain(("a", 48, 128), ("b", 128, 8)), Compression("mxfp4")))["a"] == ("int8_asym", -1)


def test_patterns_leave_layers_out() -> None:
    graph = chain(("enc.a", 64, 64), ("enc.b", 64, 64), ("dec.a", 64, 64), ("dec.b", 64, 64))

    def taken(**options: tuple[str, ...]) -> list[str]:
        made = compressed(graph, Compression("int8_sym", **options))  # type: ignore[arg-type]
        return [line.layer for line in made.report if line.format == "int8_sym"]

    assert taken(ignore=("enc.*",)) == ["dec.a", "dec.b"]
    assert taken(only=("*.a",)) == ["enc.a", "dec.a"]
    assert taken(only=("*.a",), ignore=(r"re:enc\..*",)) == ["dec.a"]
    assert taken(ignore=("dec.b.mm",)) == ["enc.a", "enc.b", "dec.a"]


def test_patterns_know_a_layer_by_all_its_names() -> None:
    x = ops.parameter("x", DType.F32, (1, 64))
    product = ops.matmul(x.value(), far("friendly", 64, 64)).op.named("mm", "node").with_names(0, ["tensor"]).value()
    graph = Graph((x,), (ops.result(product, "y"),), "g")
    for pattern in ("friendly", "mm", "node", "tensor"):
        for mode in ("int8_sym", "fp16"):
            (line,) = compressed(graph, Compression(mode, ignore=(pattern,))).report
            assert (line.format, line.reason) == ("f32", "ignored")
            (line,) = compressed(graph, Compression(mode, only=(pattern,))).report
            assert line.format == mode
        (line,) = compressed(graph, Compression("int8_sym", only=("x",))).report
        assert line.reason == "not in `only`"


@pytest.mark.parametrize("mode", ["int4_sym", "nf4"])
def test_what_cannot_be_held_names_its_layer(mode: str, tmp_path: Path) -> None:
    source, x = Source(tmp_path / "source"), ops.parameter("x", DType.F32, (1, 128))
    weight = normal(128, 128)
    weight[3, 4] = np.nan
    product = ops.matmul(x.value(), source.constant("layers.7.weight", weight))
    graph = Graph((x,), (ops.result(product, "y"),), "g")
    with pytest.raises(BadModel, match=rf"node 'layers\.7\.weight': .*{mode} cannot hold"):
        written(graph, Compression(mode, all_layers=True), tmp_path)


def stacked(source: Source, shape: tuple[int, ...], turned: bool, array: np.ndarray) -> Graph:  # type: ignore[type-arg]
    """One MatMul with a weight of three dimensions."""
    x = ops.parameter("x", DType.F32, (shape[0], 1, shape[2 if turned else 1]))
    product = ops.matmul(x.value(), source.constant("w", array.reshape(shape)), transpose_b=turned)
    return Graph((x,), (ops.result(product, "y"),), "g")


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("mode", ["fp16", "int8_asym", "int4_asym", "nvfp4", "cb4", "int2_sym"])
@pytest.mark.parametrize("shape", [(1, 128, 192), (4, 128, 192), (3, 64, 65)])
def test_long_rows_give_the_same_bytes(
    shape: tuple[int, ...], mode: str, turned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Compression(
        mode, all_layers=True, scale_search=False, group_size={"int4_asym": 64, "int2_sym": -1}.get(mode)
    )
    found = []
    for long in (1 << 30, 1 << 12):
        monkeypatch.setattr(quantize, "LONG", long)
        monkeypatch.setattr(layout, "LONG", long)
        source = Source(tmp_path / f"source{long}")
        report = written(stacked(source, shape, turned, normal(*shape)), settings, tmp_path)
        assert [line.error for line in report] == pytest.approx([found[0][2]] if found else [report[0].error], rel=1e-3)
        found.append(((tmp_path / "model.bin").read_bytes(), (tmp_path / "model.xml").read_bytes(), report[0].error))
    assert found[0][:2] == found[1][:2]


@pytest.mark.parametrize(
    ("shape", "turned", "mode"),
    [
        ((1, 4096, 2048), False, "fp16"),
        ((1, 4096, 2048), False, "bf16"),
        ((1, 4096, 2048), False, "int8_asym"),
        ((1, 4096, 2048), False, "int4_sym"),
        ((2, 4096, 1024), False, "int4_sym"),
        ((2, 1024, 4096), True, "int8_asym"),
        ((2, 4096, 1024), False, "int8_asym"),
        ((1, 1, 1 << 23), False, "fp16"),
        ((1, 1, 1 << 23), False, "fp32"),
    ],
)
def test_long_rows_are_not_held_in_memory(shape: tuple[int, ...], turned: bool, mode: str, tmp_path: Path) -> None:
    few = normal(1 << 16)
    source = Source(tmp_path / "source")
    graph = stacked(source, shape, turned, np.broadcast_to(few, (128, 1 << 16)))
    source.arrays.clear()
    settings = Compression(mode, all_layers=True)
    tracemalloc.start()
    try:
        written(graph, settings, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 14 * BLOCK < 32 * BLOCK == np.prod(shape) * 4


def test_a_shared_constant_is_compressed_once() -> None:
    x = ops.parameter("x", DType.F32, (1, 64))
    w = far("w", 64, 64)
    y = ops.matmul(ops.matmul(x.value(), w), w)
    made = compressed(Graph((x,), (ops.result(y),)), Compression("int8_sym"))
    assert [line.layer for line in made.report] == ["w"]
    assert sum(op.type == "Multiply" for op in made.graph.ops()) == 1


def test_each_recipe_is_listed_once_with_its_layer() -> None:
    made = compressed(chain(("a", 128, 128), ("b", 128, 64)), Compression("int4_asym"))
    encoded = [layer for weight, layer in made.weights if weight.steps]
    assert sorted(encoded) == ["a"] * 3 + ["b"] * 3
    assert len({weight for weight, _ in made.weights}) == len(made.weights)


def test_convolutions_are_int8_by_output_channel() -> None:
    x = ops.parameter("x", DType.F32, (1, 4, 8, 8))
    window = {"strides": (1, 1), "pads_begin": (0, 0), "pads_end": (0, 0), "dilations": (1, 1)}
    y = ops.convolution(x.value(), far("conv", 6, 4, 3, 3), **window)
    y = ops.convolution_backprop_data(y, far("deconv", 6, 5, 2, 2), **window)
    made = compressed(Graph((x,), (ops.result(y),)), Compression("int4_sym"))
    assert formats(made) == {"conv": ("int8_asym", -1), "deconv": ("int8_asym", -1)}
    shapes = {op.name: op.outputs[0].shape for op in made.graph.ops()}
    assert shapes["conv/scale"] == (6, 1, 1, 1)
    assert shapes["deconv/scale"] == (1, 5, 1, 1)


def test_rotary_frequencies_are_left_alone() -> None:
    x = ops.parameter("x", DType.F32, (1, 64))
    angles = ops.matmul(x.value(), far("freq", 64, 64))
    y = ops.add(ops.sin(angles), ops.cos(angles))
    made = compressed(Graph((x,), (ops.result(y),)), Compression("int8_sym"))
    assert formats(made) == {"freq": ("f32", -1)}
    assert made.report[0].reason == "gives angles"


def test_contradictions_are_refused_with_every_fault() -> None:
    settings = Compression("int8_asym", group_size=64, ratio=0.5, backup="int5", ignore=("re:(",))
    with pytest.raises(BadModel) as caught:
        compress(chain(("w", 64, 64)), settings)
    for part in ("group size", "ratio", "int5", "re:("):
        assert part in str(caught.value)
    with pytest.raises(BadModel, match="is not one of fp32, fp16"):
        compress(chain(("w", 64, 64)), Compression("int5"))


def test_the_ratio_takes_the_least_sensitive_and_asks_for_scores() -> None:
    graph = chain(*((name, 128, 128) for name in "abcdef"))
    settings = Compression("int4_sym", ratio=0.6)
    asked = candidates(graph, settings)
    assert [layer.name for layer in asked] == list("abcde")
    scores = dict(zip("abcde", (5.0, 1.0, 4.0, 2.0, 3.0)))
    made = formats(compressed(graph, settings, scores))
    assert [name for name, kind in made.items() if kind[0] == "int4_sym"] == ["b", "d"]
    assert candidates(graph, Compression("int4_sym")) == []


# ---- fp16


def test_fp16_renames_and_marks_the_convert() -> None:
    made = named(compress(chain(("w", 64, 64)), Compression("fp16")))
    assert made["w"].type == "Convert"
    assert made["w"].attrs["rt_info"] == ("decompression",)
    assert made["w"].inputs[0].op is made["w_compressed"]
    assert made["w_compressed"].outputs[0].dtype is DType.F16


@pytest.mark.parametrize(("value", "kept"), [(0.1, True), (0.5, False), (1e-5, True)])
def test_fp16_decides_small_constants_at_once(value: float, kept: bool) -> None:
    x = ops.parameter("x", DType.F32, (2,))
    small = ops.constant(inline(np.array([value], np.float32)), "c")
    made = named(compress(Graph((x,), (ops.result(ops.add(x.value(), small)),)), Compression("fp16")))
    assert made["c"].type == ("Constant" if kept else "Convert")


def test_fp16_keeps_what_the_verdict_says() -> None:
    graph = chain(("a", 64, 64), ("b", 64, 64))
    made = compressed(graph, Compression("fp16", keep=frozenset({"a"})))
    assert formats(made) == {"a": ("f32", -1), "b": ("fp16", -1)}


def test_fp16_leaves_a_quantised_model_alone() -> None:
    x = ops.parameter("x", DType.F32, (1, 64))
    codes = ops.convert(far("q", 64, 64, dtype=DType.I8), destination_type=DType.F32)
    y = ops.matmul(ops.matmul(x.value(), codes), far("w", 64, 64))
    made = compressed(Graph((x,), (ops.result(y),)), Compression("fp16"))
    assert made.report == ()
    assert named(made.graph)["w"].type == "Constant"


def test_nameless_constants_get_names_and_integers_stay() -> None:
    x = ops.parameter("x", DType.F32, (1, 64))
    y = ops.reshape(ops.matmul(x.value(), far("", 64, 64)), ops.const([64]), special_zero=False)
    made = compressed(Graph((x,), (ops.result(y),)), Compression("bf16"))
    assert [line.layer for line in made.report] == ["Constant_1"]
    assert [op.outputs[0].dtype.ir for op in made.graph.ops() if op.type == "Constant"] == ["bf16", "i64"]


def test_halves_reach_into_bodies_and_leave_shapes_alone() -> None:
    inner = chain(("inside", 64, 64))
    x = ops.parameter("x", DType.F32, (1, 1, 64, 64))
    scales = far("scales", 4096)
    resized = Op("Interpolate", (x.value(), far("sizes", 4096), scales), {}, x.outputs, "resize")
    loop = Op("Loop", (resized.value(),), {"body": inner, "port_map": ((0, 1), (2, 3))}, x.outputs, "loop")
    made = compressed(Graph((x,), (ops.result(loop.value()),)), Compression("fp16"))
    assert formats(made) == {"sizes": ("f32", -1), "scales": ("f32", -1), "inside": ("fp16", -1)}
    body = named(made.graph)["loop"].attrs["body"]
    assert named(body)["inside"].type == "Convert"
    assert "inside" in [layer for _, layer in made.weights]
    assert named(made.graph)["resize"].inputs[2].op.type == "Constant"


def test_planning_layers_is_linear() -> None:
    def planned(size: int) -> Callable[[], Compressed]:
        return partial(compressed, chain(*((f"w{i}", 128, 128) for i in range(size))), Compression("int4_asym"))

    assert is_linear(planned, 200)
    assert len(planned(2000)().report) == 2000


# ---- what OpenVINO makes of it


def pair(source: Source, turned: bool) -> Graph:
    """Two MatMuls over 256 elements, weights [in, out] or [out, in]."""
    x = ops.parameter("x", DType.F32, (4, 256))
    shapes = ((192, 256), (64, 192)) if turned else ((256, 192), (192, 64))
    value = x.value()
    for i, shape in enumerate(shapes):
        w = source.constant(f"w{i}", normal(*shape, seed=i))
        value = ops.matmul(value, w, transpose_b=turned, name=f"mm{i}")
    return Graph((x,), (ops.result(value, "y"),), "pair")


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", SCALED)
def test_openvino_computes_the_dequantised_product(name: str, turned: bool, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    source = Source(tmp_path / "source")
    group = 64 if FORMATS[name].any_group and FORMATS[name].group > 0 else None
    settings = Compression(name, group_size=group, all_layers=True)
    report = written(pair(source, turned), settings, tmp_path)
    x = np.random.default_rng(9).normal(size=(4, 256)).astype(np.float32)
    expected = x
    for line, w in zip(report, source.arrays.values()):
        axis = 1 if turned else 0
        encoder = Quantised(name, (axis,), line.group, True)
        w32 = dequantised(name, encoder.encode(w, Spec(DType.F32, w.shape)), w.shape)
        w16 = w32.astype(np.float16).astype(np.float32)
        expected = expected @ (w16.T if turned else w16)
        assert line.error == pytest.approx(np.linalg.norm(w32 - w) / np.linalg.norm(w), rel=1e-3)
    (got,) = run(tmp_path / "model.xml", x)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-3 * np.abs(expected).max())
    (exact,) = [x @ (a.T if turned else a) @ (b.T if turned else b) for a, b in [tuple(source.arrays.values())]]
    assert np.abs(got - exact).max() > 4 * np.abs(got - expected).max() or name.startswith("int8")


@pytest.mark.parametrize("mode", ["fp16", "bf16"])
def test_openvino_computes_halves(mode: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    source = Source(tmp_path / "source")
    written(pair(source, False), Compression(mode), tmp_path)
    x = np.random.default_rng(9).normal(size=(4, 256)).astype(np.float32)
    kind = np.float16 if mode == "fp16" else DType.BF16.numpy
    a, b = (w.astype(kind).astype(np.float32) for w in source.arrays.values())
    (got,) = run(tmp_path / "model.xml", x)
    np.testing.assert_allclose(got, x @ a @ b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("mode", "kind"), [("int8_asym", "u8"), ("int8_sym", "i8"), ("int4_sym", "i4"), ("nf4", "nf4")]
)
def test_openvino_executes_with_compressed_weights(mode: str, kind: str, turned: bool, tmp_path: Path) -> None:
    ov = pytest.importorskip("openvino")
    written(
        pair(Source(tmp_path / "source"), turned), Compression(mode, all_layers=not mode.startswith("int8")), tmp_path
    )
    model = ov.Core().compile_model(str(tmp_path / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    layers = [op for op in model.get_runtime_model().get_ops() if op.get_rt_info()["layerType"] == "FullyConnected"]
    assert len(layers) == 2
    for layer in layers:
        assert layer.input_value(1).get_element_type().get_type_name() == kind


def test_parts_and_blocks_do_not_change_the_file(tmp_path: Path) -> None:
    graph = decoder(Source(tmp_path / "source"))
    settings = Compression("int4_asym", group_size=64, ratio=0.8)
    files = []
    for part_bytes in (1 << 24, 5 << 20, 1 << 14):
        written(graph, settings, tmp_path, part_bytes)
        files.append(((tmp_path / "model.bin").read_bytes(), (tmp_path / "model.xml").read_bytes()))
    assert files[0] == files[1] == files[2]
