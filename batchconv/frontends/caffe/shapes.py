"""Layers that move elements (BVLC Caffe: concat, slice, reshape, flatten, crop, tile; SSD: permute; others)."""

from __future__ import annotations

from collections.abc import Sequence

from batchconv import ops
from batchconv.errors import BadModel, Unsupported
from batchconv.frontends.caffe.registry import axis_in, blob, blob_size, channels, dims, ints, rank, registry
from batchconv.frontends.translate import Node
from batchconv.graph import Value
from batchconv.shape import Dim
from batchconv.tensor import DType


def sizes(x: Value, wanted: Sequence[Dim], axes: Sequence[int] | None = None) -> Value:
    """A list of sizes: `wanted` where it is known, elsewhere the size of that axis of `x` when the network runs."""
    axes = range(len(wanted)) if axes is None else axes
    if all(isinstance(dim, int) for dim in wanted):
        return ints([dim for dim in wanted if isinstance(dim, int)])
    shape = ops.shape_of(x, output_type=DType.I64)
    zero = ops.const(0, DType.I64)
    parts = [
        ints([dim]) if isinstance(dim, int) else ops.gather(shape, ints([axis]), zero)
        for dim, axis in zip(wanted, axes)
    ]
    return ops.concat(*parts, axis=0)


@registry.op("Concat")
def concat(*xs: Value, axis: int | None = None, concat_dim: int | None = None) -> Value:
    """All inputs behind one another along an axis."""
    if not xs:
        raise BadModel("no inputs given")
    at = axis_in(xs[0], _axis(axis, concat_dim, "concat_dim"))
    return xs[0] if len(xs) == 1 else ops.concat(*xs, axis=at)


def _axis(axis: int | None, older: int | None, name: str) -> int:
    """The axis by its new or its old name; Caffe's default is 1."""
    if axis is not None and older is not None:
        raise BadModel(f"'axis' and '{name}' are given, which are the same")
    return next((value for value in (axis, older) if value is not None), 1)


@registry.op("Slice")
def slice_(
    x: Value, *, axis: int | None = None, slice_dim: int | None = None, slice_point: Sequence[int] = (), _node: Node
) -> tuple[Value, ...]:
    """The input cut along an axis, at the given points or into equal parts."""
    at, count = axis_in(x, _axis(axis, slice_dim, "slice_dim")), len(_node.outputs)
    where = ops.const(at, DType.I64)
    if count == 1:
        return (x,)
    if not slice_point:
        return ops.split.op(x, where, num_splits=count).values()
    if len(slice_point) != count - 1:
        raise BadModel(f"{len(slice_point)} slice points for {count} tops")
    lengths = [b - a for a, b in zip((0, *slice_point), slice_point)]
    if min(lengths) <= 0:
        raise BadModel(f"slice points {list(slice_point)} do not rise")
    return ops.variadic_split.op(x, where, ints([*lengths, -1])).values()


@registry.op("Split")
def split(x: Value, *, _node: Node) -> tuple[Value, ...]:
    """The input, once for every top."""
    return (x,) * len(_node.outputs)


@registry.op("Reshape")
def reshape_layer(x: Value, *, shape: Sequence[int], axis: int = 0, num_axes: int = -1) -> Value:
    """The axes from `axis` on (num_axes of them) replaced by `shape`: 0 keeps an axis, -1 is what is left."""
    return reshape(x, shape, axis, num_axes)


def reshape(x: Value, shape: Sequence[int], axis: int, num_axes: int) -> Value:
    """What the Reshape layer computes."""
    start = axis if axis >= 0 else rank(x) + axis + 1
    end = rank(x) if num_axes == -1 else start + num_axes
    if not 0 <= start <= end <= rank(x) or num_axes < -1:
        raise BadModel(f"axis {axis} and num_axes {num_axes} are outside an input of rank {rank(x)}")
    middle = [_kept(x, start + i) if dim == 0 else dim for i, dim in enumerate(shape)]
    wanted = [*dims(x)[:start], *middle, *dims(x)[end:]]
    axes = [*range(start), *range(start, start + len(middle)), *range(end, rank(x))]
    if sum(not isinstance(dim, int) for dim in wanted) and _leading(wanted, axes):
        return ops.reshape(x, ints([dim if isinstance(dim, int) else 0 for dim in wanted]), special_zero=True)
    return ops.reshape(x, sizes(x, wanted, axes), special_zero=False)


def _kept(x: Value, axis: int) -> Dim:
    return dims(x)[axis_in(x, axis)]


def _leading(wanted: Sequence[Dim], axes: Sequence[int]) -> bool:
    """True if every size that is not known stays on its axis, which Reshape can say with 0."""
    return all(axis == i for i, (dim, axis) in enumerate(zip(wanted, axes)) if not isinstance(dim, int))


@registry.op("Flatten")
def flatten(x: Value, *, axis: int = 1, end_axis: int = -1) -> Value:
    """The axes from `axis` to `end_axis` made one."""
    first, last = axis_in(x, axis), axis_in(x, end_axis)
    if first > last:
        raise BadModel(f"axis {axis} comes after end_axis {end_axis}")
    return reshape(x, (-1,), first, last - first + 1)


@registry.op("Permute")
def permute(x: Value, *, order: Sequence[int] = ()) -> Value:
    """The axes in the given order, those not named behind them."""
    if len(set(order)) != len(order) or any(axis >= rank(x) for axis in order):
        raise BadModel(f"order {list(order)} does not fit an input of rank {rank(x)}")
    full = [*order, *(axis for axis in range(rank(x)) if axis not in order)]
    return x if full == sorted(full) else ops.transpose(x, ints(full))


@registry.op("Tile")
def tile(x: Value, *, axis: int = 1, tiles: int) -> Value:
    at = axis_in(x, axis)
    return ops.tile(x, ints([tiles if i == at else 1 for i in range(rank(x))]))


@registry.op("Crop")
def crop(x: Value, reference: Value, *, axis: int = 2, offset: Sequence[int] = ()) -> Value:
    """The axes from `axis` on cut to the sizes of the second input, from an offset on."""
    axes = list(range(axis_in(x, axis), rank(x)))
    if len(offset) not in (0, 1, len(axes)):
        raise BadModel(f"{len(offset)} offsets for {len(axes)} axes")
    starts = list(offset) * len(axes) if len(offset) == 1 else list(offset) or [0] * len(axes)
    wanted = [dims(reference)[at] for at in axes]
    stops = sizes(reference, wanted, axes)
    if any(starts):
        stops = ops.add(stops, ints(starts))
    return ops.slice(x, ints(starts), stops, ints([1] * len(axes)), ints(axes))


@registry.op("Interp")
def interp(
    x: Value,
    reference: Value | None = None,
    *,
    height: int = 0,
    width: int = 0,
    zoom_factor: int = 1,
    shrink_factor: int = 1,
    pad_beg: int = 0,
    pad_end: int = 0,
) -> Value:
    """Resized with corners aligned, linear in both directions: to a size, to that of a second input, or by a factor."""
    if pad_beg or pad_end:
        raise Unsupported("pad_beg and pad_end are not supported")
    if reference is not None:
        wanted = sizes(reference, dims(reference)[2:4], (2, 3))
    elif height > 0 and width > 0:
        wanted = ints((height, width))
    else:
        factors = (shrink_factor, zoom_factor)
        if min(factors) < 1 or any(not isinstance(dim, int) for dim in dims(x)[2:4]):
            raise BadModel(f"shrink and zoom by {factors} take a known height and width")
        wanted = ints([_resized(dim, *factors) for dim in dims(x)[2:4] if isinstance(dim, int)])
    return ops.interpolate(
        x,
        wanted,
        ints((2, 3)),
        mode="linear_onnx",
        shape_calculation_mode="sizes",
        coordinate_transformation_mode="align_corners",
    )


def _resized(size: int, shrink: int, zoom: int) -> int:
    size = (size - 1) // shrink + 1
    return size + (size - 1) * (zoom - 1)


@registry.op("Upsample")
def upsample(x: Value, *, scale: int = 2, scale_h: int | None = None, scale_w: int | None = None) -> Value:
    """Every element repeated scale times in both directions (YOLO's; SegNet's with a pooling mask is not supported)."""
    factors = ops.const([float(scale_h or scale), float(scale_w or scale)], DType.F32)
    return ops.interpolate(
        x,
        factors,
        ints((2, 3)),
        mode="nearest",
        shape_calculation_mode="scales",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


@registry.op("ShuffleChannel")
def shuffle_channel(x: Value, *, group: int = 1) -> Value:
    """Channels [group, each] made [each, group]."""
    count = channels(x)
    if count is None or group < 1 or count % group:
        raise BadModel(f"{dims(x)[1]} channels cannot be shuffled in {group} groups")
    apart = reshape(x, (group, count // group), 1, 1)
    order = [0, 2, 1, *range(3, rank(apart))]
    return reshape(ops.transpose(apart, ints(order)), (count,), 1, 2)


@registry.op("BatchReindex")
def batch_reindex(x: Value, which: Value) -> Value:
    """The pictures of the input in the order that the second input gives."""
    return ops.gather(x, ops.convert(which, destination_type=DType.I32), ops.const(0, DType.I64))


@registry.op("Parameter")
def parameter(value: Value | None = None, *, shape: Sequence[int] = ()) -> Value:
    """A learned tensor as it is."""
    return blob(value, 0, tuple(shape) or (blob_size(value),))
