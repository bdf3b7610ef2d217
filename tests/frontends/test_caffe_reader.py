"""Caffe's files: text and wire format, blobs in every form, inputs, phases, in-place layers, the old V1 format."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caffe_run import graph_of, layer, net, run
from make_models import QUICKSTART, blob, caffemodel, field, quickstart_blobs, varint

from batchconv.frontends.caffe import read, registry
from batchconv.frontends.caffe.prototxt import read_text
from batchconv.frontends.translate import Input, translate
from batchconv.shape import ANY
from batchconv.tensor import Array, DType
from batchconv.weight import Extent
from batchconv.weight import read as read_weight

TEXTS: dict[str, tuple[str, dict[str, Any]]] = {
    "values": (
        'name: "a" input_dim: 0x10 input_dim: -3 force_backward: true',
        {"name": "a", "input_dim": (16, -3), "force_backward": True},
    ),
    "single quotes, joined by separators": ("name: 'a'; input: 'b', input: 'c'", {"name": "a", "input": ("b", "c")}),
    "escapes": (r'name: "t\t\"\\ \101\x42\303\251"', {"name": 't\t"\\ ABé'}),
    "list": ("input_dim: [1, 2,3]", {"input_dim": (1, 2, 3)}),
    "angle brackets and a colon before a block": (
        "input_shape: < dim: 1 dim: 2 >",
        {"input_shape": ({"dim": (1, 2)},)},
    ),
    "comments": ('# über\nname: "x" # "not" { this\n', {"name": "x"}),
    "enumerations by name and number": (
        "state { phase: TRAIN } layers { type: RELU } layers { type: 4 }",
        {"state": {"phase": "TRAIN"}, "layers": ({"line": 1, "type": "RELU"}, {"line": 1, "type": "CONVOLUTION"})},
    ),
    "numbers": (
        "layer {\nelu_param { alpha: 1.5f }\npower_param { power: 1e-3 scale: -inf shift: .5 } }",
        {
            "layer": (
                {
                    "line": 1,
                    "elu_param": {"alpha": 1.5},
                    "power_param": {"power": 1e-3, "scale": -np.inf, "shift": 0.5},
                },
            )
        },
    ),
    "unknown fields are kept by name": (
        "layer {\n  convolution_param { num_output: 1 quant: 3 } strange_param { a { b: 1 } } }",
        {"layer": ({"line": 1, "convolution_param": {"num_output": 1, "quant": None}, "strange_param": None},)},
    ),
    "settings of forks": ("default_forward_type: FLOAT16", {"default_forward_type": None}),
    "what only training reads is skipped": (
        'layer { transform_param { mean_file: "x" crop { a: 1 } } }',
        {"layer": ({"line": 1, "transform_param": {}},)},
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text(name: str) -> None:
    text, wanted = TEXTS[name]
    assert read_text(text) == wanted


TEXT_FAULTS = {
    'name: "a"\nlayer {\n  name: "b"\n': "line 4: the text ends inside the block that line 2 opens",
    "layer }": "line 1: ':' or '{' is expected after 'layer', not '}'",
    "}": "line 1: a field name is expected, not '}'",
    "name: {": "line 1: the text ends inside the block that line 1 opens",
    'name: "a" { }': "line 1: a field name is expected, not '{'",
    '\n\nname: "a': "line 3: '\"' is not expected here",
    "name: $": "line 1: '$' is not expected here",
    "name:": "line 1: a value is expected, not 'the end'",
    "name: 3": "line 1: name: 3 is not a text in quotes",
    "input_dim: 3.5": "line 1: input_dim: 3.5 is not a whole number",
    "state { phase: EVAL }": "line 1: phase: EVAL is not one of TRAIN, TEST",
    "state { phase: 7 }": "line 1: phase: 7 is not one of TRAIN, TEST",
    "force_backward: maybe": "line 1: force_backward: maybe is not true or false",
    "state: 3": "line 1: 'state' is a block, not a value",
    "name { }": "line 1: 'name' is a value, not a block",
    'name: "a"\nname: "b"': "line 2: 'name' is given twice",
    "layr { }": "line 1: a network has no field 'layr'",
    r'name: "\377"': "line 1: a name is not UTF-8",
    "input_dim: [1, ": "line 1: a value is expected, not 'the end'",
    "[x]: 1": "line 1: a field name is expected, not '['",
}


@pytest.mark.parametrize("text", TEXT_FAULTS)
def test_text_fault(text: str) -> None:
    """One line, with the line number."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 (the type is checked with the text)
        read_text(text)
    assert f"{type(raised.value).__name__}: {raised.value}" == f"BadModel: {TEXT_FAULTS[text]}"


def test_deep_text_does_not_recurse() -> None:
    """20,000 blocks inside one another are read, or refused in one line."""
    assert (
        read_text("layer { odd_param " + "{ a " * 20_000 + "{" + "}" * 20_000 + "} }")["layer"][0]["odd_param"] is None
    )


def blobs_of(folder: Path, data: bytes) -> list[Array]:
    """The blobs of layer `l` in a caffemodel of which `data` are that layer's blob fields."""
    (folder / "net.prototxt").write_text(net(layer("Scale", name="l"), data=(1, 2)))
    model = folder / "net.caffemodel"
    model.write_bytes(field(100, field(1, "l") + data))
    return [read_weight(weight) for weight in read(str(model), {}).weights.values()]


VALUES = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
SINGLE = b"".join(varint(5 << 3 | 5) + struct.pack("<f", value) for value in VALUES.reshape(-1))
DOUBLES = b"".join(varint(8 << 3 | 1) + struct.pack("<d", value) for value in VALUES.reshape(-1))
SHAPE = field(7, field(1, bytes([2, 3])))

STORED = {
    "packed": (blob(VALUES), (2, 3)),
    "legacy dimensions": (blob(VALUES, legacy=True), (1, 1, 2, 3)),
    "no shape": (field(5, VALUES.tobytes()), (6,)),
    "shape behind the data": (field(5, VALUES.tobytes()) + SHAPE, (2, 3)),
    "dimensions not packed": (field(7, field(1, 2) + field(1, 3)) + field(5, VALUES.tobytes()), (2, 3)),
    "a key for every number": (SHAPE + SINGLE, (2, 3)),
    "double": (blob(VALUES.astype(np.float64)), (2, 3)),
    "double, a key for every number": (SHAPE + DOUBLES, (2, 3)),
    "with gradients": (blob(VALUES) + field(6, (VALUES * 9).tobytes()), (2, 3)),
}


@pytest.mark.parametrize("name", STORED)
def test_blob(name: str, tmp_path: Path) -> None:
    """Every way to store a blob gives the same float32 numbers."""
    data, shape = STORED[name]
    (got,) = blobs_of(tmp_path, field(7, data))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, VALUES.reshape(shape))


def test_large_blobs_stay_in_the_file(tmp_path: Path) -> None:
    """Packed, and with a key for every number: a recipe over an extent, read in part."""
    big = np.arange(5000, dtype=np.float32).reshape(50, 100)
    single = field(7, field(1, bytes([50, 100]))) + b"".join(b"\x2d" + struct.pack("<f", v) for v in big.reshape(-1))
    (tmp_path / "net.prototxt").write_text(net(layer("Scale", name="l"), data=(1, 2)))
    model = tmp_path / "net.caffemodel"
    model.write_bytes(field(100, field(1, "l") + field(7, blob(big)) + field(7, single)))
    packed, keyed = read(str(model), {}).weights.values()
    assert isinstance(packed.source, Extent)
    assert packed.steps == ()
    assert isinstance(keyed.source, Extent)
    assert keyed.spec.dtype is DType.F32
    np.testing.assert_array_equal(read_weight(packed), big)
    np.testing.assert_array_equal(read_weight(keyed), big)


def model_of(folder: Path, text: str) -> Any:
    (folder / "net.prototxt").write_text(text)
    return read(str(folder / "net.prototxt"), {})


INPUTS = {
    "layer": ('layer { name: "i" type: "Input" top: "a" input_param { shape { dim: 1 dim: 3 } } }', {"a": (1, 3)}),
    "layer with two tops and one shape": (
        'layer { type: "Input" top: "a" top: "b" input_param { shape { dim: 4 } } }',
        {"a": (4,), "b": (4,)},
    ),
    "input_dim": ('input: "a" input_dim: 1 input_dim: 3 input_dim: 5 input_dim: 7', {"a": (1, 3, 5, 7)}),
    "two of input_dim": (
        'input: "a" input: "b" input_dim: [1, 3, 5, 7, 2, 4, 6, 8]',
        {"a": (1, 3, 5, 7), "b": (2, 4, 6, 8)},
    ),
    "input_shape": (
        'input: "a" input_shape { dim: 1 dim: 3 } input: "b" input_shape { dim: -1 dim: 0 }',
        {"a": (1, 3), "b": (ANY, ANY)},
    ),
    "no shape": ('input: "a"', {"a": None}),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs(name: str, tmp_path: Path) -> None:
    text, wanted = INPUTS[name]
    model = model_of(tmp_path, text + layer("ReLU", bottoms=("a",)))
    assert {entry.name: entry.shape for entry in model.inputs} == wanted


RULES = {
    "include { phase: TRAIN }": False,
    "include { phase: TEST }": True,
    "exclude { phase: TEST }": False,
    "exclude { phase: TRAIN }": True,
    "include { phase: TRAIN } include { phase: TEST }": True,
    'include { stage: "deploy" }': True,
    'include { stage: "deploy" stage: "other" }': False,
    'include { not_stage: "deploy" }': False,
    'exclude { not_stage: "other" }': False,
    "include { min_level: 2 }": True,
    "include { min_level: 3 }": False,
    "include { max_level: 1 }": False,
}


@pytest.mark.parametrize("rule", RULES)
def test_phase_rules(rule: str, tmp_path: Path) -> None:
    """Layers run as in a test network of level 2 and stage `deploy`."""
    text = net(layer("ReLU", tops=("data",), name="inside"), layer("TanH"), data=(1, 2))
    model = model_of(tmp_path, 'state { level: 2 stage: "deploy" }' + text.replace('"inside"', f'"inside" {rule}'))
    assert [node.name for node in model.nodes] == (["inside", "l"] if RULES[rule] else ["l"])


def test_in_place_layers(tmp_path: Path) -> None:
    """The last version of a blob keeps its name, earlier ones are called after their layer; an input keeps its own."""
    text = net(
        layer("ReLU", bottoms=("data",), tops=("data",), name="first"),
        layer("TanH", bottoms=("data",), tops=("y",), name="second"),
        layer("AbsVal", bottoms=("y",), tops=("y",), name="third"),
        layer("Sigmoid", bottoms=("y",), tops=("y",), name="fourth"),
        data=(1, 2),
    )
    nodes = model_of(tmp_path, text).nodes
    assert [(node.inputs, node.outputs) for node in nodes] == [
        (("data",), ("data@first",)),
        (("data@first",), ("y@second",)),
        (("y@second",), ("y@third",)),
        (("y@third",), ("y",)),
    ]
    x = np.array([[-1, 2]], np.float32)
    (got,) = run(graph_of(tmp_path, text), x)
    np.testing.assert_allclose(got, 1 / (1 + np.exp(-np.abs(np.tanh(np.maximum(x, 0))))), rtol=1e-6)


def test_results_are_what_nobody_reads(tmp_path: Path) -> None:
    """Silence reads without a result; Split hands one blob to several."""
    text = net(
        layer("Split", tops=("a", "b", "c"), name="split"),
        layer("Silence", bottoms=("c",), tops=(), name="quiet"),
        layer("ReLU", bottoms=("a",), tops=("y",), name="r"),
        data=(1, 2),
    )
    model = model_of(tmp_path, text)
    assert model.outputs == ["b", "y"]
    x = np.array([[-1, 2]], np.float32)
    b, y = run(graph_of(tmp_path, text), x)
    np.testing.assert_array_equal(b, x)
    np.testing.assert_array_equal(y, [[0, 2]])


def quickstart(x: Array) -> Array:
    """The quickstart network in NumPy."""
    import caffe_reference as ref

    blobs = quickstart_blobs()
    (w1,), (w2, b2), (fc, fcb) = blobs["conv1"], blobs["conv2"], blobs["fc"]
    mean, variance, factor = blobs["bn1"]
    scale, shift = (b.reshape(1, -1, 1, 1) for b in blobs["scale1"])
    y = ref.batch_norm(ref.conv(x, w1, p=(1, 1)), mean, variance, float(factor[0])) * scale + shift
    y = ref.pool(np.maximum(y, 0), "MAX", (3, 3), (2, 2), (0, 0))
    y = ref.conv(y, w2, b2, g=2)
    y = ref.pool(np.where(y > 0, y, 0.1 * y), "AVE", (2, 2), (2, 2), (0, 0))
    return ref.softmax(y.reshape(len(y), -1) @ fc.T + fcb)


@pytest.mark.parametrize("legacy", [False, True], ids=["shape", "legacy"])
def test_quickstart_network(legacy: bool, tmp_path: Path) -> None:
    """The whole small network: right numbers, and outputs that move with the input."""
    (tmp_path / "net.prototxt").write_text(QUICKSTART)
    model = tmp_path / "net.caffemodel"
    model.write_bytes(caffemodel("net", quickstart_blobs(), legacy=legacy))
    graph = translate(read(str(model), {}), registry)
    for seed in (1, 2):
        x = np.random.default_rng(seed).standard_normal((1, 3, 16, 16)).astype(np.float32)
        (got,) = run(graph, x)
        np.testing.assert_allclose(got, quickstart(x), rtol=1e-4, atol=1e-6)
        assert got.max() < 0.999


V1 = """input: "data" input_dim: [1, 4, 4, 4]
layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" blobs_lr: 1 weight_decay: 1
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "gaussian" std: 0.1 } } }
layers { name: "r" type: RELU bottom: "c" top: "c" }
layers { name: "a" type: ARGMAX bottom: "c" top: "a" include { phase: TRAIN } }
layers { name: "s" type: SOFTMAX bottom: "c" top: "s" }
"""


def test_v1_format(tmp_path: Path) -> None:
    """The old `layers` with types as an enumeration, text and weights."""
    (tmp_path / "net.prototxt").write_text(V1)
    model = tmp_path / "net.caffemodel"
    w, b = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4, 1, 1), np.array([0.1, -0.1], np.float32)
    model.write_bytes(caffemodel("net", {"c": [w, b]}, v1=True, legacy=True))
    x = np.random.default_rng(0).standard_normal((1, 4, 4, 4)).astype(np.float32)
    (got,) = run(translate(read(str(model), {}), registry), x)
    y = np.maximum(np.einsum("oi,nihw->nohw", w[:, :, 0, 0], x) + b.reshape(1, 2, 1, 1), 0)
    np.testing.assert_allclose(got, np.exp(y) / np.exp(y).sum(1, keepdims=True), rtol=1e-5)


def test_caffemodel_alone(tmp_path: Path) -> None:
    """Without any prototxt the network inside the caffemodel is used."""
    w = np.arange(12, dtype=np.float32).reshape(3, 4)
    shape = field(1, varint(2) + varint(4))
    data = field(1, "data") + field(2, "Input") + field(4, "data") + field(143, field(1, shape))
    params = field(1, 3) + field(2, 0) + field(4, field(1, "xavier"))
    fc = field(1, "fc") + field(2, "InnerProduct") + field(3, "data") + field(4, "y") + field(10, 0)
    elu = field(1, "e") + field(2, "ELU") + field(3, "y") + field(4, "y") + field(140, field(1, 0.5))
    model = tmp_path / "alone.caffemodel"
    model.write_bytes(
        field(1, "alone") + field(100, data) + field(100, fc + field(7, blob(w)) + field(117, params)) + field(100, elu)
    )
    x = np.array([[1, -1, 2, -2], [0, 1, 0, -3]], np.float32)
    (got,) = run(translate(read(str(model), {}), registry), x)
    y = x @ w.T
    np.testing.assert_allclose(got, np.where(y > 0, y, 0.5 * np.expm1(y)), rtol=1e-5)


def test_prototxt_is_found_beside_the_weights(tmp_path: Path) -> None:
    """The same stem first, then deploy.prototxt; `proto` names any other; a prototxt finds its weights."""
    blobs = {"l": [np.array([2, 3], np.float32)]}
    model = tmp_path / "a.caffemodel"
    model.write_bytes(caffemodel("a", blobs))
    for name in ("a", "deploy", "other"):
        (tmp_path / f"{name}.prototxt").write_text(f'name: "{name}"' + net(layer("Scale"), data=(1, 2)))
    assert read(str(model), {}).name == "a"
    assert read(str(model), {"proto": str(tmp_path / "other.prototxt")}).name == "other"
    assert list(read(str(tmp_path / "a.prototxt"), {}).weights) == ["l/blob0"]
    (tmp_path / "a.prototxt").unlink()
    found = read(str(model), {})
    assert found.name == "deploy"
    assert found.sources == (str(model), str(tmp_path / "deploy.prototxt"))


def test_snapshot_without_what_fed_it(tmp_path: Path) -> None:
    """A caffemodel alone need not say where its first bottom comes from: that is an input, whose shape is asked for."""
    fc = field(1, "fc") + field(2, "ReLU") + field(3, "data") + field(4, "y")
    model = tmp_path / "alone.caffemodel"
    model.write_bytes(field(1, "alone") + field(100, fc))
    opened = read(str(model), {})
    assert [(entry.name, entry.shape) for entry in opened.inputs] == [("data", None)]
    (got,) = run(translate(opened, registry, [Input("data", None, (1, 2))]), np.array([[-1, 2]], np.float32))
    np.testing.assert_array_equal(got, [[0, 2]])
