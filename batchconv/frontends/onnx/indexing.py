"""Gather, scatter, sorting, and what is counted or searched: TopK, ArgMax, OneHot, NonZero, CumSum ..."""

from __future__ import annotations

from typing import Any

from batchconv import ops
from batchconv.errors import BadModel
from batchconv.frontends.onnx.forms import axis_in, cast, dims, first, i64, like, picked
from batchconv.frontends.onnx.registry import onnx
from batchconv.graph import Value, need_rank
from batchconv.tensor import DType

_REDUCTIONS = {"none": "none", "add": "sum", "mul": "prod", "min": "min", "max": "max"}


@onnx.op("Gather")
def gather(x: Value, indices: Value, *, axis: int = 0) -> Value:
    return ops.gather(x, indices, i64(axis_in(axis, x)))


def counted(indices: Value, size: Value) -> Value:
    """Indices with negative ones counted from the end, which `size` (an i64 value that broadcasts) is."""
    array = indices.array
    if array is not None and (array >= 0).all():
        return indices
    size = cast(size, indices.dtype)
    return ops.select(ops.less(indices, like(0, indices)), ops.add(indices, size), indices)


@onnx.op("GatherElements")
def gather_elements(x: Value, indices: Value, *, axis: int = 0) -> Value:
    axis = axis_in(axis, x)
    return ops.gather_elements(x, counted(indices, dims(x, axis, axis + 1)), axis=axis)


@onnx.op("GatherND")
def gather_nd(x: Value, indices: Value, *, batch_dims: int = 0) -> Value:
    depth = (indices.shape or (None,))[-1]
    if not isinstance(depth, int):
        raise BadModel("the last dimension of the indices must be known")
    if not 0 <= batch_dims <= batch_dims + depth <= need_rank(x):
        raise BadModel(f"indices of {depth} axes after {batch_dims} are too deep for data of rank {x.rank}")
    at = counted(indices, dims(x, batch_dims, batch_dims + depth))
    return ops.gather_nd(x, at, batch_dims=batch_dims)


def _reduction(name: str) -> str:
    if name not in _REDUCTIONS:
        raise BadModel(f"attribute 'reduction' = {name!r} is not one of {', '.join(_REDUCTIONS)}")
    return _REDUCTIONS[name]


@onnx.op("Scatter", "ScatterElements")
def scatter_elements(x: Value, indices: Value, updates: Value, *, axis: int = 0, reduction: str = "none") -> Value:
    at = i64(axis_in(axis, x))
    return ops.scatter_elements_update(x, indices, updates, at, reduction=_reduction(reduction), use_init_val=True)


@onnx.op("ScatterND")
def scatter_nd(x: Value, indices: Value, updates: Value, *, reduction: str = "none") -> Value:
    return ops.scatter_nd_update(x, indices, updates, reduction=_reduction(reduction))


@onnx.op("TopK")
def top_k_attribute(x: Value, *, axis: int = -1, k: int) -> tuple[Value, ...]:
    return top_k(x, i64(k), axis=axis)


@onnx.op("TopK", since=10)
def top_k(x: Value, k: Value, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Value, ...]:
    mode = "max" if largest else "min"
    return ops.topk.op(
        x, first(k), axis=axis_in(axis, x), mode=mode, sort="value", index_element_type=DType.I64, stable=True
    ).values()


def _best(x: Value, mode: str, axis: int, keepdims: int, last: int) -> Value:
    """Index of the largest or smallest element, the first or last of equal ones."""
    axis = axis_in(axis, x)
    data = reversed_along(x, axis) if last else x
    index = ops.topk.op(
        data, i64(1), axis=axis, mode=mode, sort="value", index_element_type=DType.I64, stable=True
    ).value(1)
    if last:
        index = ops.subtract(ops.subtract(dims(x, axis, axis + 1), i64([1])), index)
    return index if keepdims else ops.squeeze(index, i64([axis]))


def reversed_along(x: Value, axis: int) -> Value:
    return ops.slice(x, i64([-1]), i64([-(1 << 40)]), i64([-1]), i64([axis]))


@onnx.op("ArgMax")
def arg_max(x: Value, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Value:
    return _best(x, "max", axis, keepdims, select_last_index)


@onnx.op("ArgMin")
def arg_min(x: Value, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Value:
    return _best(x, "min", axis, keepdims, select_last_index)


@onnx.op("OneHot")
def one_hot(indices: Value, depth: Value, values: Value, *, axis: int = -1) -> Value:
    depth = cast(first(depth), DType.I64)
    at = counted(cast(indices, DType.I64), depth)
    off, on = (first(picked(values, [at])) for at in (0, 1))
    rank = need_rank(indices) + 1
    return ops.one_hot(at, depth, on, off, axis=axis % rank)


@onnx.op("NonZero")
def non_zero(x: Value) -> Value:
    return ops.non_zero(x, output_type=DType.I64)


@onnx.op("CumSum")
def cum_sum(x: Value, axis: Value, *, exclusive: int = 0, reverse: int = 0) -> Value:
    return ops.cum_sum(x, first(axis), exclusive=bool(exclusive), reverse=bool(reverse))


@onnx.op("Compress")
def compress(x: Value, condition: Value, *, axis: int | None = None) -> Value:
    at = ops.reshape(ops.non_zero(condition, output_type=DType.I64), i64([-1]), special_zero=False)
    if axis is None:
        return ops.gather(ops.reshape(x, i64([-1]), special_zero=False), at, i64(0))
    return ops.gather(x, at, i64(axis_in(axis, x)))


@onnx.op("Unique")
def unique(x: Value, *, axis: int | None = None, sorted: int = 1) -> tuple[Value, ...]:
    along = None if axis is None else i64(axis_in(axis, x))
    attrs: dict[str, Any] = {"index_element_type": DType.I64, "count_element_type": DType.I64}
    return ops.unique.op(x, along, sorted=bool(sorted), **attrs).values()
