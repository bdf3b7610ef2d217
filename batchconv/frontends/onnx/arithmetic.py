"""Arithmetic, comparison, logic, rounding: element by element, with numpy's broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

from batchconv import ops
from batchconv.errors import Unsupported
from batchconv.frontends.binding import Translator
from batchconv.frontends.onnx.forms import aligned, cast, like
from batchconv.frontends.onnx.registry import onnx
from batchconv.graph import Value

onnx.rename(
    {
        "Acos": ops.acos,
        "Acosh": ops.acosh,
        "Asin": ops.asin,
        "Asinh": ops.asinh,
        "Atan": ops.atan,
        "Atanh": ops.atanh,
        "BitwiseAnd": ops.bitwise_and,
        "BitwiseNot": ops.bitwise_not,
        "BitwiseOr": ops.bitwise_or,
        "BitwiseXor": ops.bitwise_xor,
        "Cos": ops.cos,
        "Cosh": ops.cosh,
        "Erf": ops.erf,
        "GreaterOrEqual": ops.greater_equal,
        "IsNaN": ops.is_nan,
        "LessOrEqual": ops.less_equal,
        "Not": ops.logical_not,
        "Round": ops.round,
        "Sign": ops.sign,
        "Sin": ops.sin,
        "Sinh": ops.sinh,
        "Tan": ops.tan,
        "Where": ops.select,
    },
)


def unary(constructor: Callable[[Value], Value]) -> Translator:
    """One input; `consumed_inputs` is what operator sets before 6 said about reusing memory."""

    def translator(x: Value, *, consumed_inputs: object = None) -> Value:
        return constructor(x)

    return translator


def binary(constructor: Callable[[Value, Value], Value]) -> Translator:
    """Two inputs; `axis` and `broadcast` are the broadcasting of operator sets before 7."""

    def translator(
        a: Value, b: Value, *, axis: int | None = None, broadcast: int = 0, consumed_inputs: object = None
    ) -> Value:
        return constructor(a, aligned(a, b, axis))

    return translator


def divide(a: Value, b: Value) -> Value:
    """a / b; integers are cut towards zero, also those known now (whose bounds `ops.divide` rounds down)."""
    x, y = (None, None) if a.dtype.is_real else (a.array, b.array)
    if x is not None and y is not None and y.all() and (x.min(initial=0) < 0 or y.min(initial=0) < 0):
        return ops.const(np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y)), a.dtype)
    return ops.divide(a, b, m_pythondiv=a.dtype.is_real)


for _name, _unary in {
    "Abs": ops.absolute,
    "Ceil": ops.ceiling,
    "Exp": ops.exp,
    "Floor": ops.floor,
    "Log": ops.log,
    "Neg": ops.negative,
    "Sqrt": ops.sqrt,
}.items():
    onnx.add(_name, unary(_unary), 1, "")
_BINARY: dict[str, Callable[[Value, Value], Value]] = {
    "Add": ops.add,
    "And": ops.logical_and,
    "Div": divide,
    "Equal": ops.equal,
    "Greater": ops.greater,
    "Less": ops.less,
    "Mul": ops.multiply,
    "Or": ops.logical_or,
    "Sub": ops.subtract,
    "Xor": ops.logical_xor,
}
for _name, _binary in _BINARY.items():
    onnx.add(_name, binary(_binary), 1, "")


@onnx.op("Reciprocal")
def reciprocal(x: Value, *, consumed_inputs: object = None) -> Value:
    return ops.divide(like(1, x), x)


@onnx.op("Pow")
def power(a: Value, b: Value, *, axis: int | None = None, broadcast: int = 0) -> Value:
    b = aligned(a, b, axis)
    if a.dtype is b.dtype:
        return ops.power(a, b)
    if b.dtype.is_real and not a.dtype.is_real:
        return cast(ops.power(cast(a, b.dtype), b), a.dtype)
    return ops.power(a, cast(b, a.dtype))


@onnx.op("Mod")
def mod(a: Value, b: Value, *, fmod: int = 0) -> Value:
    return ops.mod(a, b) if fmod else ops.floor_mod(a, b)


@onnx.op("BitShift")
def bit_shift(a: Value, b: Value, *, direction: str) -> Value:
    if direction not in ("LEFT", "RIGHT"):
        raise Unsupported(f"attribute 'direction' = {direction!r} is not one of LEFT, RIGHT")
    return ops.bitwise_left_shift(a, b) if direction == "LEFT" else ops.bitwise_right_shift(a, b)


@onnx.op("IsInf")
def is_inf(x: Value, *, detect_negative: int = 1, detect_positive: int = 1) -> Value:
    return ops.is_inf(x, detect_negative=bool(detect_negative), detect_positive=bool(detect_positive))


@onnx.op("Sum")
def total(x: Value, *more: Value, consumed_inputs: object = None) -> Value:
    return reduce(ops.add, more, x)


@onnx.op("Max")
def largest(x: Value, *more: Value, consumed_inputs: object = None) -> Value:
    return reduce(ops.maximum, more, x)


@onnx.op("Min")
def smallest(x: Value, *more: Value, consumed_inputs: object = None) -> Value:
    return reduce(ops.minimum, more, x)


@onnx.op("Mean")
def mean(x: Value, *more: Value, consumed_inputs: object = None) -> Value:
    return ops.divide(reduce(ops.add, more, x), like(1 + len(more), x)) if more else x


@onnx.op("Clip")
def clip_to_attributes(
    x: Value, *, min: float | None = None, max: float | None = None, consumed_inputs: object = None
) -> Value:
    return clip(x, None if min is None else like(min, x), None if max is None else like(max, x))


@onnx.op("Clip", since=11)
def clip(x: Value, low: Value | None = None, high: Value | None = None) -> Value:
    bounds = [None if bound is None else bound.array for bound in (low, high)]
    if x.dtype.is_real and bounds[0] is not None and bounds[1] is not None and bounds[0].item() <= bounds[1].item():
        return ops.clamp(x, min=bounds[0].item(), max=bounds[1].item())
    y = x if low is None else ops.maximum(x, low)
    return y if high is None else ops.minimum(y, high)


@onnx.op("Identity")
def identity(x: Value) -> Value:
    return x
