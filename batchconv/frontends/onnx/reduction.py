"""Reductions over axes: ReduceSum and its kin, axes as attribute or (later) as input."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from batchconv import ops
from batchconv.frontends.onnx.forms import cast, i64
from batchconv.frontends.onnx.registry import onnx
from batchconv.graph import Value, need_rank
from batchconv.tensor import DType

Reduce = Callable[..., Value]


def reduce_largest(x: Value, axes: Value, *, keep_dims: bool) -> Value:
    if x.dtype is DType.BOOLEAN:  # ReduceLogicalOr cannot be compiled for every shape (2026.4.1)
        return cast(ops.reduce_max(cast(x, DType.I32), axes, keep_dims=keep_dims), x.dtype)
    return ops.reduce_max(x, axes, keep_dims=keep_dims)


def reduce_smallest(x: Value, axes: Value, *, keep_dims: bool) -> Value:
    if x.dtype is DType.BOOLEAN:
        return cast(ops.reduce_min(cast(x, DType.I32), axes, keep_dims=keep_dims), x.dtype)
    return ops.reduce_min(x, axes, keep_dims=keep_dims)


def reduce_square(x: Value, axes: Value, *, keep_dims: bool) -> Value:
    return ops.reduce_sum(ops.multiply(x, x), axes, keep_dims=keep_dims)


def reduce_log_sum(x: Value, axes: Value, *, keep_dims: bool) -> Value:
    return ops.log(ops.reduce_sum(x, axes, keep_dims=keep_dims))


def reduce_log_sum_exp(x: Value, axes: Value, *, keep_dims: bool) -> Value:
    """log(sum(exp(x))), the largest element taken out first."""
    peak = ops.reduce_max(x, axes, keep_dims=True)
    rest = ops.log(ops.reduce_sum(ops.exp(ops.subtract(x, peak)), axes, keep_dims=True))
    y = ops.add(rest, peak)
    return y if keep_dims else ops.squeeze(y, axes)


def over_attribute(reduce: Reduce) -> Reduce:
    def translator(x: Value, *, axes: Sequence[int] | None = None, keepdims: int = 1) -> Value:
        return reduce(x, i64(list(axes or range(need_rank(x)))), keep_dims=bool(keepdims))

    return translator


def over_input(reduce: Reduce) -> Reduce:
    def translator(x: Value, axes: Value | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Value:
        none = axes is None or axes.shape == (0,)
        if none and noop_with_empty_axes:
            return reduce(x, i64([]), keep_dims=True)
        return reduce(x, i64(list(range(need_rank(x)))) if none else axes, keep_dims=bool(keepdims))

    return translator


_TABLE: list[tuple[str, Reduce, int]] = [
    ("ReduceL1", ops.reduce_l1, 18),
    ("ReduceL2", ops.reduce_l2, 18),
    ("ReduceLogSum", reduce_log_sum, 18),
    ("ReduceLogSumExp", reduce_log_sum_exp, 18),
    ("ReduceMax", reduce_largest, 18),
    ("ReduceMean", ops.reduce_mean, 18),
    ("ReduceMin", reduce_smallest, 18),
    ("ReduceProd", ops.reduce_prod, 18),
    ("ReduceSum", ops.reduce_sum, 13),
    ("ReduceSumSquare", reduce_square, 18),
]
for _name, _reduce, _since in _TABLE:
    onnx.add(_name, over_attribute(_reduce), 1, "")
    onnx.add(_name, over_input(_reduce), _since, "")
