"""ONNX operators: each row is a small model whose IR, run by OpenVINO, must give onnxruntime's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnx_run import graph_of, onnx_model, run
from openvino_run import close

from batchconv.errors import BadModel, Unsupported
from batchconv.frontends.onnx import read, registry
from batchconv.frontends.translate import Input, translate
from batchconv.shape import ANY
from batchconv.tensor import DType

onnxruntime.set_default_logger_severity(3)
DRAW = np.random.default_rng(5)


def f(*shape: int) -> Any:
    return DRAW.standard_normal(shape).astype(np.float32)


def i(*items: Any) -> Any:
    return np.array(items, np.int64)


def node(op: str, inputs: str, outputs: str = "y", **attrs: Any) -> Any:
    """`op` on blank-separated names; `-` is an input left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), **attrs)


IMAGE, ROWS = {"x": f(2, 3, 9, 8)}, {"x": f(4, 6)}
W, B = {"w": f(4, 3, 3, 3)}, {"b": f(4)}
CHANNEL = {"s": f(3), "b": f(3), "m": f(3), "v": np.abs(f(3)) + 0.5}
Q = {"s": np.float32(0.03), "z": np.uint8(120)}

Row = tuple[str, int, Any, Mapping[str, Any], Mapping[str, Any]]
CASES: list[Row] = [
    # convolutions
    ("conv", 11, node("Conv", "x w b", pads=[1, 0, 1, 2], strides=[2, 1]), IMAGE, W | B),
    ("conv upper", 11, node("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 2]), IMAGE, W),
    ("conv lower", 11, node("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 2]), IMAGE, W),
    ("conv valid", 11, node("Conv", "x w b", auto_pad="VALID", dilations=[2, 1]), IMAGE, W | B),
    ("conv grouped", 1, node("Conv", "x w b", group=3, pads=[1, 1, 1, 1]), IMAGE, {"w": f(6, 1, 3, 3), "b": f(6)}),
    ("conv 1d", 11, node("Conv", "x w b", pads=[2, 2]), {"x": f(1, 3, 11)}, {"w": f(5, 3, 4), "b": f(5)}),
    ("conv 3d", 11, node("Conv", "x w"), {"x": f(1, 2, 5, 6, 7)}, {"w": f(3, 2, 2, 3, 2)}),
    ("deconv", 11, node("ConvTranspose", "x w b", strides=[2, 3], pads=[1, 0, 0, 1]), IMAGE, {"w": f(3, 4, 3, 3)} | B),
    ("deconv output padding", 11, node("ConvTranspose", "x w", strides=[2, 2], output_padding=[1, 1]),
     IMAGE, {"w": f(3, 4, 3, 3)}),
    ("deconv output shape", 11, node("ConvTranspose", "x w", strides=[2, 2], output_shape=[18, 17]),
     IMAGE, {"w": f(3, 4, 3, 3)}),
    ("deconv upper", 11, node("ConvTranspose", "x w", strides=[2, 2], auto_pad="SAME_UPPER"),
     IMAGE, {"w": f(3, 4, 3, 3)}),
    ("deconv grouped", 11, node("ConvTranspose", "x w", group=3, strides=[2, 1]), IMAGE, {"w": f(3, 2, 3, 3)}),
    # pooling
    ("maxpool", 12, node("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]), IMAGE, {}),
    ("maxpool ceil", 12, node("MaxPool", "x", kernel_shape=[2, 2], strides=[3, 3], ceil_mode=1, pads=[1, 1, 1, 1]),
     IMAGE, {}),
    ("maxpool dilated", 12, node("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 3]), IMAGE, {}),
    ("maxpool indices", 12, node("MaxPool", "x", "y k", kernel_shape=[2, 2], strides=[2, 2]), IMAGE, {}),
    ("avgpool", 11, node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]), IMAGE, {}),
    ("avgpool with pads", 11, node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
     IMAGE, {}),
    ("avgpool ceil", 11, node("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), IMAGE, {}),
    ("avgpool ceil with pads", 11, node("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 3], pads=[1, 1, 0, 1],
     ceil_mode=1, count_include_pad=1), IMAGE, {}),
    ("avgpool ceil with pads, window outside", 11, node("AveragePool", "x", kernel_shape=[3, 3], strides=[3, 3],
     pads=[1, 1, 1, 1], ceil_mode=1, count_include_pad=1), {"x": f(1, 2, 8, 9)}, {}),
    ("lppool ceil with pads", 19, node("LpPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1],
     ceil_mode=1), IMAGE, {}),
    ("avgpool same", 11, node("AveragePool", "x", kernel_shape=[3, 3], auto_pad="SAME_LOWER", strides=[2, 2]),
     IMAGE, {}),
    ("global average", 11, node("GlobalAveragePool", "x"), IMAGE, {}),
    ("global max", 11, node("GlobalMaxPool", "x"), IMAGE, {}),
    ("lppool", 11, node("LpPool", "x", kernel_shape=[2, 2], p=3), IMAGE, {}),
    # normalisation
    ("batchnorm 9", 9, node("BatchNormalization", "x s b m v"), IMAGE, CHANNEL),
    ("batchnorm 15", 15, node("BatchNormalization", "x s b m v"), IMAGE, CHANNEL),
    ("instancenorm", 11, node("InstanceNormalization", "x s b"), IMAGE, CHANNEL),
    ("layernorm", 17, node("LayerNormalization", "x s b", axis=2), IMAGE, {"s": f(9, 8), "b": f(9, 8)}),
    ("lrn", 11, node("LRN", "x", size=3, alpha=0.5, bias=2.0), IMAGE, {}),
    ("mvn", 13, node("MeanVarianceNormalization", "x"), IMAGE, {}),
    ("lpnorm", 11, node("LpNormalization", "x", axis=1, p=1), IMAGE, {}),
    ("dropout 13", 13, node("Dropout", "x r"), IMAGE, {"r": np.float32(0.3)}),
    # matrix products
    ("gemm", 11, node("Gemm", "x w b", alpha=0.5, beta=2.0, transB=1), ROWS, {"w": f(5, 6), "b": f(5)}),
    ("gemm transposed", 11, node("Gemm", "x w", transA=1), ROWS, {"w": f(4, 5)}),
    ("matmul", 13, node("MatMul", "x w"), {"x": f(2, 4, 6)}, {"w": f(6, 3)}),
    ("einsum", 13, node("Einsum", "x w", equation="bij, jk -> bik"), {"x": f(2, 4, 6)}, {"w": f(6, 3)}),
    # activations
    ("leaky", 11, node("LeakyRelu", "x", alpha=0.3), ROWS, {}),
    ("prelu channel", 11, node("PRelu", "x s"), IMAGE, {"s": f(3, 1, 1)}),
    ("prelu one", 11, node("PRelu", "x s"), IMAGE, {"s": f(1)}),
    ("prelu last axis", 11, node("PRelu", "x s"), {"x": f(2, 3, 4, 3)}, {"s": f(3)}),
    ("elu", 11, node("Elu", "x", alpha=0.7), ROWS, {}),
    ("celu", 12, node("Celu", "x", alpha=0.7), ROWS, {}),
    ("selu", 11, node("Selu", "x", alpha=1.2, gamma=0.8), ROWS, {}),
    ("hardsigmoid", 11, node("HardSigmoid", "x", alpha=0.3), ROWS, {}),
    ("hardswish", 14, node("HardSwish", "x"), ROWS, {}),
    ("thresholded", 11, node("ThresholdedRelu", "x", alpha=0.4), ROWS, {}),
    ("shrink", 11, node("Shrink", "x", bias=0.2, lambd=0.6), ROWS, {}),
    ("gelu", 20, node("Gelu", "x", approximate="tanh"), ROWS, {}),
    ("softmax of rows", 11, node("Softmax", "x", axis=1), IMAGE, {}),
    ("softmax", 13, node("Softmax", "x", axis=1), IMAGE, {}),
    ("logsoftmax of rows", 11, node("LogSoftmax", "x", axis=2), IMAGE, {}),
    ("hardmax", 13, node("Hardmax", "x", axis=1), ROWS, {}),
    ("softplus", 11, node("Softplus", "x"), ROWS, {}),
    # arithmetic
    ("div integers", 13, node("Div", "x d"), {"x": i(-7, 7, 8)}, {"d": i(2, -2, 3)}),
    ("mod", 13, node("Mod", "x d"), {"x": i(-7, 7, 8)}, {"d": i(2, -2, 3)}),
    ("fmod", 13, node("Mod", "x d", fmod=1), ROWS, {"d": np.float32(0.7)}),
    ("pow mixed", 13, node("Pow", "x p"), {"x": np.abs(f(5))}, {"p": i(2)}),
    ("clip 6", 6, node("Clip", "x", min=-0.5), ROWS, {}),
    ("clip 13", 13, node("Clip", "x lo hi"), ROWS, {"lo": np.float32(-0.5), "hi": np.float32(0.2)}),
    ("clip no low", 13, node("Clip", "x - hi"), ROWS, {"hi": np.float32(0.2)}),
    ("mean", 13, node("Mean", "x b x"), ROWS, {"b": f(6)}),
    ("where", 13, node("Where", "c x b"), ROWS | {"c": np.array([True, False] * 3)}, {"b": f(6)}),
    ("reciprocal", 13, node("Reciprocal", "x"), ROWS, {}),
    ("round", 11, node("Round", "x"), {"x": np.float32([-2.5, -1.5, 0.5, 1.5, 2.4])}, {}),
    # shapes
    ("reshape zero", 14, node("Reshape", "x t"), IMAGE, {"t": i(0, -1, 4)}),
    ("flatten", 13, node("Flatten", "x", axis=2), IMAGE, {}),
    ("flatten negative", 13, node("Flatten", "x", axis=-1), IMAGE, {}),
    ("transpose", 13, node("Transpose", "x", perm=[0, 3, 1, 2]), IMAGE, {}),
    ("transpose all", 13, node("Transpose", "x"), IMAGE, {}),
    ("split attribute", 11, node("Split", "x", "y z", axis=-1, split=[3, 5]), IMAGE, {}),
    ("split input", 13, node("Split", "x n", "y z", axis=2), IMAGE, {"n": i(2, 7)}),
    ("split uneven", 18, node("Split", "x", "y z", axis=2, num_outputs=2), IMAGE, {}),
    ("squeeze", 13, node("Squeeze", "x a"), {"x": f(1, 3, 1)}, {"a": i(-1)}),
    ("squeeze all", 11, node("Squeeze", "x"), {"x": f(1, 3, 1)}, {}),
    ("unsqueeze", 11, node("Unsqueeze", "x", axes=[0, 3]), ROWS, {}),
    ("slice 1", 9, node("Slice", "x", starts=[1, 0], ends=[100, -2], axes=[2, 3]), IMAGE, {}),
    ("slice backwards", 13, node("Slice", "x a b c d"), IMAGE,
     {"a": i(-1, 7), "b": i(-100, 1), "c": i(1, 3), "d": i(-1, -2)}),
    ("slice without axes", 13, node("Slice", "x a b"), ROWS, {"a": i(1, 2), "b": i(3, 5)}),
    ("pad 2", 10, node("Pad", "x", pads=[0, 1, 2, 0, 0, 0, 1, 3], value=1.5), IMAGE, {}),
    ("pad reflect", 13, node("Pad", "x p", mode="reflect"), IMAGE, {"p": i(0, 0, 2, 1, 0, 0, 1, 3)}),
    ("pad edge", 13, node("Pad", "x p", mode="edge"), IMAGE, {"p": i(0, 0, 2, 1, 0, 0, 1, 3)}),
    ("pad cuts", 13, node("Pad", "x p v"), IMAGE, {"p": i(0, 0, -2, 1, 0, 0, 1, -3), "v": np.float32(2)}),
    ("pad axes", 18, node("Pad", "x p - a"), IMAGE, {"p": i(2, 1), "a": i(-1)}),
    ("pad wrap", 19, node("Pad", "x p", mode="wrap"), ROWS, {"p": i(1, 2, 0, 3)}),
    ("tile", 13, node("Tile", "x r"), ROWS, {"r": i(2, 3)}),
    ("expand", 13, node("Expand", "x t"), {"x": f(3, 1)}, {"t": i(2, 1, 4)}),
    ("depth to space", 13, node("DepthToSpace", "x", blocksize=2), {"x": f(1, 8, 2, 3)}, {}),
    ("depth to space crd", 13, node("DepthToSpace", "x", blocksize=2, mode="CRD"), {"x": f(1, 8, 2, 3)}, {}),
    ("space to depth", 13, node("SpaceToDepth", "x", blocksize=2), {"x": f(1, 2, 4, 6)}, {}),
    ("cast", 13, node("Cast", "x", to=6), {"x": np.float32([-1.7, 0.4, 2.6])}, {}),
    ("shape of a part", 15, node("Shape", "x", start=1, end=-1), IMAGE, {}),
    ("trilu", 14, node("Trilu", "x k", upper=0), ROWS, {"k": i(1)[0]}),
    # indices
    ("gather", 13, node("Gather", "x k", axis=-1), ROWS, {"k": i([0, -1], [2, 2])}),
    ("gather elements", 13, node("GatherElements", "x k", axis=1), ROWS, {"k": i([0, -1], [2, 2], [1, 0], [-3, 5])}),
    ("gathernd", 13, node("GatherND", "x k"), ROWS, {"k": i([0, -1], [2, 2])}),
    ("scatter elements", 16, node("ScatterElements", "x k u", axis=1, reduction="add"), ROWS,
     {"k": i([0, 2, 0]), "u": f(1, 3)}),
    ("scatternd", 13, node("ScatterND", "x k u"), ROWS, {"k": i([0], [2]), "u": f(2, 6)}),
    ("topk", 11, node("TopK", "x k", "y n", axis=0, largest=0), ROWS, {"k": i(2)}),
    ("argmax last", 13, node("ArgMax", "x", axis=1, keepdims=0, select_last_index=1),
     {"x": np.float32([[1, 3, 3], [2, 2, 0]])}, {}),
    ("argmin first", 13, node("ArgMin", "x", axis=1), {"x": np.float32([[3, 1, 1], [2, 2, 2]])}, {}),
    ("onehot", 11, node("OneHot", "x d v", axis=1), {"x": i(0, -1, 2)}, {"d": i(4), "v": np.float32([0.5, 2])}),
    ("nonzero", 13, node("NonZero", "x"), {"x": np.float32([[1, 0], [0, 2]])}, {}),
    ("cumsum", 14, node("CumSum", "x a", exclusive=1, reverse=1), ROWS, {"a": i(1)[0]}),
    ("range", 11, node("Range", "x b c"), {"x": np.array(1, np.float32)}, {"b": np.float32(9), "c": np.float32(2.5)}),
    ("compress", 11, node("Compress", "x c", axis=1), ROWS, {"c": np.array([True, False, True, True])}),
    ("nms", 11, node("NonMaxSuppression", "x s n t"), {"x": np.float32([[[0, 0, 2, 2], [0, 0, 2, 2.1], [4, 4, 5, 5]]])},
     {"s": np.float32([[[0.9, 0.8, 0.7]]]), "n": i(3)[0], "t": np.float32(0.5)}),
    # reductions
    ("reduce mean", 11, node("ReduceMean", "x", axes=[1, -1], keepdims=0), IMAGE, {}),
    ("reduce sum input", 13, node("ReduceSum", "x a"), IMAGE, {"a": i(2)}),
    ("reduce all", 13, node("ReduceMax", "x", keepdims=0), IMAGE, {}),
    ("reduce nothing", 13, node("ReduceSum", "x", noop_with_empty_axes=1), IMAGE, {}),
    ("reduce log sum exp", 18, node("ReduceLogSumExp", "x a", keepdims=0), IMAGE, {"a": i(1)}),
    ("reduce l2", 11, node("ReduceL2", "x", axes=[1]), IMAGE, {}),
    # resizing
    ("upsample 7", 7, node("Upsample", "x", scales=[1.0, 1.0, 2.0, 3.0]), IMAGE, {}),
    ("upsample 9 linear", 9, node("Upsample", "x s", mode="linear"), IMAGE, {"s": np.float32([1, 1, 2, 2])}),
    ("resize nearest", 13, node("Resize", "x - s"), IMAGE, {"s": np.float32([1, 1, 0.6, 1.7])}),
    ("resize sizes", 13, node("Resize", "x - - n", mode="linear", coordinate_transformation_mode="align_corners"),
     IMAGE, {"n": i(2, 3, 5, 17)}),
    ("resize cubic", 13, node("Resize", "x - - n", mode="cubic", cubic_coeff_a=-0.5), IMAGE, {"n": i(2, 3, 12, 13)}),
    ("resize axes", 18, node("Resize", "x - - n", mode="linear", axes=[3, 2]), IMAGE, {"n": i(12, 13)}),
    ("resize floor", 13, node("Resize", "x - s", nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
     IMAGE, {"s": np.float32([1, 1, 2, 2])}),
    # quantised
    ("quantize", 13, node("QuantizeLinear", "x s z"), ROWS, Q),
    ("dequantize by axis", 13, node("DequantizeLinear", "x s z", axis=1),
     {"x": np.arange(6, dtype=np.uint8).reshape(2, 3)},
     {"s": np.float32([0.5, 1, 2]), "z": np.array([1, 2, 3], np.uint8)}),
    ("qlinearmatmul", 13, node("QLinearMatMul", "x s z w s z t z"), {"x": np.arange(6, dtype=np.uint8).reshape(2, 3)},
     Q | {"w": np.arange(12, dtype=np.uint8).reshape(3, 4), "t": np.float32(0.2)}),
    ("dynamic quantize", 11, node("DynamicQuantizeLinear", "x", "y s z"), ROWS, {}),
    # transformers
    ("attention", 23, node("Attention", "x k v m", q_num_heads=4, kv_num_heads=2, softcap=2.0, is_causal=1),
     {"x": f(2, 5, 12)}, {"k": f(2, 5, 6), "v": f(2, 5, 8), "m": f(5, 5)}),
    ("attention with past", 23, node("Attention", "x k v - p q", "y a b"), {"x": f(1, 2, 3, 4)},
     {"k": f(1, 2, 3, 4), "v": f(1, 2, 3, 6), "p": f(1, 2, 7, 4), "q": f(1, 2, 7, 6)}),
    ("rotary", 23, node("RotaryEmbedding", "x c s p", interleaved=1, num_heads=2), {"x": f(1, 3, 16)},
     {"c": f(10, 4), "s": f(10, 4), "p": i([2, 0, 7])}),
    ("hann window", 17, node("HannWindow", "x", periodic=0), {"x": np.array(7)}, {}),
    ("dft", 17, node("DFT", "x", axis=1, onesided=1), {"x": f(2, 8, 1)}, {}),
    ("crop and pad", 18, node("CenterCropPad", "x n", axes=[2, 3]), IMAGE, {"n": i(6, 11)}),
    # recurrent
    ("lstm", 14, node("LSTM", "x w r b", "y h c", hidden_size=4, direction="bidirectional"), {"x": f(5, 2, 3)},
     {"w": f(2, 16, 3), "r": f(2, 16, 4), "b": f(2, 32)}),
    ("gru", 14, node("GRU", "x w r b - h", "y g", hidden_size=4, linear_before_reset=1), {"x": f(5, 2, 3)},
     {"w": f(1, 12, 3), "r": f(1, 12, 4), "b": f(1, 24), "h": f(1, 2, 4)}),
    ("gru plain", 14, node("GRU", "x w r", "y g", hidden_size=4, direction="reverse"), {"x": f(5, 2, 3)},
     {"w": f(1, 12, 3), "r": f(1, 12, 4)}),
    ("rnn", 14, node("RNN", "x w r b", "y g", hidden_size=4), {"x": f(5, 2, 3)},
     {"w": f(1, 4, 3), "r": f(1, 4, 4), "b": f(1, 8)}),
]  # fmt: skip


def compare(tmp_path: Path, model: Any, feeds: Mapping[str, Any], tolerance: float = 1e-4) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    wanted = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"]).run(None, dict(feeds))
    for got, want in zip(run(graph_of(path), feeds), wanted, strict=True):
        assert got.dtype == want.dtype
        assert close(got, want, tolerance), f"{got}\n{want}"


RECENT = {"reduce nothing", "attention", "avgpool ceil with pads", "avgpool ceil with pads, window outside"}
"""What onnxruntime before 1.24 (the last for Python 3.10 is 1.23) refuses or computes otherwise."""


def is_old(case: str) -> bool:
    return case in RECENT and tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 24)


@pytest.mark.parametrize(
    ("opset", "made", "feeds", "weights"),
    [pytest.param(*c[1:], id=c[0], marks=pytest.mark.skipif(is_old(c[0]), reason="onnxruntime < 1.24")) for c in CASES],
)
def test_against_onnxruntime(
    tmp_path: Path, opset: int, made: Any, feeds: Mapping[str, Any], weights: Mapping[str, Any]
) -> None:
    compare(tmp_path, onnx_model([made], feeds, made.output, weights, opset), feeds)


OLD = [
    ("batchnorm", node("BatchNormalization", "x s b m v", is_test=1, epsilon=0.1), CHANNEL, lambda x, w: (
        (x - w["m"][:, None, None]) / np.sqrt(w["v"] + 0.1)[:, None, None] * w["s"][:, None, None]
        + w["b"][:, None, None])),
    ("dropout", node("Dropout", "x", is_test=1), {}, lambda x, w: x),
    ("add by axis", node("Add", "x b", broadcast=1, axis=1), {"b": f(3)}, lambda x, w: x + w["b"][:, None, None]),
    ("mul by last axes", node("Mul", "x b", broadcast=1), {"b": f(9, 8)}, lambda x, w: x * w["b"]),
    ("split by input", node("Split", "x n", "y z", axis=1), {"n": np.float32([1, 2])}, lambda x, w: x[:, :1]),
    ("consumed", node("Relu", "x", consumed_inputs=[0]), {}, lambda x, w: np.maximum(x, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("made", "weights", "wanted"), [c[1:] for c in OLD], ids=[c[0] for c in OLD])
def test_operator_sets_that_onnxruntime_dropped(tmp_path: Path, made: Any, weights: Any, wanted: Any) -> None:
    model = onnx_model([made], IMAGE, made.output, weights, 1 if made.op_type == "Split" else 6)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    got = run(graph_of(tmp_path / "m.onnx"), IMAGE)[0]
    assert close(got, wanted(IMAGE["x"], weights))


UNARY = "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Erf Exp Floor"
UNARY += " Log Neg Relu Sigmoid Sign Sin Sinh Softsign Sqrt Tan Tanh"
BINARY = "Add Sub Mul Div Max Min And Or Xor Equal Greater Less GreaterOrEqual LessOrEqual"


@pytest.mark.parametrize("op", UNARY.split())
def test_unary(tmp_path: Path, op: str) -> None:
    feeds = {"x": np.float32([1.0, 1.5, 2.5]) if op == "Acosh" else np.float32([0.1, 0.4, 0.9])}
    compare(tmp_path, onnx_model([node(op, "x")], feeds, opset=13), feeds)


@pytest.mark.parametrize("op", BINARY.split())
def test_binary(tmp_path: Path, op: str) -> None:
    logical = op in ("And", "Or", "Xor")
    feeds = {
        "a": np.array([[True], [False]]) if logical else f(4, 1),
        "b": np.array([True, False]) if logical else f(3),
    }
    compare(tmp_path, onnx_model([node(op, "a b")], feeds, opset=13), feeds)


DYNAMIC: list[tuple[str, Any, Mapping[str, Any], Mapping[str, Any], Sequence[Any]]] = [
    ("flatten", node("Flatten", "x", axis=2), IMAGE, {}, [None, 3, None, None]),
    ("softmax of rows", node("Softmax", "x", axis=1), IMAGE, {}, [None, None, None, None]),
    ("conv", node("Conv", "x w", auto_pad="SAME_UPPER"), IMAGE, W, [None, 3, None, None]),
    ("upsample", node("Resize", "x - s"), IMAGE, {"s": np.float32([1, 1, 2, 2])}, [None, None, None, None]),
    (
        "lstm",
        node("LSTM", "x w r", "y", hidden_size=4),
        {"x": f(5, 2, 3)},
        {"w": f(1, 16, 3), "r": f(1, 16, 4)},
        [None] * 3,
    ),
    ("layernorm", node("InstanceNormalization", "x s b"), IMAGE, CHANNEL, [None, 3, None, None]),
    (
        "avgpool ceil with pads",
        node("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, ceil_mode=1, count_include_pad=1),
        {"x": f(1, 2, 8, 9)},
        {},
        [None] * 4,
    ),
    *(
        (
            f"deconv {padding} {shape}",
            node(
                "ConvTranspose", "x w", strides=[2, 2], auto_pad=padding, **({"output_shape": shape} if shape else {})
            ),
            IMAGE,
            {"w": f(3, 4, 4, 4)},
            [None, 3, None, None],
        )
        for padding in ("NOTSET", "SAME_UPPER", "SAME_LOWER")
        for shape in ([17, 17], [18, 16], [])
        if shape or padding != "NOTSET"
    ),
]


@pytest.mark.parametrize(
    ("made", "feeds", "weights", "shape"),
    [
        pytest.param(*c[1:], id=c[0], marks=pytest.mark.skipif(is_old(c[0]), reason="onnxruntime < 1.24"))
        for c in DYNAMIC
    ],
)
def test_free_dimensions(tmp_path: Path, made: Any, feeds: Any, weights: Any, shape: Any) -> None:
    compare(tmp_path, onnx_model([made], feeds, made.output, weights, 13, {"x": shape}), feeds)


def test_half_precision_stays_half(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w b", "a", pads=[1, 1, 1, 1]), node("LeakyRelu", "a", "c"), node("Clip", "c lo", "y")]
    half = {name: value.astype(np.float16) for name, value in {**W, **B, "lo": np.float32(-1)}.items()}
    feeds = {"x": IMAGE["x"].astype(np.float16)}
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_model(nodes, feeds, weights=half, opset=12).SerializeToString())
    graph = translate(read(str(path)), registry)
    assert {output.dtype for op in graph.ops() for output in op.outputs} <= {DType.F16, DType.I64}
    compare(tmp_path, onnx_model(nodes, feeds, weights=half, opset=12), feeds, 5e-3)


def test_reshape_by_a_shape_keeps_what_is_known(tmp_path: Path) -> None:
    nodes = [
        node("Shape", "x", "a"), node("Gather", "a zero", "b"), node("Unsqueeze", "b", "c", axes=[0]),
        node("Concat", "c rest", "d", axis=0), node("Reshape", "x d"),
    ]  # fmt: skip
    model = onnx_model(nodes, IMAGE, weights={"zero": i(0)[0], "rest": i(-1)}, opset=11, shapes={"x": [None, 3, 9, 8]})
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert graph_of(tmp_path / "m.onnx").results[0].outputs[0].shape == (ANY, 216)
    compare(tmp_path, model, IMAGE)


def test_known_integers_are_cut_towards_zero(tmp_path: Path) -> None:
    model = onnx_model([node("Div", "a b", "c"), node("Add", "x c")], {"x": i(1)}, opset=13,
                       weights={"a": i(-7, 7, -8), "b": i(2, -2, 4)})  # fmt: skip
    compare(tmp_path, model, {"x": i(1)})


def test_a_fill_has_no_bytes(tmp_path: Path) -> None:
    value = numpy_helper.from_array(np.float32([2.5]))
    model = onnx_model([node("ConstantOfShape", "s", "w", value=value), node("MatMul", "x w")], ROWS,
                       weights={"s": i(6, 3000)}, opset=9)  # fmt: skip
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    graph = translate(read(str(tmp_path / "m.onnx")), registry)
    (weight,) = [op.attrs["weight"] for op in graph.ops() if op.type == "Constant"]
    assert (weight.stored.shape, weight.source.element) == ((6, 3000), np.float32(2.5).tobytes())
    compare(tmp_path, model, ROWS)


def test_cut_and_renamed(tmp_path: Path) -> None:
    model = onnx_model([node("Exp", "x", "a"), node("Neg", "a", "b", name="neg"), node("Abs", "b")], ROWS)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    graph = graph_of(tmp_path / "m.onnx", [Input("a", DType.F32, (4, 6))], ["neg"])
    np.testing.assert_allclose(run(graph, {"a": ROWS["x"]})[0], -ROWS["x"])
    assert "a" in [op.name for op in graph.parameters]


REFUSED = [
    (node("Conv", "x w", auto_pad="FOO"), W, BadModel,
     "Conv 'y': attribute 'auto_pad' = 'FOO' is not one of NOTSET, SAME_UPPER, SAME_LOWER, VALID (see onnx/nn.py)"),
    (node("Conv", "x w", pads=[1, 1]), W, BadModel,
     "Conv 'y': attribute 'pads' = [1, 1] must have 4 elements (see onnx/nn.py)"),
    (node("Conv", "x w", kernel_shape=[5, 5]), W, BadModel,
     "Conv 'y': attribute 'kernel_shape' = [5, 5] is not that of weights [4, 3, 3, 3] (see onnx/nn.py)"),
    (node("Conv", "x w", group=3), W, BadModel,
     "Conv 'y': attribute 'group' = 3 does not divide weights [4, 3, 3, 3] (see onnx/nn.py)"),
    (node("Conv", "x"), {}, BadModel, "Conv 'y': 1 inputs given, 2 to 3 wanted (see onnx/nn.py)"),
    (node("MaxPool", "x"), {}, BadModel, "MaxPool 'y': attribute 'kernel_shape' is missing (see onnx/nn.py)"),
    (node("Concat", "x x", axis=7), {}, BadModel,
     "Concat 'y': axis 7 is outside a tensor of rank 4 (see onnx/movement.py)"),
    (node("Cast", "x", to=8), {}, Unsupported, "Cast 'y': texts are not supported (see onnx/movement.py)"),
    (node("Dropout", "x r t"), {"r": np.float32(0.5), "t": np.True_}, Unsupported,
     "Dropout 'y': dropout in training mode is not supported (see onnx/norm.py)"),
    (node("ConstantOfShape", "s"), {"s": i(1 << 30, 1 << 30)}, BadModel,
     "ConstantOfShape 'y': a constant of shape [1073741824, 1073741824] cannot be made (see onnx/generate.py)"),
    (node("Conv", "x w", pads="same"), W, BadModel,
     "Conv 'y': attribute 'pads' = 'same' must be a list of integers (see onnx/nn.py)"),
    (node("Conv", "x w", strides=[1]), {"w": f(4, 3, 3)}, BadModel,
     "Conv 'y': data of rank 4 and weights of rank 3 do not fit together (see onnx/nn.py)"),
    (node("ConvTranspose", "x w", output_shape=[1, 2, 3]), W, BadModel,
     "ConvTranspose 'y': attribute 'output_shape' = [1, 2, 3] must have 2 elements (see onnx/nn.py)"),
    (node("ConvInteger", "x w", group=1.5), W, BadModel,
     "ConvInteger 'y': attribute 'group' = 1.5 must be an integer (see onnx/nn.py)"),
    (node("Relu", "x", "y z"), {}, Unsupported, "Relu 'y': 2 outputs are wanted, of which 1 can be converted"),
    (node("Greater", "- x"), {}, BadModel, "Greater 'y': a required input is left out (see onnx/arithmetic.py)"),
    (node("Resize", "x - s"), {"s": np.float32([2])}, BadModel,
     "Resize 'y': scales or sizes of shape [1] for data of rank 4 (see onnx/resize.py)"),
    (node("GatherND", "x k", batch_dims=-7), {"k": i([0])}, BadModel,
     "GatherND 'y': indices of 1 axes after -7 are too deep for data of rank 4 (see onnx/indexing.py)"),
    (node("Unsqueeze", "x k"), {"k": i(0, 0)}, BadModel,
     "Unsqueeze 'y': axes [0, 0] name an axis twice (see onnx/movement.py)"),
    (node("ConstantOfShape", "k", value=1), {"k": i(2)}, BadModel,
     "ConstantOfShape 'y': attribute 'value' = 1 must be a tensor (see onnx/generate.py)"),
    (node("Resize", "x - s"), {"s": np.float32([1, 1, 1, np.inf])}, BadModel,
     "Resize 'y': a number among its attributes, sizes or constants is too large (see onnx/resize.py)"),
    (node("Resize", "x - s", coordinate_transformation_mode="tf_crop_and_resize"), {"s": np.float32([1, 1, 2, 2])},
     Unsupported, "Resize 'y': attribute 'coordinate_transformation_mode' = 'tf_crop_and_resize' is not supported"
     " (see onnx/resize.py)"),
]  # fmt: skip


@pytest.mark.parametrize(("made", "weights", "kind", "message"), REFUSED)
def test_refused(tmp_path: Path, made: Any, weights: Any, kind: Any, message: str) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx_model([made], IMAGE, weights=weights, opset=13).SerializeToString())
    with pytest.raises(kind) as caught:
        graph_of(tmp_path / "m.onnx")
    assert str(caught.value) == f"m.onnx: {message}"


@pytest.mark.parametrize(
    "op", ["Reshape", "Expand", "Tile", "Pad", "Slice", "ConstantOfShape", "GatherND", "AffineGrid"]
)
def test_a_list_of_many_sizes_is_refused(tmp_path: Path, op: str) -> None:
    """A dimension in the file must not become a list in memory."""
    inputs = {"ConstantOfShape": "s", "Slice": "x s s"}.get(op, "x s")
    model = onnx_model([node(op, inputs)], IMAGE | {"s": i(1)}, opset=20, shapes={"s": [1 << 31]})
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BadModel, match=r"too many|too deep|a grid of"):
        graph_of(tmp_path / "m.onnx")


def test_a_large_fill_is_made_when_the_network_runs(tmp_path: Path) -> None:
    model = onnx_model([node("ConstantOfShape", "s", "c"), node("Add", "x c")], ROWS, weights={"s": i(1 << 20, 4, 6)},
                       opset=13)  # fmt: skip
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    graph = translate(read(str(tmp_path / "m.onnx")), registry)
    assert "Broadcast" not in [op.type for op in graph.ops()]
    huge = onnx_model([node("ConstantOfShape", "s")], {}, weights={"s": i(1 << 30, 4)}, opset=13)
    (tmp_path / "m.onnx").write_bytes(huge.SerializeToString())
    assert [op.type for op in graph_of(tmp_path / "m.onnx").ops()].count("Broadcast") == 1


def test_a_wrong_weight_is_seen(tmp_path: Path) -> None:
    """The negative control: one weight scaled by 1 % is told from the right one."""
    nodes = [node("Conv", "x w b")]
    good = onnx_model(nodes, IMAGE, weights=W | B, opset=11)
    compare(tmp_path, good, IMAGE)
    wrong = onnx_model(nodes, IMAGE, weights={"w": W["w"] * np.float32(1.01)} | B, opset=11)
    (tmp_path / "w.onnx").write_bytes(wrong.SerializeToString())
    (tmp_path / "g.onnx").write_bytes(good.SerializeToString())
    assert not close(run(graph_of(tmp_path / "w.onnx"), IMAGE)[0], run(graph_of(tmp_path / "g.onnx"), IMAGE)[0])
