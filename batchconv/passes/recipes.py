"""What rules ask of constants and do to them: recipes grow, nothing is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from batchconv import ops
from batchconv.graph import Op, Value
from batchconv.shape import broadcast, static
from batchconv.steps import Binary, Cast, Reshape, Unary
from batchconv.tensor import DType, Spec
from batchconv.weight import INLINE, Fill, Weight, inline

HALF = (DType.F16, DType.BF16)
FLOATS = (DType.F32, DType.F64, *HALF)

Function = TypeVar("Function", bound=Callable[..., Any])


def on(*types: str) -> Callable[[Function], Function]:
    """Mark a rule with the operation types it looks at (`*`: every one)."""

    def mark(function: Function) -> Function:
        function.types = types  # type: ignore[attr-defined]
        return function

    return mark


def rules(*functions: Any) -> dict[str, tuple[Any, ...]]:
    """The rule set of these marked functions for one sweep: operation type -> rules, in the order given."""
    table: dict[str, tuple[Any, ...]] = {}
    for function in functions:
        for kind in function.types:
            table[kind] = (*table.get(kind, ()), function)
    return table


def beside_constant(op: Op) -> tuple[Value, Weight] | None:
    """(computed input, recipe of the other) of a floating-point operation of two inputs one of which is a Constant."""
    first, second = op.inputs
    if first.dtype not in FLOATS:
        return None
    if second.weight is not None:
        return None if first.weight is not None else (first, second.weight)
    return None if first.weight is None else (second, first.weight)


def wide(weight: Weight) -> Weight:
    """`weight` in single precision if it has half; a rounding to half that comes last is left out."""
    if weight.spec.dtype not in HALF:
        return weight
    if weight.steps and isinstance(weight.steps[-1], Cast):
        before = Weight(weight.stored, weight.source, weight.steps[:-1])
        if before.spec.dtype is DType.F32:
            return before
    return weight.then(Cast(DType.F32))


def narrow(weight: Weight, dtype: DType) -> Weight:
    """`weight` as `dtype`."""
    return weight if weight.spec.dtype is dtype else weight.then(Cast(dtype))


def combined(kind: str, a: Weight, b: Weight) -> Weight:
    """`a KIND b` (KIND of steps.BINARY) in the element type of `a`; half is computed in single, rounded once."""
    left = wide(a)
    return narrow(left.then(Binary(kind, narrow(wide(b), left.spec.dtype))), a.spec.dtype)


def mapped(kind: str, weight: Weight) -> Weight:
    """KIND (of steps.UNARY) of each element, likewise."""
    return narrow(wide(weight).then(Unary(kind)), weight.spec.dtype)


def reshaped(weight: Weight, shape: tuple[int, ...]) -> Weight:
    """`weight` in another shape; a Cast that comes last stays last, so that `wide` finds it."""
    if weight.spec.shape == shape:
        return weight
    last = weight.steps[-1] if weight.steps else None
    if not isinstance(last, (Cast, Reshape)):
        return weight.then(Reshape(shape))
    before = reshaped(Weight(weight.stored, weight.source, weight.steps[:-1]), shape)
    return before.then(last) if isinstance(last, Cast) else before


def grows(a: Spec, b: Spec) -> bool:
    """True if the two broadcast to more elements than each has."""
    return Spec(a.dtype, static(broadcast(a.shape, b.shape))).size > max(a.size, b.size)


def number(value: float, dtype: DType) -> Weight:
    """A scalar recipe."""
    return inline(np.asarray(value, dtype.numpy), dtype)


def constant(weight: Weight, name: str = "") -> Value:
    return ops.constant(weight, name)


def uniform(weight: Weight) -> float | None:
    """The number that every element is, where the recipe itself says so; else None."""
    spec, source = weight.stored, weight.source
    if weight.steps or spec.dtype not in FLOATS or not spec.size:
        return None
    if isinstance(source, Fill):
        element = source.element
    elif isinstance(source, bytes) and len(source) <= INLINE:
        element = source[: spec.dtype.bits // 8]
        if element * spec.size != source:
            return None
    else:
        return None
    return float(np.frombuffer(element, spec.dtype.numpy)[0])
