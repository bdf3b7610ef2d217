"""Which file belongs to which framework, and what opening it says when it does not."""

from __future__ import annotations

import sys
from pathlib import Path

import make_models
import numpy as np
import pytest

from batchconv.errors import BadModel, ConversionError, Unsupported
from batchconv.frontends import FRONTENDS, detect, open_model
from batchconv.frontends.caffe import registry
from batchconv.frontends.translate import Input, Model, Node, translate
from batchconv.shape import ANY
from batchconv.tensor import DType
from batchconv.weight import read


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("models")
    return {path.name: path.read_bytes() for path in make_models.main(folder)}


CONTENTS = {
    "quickstart.prototxt": "caffe",
    "quickstart.caffemodel": "caffe",
    "small.onnx": "onnx",
    "small_external.onnx": "onnx",
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("called", ["model", "model.bin", "model.pb"])
def test_content_comes_first(name: str, called: str, models: dict[str, bytes], tmp_path: Path) -> None:
    """Whatever the file is called."""
    path = tmp_path / called
    path.write_bytes(models[name])
    assert detect(str(path)) == CONTENTS[name]


EXTENSIONS = {
    "a.caffemodel": "caffe",
    "a.PROTOTXT": "caffe",
    "a.onnx": "onnx",
    "frozen.pb": "tensorflow",
    "m-0000.params": "mxnet",
    "m-symbol.json": "mxnet",
    "final.mdl": "kaldi",
}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_extension_where_content_says_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\0\0\0")
    assert detect(str(tmp_path / name)) == EXTENSIONS[name]


def test_unknown_file(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_bytes(b"\0\0\0")
    with pytest.raises(BadModel) as raised:
        detect(str(tmp_path / "a.xyz"))
    names = "caffe, onnx, tensorflow, mxnet, kaldi"
    assert str(raised.value) == f"a.xyz: the framework cannot be told from content or extension, give one of {names}"


FAULTS = {
    ("quickstart.caffemodel", "onnx"): "BadModel: quickstart.caffemodel: this is a model of caffe, not of onnx",
    ("quickstart.prototxt", "onnx"): "BadModel: quickstart.prototxt: this is a model of caffe, not of onnx",
    ("small.onnx", "caffe"): "BadModel: small.onnx: this is a model of onnx, not of caffe",
    ("small.onnx", "pytorch"): "BadModel: small.onnx: 'pytorch' is not one of caffe, onnx, tensorflow, mxnet, kaldi",
    ("nothing.onnx", None): "BadModel: nothing.onnx: there is no such file",
    ("empty.onnx", None): "BadModel: empty.onnx: the file is empty",
    ("empty.caffemodel", "caffe"): "BadModel: empty.caffemodel: the file is empty",
    ("a.pb", None): "Unsupported: a.pb: TensorFlow is not supported yet",
    ("a.pb", "tensorflow"): "Unsupported: a.pb: TensorFlow is not supported yet",
    ("a.params", "mxnet"): "Unsupported: a.params: MXNet is not supported yet",
    ("a.nnet", "kaldi"): "Unsupported: a.nnet: Kaldi is not supported yet",
}


@pytest.mark.parametrize(("name", "framework"), FAULTS)
def test_fault(name: str, framework: str | None, models: dict[str, bytes], tmp_path: Path) -> None:
    data = {"a": b"\0\0", "empty": b"", **models}
    stem = name if name in models else name.split(".")[0]
    if stem in data:
        (tmp_path / name).write_bytes(data[stem])
    with pytest.raises(ConversionError) as raised:
        open_model(str(tmp_path / name), framework)
    assert f"{type(raised.value).__name__}: {raised.value}" == FAULTS[name, framework]


def test_every_frontend_with_a_module_opens(models: dict[str, bytes], tmp_path: Path) -> None:
    for name, data in models.items():
        (tmp_path / name).write_bytes(data)
    for name, framework in CONTENTS.items():
        model, registry = open_model(str(tmp_path / name))
        assert (model.framework, registry.framework) == (framework, framework)
        assert translate(model, registry).results if name != "quickstart.prototxt" else model.nodes


@pytest.mark.parametrize("name", [name for name, frontend in FRONTENDS.items() if not frontend.module])
def test_what_is_not_there_yet_says_so(name: str, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"\0\0")
    with pytest.raises(Unsupported, match="not supported yet"):
        open_model(str(tmp_path / "m"), name)


def test_importing_the_frontends_imports_none() -> None:
    """Each is imported on use (a new process, so that nothing is there already)."""
    import subprocess

    code = "import sys, batchconv.frontends; print([m for m in sys.modules if m.startswith('batchconv.frontends.')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "['batchconv.frontends.binding', 'batchconv.frontends.translate']"


NAMES = {
    "a tensor": ("mid", "mid"),
    "a node": ("first", "mid"),
    "the port of a node": ("second:0", "y"),
    "another framework's :0": ("mid:0", "mid"),
    "an input with :0": ("x:0", "x"),
}


def network() -> Model:
    """x -> Relu 'first' -> mid -> Sigmoid 'second' -> y, as Caffe has it."""
    nodes = [Node("ReLU", "first", ("x",), ("mid",)), Node("Sigmoid", "second", ("mid",), ("y",))]
    return Model("caffe", "m", [Input("x", DType.F16, (ANY, 3))], ["y"], nodes, {})


@pytest.mark.parametrize("name", NAMES)
def test_a_name_means(name: str) -> None:
    given, wanted = NAMES[name]
    graph = translate(network(), registry, (), [given])
    assert [op.name for op in graph.results] == [given]
    assert wanted in graph.results[0].inputs[0].output.names


def test_every_wrong_name_in_one_line() -> None:
    with pytest.raises(BadModel) as raised:
        translate(network(), registry, [Input("a"), Input("x"), Input("b")], ["c", "y", "y:1", "c"])
    assert str(raised.value) == "m: the model has no tensor or node 'a', 'b', 'c', 'y:1'"


def test_an_input_given_twice() -> None:
    with pytest.raises(BadModel, match="m: input 'first' is given twice"):
        translate(network(), registry, [Input("mid"), Input("first")])


def test_a_cut_has_the_shape_and_type_of_the_tensor() -> None:
    """What was not asked for is as the network before the cut has it."""
    (parameter,) = translate(network(), registry, [Input("mid", shaped=False)]).parameters
    assert str(parameter.outputs[0]) == "f16[?,3]"
    (parameter,) = translate(network(), registry, [Input("mid", shape=(2, 3))]).parameters
    assert str(parameter.outputs[0]) == "f16[2,3]"
    given = [Input("x", shape=(7, 3)), Input("mid", shaped=False)]
    assert [str(op.outputs[0]) for op in translate(network(), registry, given).parameters] == ["f16[7,3]"]


def test_a_cut_behind_what_cannot_be_converted() -> None:
    model = network()
    model.nodes[0].op = "Fancy"
    (parameter,) = translate(model, registry, [Input("mid", shaped=False)]).parameters
    assert str(parameter.outputs[0]) == "f32[...]"


FROZEN = {
    "a number everywhere": ((2, 3), 0.5, [[0.5] * 3] * 2),
    "a number where the size is free": ((ANY, 3), 2, [[2] * 3]),
    "a list": ((3,), [1, 2, 3], [1, 2, 3]),
    "a list in another shape": ((1, 3), [1, 2, 3], [[1, 2, 3]]),
    "a list, any shape": (None, [1, 2], [1, 2]),
}


@pytest.mark.parametrize("name", FROZEN)
def test_frozen(name: str) -> None:
    shape, value, wanted = FROZEN[name]
    graph = translate(network(), registry, [Input("x", DType.F32, shape, np.array(value))], ["x"])
    assert graph.parameters == ()
    weight = graph.results[0].inputs[0].weight
    assert weight is not None
    assert read(weight).tolist() == wanted


def test_frozen_to_a_list_that_does_not_fit() -> None:
    with pytest.raises(BadModel, match=r"m: value of shape \[2\] for input 'x' of shape \[\?,3\]"):
        translate(network(), registry, [Input("x", None, (ANY, 3), np.array([1, 2]))])


WRONG = {
    "text for a number": ("Softmax", {"axis": "one"}, "attribute 'axis' = 'one' must be an integer"),
    "list for a number": ("ELU", {"alpha": (1.0, 2.0)}, "attribute 'alpha' = [1.0, 2.0] must be a number"),
    "number for a list": ("Permute", {"order": 3}, "attribute 'order' = 3 must be a list of integers"),
    "half a place": ("Softmax", {"axis": 0.5}, "attribute 'axis' = 0.5 must be an integer"),
    "unknown": ("Softmax", {"b": 1, "a": 1}, "attribute 'a', 'b' is not supported"),
    "too large": ("Tile", {"tiles": 1 << 70}, "a number among its attributes, sizes or constants is too large"),
}


@pytest.mark.parametrize("name", WRONG)
def test_attributes_that_do_not_fit_the_signature(name: str) -> None:
    kind, attrs, message = WRONG[name]
    model = network()
    model.nodes[1] = Node(kind, "second", ("mid",), ("y",), attrs)
    with pytest.raises((BadModel, Unsupported)) as raised:
        translate(model, registry)
    assert raised.value.message == message


def test_a_whole_number_may_be_written_with_a_point() -> None:
    model = network()
    model.nodes[1] = Node("Softmax", "second", ("mid",), ("y",), {"axis": 1.0})
    assert translate(model, registry).results[0].inputs[0].op.attrs["axis"] == 1


def test_more_outputs_than_there_are() -> None:
    model = network()
    model.nodes[1] = Node("Sigmoid", "second", ("mid",), ("y", "more"))
    with pytest.raises(Unsupported, match="Sigmoid 'second': 2 outputs are wanted, of which 1 can be converted"):
        translate(model, registry)
