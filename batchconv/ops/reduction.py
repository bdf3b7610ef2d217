"""Reductions over axes, cumulative sums, TopK (specification: reduction, sort)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from batchconv.graph import Attr, Output, Value
from batchconv.ops.checks import axes_of, like, want_bools, want_integers, want_numbers, want_rank
from batchconv.ops.values import MAYBE, Rule, as_dim, items_of, monotone, moved, numbers
from batchconv.opset import AttrDef, Constructor, bool_, define, enum, int_, type_
from batchconv.shape import ANY, Dim, Interval, Shape, axis_of, bounds, interval
from batchconv.tensor import Array, DType

__all__ = [
    "cum_sum", "reduce_l1", "reduce_l2", "reduce_logical_and", "reduce_logical_or", "reduce_max", "reduce_mean",
    "reduce_min", "reduce_prod", "reduce_sum", "topk",
]  # fmt: skip


def reduced(shape: Shape, axes: Sequence[int] | None, keep_dims: bool) -> Shape:
    """`shape` without `axes`, or with 1 there; `axes` None: not known."""
    if shape is None:
        return None
    if axes is None:
        return (ANY,) * len(shape) if keep_dims else None
    if keep_dims:
        return tuple(1 if i in axes else dim for i, dim in enumerate(shape))
    return tuple(dim for i, dim in enumerate(shape) if i not in axes)


def _folded(grid: Array, axes: Sequence[int], shape: tuple[Any, ...], rule: Rule, dtype: DType) -> Array:
    """The items along `axes` joined two by two."""
    axes = axes if grid.ndim else ()
    rest = [i for i in range(grid.ndim) if i not in axes]
    rows = grid.transpose(*rest, *axes).reshape(int(np.prod([grid.shape[i] for i in rest], dtype=int)), -1)
    out = np.empty(len(rows), object)
    out[:] = [functools.reduce(lambda a, b: rule(dtype, a, b), row) for row in rows.tolist()]
    return out.reshape(shape)


def reduction(type: str, opset: int = 1, rule: Rule | None = None, logical: bool = False) -> Constructor:
    """Reduces over the axes that the second input lists."""

    def infer(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
        value = inputs[0]
        (want_bools if logical else want_numbers)(value)
        axes = None if value.shape is None else axes_of(inputs[1], len(value.shape))
        shape = reduced(value.shape, axes, attrs["keep_dims"])
        known = None
        if rule is not None and axes and 0 not in (value.shape or ()):
            known = moved(inputs[:1], value.dtype, shape, lambda g: _folded(g, axes, shape or (), rule, value.dtype))
        return Output(value.dtype, shape, (), known)

    return define(type, opset, "data axes", infer, keep_dims=bool_(False))


def _both(dtype: DType, a: Any, b: Any) -> Any:
    return False if False in (a, b) else MAYBE if isinstance(a, Interval) or isinstance(b, Interval) else True


def _either(dtype: DType, a: Any, b: Any) -> Any:
    return True if a is True or b is True else MAYBE if isinstance(a, Interval) or isinstance(b, Interval) else False


reduce_l1 = reduction("ReduceL1", 4)
reduce_l2 = reduction("ReduceL2", 4)
reduce_logical_and = reduction("ReduceLogicalAnd", rule=_both, logical=True)
reduce_logical_or = reduction("ReduceLogicalOr", rule=_either, logical=True)
reduce_max = reduction("ReduceMax", rule=monotone(np.maximum))
reduce_mean = reduction("ReduceMean")
reduce_min = reduction("ReduceMin", rule=monotone(np.minimum))
reduce_prod = reduction("ReduceProd", rule=monotone(np.multiply))
reduce_sum = reduction("ReduceSum", rule=monotone(np.add))


def _cum_sum(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    want_integers(inputs[1], "the axis")
    want_rank(inputs[1], "the axis", 0)
    found = numbers(inputs[1])
    if found and inputs[0].shape is not None:
        axis_of(found[0], len(inputs[0].shape))
    return like(inputs, attrs)


cum_sum = define("CumSum", 3, "data axis", _cum_sum, exclusive=bool_(False), reverse=bool_(False))


def _top_k(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> tuple[Output, Output]:
    data, k = inputs
    want_integers(k, "k")
    want_rank(k, "k", 0)
    shape = data.shape
    if shape is not None:
        axis = axis_of(attrs["axis"], len(shape))
        shape = (*shape[:axis], _fewer(shape[axis], k), *shape[axis + 1 :])
    return Output(data.dtype, shape), Output(attrs["index_element_type"], shape)


def _fewer(dim: Dim, k: Value) -> Dim:
    """k of `dim` elements."""
    wanted = as_dim((items_of(k) or (ANY,))[0])
    if isinstance(wanted, int):
        return wanted
    most = [hi for hi in (wanted.hi, bounds(dim).hi) if hi is not None]
    return interval(min(wanted.lo, bounds(dim).lo), min(most) if most else None)


topk = define(
    "TopK",
    11,
    "data k",
    _top_k,
    axis=int_(),
    mode=enum("max", "min"),
    sort=enum("none", "index", "value"),
    index_element_type=AttrDef(type_().check, DType.I32, "an element type"),
    stable=bool_(False),
)
