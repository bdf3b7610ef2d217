"""What several families need: constants of a value's type, shapes as values, alignment to a channel axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from batchconv import ops
from batchconv.errors import BadModel, Unsupported
from batchconv.graph import Value, need_rank
from batchconv.shape import axis_of
from batchconv.tensor import DType


def like(number: Any, value: Value) -> Value:
    """A scalar (or small array) in the element type of `value`; Unsupported if that is text."""
    if value.dtype is DType.STRING:
        raise Unsupported("texts are not supported")
    return ops.const(np.asarray(number), value.dtype)


def i64(numbers: int | Sequence[int]) -> Value:
    """Axes, shapes, pads: a scalar or a list."""
    return ops.const(np.asarray(numbers, np.int64))


def cast(value: Value, dtype: DType) -> Value:
    """`value` converted, or itself if it has that type."""
    return value if value.dtype is dtype else ops.convert(value, destination_type=dtype)


def shape_of(value: Value) -> Value:
    """The shape as an i64 value; a constant where it is known."""
    if value.is_static:
        return i64(list(_static(value)))
    return ops.shape_of(value, output_type=DType.I64)


def _static(value: Value) -> list[int]:
    return [dim for dim in value.shape or () if isinstance(dim, int)]


def dims(value: Value, first: int, last: int) -> Value:
    """Dimensions `first` to `last` (excluded) of the shape, as a 1-D i64 value."""
    return picked(shape_of(value), list(range(first, last)))


def picked(value: Value, indices: Sequence[int]) -> Value:
    """The elements of a 1-D value at `indices`, 1-D."""
    array = value.array
    if array is not None:
        wrong = [index for index in indices if not -array.size <= index < array.size]
        if wrong:
            raise BadModel(f"element {wrong[0]} of {array.size} is asked for")
        return ops.const(array[list(indices)], value.dtype)
    return ops.gather(value, i64(list(indices)), i64(0))


def first(value: Value) -> Value:
    """The one element of a scalar or [1] value, as a scalar."""
    return value if value.rank == 0 else ops.reshape(value, i64([]), special_zero=False)


def joined(*parts: Value) -> Value:
    """1-D values one after the other."""
    return parts[0] if len(parts) == 1 else ops.concat(*parts, axis=0)


def reshape(value: Value, *shape: int) -> Value:
    """`value` in another shape (-1: what is left)."""
    return ops.reshape(value, i64(list(shape)), special_zero=False)


def per_channel(value: Value, rank: int, axis: int = 1) -> Value:
    """A 1-D value that broadcasts along `axis` of a tensor of that rank."""
    if value.rank == 0 or rank == axis + 1:
        return value
    return reshape(value, *(-1 if at == axis else 1 for at in range(rank)))


def spatial_axes(value: Value) -> Value:
    """The axes after batch and channel."""
    return i64(list(range(2, need_rank(value))))


def flattened(value: Value, axis: int) -> Value:
    """The matrix [product of dimensions before `axis`, product of the others]."""
    rank = need_rank(value)
    if axis in (0, rank):
        return reshape(value, *((1, -1) if axis == 0 else (-1, 1)))
    shape = value.shape or ()
    left, right = shape[:axis], shape[axis:]
    if all(isinstance(dim, int) and dim for dim in left):
        return reshape(value, int(np.prod([d for d in left if isinstance(d, int)])), -1)
    if all(isinstance(dim, int) and dim for dim in right):
        return reshape(value, -1, int(np.prod([d for d in right if isinstance(d, int)])))
    if axis == 1:
        return ops.reshape(value, i64([0, -1]), special_zero=True)
    rows = ops.reduce_prod(dims(value, 0, axis), i64([0]), keep_dims=True)
    return ops.reshape(value, joined(rows, i64([-1])), special_zero=False)


def axis_in(axis: int, value: Value) -> int:
    """`axis` counted from 0, in the rank of `value`."""
    return axis_of(axis, need_rank(value))


def aligned(a: Value, b: Value, axis: int | None) -> Value:
    """`b` with its dimensions laid at `axis` of `a` (the broadcasting of operator sets before 7)."""
    if axis is None:
        return b
    rank, inner = need_rank(a), need_rank(b)
    trailing = rank - axis_in(axis, a) - inner
    if trailing < 0:
        raise BadModel(f"attribute 'axis' = {axis} leaves no room for {inner} dimensions in {rank}")
    return ops.unsqueeze(b, i64(list(range(inner, inner + trailing)))) if trailing else b


def known_ints(value: Value | None) -> list[int] | None:
    """The integers of a value known now, else None."""
    array = None if value is None else value.array
    return None if array is None else [int(item) for item in array.reshape(-1)]
