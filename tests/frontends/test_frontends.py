"""Which file belongs to which framework, and what opening it says when it does not."""

from __future__ import annotations

import sys
from pathlib import Path

import make_models
import pytest

from batchconv.errors import BadModel, ConversionError, Unsupported
from batchconv.frontends import FRONTENDS, detect, open_model
from batchconv.frontends.translate import translate


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
    assert out.strip() == "['batchconv.frontends.translate']"
