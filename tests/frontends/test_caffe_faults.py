"""Wrong Caffe models: each with the one line it must give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from caffe_run import layer, net
from make_models import blob, caffemodel, field

from batchconv.errors import ConversionError
from batchconv.frontends import open_model
from batchconv.frontends.translate import translate
from batchconv.tensor import Array

CONV = layer("Convolution", "convolution_param { num_output: 2 kernel_size: 3 }", name="c")
W, B = np.ones((2, 3, 3, 3), np.float32), np.ones(2, np.float32)


def fault(path: Path, files: dict[str, str] | None = None) -> str:
    """The error of opening and translating a model, as its type and its line."""
    with pytest.raises(ConversionError) as raised:
        translate(*open_model(str(path), "caffe", files))
    text = str(raised.value)
    assert "\n" not in text
    return f"{type(raised.value).__name__}: {text}"


LAYERS: dict[str, tuple[str, Sequence[Array], str]] = {
    "no weights": (CONV, (), "Convolution 'c': the layer has no weights"),
    "no bias": (CONV, (W,), "Convolution 'c': the layer has no blob 1"),
    "a bias too much": (
        CONV.replace("num_output", "bias_term: false num_output"),
        (W, B),
        "Convolution 'c': the layer has a blob 1, but bias_term is false",
    ),
    "a blob too much": (CONV, (W, B, B), "Convolution 'c': 4 inputs given, 1 to 3 wanted"),
    "weights of another size": (
        CONV,
        (W[:1], B),
        "Convolution 'c': blob 0 has 27 numbers, which is no multiple of num_output x kernel = 18",
    ),
    "weights for other channels": (CONV, (W[:, :2], B), "Convolution 'c': channels of data and filters differ"),
    "bias of another size": (CONV, (W, B[:1]), "Convolution 'c': blob 1 has shape [1], the layer needs [1, 2, 1, 1]"),
    "no kernel": (
        CONV.replace("kernel_size: 3", ""),
        (W, B),
        "Convolution 'c': 'kernel' has 0 values for 2 axes",
    ),
    "kernel twice": (
        CONV.replace("kernel_size: 3", "kernel_size: 3 kernel_h: 3"),
        (W, B),
        "Convolution 'c': kernel_h and kernel_w stand for two axes, and instead of 'kernel'",
    ),
    "group that does not divide": (
        CONV.replace("kernel_size", "group: 3 kernel_size"),
        (W, B),
        "Convolution 'c': num_output 2, group 3 and kernel [3, 3] do not fit together",
    ),
    "num_output missing": (
        CONV.replace("num_output: 2", ""),
        (W, B),
        "Convolution 'c': attribute 'num_output' is missing",
    ),
    "missing bottom": (
        layer("ReLU", bottoms=("nowhere",)),
        (),
        "ReLU 'l': line 2: bottom 'nowhere' is not made by any layer before it",
    ),
    "top made twice": (
        layer("ReLU", tops=("y",)) + layer("TanH", tops=("y",), name="again"),
        (),
        "TanH 'again': line 3: top 'y' is made by an earlier layer already",
    ),
    "even neighbourhood": (layer("LRN", "lrn_param { local_size: 4 }"), (), "LRN 'l': local_size 4 must be odd"),
    "axis outside": (
        layer("Softmax", "softmax_param { axis: 4 }"),
        (),
        "Softmax 'l': axis 4 is outside an input of rank 4",
    ),
    "window outside": (
        layer("Pooling", "pooling_param { kernel_size: 1 stride: 5 }"),
        (),
        "Pooling 'l': with stride [5, 5] the last window lies outside the input",
    ),
    "padding as large as the kernel": (
        layer("Pooling", "pooling_param { kernel_size: 2 pad: 2 }"),
        (),
        "Pooling 'l': kernel [2, 2], stride [1, 1] and pad [2, 2] do not fit together",
    ),
    "coefficients": (
        layer("Eltwise", "eltwise_param { coeff: 1 }", ("data", "data")),
        (),
        "Eltwise 'l': 2 inputs and 1 coefficients: at least two, and one for each",
    ),
    "reshape that does not fit": (
        layer("Reshape", "reshape_param { shape { dim: 7 } }"),
        (),
        "Reshape 'l': ",
    ),
    "slice points": (
        layer("Slice", "slice_param { slice_point: 2 slice_point: 1 }", tops=("a", "b", "c")),
        (),
        "Slice 'l': slice points [2, 1] do not rise",
    ),
}
UNSUPPORTED = {
    "unknown operators, all of them": (
        layer("FancyOp", "fancy_param { a: 1 }", name="fancy_7")
        + layer("Other", bottoms=("y",), tops=("z",), name="o"),
        "no translator for FancyOp ('fancy_7'), Other ('o')",
    ),
    "an unknown parameter": (
        layer("ReLU", "relu_param { slope_of_slope: 3 }"),
        "ReLU 'l': attribute 'slope_of_slope' is not supported (see caffe/math.py)",
    ),
    "an unknown block": (
        layer("ReLU", "odd_param { a: 3 }"),
        "ReLU 'l': attribute 'odd_param' is not supported (see caffe/math.py)",
    ),
    "stochastic pooling": (
        layer("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 }"),
        "Pooling 'l': pool STOCHASTIC is random and cannot be converted (see caffe/pooling.py)",
    ),
    "adaptive suppression": (
        layer(
            "DetectionOutput",
            "detection_output_param { num_classes: 2 nms_param { eta: 0.9 } }",
            ("data", "data", "data"),
        ),
        "DetectionOutput 'l': nms_param eta 0.9 (adaptive suppression) is not supported (see caffe/detection.py)",
    ),
    "the oldest format": (
        'layers { layer { name: "c" type: "conv" } bottom: "data" top: "y" }',
        "line 2: this is the oldest Caffe format (V0); Caffe's upgrade_net_proto_text renews it",
    ),
}


def written(folder: Path, text: str, blobs: Sequence[Array] = ()) -> Path:
    (folder / "net.prototxt").write_text(text)
    model = folder / "net.caffemodel"
    model.write_bytes(caffemodel("net", {"c": blobs}))
    return model


@pytest.mark.parametrize("name", LAYERS)
def test_wrong_layer(name: str, tmp_path: Path) -> None:
    layers, blobs, wanted = LAYERS[name]
    got = fault(written(tmp_path, net(layers, data=(1, 3, 8, 8)), blobs))
    assert got.startswith(f"BadModel: net.caffemodel: {wanted}")


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported(name: str, tmp_path: Path) -> None:
    layers, wanted = UNSUPPORTED[name]
    assert fault(written(tmp_path, net(layers, data=(1, 3, 8, 8)))) == f"Unsupported: net.caffemodel: {wanted}"


HEAD = field(100, field(1, "c") + field(7, blob(W)) + field(7, blob(B)))

BINARIES: dict[str, tuple[bytes, str]] = {
    "cut off": (HEAD[:200], "byte 0: field 100 has 250 bytes, of which 196 are there"),
    "empty": (b"", "the file is empty"),
    "noise": (bytes(range(255, 155, -1)), "byte 0: "),
    "a name that is not UTF-8": (field(100, field(1, b"\xff\xfe")), "byte 5: a name is not UTF-8"),
    "fewer numbers than the shape says": (
        field(100, field(1, "c") + field(7, field(7, field(1, bytes([2, 9]))) + field(5, W[0].tobytes()))),
        "node 'c': a blob of shape [2, 9] has 27 numbers",
    ),
    "a huge shape": (
        field(
            100,
            field(1, "c")
            + field(7, field(7, field(1, b"\x80\x80\x80\x80\x80\x80\x80\x80\x10" * 2)) + field(5, bytes(8))),
        ),
        "node 'c': a blob of shape [1152921504606846976, 1152921504606846976] has 2 numbers",
    ),
    "a negative dimension": (
        field(
            100, field(1, "c") + field(7, field(1, -1) + field(2, -2) + field(3, 1) + field(4, 1) + field(5, bytes(8)))
        ),
        "node 'c': a blob of shape [-1, -2, 1, 1] has 2 numbers",
    ),
    "numbers cut": (
        field(100, field(1, "c") + field(7, field(5, bytes(7)))),
        "node 'c': a blob of 7 bytes is no list of f32",
    ),
    "numbers in pieces": (
        field(100, field(1, "c") + field(7, field(5, bytes(8)) + field(5, bytes(8)))),
        "node 'c': a blob is stored in several pieces",
    ),
}


@pytest.mark.parametrize("name", BINARIES)
def test_wrong_caffemodel(name: str, tmp_path: Path) -> None:
    data, wanted = BINARIES[name]
    (tmp_path / "net.prototxt").write_text(net(CONV, data=(1, 3, 8, 8)))
    model = tmp_path / "net.caffemodel"
    model.write_bytes(data)
    assert fault(model).startswith(f"BadModel: net.caffemodel: {wanted}")


def test_every_cut_is_one_line(tmp_path: Path) -> None:
    """A caffemodel ended at any byte is refused (or lacks its weights), never a crash."""
    text = net(CONV, data=(1, 3, 8, 8))
    for end in range(1, len(HEAD), 17):
        model = written(tmp_path, text)
        model.write_bytes(HEAD[:end])
        assert fault(model).startswith("BadModel: net.caffemodel: ")


TEXTS: dict[str, tuple[bytes, str]] = {
    "syntax": (b'name: "x"\nlayer {\n  name "a"\n}', "line 3: ':' or '{' is expected after 'name', not '\"a\"'"),
    "empty": (b"", "no layer in net.prototxt: it is empty, or not a Caffe network"),
    "nothing but a comment": (b"# nothing", "no layer in net.prototxt: it is empty, or not a Caffe network"),
    "a name that is not UTF-8": (b'layer { name: "\xff" }', "line 1: a name is not UTF-8"),
    "binary": (bytes(range(14, 32)), "line 1: '\\x0e' is not expected here"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_wrong_prototxt(name: str, tmp_path: Path) -> None:
    """The prototxt is named besides the model."""
    data, wanted = TEXTS[name]
    model = written(tmp_path, "")
    (tmp_path / "net.prototxt").write_bytes(data)
    there = "" if wanted.startswith("no layer") else "net.prototxt: "
    assert fault(model) == f"BadModel: net.caffemodel: {there}{wanted}"


def test_comments_may_be_in_any_encoding(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_bytes("# 网络\n".encode("gbk") + net(layer("ReLU"), data=(1, 2)).encode())
    translate(*open_model(str(tmp_path / "net.prototxt")))


INPUTS = {
    'input: "a" input_dim: 1': "1 input_dim for 1 inputs: each takes four",
    'input: "a" input: "b" input_shape { dim: 1 }': "1 input_shape for 2 inputs",
    'input: "a" input: "a"': "input 'a' is given twice",
    'layer { name: "i" type: "Input" top: "a" top: "b" top: "c" input_param { shape {} shape {} } }': (
        "Input 'i': line 1: 2 shapes for 3 tops"
    ),
}


@pytest.mark.parametrize("text", INPUTS)
def test_wrong_inputs(text: str, tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(text + layer("ReLU", bottoms=("a",)))
    assert fault(path) == f"BadModel: net.prototxt: {INPUTS[text]}"


MISSING: dict[str, Callable[[Path], tuple[Path, dict[str, str] | None, str]]] = {
    "the model": lambda folder: (folder / "no.caffemodel", None, "no.caffemodel: there is no such file"),
    "the prototxt": lambda folder: (
        written(folder, ""),
        {"proto": str(folder / "no.prototxt")},
        f"net.caffemodel: there is no proto file {folder}/no.prototxt",
    ),
}


@pytest.mark.parametrize("what", MISSING)
def test_missing_file(what: str, tmp_path: Path) -> None:
    path, files, wanted = MISSING[what](tmp_path)
    assert fault(path, files) == f"BadModel: {wanted}"
