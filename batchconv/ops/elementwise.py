"""Element by element: activation, arithmetic, comparison, logic, Convert (operation specification by those families)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from batchconv.errors import BadModel
from batchconv.graph import Attr, Known, Output, Value
from batchconv.opset import Constructor, define, enum, type_
from batchconv.shape import broadcast
from batchconv.tensor import DType

__all__ = ["add", "convert", "multiply", "relu", "subtract", "divide", "sigmoid", "prelu"]


def same_type(inputs: Sequence[Value]) -> DType:
    """The one element type of all inputs; BadModel if they differ."""
    types = {value.dtype for value in inputs} - {DType.DYNAMIC}
    if len(types) > 1:
        raise BadModel("inputs have different element types " + ", ".join(sorted(t.ir for t in types)))
    return next(iter(types), DType.DYNAMIC)


def _same(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    return Output(inputs[0].dtype, inputs[0].shape)


def _broadcast(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    return Output(same_type(inputs), broadcast(inputs[0].shape, inputs[1].shape))


def unary(type: str, opset: int = 1) -> Constructor:
    """One input, the same type and shape out."""
    return define(type, opset, "data", _same)


def arithmetic(type: str, compute: Callable[[Any, Any], Any] | None = None, opset: int = 1) -> Constructor:
    """Two inputs of one type, numpy broadcasting; `compute` works on known integer elements and intervals."""

    def infer(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
        out = _broadcast(inputs, attrs)
        known = known_pairwise(inputs, compute) if compute and out.dtype.is_integral else None
        return Output(out.dtype, out.shape, (), known)

    return define(type, opset, "a b", infer, auto_broadcast=enum("numpy", "none", default="numpy"))


def known_pairwise(inputs: Sequence[Value], compute: Callable[[Any, Any], Any]) -> Known | None:
    """`compute` over the known elements of two inputs, for scalars and 1-D (what shape subgraphs are made of)."""
    a, b = inputs[0].known, inputs[1].known
    if a is None or b is None or len(a.shape) > 1 or len(b.shape) > 1:
        return None
    count = max(len(a.items), len(b.items))
    if {len(a.items), len(b.items)} - {1, count}:
        return None
    pairs = zip(a.items * (count // len(a.items)), b.items * (count // len(b.items)), strict=True)
    return Known((count,) if a.shape or b.shape else (), tuple(compute(x, y) for x, y in pairs))


relu = unary("Relu")
sigmoid = unary("Sigmoid")
add = arithmetic("Add", lambda x, y: x + y)
subtract = arithmetic("Subtract", lambda x, y: x - y)
multiply = arithmetic("Multiply", lambda x, y: x * y)
divide = arithmetic("Divide")
prelu = define("PRelu", 1, "data slope", _same)


def _convert(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    known = inputs[0].known if inputs[0].dtype.is_integral and attrs["destination_type"].is_integral else None
    return Output(attrs["destination_type"], inputs[0].shape, (), known)


convert = define("Convert", 1, "data", _convert, destination_type=type_())
