"""Element by element: activation, arithmetic, comparison, logic, Convert, Select (specification: those families)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from batchconv.graph import Attr, Output, Value
from batchconv.ops.checks import like, same_type, want_bools, want_integers, want_numbers
from batchconv.ops.values import MAYBE, Rule, cast, computed, divided, ends, exactly, modulo, monotone, union
from batchconv.opset import AttrDef, Constructor, bool_, define, enum, float_, type_
from batchconv.shape import Interval, broadcast, merge
from batchconv.tensor import DType

__all__ = [
    "absolute", "acos", "acosh", "add", "asin", "asinh", "atan", "atanh", "bitwise_and", "bitwise_left_shift",
    "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "ceiling", "clamp", "convert",
    "convert_like", "cos", "cosh", "divide", "elu", "equal", "erf", "erfinv", "exp", "fake_quantize", "floor",
    "floor_mod", "gelu", "greater", "greater_equal", "hard_sigmoid", "hsigmoid", "hswish", "identity",
    "is_finite", "is_inf", "is_nan", "less", "less_equal", "log", "logical_and", "logical_not", "logical_or",
    "logical_xor", "maximum", "minimum", "mish", "mod", "multiply", "negative", "not_equal", "power", "prelu",
    "relu", "round_", "select", "selu", "sigmoid", "sign", "sin", "sinh", "softplus", "softsign", "sqrt",
    "squared_difference", "subtract", "swish", "tan", "tanh",
]  # fmt: skip


def unary(type: str, opset: int = 1, rule: Rule | None = None, **attrs: AttrDef) -> Constructor:
    """One input of numbers, the same type and shape out."""

    def infer(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
        value = inputs[0]
        want_numbers(value)
        known = None if rule is None else computed(inputs, value.dtype, value.shape, rule)
        return Output(value.dtype, value.shape, (), known)

    return define(type, opset, "data", infer, **attrs)


def negated(dtype: DType, item: Any) -> Any:
    """-x, which turns the ends of an Interval around."""
    return monotone(np.negative)(dtype, item)


absolute = unary("Abs", rule=exactly(np.abs))
acos = unary("Acos")
acosh = unary("Acosh", 4)
asin = unary("Asin")
asinh = unary("Asinh", 4)
atan = unary("Atan")
atanh = unary("Atanh", 4)
ceiling = unary("Ceiling", rule=monotone(np.ceil))
clamp = unary("Clamp", min=float_(), max=float_())
cos = unary("Cos")
cosh = unary("Cosh")
elu = unary("Elu", alpha=float_(1.0))
erf = unary("Erf")
exp = unary("Exp", rule=monotone(np.exp))
floor = unary("Floor", rule=monotone(np.floor))
gelu = unary("Gelu", 7, approximation_mode=enum("ERF", "TANH", default="ERF"))
hsigmoid = unary("HSigmoid", 5)
hswish = unary("HSwish", 4)
log = unary("Log", rule=exactly(np.log))
mish = unary("Mish", 4)
negative = unary("Negative", rule=negated)
relu = unary("Relu", rule=monotone(lambda x: np.maximum(x, 0)))
MODES = ("half_to_even", "half_away_from_zero")
round_ = define("Round", 5, "data", lambda inputs, attrs: _round(inputs, attrs), mode=enum(*MODES, default=MODES[0]))
sigmoid = unary("Sigmoid")
sign = unary("Sign", rule=monotone(np.sign))
sin = unary("Sin")
sinh = unary("Sinh")
softplus = unary("SoftPlus", 4)
softsign = unary("SoftSign", 9)
sqrt = unary("Sqrt", rule=monotone(np.sqrt))
tan = unary("Tan")
tanh = unary("Tanh")
erfinv = unary("ErfInv", 17)
identity = define("Identity", 16, "data", like)

prelu = define("PRelu", 1, "data slope", lambda inputs, attrs: _with_scalars(inputs, attrs))
hard_sigmoid = define("HardSigmoid", 1, "data alpha beta", lambda inputs, attrs: _with_scalars(inputs, attrs))
selu = define("Selu", 1, "data alpha lambda", lambda inputs, attrs: _with_scalars(inputs, attrs))
swish = define("Swish", 4, "data beta?", lambda inputs, attrs: _with_scalars(inputs, attrs))


def _with_scalars(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    same_type(inputs)
    return like(inputs, attrs)


def _round(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    value = inputs[0]
    want_numbers(value)
    rule = monotone(np.rint if attrs["mode"] == MODES[0] else lambda x: np.trunc(x + np.copysign(0.5, x)))
    return Output(value.dtype, value.shape, (), computed(inputs, value.dtype, value.shape, rule))


def _joined(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Any:
    shapes = [value.shape for value in inputs]
    return merge(*shapes) if attrs["auto_broadcast"] == "none" else broadcast(*shapes)


def arithmetic(type: str, rule: Rule | None = None, opset: int = 1, **more: AttrDef) -> Constructor:
    """Two inputs of one type, numpy broadcasting; `rule` computes what is known of the elements."""

    def infer(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
        dtype, shape = same_type(inputs), _joined(inputs, attrs)
        want_numbers(inputs[0])
        return Output(dtype, shape, (), computed(inputs, dtype, shape, rule) if rule else None)

    return define(type, opset, "a b", infer, auto_broadcast=enum("numpy", "none", default="numpy"), **more)


add = arithmetic("Add", monotone(np.add))
subtract = arithmetic("Subtract", monotone(np.subtract))
multiply = arithmetic("Multiply", monotone(np.multiply))
divide = arithmetic("Divide", divided, m_pythondiv=bool_(True))
power = arithmetic("Power", exactly(np.power))
maximum = arithmetic("Maximum", monotone(np.maximum))
minimum = arithmetic("Minimum", monotone(np.minimum))
mod = arithmetic("Mod", modulo(np.fmod))
floor_mod = arithmetic("FloorMod", modulo(np.mod))
squared_difference = arithmetic("SquaredDifference", exactly(lambda a, b: (a - b) * (a - b)))


def comparison(type: str, rule: Rule) -> Constructor:
    """Two inputs of one type, a boolean out."""

    def infer(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
        dtype, shape = same_type(inputs), _joined(inputs, attrs)
        return Output(DType.BOOLEAN, shape, (), computed(inputs, dtype, shape, rule))

    return define(type, 1, "a b", infer, auto_broadcast=enum("numpy", "none", default="numpy"))


def _greater(dtype: DType, a: Any, b: Any) -> Any:
    (low, high), (least, most) = ends(a), ends(b)
    return True if low > most else False if high <= least else MAYBE


def _equal(dtype: DType, a: Any, b: Any) -> Any:
    if not isinstance(a, Interval) and not isinstance(b, Interval):
        return bool(a == b)
    (low, high), (least, most) = ends(a), ends(b)
    return False if high < least or most < low else MAYBE


def _not(dtype: DType, item: Any) -> Any:
    return item if isinstance(item, Interval) else not item


equal = comparison("Equal", _equal)
not_equal = comparison("NotEqual", lambda t, a, b: _not(t, _equal(t, a, b)))
greater = comparison("Greater", _greater)
less = comparison("Less", lambda t, a, b: _greater(t, b, a))
greater_equal = comparison("GreaterEqual", lambda t, a, b: _not(t, _greater(t, b, a)))
less_equal = comparison("LessEqual", lambda t, a, b: _not(t, _greater(t, a, b)))


def logical(type: str, rule: Rule, opset: int = 1) -> Constructor:
    """Two booleans in, one out."""

    def infer(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
        for value in inputs:
            want_bools(value)
        shape = _joined(inputs, attrs)
        return Output(DType.BOOLEAN, shape, (), computed(inputs, DType.BOOLEAN, shape, rule))

    return define(type, opset, "a b", infer, auto_broadcast=enum("numpy", "none", default="numpy"))


def _and(dtype: DType, a: Any, b: Any) -> Any:
    return False if a is False or b is False else True if a is True and b is True else MAYBE


def _xor(dtype: DType, a: Any, b: Any) -> Any:
    return MAYBE if isinstance(a, Interval) or isinstance(b, Interval) else a != b


def _logical_not(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    want_bools(inputs[0])
    shape = inputs[0].shape
    return Output(DType.BOOLEAN, shape, (), computed(inputs, DType.BOOLEAN, shape, _not))


logical_and = logical("LogicalAnd", _and)
logical_or = logical("LogicalOr", lambda t, a, b: _not(t, _and(t, _not(t, a), _not(t, b))))
logical_xor = logical("LogicalXor", _xor, 2)
logical_not = define("LogicalNot", 1, "data", _logical_not)


def bitwise(type: str, opset: int = 13) -> Constructor:
    """Two inputs of one integer type (or boolean, for the logical ones)."""

    def infer(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
        if inputs[0].dtype is not DType.BOOLEAN:
            want_integers(inputs[0], "the input")
        return Output(same_type(inputs), _joined(inputs, attrs))

    return define(type, opset, "a b", infer, auto_broadcast=enum("numpy", "none", default="numpy"))


bitwise_and = bitwise("BitwiseAnd")
bitwise_or = bitwise("BitwiseOr")
bitwise_xor = bitwise("BitwiseXor")
bitwise_left_shift = bitwise("BitwiseLeftShift", 15)
bitwise_right_shift = bitwise("BitwiseRightShift", 15)
bitwise_not = define("BitwiseNot", 13, "data", like)


def _test(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    want_numbers(inputs[0])
    return Output(DType.BOOLEAN, inputs[0].shape)


is_finite = define("IsFinite", 10, "data", _test)
is_nan = define("IsNaN", 10, "data", _test)
is_inf = define("IsInf", 10, "data", _test, detect_negative=bool_(True), detect_positive=bool_(True))


def _convert(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    target, shape = attrs["destination_type"], inputs[0].shape
    return Output(target, shape, (), computed(inputs, target, shape, cast(target)))


def _convert_like(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    return _convert(inputs[:1], {"destination_type": inputs[1].dtype})


convert = define("Convert", 1, "data", _convert, destination_type=type_())
convert_like = define("ConvertLike", 1, "data like", _convert_like)


def _chosen(dtype: DType, condition: Any, a: Any, b: Any) -> Any:
    return union(a, b) if isinstance(condition, Interval) else a if condition else b


def _select(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    want_bools(inputs[0], "the condition")
    dtype, shape = same_type(inputs[1:]), _joined(inputs[1:], attrs)
    shape = merge(shape, inputs[0].shape) if attrs["auto_broadcast"] == "none" else broadcast(inputs[0].shape, shape)
    return Output(dtype, shape, (), computed(inputs, dtype, shape, _chosen))


select = define("Select", 1, "cond then else", _select, auto_broadcast=enum("numpy", "none", default="numpy"))


def _fake_quantize(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    dtype, shape = same_type(inputs), inputs[0].shape
    for value in inputs[1:]:
        shape = broadcast(shape, value.shape)
    return Output(dtype, shape)


fake_quantize = define(
    "FakeQuantize",
    1,
    "data input_low input_high output_low output_high",
    _fake_quantize,
    levels=AttrDef(lambda v: _levels(v), hint="2 levels or more"),
    auto_broadcast=enum("numpy", "none", default="numpy"),
)


def _levels(value: Any) -> int:
    if int(value) != value or value < 2:
        raise ValueError
    return int(value)
