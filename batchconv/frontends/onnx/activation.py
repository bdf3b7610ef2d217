"""Activations, Softmax and its kin (ONNX operators of type T -> T)."""

from __future__ import annotations

import numpy as np

from batchconv import ops
from batchconv.errors import Unsupported
from batchconv.frontends.onnx.forms import axis_in, flattened, like, reshape, shape_of
from batchconv.frontends.onnx.registry import onnx
from batchconv.graph import Value
from batchconv.tensor import DType

I64 = DType.I64

_SELU = (1.67326319217681884765625, 1.05070102214813232421875)

onnx.rename(
    {
        "HardSwish": ops.hswish,
        "Mish": ops.mish,
        "Sigmoid": ops.sigmoid,
        "Softplus": ops.softplus,
        "Softsign": ops.softsign,
        "Tanh": ops.tanh,
    },
)


@onnx.op("Relu")
def relu(x: Value, *, consumed_inputs: object = None) -> Value:
    return ops.relu(x)


@onnx.op("LeakyRelu")
def leaky_relu(x: Value, *, alpha: float = 0.01, consumed_inputs: object = None) -> Value:
    return ops.prelu(x, like([alpha], x))


@onnx.op("PRelu")
def prelu_by_channel(x: Value, slope: Value, *, consumed_inputs: object = None) -> Value:
    return ops.prelu(x, slope)


@onnx.op("PRelu", since=7)
def prelu(x: Value, slope: Value) -> Value:
    shape = slope.shape
    channels = None if x.rank is None or shape is None or not 1 < x.rank == len(shape) + 1 else shape[0]
    if shape is not None and all(dim == 1 for dim in shape):
        return ops.prelu(x, reshape(slope, 1))
    if channels is not None and shape is not None and all(dim == 1 for dim in shape[1:]) and x.rank != 2:
        return ops.prelu(x, reshape(slope, -1))
    zero = like(0, x)
    return ops.add(ops.maximum(x, zero), ops.multiply(slope, ops.minimum(x, zero)))


@onnx.op("Elu")
def elu(x: Value, *, alpha: float = 1.0, consumed_inputs: object = None) -> Value:
    return ops.elu(x, alpha=alpha)


@onnx.op("Celu")
def celu(x: Value, *, alpha: float = 1.0) -> Value:
    scale = like(alpha, x)
    return ops.multiply(ops.elu(ops.divide(x, scale), alpha=1.0), scale)


@onnx.op("Selu")
def selu(x: Value, *, alpha: float = _SELU[0], gamma: float = _SELU[1], consumed_inputs: object = None) -> Value:
    return ops.selu(x, like(alpha, x), like(gamma, x))


@onnx.op("HardSigmoid")
def hard_sigmoid(x: Value, *, alpha: float = 0.2, beta: float = 0.5, consumed_inputs: object = None) -> Value:
    return ops.hard_sigmoid(x, like(alpha, x), like(beta, x))


@onnx.op("ThresholdedRelu")
def thresholded_relu(x: Value, *, alpha: float = 1.0) -> Value:
    return ops.select(ops.greater(x, like(alpha, x)), x, like(0, x))


@onnx.op("Shrink")
def shrink(x: Value, *, bias: float = 0.0, lambd: float = 0.5) -> Value:
    low = ops.select(ops.less(x, like(-lambd, x)), ops.add(x, like(bias, x)), like(0, x))
    return ops.select(ops.greater(x, like(lambd, x)), ops.subtract(x, like(bias, x)), low)


@onnx.op("Gelu")
@onnx.op("Gelu", domain="com.microsoft")
def gelu(x: Value, *, approximate: str = "none") -> Value:
    if approximate not in ("none", "tanh"):
        raise Unsupported(f"attribute 'approximate' = {approximate!r} is not one of none, tanh")
    return ops.gelu(x, approximation_mode="TANH" if approximate == "tanh" else "ERF")


@onnx.op("Swish")
def swish(x: Value, *, alpha: float = 1.0) -> Value:
    return ops.swish(x, like(alpha, x))


def over_the_rest(x: Value, axis: int) -> bool:
    """True if `axis` is the last, or all after it are 1: then a function of the flattened rows is one of the axis."""
    return all(dim == 1 for dim in (x.shape or ())[axis + 1 :])


@onnx.op("Softmax")
def softmax_of_rows(x: Value, *, axis: int = 1) -> Value:
    axis = axis_in(axis, x)
    if over_the_rest(x, axis):
        return ops.softmax(x, axis=axis)
    return ops.reshape(ops.softmax(flattened(x, axis), axis=1), shape_of(x), special_zero=False)


@onnx.op("LogSoftmax")
def log_softmax_of_rows(x: Value, *, axis: int = 1) -> Value:
    axis = axis_in(axis, x)
    if over_the_rest(x, axis):
        return ops.log_softmax(x, axis=axis)
    return ops.reshape(ops.log_softmax(flattened(x, axis), axis=1), shape_of(x), special_zero=False)


@onnx.op("Hardmax")
def hardmax_of_rows(x: Value, *, axis: int = 1) -> Value:
    axis = axis_in(axis, x)
    if over_the_rest(x, axis):
        return hardmax(x, axis=axis)
    return ops.reshape(hardmax(flattened(x, axis), axis=1), shape_of(x), special_zero=False)


@onnx.op("Softmax", since=13)
def softmax(x: Value, *, axis: int = -1) -> Value:
    return ops.softmax(x, axis=axis_in(axis, x))


@onnx.op("LogSoftmax", since=13)
def log_softmax(x: Value, *, axis: int = -1) -> Value:
    return ops.log_softmax(x, axis=axis_in(axis, x))


@onnx.op("Hardmax", since=13)
def hardmax(x: Value, *, axis: int = -1) -> Value:
    axis = axis_in(axis, x)
    k = ops.const(np.int64(1))
    best = ops.topk.op(x, k, axis=axis, mode="max", sort="value", index_element_type=I64, stable=True).value(1)
    count = ops.gather(shape_of(x), ops.const(np.int64(axis)), ops.const(np.int64(0)))
    squeezed = ops.squeeze(best, ops.const([axis]))
    return ops.one_hot(squeezed, count, like(1, x), like(0, x), axis=axis)
