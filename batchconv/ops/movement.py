"""Operations that give a tensor another shape or order: Reshape, Transpose, Concat, Split ..."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from batchconv.errors import BadModel
from batchconv.graph import Attr, Known, Output, Value
from batchconv.ops.checks import axes_of, axis_value, same_type, want_integers, want_rank
from batchconv.ops.values import UNKNOWN, as_dim, dims_of, items_of, moved, numbers, size
from batchconv.opset import AttrDef, bool_, define, enum, int_, type_
from batchconv.shape import (
    ANY,
    Dim,
    Interval,
    Shape,
    axis_of,
    broadcast,
    is_static,
    merge_dim,
    product,
    same,
    static,
    text,
)
from batchconv.tensor import Array, DType

__all__ = [
    "broadcast_", "concat", "pad", "range_", "reshape", "shape_of", "split", "squeeze", "tile", "transpose",
    "unsqueeze", "variadic_split",
]  # fmt: skip

I64 = AttrDef(type_().check, DType.I64, "an element type")


def _shape_of(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    shape = inputs[0].shape
    if shape is None:
        return Output(attrs["output_type"], (ANY,))
    return Output(attrs["output_type"], (len(shape),), (), Known((len(shape),), shape))


shape_of = define("ShapeOf", 3, "data", _shape_of, output_type=I64)


def reshaped(shape: Shape, pattern: Sequence[Any], special_zero: bool) -> Shape:
    """`shape` as Reshape's `pattern` asks: 0 copies (if `special_zero`), -1 takes the rest; items may be Intervals."""
    out: list[Dim | None] = []
    for i, item in enumerate(pattern):
        if isinstance(item, Interval):
            out.append(ANY if item is UNKNOWN else as_dim(item))
        elif item == 0 and special_zero:
            out.append(_copied(shape, i))
        else:
            out.append(None if item == -1 else as_dim(item))
    if out.count(None) > 1:
        raise BadModel(f"the target shape {list(pattern)} has more than one -1")
    full = tuple(_rest(shape, out) if dim is None else dim for dim in out)
    if is_static(shape) and is_static(full) and product(shape or ()) != product(full):
        raise BadModel(f"shape {text(shape)} cannot become {text(full)}")
    return full


def _copied(shape: Shape, axis: int) -> Dim:
    if shape is None:
        return ANY
    if axis >= len(shape):
        raise BadModel(f"0 at position {axis} of the target shape has no dimension to copy in {text(shape)}")
    return shape[axis]


def _rest(shape: Shape, out: Sequence[Dim | None]) -> Dim:
    """What -1 stands for: the elements of `shape` over those of the other dimensions; equal unknown ones cancel."""
    if shape is None:
        return ANY
    ours, theirs = list(shape), [dim for dim in out if dim is not None]
    for dim in [d for d in theirs if isinstance(d, Interval)]:
        match = next((mine for mine in ours if same(mine, dim)), None)
        if match is not None:
            ours.remove(match)
            theirs.remove(dim)
    have, used = product(ours), product(theirs)
    if isinstance(have, int) and isinstance(used, int):
        if have == used == 0 or (used and have % used == 0):
            return have // used if used else 0
        raise BadModel(f"shape {text(shape)} cannot become {text([-1 if d is None else d for d in out])}")
    return have // used if isinstance(used, int) and used else ANY


def _reshape(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, target = inputs
    want_integers(target, "the target shape")
    want_rank(target, "the target shape", 0, 1)
    items = items_of(target)
    shape = None if items is None else reshaped(data.shape, items, attrs["special_zero"])
    known = moved(inputs[:1], data.dtype, shape, lambda grid: grid.reshape(static(shape)))
    return Output(data.dtype, shape, (), known)


reshape = define("Reshape", 1, "data shape", _reshape, special_zero=bool_())


def _squeeze(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data = inputs[0]
    shape = _squeezed(data, inputs[1:])
    return Output(data.dtype, shape, (), moved(inputs[:1], data.dtype, shape, lambda grid: grid.reshape(static(shape))))


def _squeezed(data: Value, axes: Sequence[Value]) -> Shape:
    if data.shape is None:
        return None
    found = axes_of(axes[0], len(data.shape)) if axes else ()
    if found is None:
        count = size(axes[0].shape) if is_static(axes[0].shape) else None
        return None if count is None else (ANY,) * (len(data.shape) - count)
    if not found and not is_static(data.shape):
        return None
    for axis in found:
        if not _may_be_one(data.shape[axis]):
            raise BadModel(f"axis {axis} of shape {text(data.shape)} cannot be squeezed")
    gone = found or [i for i, dim in enumerate(data.shape) if dim == 1]
    return tuple(dim for i, dim in enumerate(data.shape) if i not in gone)


def _may_be_one(dim: Dim) -> bool:
    return dim == 1 or (isinstance(dim, Interval) and dim.lo <= 1 and (dim.hi is None or dim.hi >= 1))


def _unsqueeze(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, axes = inputs
    shape: Shape = None
    found = numbers(axes)
    if data.shape is not None and found is not None:
        rank = len(data.shape) + len(found)
        places = {axis_of(axis, rank) for axis in found}
        if len(places) < len(found):
            raise BadModel(f"axes {list(found)} name an axis twice")
        dims = iter(data.shape)
        shape = tuple(1 if i in places else next(dims) for i in range(rank))
    want_integers(axes, "axes")
    want_rank(axes, "axes", 0, 1)
    return Output(data.dtype, shape, (), moved(inputs[:1], data.dtype, shape, lambda grid: grid.reshape(static(shape))))


squeeze = define("Squeeze", 1, "data axes?", _squeeze)
unsqueeze = define("Unsqueeze", 1, "data axes", _unsqueeze)


def _transpose(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, order = inputs
    want_integers(order, "the order")
    want_rank(order, "the order", 1)
    perm = numbers(order)
    if perm is None or data.shape is None:
        rank = data.rank if data.shape is not None else len(perm) if perm else None
        return Output(data.dtype, None if rank is None else (ANY,) * rank)
    perm = perm or tuple(reversed(range(len(data.shape))))
    if sorted(perm) != list(range(len(data.shape))):
        raise BadModel(f"order {list(perm)} does not fit shape {text(data.shape)}")
    shape = tuple(data.shape[axis] for axis in perm)
    return Output(data.dtype, shape, (), moved(inputs[:1], data.dtype, shape, lambda grid: grid.transpose(perm)))


transpose = define("Transpose", 1, "data order", _transpose)


def _concat(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    if not inputs:
        raise BadModel("Concat takes data*, 0 given")
    dtype, shapes = same_type(inputs), [value.shape for value in inputs if value.shape is not None]
    ranks = {len(shape) for shape in shapes}
    if len(ranks) > 1:
        raise BadModel(f"inputs have different ranks: {', '.join(text(shape) for shape in shapes)}")
    if not ranks:
        return Output(dtype, None)
    axis = axis_of(attrs["axis"], ranks.pop())
    shape = list(shapes[0])
    for other in shapes[1:]:
        shape = [_side_by_side(a, b, i == axis, shapes) for i, (a, b) in enumerate(zip(shape, other, strict=True))]
    if len(shapes) < len(inputs):
        shape[axis] = shape[axis] + ANY
    whole = tuple(shape)
    return Output(dtype, whole, (), moved(inputs, dtype, whole, lambda *parts: np.concatenate(parts, axis)))


def _side_by_side(a: Dim, b: Dim, along: bool, shapes: Sequence[Shape]) -> Dim:
    if along:
        return a + b
    try:
        return merge_dim(a, b)
    except BadModel:
        raise BadModel(f"inputs cannot be concatenated: {', '.join(map(text, shapes))}") from None


concat = define("Concat", 1, "data*", _concat, axis=int_())


def _split(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> tuple[Output, ...]:
    data, count = inputs[0], int(attrs["num_splits"])
    if data.shape is None:
        return (Output(data.dtype, None),) * count
    axis = axis_value(inputs[1], len(data.shape))
    if axis is None:
        return (Output(data.dtype, (ANY,) * len(data.shape)),) * count
    dim = _dim(data.shape, axis)
    if isinstance(dim, int) and dim % count:
        raise BadModel(f"an axis of {dim} elements cannot be split into {count} equal parts")
    return parts(data, axis, [dim // count] * count)


def parts(data: Value, axis: int, sizes: Sequence[Dim]) -> tuple[Output, ...]:
    """Outputs of those sizes along `axis`, one after another."""
    made, at = [], 0
    for count in sizes:
        shape = (*data.shape[:axis], count, *data.shape[axis + 1 :]) if data.shape else ()
        known = None
        if isinstance(count, int):
            span = slice(at, at + count)
            known = moved([data], data.dtype, shape, lambda grid, span=span: grid[(slice(None),) * axis + (span,)])
            at += count
        made.append(Output(data.dtype, shape, (), known))
    return tuple(made)


def _variadic_split(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> tuple[Output, ...]:
    data, lengths = inputs[0], items_of(inputs[2])
    want_integers(inputs[2], "split_lengths")
    want_rank(inputs[2], "split_lengths", 1)
    if lengths is None:
        raise BadModel("the number of split_lengths must be known when converting")
    if data.shape is None:
        return (Output(data.dtype, None),) * len(lengths)
    axis = axis_value(inputs[1], len(data.shape))
    if axis is None or numbers(inputs[2]) is None:
        dims = (ANY,) * len(data.shape) if axis is None else (*data.shape[:axis], ANY, *data.shape[axis + 1 :])
        return (Output(data.dtype, dims),) * len(lengths)
    return parts(data, axis, _lengths(_dim(data.shape, axis), lengths))


def _dim(shape: Sequence[Dim], axis: int) -> Dim:
    if not shape:
        raise BadModel("a scalar cannot be split")
    return shape[axis]


def _lengths(dim: Dim, lengths: Sequence[int]) -> list[Dim]:
    """Lengths with -1 replaced by what is left of `dim`."""
    given = sum(length for length in lengths if length >= 0)
    if lengths.count(-1) > 1 or min(lengths, default=0) < -1:
        raise BadModel(f"split_lengths {list(lengths)} are not lengths with at most one -1")
    left = dim + -given
    if isinstance(dim, int) and (left < 0 or (left and -1 not in lengths)):  # type: ignore[operator]
        raise BadModel(f"split_lengths {list(lengths)} do not fit an axis of {dim} elements")
    return [left if length == -1 else length for length in lengths]


split = define("Split", 1, "data axis", _split, num_splits=int_())
variadic_split = define("VariadicSplit", 1, "data axis split_lengths", _variadic_split)


def _tile(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, repeats = inputs
    want_integers(repeats, "repeats")
    want_rank(repeats, "repeats", 1)
    times = dims_of(repeats)
    if times is None or data.shape is None:
        return Output(data.dtype, None)
    rank = max(len(times), len(data.shape))
    dims = (1,) * (rank - len(data.shape)) + data.shape
    times = (1,) * (rank - len(times)) + times
    shape = tuple(dim * count for dim, count in zip(dims, times, strict=True))
    known = (
        moved(inputs[:1], data.dtype, shape, lambda grid: np.tile(grid, static(times))) if is_static(times) else None
    )
    return Output(data.dtype, shape, (), known)


tile = define("Tile", 1, "data repeats", _tile)


def _broadcast(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, target = inputs[:2]
    want_integers(target, "the target shape")
    want_rank(target, "the target shape", 1)
    shape, mode = dims_of(target), attrs["mode"]
    if mode == "bidirectional":
        shape = broadcast(data.shape, shape)
    elif shape is not None and mode == "explicit":
        _check_mapping(data, shape, inputs)
    elif shape is not None and data.shape is not None:
        _check_fits(data.shape, shape)
    known = None
    if mode != "explicit":
        known = moved(inputs[:1], data.dtype, shape, lambda grid: np.broadcast_to(grid, static(shape)))
    return Output(data.dtype, shape, (), known)


def _check_mapping(data: Value, shape: tuple[Dim, ...], inputs: Sequence[Value]) -> None:
    if len(inputs) < 3:
        raise BadModel("mode 'explicit' needs axes_mapping")
    mapping = numbers(inputs[2])
    if mapping is None or data.shape is None:
        return
    if len(mapping) != len(data.shape):
        raise BadModel(f"axes_mapping {list(mapping)} does not fit data of shape {text(data.shape)}")
    for dim, axis in zip(data.shape, mapping, strict=True):
        if dim != 1:
            merge_dim(dim, shape[axis_of(axis, len(shape))])


def _check_fits(shape: tuple[Dim, ...], target: tuple[Dim, ...]) -> None:
    """BadModel unless `shape` can be broadcast to `target` one way."""
    if len(shape) > len(target):
        raise BadModel(f"shape {text(shape)} cannot be broadcast to {text(target)}")
    for a, b in zip(reversed(shape), reversed(target)):
        if isinstance(a, int) and isinstance(b, int) and a not in (1, b):
            raise BadModel(f"shape {text(shape)} cannot be broadcast to {text(target)}")


broadcast_ = define(
    "Broadcast",
    3,
    "data target_shape axes_mapping?",
    _broadcast,
    mode=enum("numpy", "explicit", "bidirectional", default="numpy"),
)


def _range(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    dtype = attrs["output_type"]
    for value, what in zip(inputs, ("start", "stop", "step"), strict=True):
        want_rank(value, what, 0)
    found = [numbers(value) for value in inputs]
    if any(f is None for f in found):
        return Output(dtype, (_range_size(inputs),))
    start, stop, step = (dtype.numpy.type(np.trunc(f[0]) if dtype.is_integral else f[0]) for f in found if f)
    if step == 0:
        raise BadModel("the step of a range is 0")
    count = max(0, int(np.ceil((np.float64(stop) - np.float64(start)) / np.float64(step))))
    known = None
    if count <= 128:
        items: Array = (start + np.arange(count) * step).astype(dtype.numpy)
        known = Known((count,), tuple(items.tolist()))
    return Output(dtype, (count,), (), known)


def _range_size(inputs: Sequence[Value]) -> Dim:
    """The size of a range from 0 in steps of 1 to a stop that is partly known."""
    start, stop, step = (items_of(value) for value in inputs)
    if start == (0,) and step == (1,) and stop and isinstance(stop[0], Interval):
        return ANY if stop[0] is UNKNOWN else as_dim(stop[0])
    return ANY


range_ = define("Range", 4, "start stop step", _range, output_type=type_())

PADDING = enum("constant", "edge", "reflect", "symmetric", default="constant")


def _pad(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, begin, end = inputs[:3]
    same_type([data, *inputs[3:]])
    for pads in (begin, end):
        want_integers(pads, "pads")
        want_rank(pads, "pads", 1)
    if data.shape is None:
        return Output(data.dtype, None)
    befores, afters = (_fitted(pads, len(data.shape)) for pads in (begin, end))
    shape = tuple(
        ANY if isinstance(b, Interval) or isinstance(a, Interval) else _padded(dim, b, a)
        for dim, b, a in zip(data.shape, befores, afters, strict=True)
    )
    return Output(data.dtype, shape)


def _padded(dim: Dim, before: int, after: int) -> Dim:
    size = dim + (before + after)
    if isinstance(size, int) and size < 0:
        raise BadModel(f"pads {before} and {after} leave {size} of {dim} elements")
    return size


def _fitted(pads: Value, rank: int) -> Sequence[Any]:
    items = items_of(pads)
    if items is None:
        return (UNKNOWN,) * rank
    if len(items) != rank:
        raise BadModel(f"{len(items)} pads for data of rank {rank}")
    return items


pad = define("Pad", 12, "data pads_begin pads_end pad_value?", _pad, pad_mode=PADDING)
