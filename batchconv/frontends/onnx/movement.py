"""Shapes and the moving of elements: Reshape, Transpose, Concat, Split, Slice, Pad, Tile, Expand ..."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from batchconv import ops
from batchconv.errors import BadModel, Unsupported
from batchconv.frontends.onnx.forms import (
    axis_in,
    cast,
    first,
    flattened,
    i64,
    joined,
    known_ints,
    like,
    picked,
    shape_of,
)
from batchconv.frontends.onnx.registry import onnx
from batchconv.frontends.onnx.tensors import dtype_of
from batchconv.graph import Value, need_rank
from batchconv.shape import Shape
from batchconv.tensor import DType

Ints = Sequence[int] | None
_MOST_AXES = 1 << 12
_CASTS = {"FLOAT": 1, "UINT8": 2, "INT8": 3, "UINT16": 4, "INT16": 5, "INT32": 6, "INT64": 7, "BOOL": 9, "FLOAT16": 10}
_CASTS |= {"DOUBLE": 11, "UINT32": 12, "UINT64": 13}


@onnx.op("Reshape")
def reshape_to_attribute(x: Value, *, shape: Ints = None, consumed_inputs: object = None) -> Value:
    return ops.reshape(x, i64(list(shape or ())), special_zero=True)


@onnx.op("Reshape", since=5)
def reshape(x: Value, shape: Value, *, allowzero: int = 0) -> Value:
    return ops.reshape(x, shape, special_zero=not allowzero)


@onnx.op("Flatten")
def flatten(x: Value, *, axis: int = 1) -> Value:
    rank = need_rank(x)
    return flattened(x, rank if axis == rank else axis_in(axis, x))


@onnx.op("Transpose")
def transpose(x: Value, *, perm: Ints = None) -> Value:
    return ops.transpose(x, i64(list(reversed(range(need_rank(x))) if perm is None else perm)))


@onnx.op("Concat")
def concat_along_1(x: Value, *more: Value, axis: int = 1) -> Value:
    return concat(x, *more, axis=axis)


@onnx.op("Concat", since=4)
def concat(x: Value, *more: Value, axis: int) -> Value:
    return ops.concat(x, *more, axis=axis_in(axis, x)) if more else x


@onnx.op("Split")
def split(
    x: Value, lengths: Value | None = None, *, axis: int = 0, split: Ints = None, _node: Any
) -> tuple[Value, ...]:
    sizes = cast(lengths, DType.I64) if lengths is not None else None  # version 1 has them in the type of x
    return _split(x, i64(list(split)) if split else sizes, axis, len(_node.outputs))


@onnx.op("Split", since=18)
def split_in(
    x: Value, lengths: Value | None = None, *, axis: int = 0, num_outputs: int | None = None, _node: Any
) -> tuple[Value, ...]:
    if num_outputs not in (None, len(_node.outputs)):
        raise BadModel(f"attribute 'num_outputs' = {num_outputs} for {len(_node.outputs)} outputs")
    return _split(x, lengths, axis, len(_node.outputs))


def _split(x: Value, lengths: Value | None, axis: int, count: int) -> tuple[Value, ...]:
    """Parts of the given lengths, else `count` equal ones, of which the last may be smaller."""
    if count < 1:
        raise BadModel(f"a split into {count} parts")
    at = i64(axis_in(axis, x))
    dim = x.shape[axis_in(axis, x)] if x.shape else None
    if lengths is None and isinstance(dim, int) and dim % count:
        size = -(-dim // count)
        lengths = i64([size] * (count - 1) + [dim - size * (count - 1)])
    if lengths is None:
        return ops.split.op(x, at, num_splits=count).values()
    return ops.variadic_split.op(x, at, lengths).values()


@onnx.op("Squeeze")
def squeeze_axes(x: Value, *, axes: Ints = None) -> Value:
    return squeeze(x, None if axes is None else i64(list(axes)))


@onnx.op("Squeeze", since=13)
def squeeze(x: Value, axes: Value | None = None) -> Value:
    if axes is None and x.shape is not None and not any(dim == 1 for dim in x.shape) and x.is_static:
        return x
    return ops.squeeze(x, axes)


@onnx.op("Unsqueeze")
def unsqueeze_axes(x: Value, *, axes: Sequence[int]) -> Value:
    return ops.unsqueeze(x, i64(list(axes)))


@onnx.op("Unsqueeze", since=13)
def unsqueeze(x: Value, axes: Value) -> Value:
    return ops.unsqueeze(x, axes)


@onnx.op("Slice")
def slice_attributes(x: Value, *, axes: Ints = None, ends: Sequence[int], starts: Sequence[int]) -> Value:
    axes = axes or range(len(starts))
    return ops.slice(x, i64(list(starts)), i64(list(ends)), i64([1] * len(starts)), i64(list(axes)))


@onnx.op("Slice", since=10)
def slice_inputs(x: Value, starts: Value, ends: Value, axes: Value | None = None, steps: Value | None = None) -> Value:
    count = _length(starts.shape or ends.shape)
    axes = axes or ops.const(np.arange(count), starts.dtype)
    steps = steps or ops.const(np.ones(count), starts.dtype)
    return ops.slice(x, starts, cast(ends, starts.dtype), cast(steps, starts.dtype), axes)


def _length(shape: Shape) -> int:
    if not shape or not isinstance(shape[0], int):
        raise BadModel("how many axes there are must be known")
    if shape[0] > _MOST_AXES:
        raise BadModel(f"{shape[0]} axes are too many")
    return shape[0]


@onnx.op("Pad")
def pad_paddings(
    x: Value,
    *,
    mode: str = "constant",
    paddings: Ints = None,
    pads: Ints = None,
    value: float = 0.0,
) -> Value:
    if paddings is None and pads is None:
        raise BadModel("attribute 'pads' is missing")
    return _padded(x, i64(list(paddings or pads or ())), like(value, x), mode)


@onnx.op("Pad", since=11)
def pad(
    x: Value, pads: Value, value: Value | None = None, axes: Value | None = None, *, mode: str = "constant"
) -> Value:
    if axes is not None:
        pads = _on_all_axes(x, pads, axes)
    return _padded(x, pads, None if value is None else first(value), mode)


def _on_all_axes(x: Value, pads: Value, axes: Value) -> Value:
    """Pads of some axes as pads of all: 0 and the pads, of which each axis picks its own."""
    rank, at = need_rank(x), known_ints(axes)
    if at is None:
        count = _length(axes.shape)
        full = cast(axes, DType.I64)
        places = ops.select(ops.less(full, i64(0)), ops.add(full, i64(rank)), full)
        ends = ops.split.op(cast(pads, DType.I64), i64(0), num_splits=2).values() if count else ()
        spread = (
            ops.scatter_elements_update(i64([0] * rank), places, end, i64(0), reduction="none", use_init_val=True)
            for end in ends
        )
        return joined(*spread)
    picks = [0] * (2 * rank)
    for place, axis in enumerate(at):
        picks[axis_in(axis, x)] = 1 + place
        picks[rank + axis_in(axis, x)] = 1 + place + len(at)
    return picked(joined(i64([0]), cast(pads, DType.I64)), picks)


def _padded(x: Value, pads: Value, value: Value | None, mode: str) -> Value:
    rank, known = need_rank(x), known_ints(pads)
    if known is not None and len(known) != 2 * rank:
        raise BadModel(f"pads {known} must have {2 * rank} elements")
    if mode == "wrap":
        return _wrapped(x, known)
    if mode not in ("constant", "reflect", "edge"):
        raise BadModel(f"attribute 'mode' = {mode!r} is not one of constant, reflect, edge, wrap")
    begin, end = (
        ops.split.op(pads, i64(0), num_splits=2).values() if known is None else (i64(known[:rank]), i64(known[rank:]))
    )
    if mode != "constant":
        return ops.pad(x, begin, end, pad_mode=mode)
    return ops.pad(x, begin, end, like(0, x) if value is None else cast(value, x.dtype), pad_mode=mode)


def _wrapped(x: Value, pads: list[int] | None) -> Value:
    """Each axis continued by its own other end."""
    if pads is None:
        raise Unsupported("pads that are computed at run time are not supported with mode 'wrap'")
    rank = need_rank(x)
    for axis in range(rank):
        before, after = pads[axis], pads[rank + axis]
        parts = [x]
        if before > 0:
            parts.insert(0, _span(x, axis, -before, 1 << 40))
        if after > 0:
            parts.append(_span(x, axis, 0, after))
        if before < 0 or after < 0:
            raise Unsupported("negative pads are not supported with mode 'wrap'")
        x = ops.concat(*parts, axis=axis) if len(parts) > 1 else x
    return x


def _span(x: Value, axis: int, start: int, stop: int) -> Value:
    return ops.slice(x, i64([start]), i64([stop]), i64([1]), i64([axis]))


@onnx.op("Tile")
def tile_axis(x: Value, tiles: Value, axis: Value) -> Value:
    at = known_ints(axis)
    if at is None:
        raise Unsupported("an axis that is computed at run time is not supported")
    rank, one = need_rank(x), cast(ops.reshape(tiles, i64([1]), special_zero=False), DType.I64)
    return ops.tile(x, joined(*(one if i == axis_in(at[0], x) else i64([1]) for i in range(rank))))


@onnx.op("Tile", since=6)
def tile(x: Value, repeats: Value) -> Value:
    return ops.tile(x, repeats)


@onnx.op("Expand")
def expand(x: Value, shape: Value) -> Value:
    return ops.broadcast(x, shape, mode="bidirectional")


@onnx.op("Shape")
def shape(x: Value, *, start: int = 0, end: int | None = None) -> Value:
    whole = ops.shape_of(x, output_type=DType.I64)
    if start == 0 and end is None:
        return whole
    rank = need_rank(x)
    low, high = (max(0, at + rank if at < 0 else at) for at in (start, rank if end is None else end))
    return ops.slice(whole, i64([low]), i64([max(low, min(high, rank))]), i64([1]), i64([0]))


@onnx.op("Size")
def size(x: Value) -> Value:
    return ops.reduce_prod(ops.shape_of(x, output_type=DType.I64), i64([0]), keep_dims=False)


@onnx.op("Cast")
def cast_to_name(x: Value, *, to: str | int) -> Value:
    code = _CASTS.get(to, 0) if isinstance(to, str) else to
    return _cast(x, dtype_of(code))


@onnx.op("Cast", since=6)
def cast_to(x: Value, *, to: int, saturate: int = 1, round_mode: str = "up") -> Value:
    return _cast(x, dtype_of(to))


@onnx.op("CastLike")
def cast_like(x: Value, target: Value, *, saturate: int = 1, round_mode: str = "up") -> Value:
    return _cast(x, target.dtype)


def _cast(x: Value, dtype: DType) -> Value:
    if DType.STRING in (dtype, x.dtype):
        raise Unsupported("texts are not supported")
    return cast(x, dtype)


def block_mode(mode: str) -> str:
    if mode not in ("DCR", "CRD"):
        raise BadModel(f"attribute 'mode' = {mode!r} is not one of DCR, CRD")
    return "blocks_first" if mode == "DCR" else "depth_first"


@onnx.op("DepthToSpace")
def depth_to_space(x: Value, *, blocksize: int, mode: str = "DCR") -> Value:
    return ops.depth_to_space(x, block_size=blocksize, mode=block_mode(mode))


@onnx.op("SpaceToDepth")
def space_to_depth(x: Value, *, blocksize: int, mode: str = "DCR") -> Value:
    return ops.space_to_depth(x, block_size=blocksize, mode=block_mode(mode))


@onnx.op("ReverseSequence")
def reverse_sequence(x: Value, lengths: Value, *, batch_axis: int = 1, time_axis: int = 0) -> Value:
    return ops.reverse_sequence(x, lengths, batch_axis=batch_axis, seq_axis=time_axis)


@onnx.op("CenterCropPad")
def center_crop_pad(x: Value, shape: Value, *, axes: Ints = None) -> Value:
    """Half of what is missing (rounded down) is added in front, half of what is too much (rounded up) cut there."""
    at = [axis_in(axis, x) for axis in (range(need_rank(x)) if axes is None else axes)]
    size, two = picked(ops.shape_of(x, output_type=DType.I64), at), i64(2)
    wanted = cast(shape, DType.I64)
    gap = ops.subtract(wanted, size)
    missing, extra = ops.maximum(gap, i64(0)), ops.maximum(ops.negative(gap), i64(0))
    front, start = ops.divide(missing, two), ops.divide(extra, two)
    stop = ops.add(start, ops.minimum(size, wanted))
    cut = ops.slice(x, start, stop, i64([1] * len(at)), i64(at))
    return _padded(cut, _on_all_axes(x, joined(front, ops.subtract(missing, front)), i64(at)), None, "constant")


@onnx.op("Trilu")
def trilu(x: Value, k: Value | None = None, *, upper: int = 1) -> Value:
    size, rank = shape_of(x), need_rank(x)
    rows, columns = (
        ops.range(i64(0), first(ops.gather(size, i64([at]), i64(0))), i64(1), output_type=DType.I64)
        for at in (rank - 2, rank - 1)
    )
    edge = ops.add(ops.unsqueeze(rows, i64([1])), i64(0) if k is None else cast(first(k), DType.I64))
    columns = ops.unsqueeze(columns, i64([0]))
    keep = ops.greater_equal(columns, edge) if upper else ops.less_equal(columns, edge)
    if x.dtype is DType.BOOLEAN:
        return ops.logical_and(x, keep)
    return ops.select(keep, x, like(0, x))
