"""Operations that pick elements: Gather, Slice, StridedSlice, Scatter ... (specification: data movement)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from batchconv.errors import BadModel
from batchconv.graph import Attr, Output, Value
from batchconv.ops.checks import axis_value, like, same_type, want_integers, want_rank
from batchconv.ops.values import UNKNOWN, items_of, moved, numbers
from batchconv.opset import bool_, define, enum, int_, ints
from batchconv.shape import ANY, Dim, Interval, Shape, axis_of, bounds, interval, merge, merge_dim, text
from batchconv.tensor import Array

__all__ = [
    "gather", "gather_elements", "gather_nd", "scatter_elements_update", "scatter_nd_update", "scatter_update",
    "slice_", "strided_slice",
]  # fmt: skip


def _gather(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, indices, axis_input = inputs
    want_integers(indices, "indices")
    if data.shape is None or indices.shape is None:
        return Output(data.dtype, None)
    axis, batch = axis_value(axis_input, len(data.shape)), attrs["batch_dims"]
    batch += len(indices.shape) if batch < 0 else 0
    if axis is None:
        return Output(data.dtype, (ANY,) * (len(data.shape) + len(indices.shape) - 1 - batch))
    if not batch <= axis or batch > len(indices.shape):
        raise BadModel(f"batch_dims {batch} does not fit axis {axis} and indices {text(indices.shape)}")
    head = merge(data.shape[:batch], indices.shape[:batch]) or ()
    shape = (*head, *data.shape[batch:axis], *indices.shape[batch:], *data.shape[axis + 1 :])
    known = None
    if not batch:
        known = moved([data, indices], data.dtype, shape, lambda grid, at: _taken(grid, at, axis))
    return Output(data.dtype, shape, (), known)


def _taken(grid: Array, at: Array, axis: int) -> Array:
    """numpy.take with a negative index counted from the end, UNKNOWN where the index is not known."""
    if any(isinstance(i, Interval) for i in at.reshape(-1)):
        shape = (*grid.shape[:axis], *at.shape, *grid.shape[axis + 1 :])
        return np.full(shape, UNKNOWN, object)
    try:
        return np.take(grid, at.astype(np.int64), axis)
    except IndexError:
        raise BadModel(f"indices {at.tolist()} are outside an axis of {grid.shape[axis]} elements") from None


gather = define("Gather", 8, "data indices axis", _gather, batch_dims=int_(0))


def _gather_elements(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, indices = inputs
    want_integers(indices, "indices")
    if data.shape is None:
        return Output(data.dtype, indices.shape)
    axis = axis_of(attrs["axis"], len(data.shape))
    if indices.shape is None:
        return Output(data.dtype, (*data.shape[:axis], ANY, *data.shape[axis + 1 :]))
    if len(indices.shape) != len(data.shape):
        raise BadModel(f"indices {text(indices.shape)} and data {text(data.shape)} have different ranks")
    pairs = zip(data.shape, indices.shape, strict=True)
    return Output(data.dtype, tuple(b if i == axis else merge_dim(a, b) for i, (a, b) in enumerate(pairs)))


def _gather_nd(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, indices = inputs
    want_integers(indices, "indices")
    batch = attrs["batch_dims"]
    if data.shape is None or indices.shape is None or not isinstance(indices.shape[-1], int):
        return Output(data.dtype, None)
    depth = indices.shape[-1]
    if depth + batch > len(data.shape):
        raise BadModel(f"indices {text(indices.shape)} are too deep for data {text(data.shape)}")
    head = merge(data.shape[:batch], indices.shape[:batch]) or ()
    return Output(data.dtype, (*head, *indices.shape[batch:-1], *data.shape[batch + depth :]))


gather_elements = define("GatherElements", 6, "data indices", _gather_elements, axis=int_())
gather_nd = define("GatherND", 8, "data indices", _gather_nd, batch_dims=int_(0))


def sliced(dim: Dim, start: Any, stop: Any, step: Any) -> Dim:
    """How many elements of an axis of `dim` elements a slice takes; a start or stop of None is open."""
    if step == 0:
        raise BadModel("the step of a slice is 0")
    if isinstance(step, Interval) or not (_one_sided(start) and _one_sided(stop)):
        return interval(0, bounds(dim).hi)
    if isinstance(start, Interval) or isinstance(stop, Interval):
        sides = [bounds(sliced(dim, a, b, step)) for a in _sides(start) for b in _sides(stop)]
        highs = [side.hi for side in sides]
        return interval(min(s.lo for s in sides), None if None in highs else max(h for h in highs if h is not None))
    if isinstance(dim, int):
        return len(range(*slice(start, stop, step).indices(dim)))
    if step == 1 and start in (0, None) and (stop is None or stop >= 1 << 31):
        return dim
    if step == -1 and start in (-1, None) and (stop is None or stop <= -(1 << 31)):
        return dim
    counts = [len(range(*slice(start, stop, step).indices(n))) for n in _samples(dim, start, stop)]
    if dim.hi is None:
        top = len(range(*slice(start, stop, step).indices(1 << 62)))
        return interval(min(counts), None if top > 1 << 40 else max(*counts, top))
    return interval(min(counts), max(counts))


def _one_sided(bound: Any) -> bool:
    """True unless a bound of a slice may be counted from the front and from the end."""
    return not isinstance(bound, Interval) or bound.lo >= 0 or (bound.hi is not None and bound.hi < 0)


def _sides(bound: Any) -> tuple[Any, ...]:
    if not isinstance(bound, Interval):
        return (bound,)
    return bound.lo, 1 << 62 if bound.hi is None else bound.hi


def _samples(dim: Interval, start: Any, stop: Any) -> list[int]:
    """Sizes among which a slice takes least and most: the ends, and where a bound meets the axis' end."""
    points = {dim.lo, dim.hi if dim.hi is not None else dim.lo}
    points |= {abs(x) + d for x in (start, stop) if x is not None and abs(x) < 1 << 31 for d in (-1, 0, 1)}
    return [p for p in points if p >= dim.lo and (dim.hi is None or p <= dim.hi)]


def _slice(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, start, stop, step = inputs[:4]
    for value, what in zip(inputs[1:], ("start", "stop", "step", "axes")):
        want_integers(value, what)
        want_rank(value, what, 1)
    lists = [items_of(value) for value in (start, stop, step)]
    if data.shape is None:
        return Output(data.dtype, None)
    axes = _slice_axes(inputs[4:], lists, len(data.shape))
    if axes is None:
        return Output(data.dtype, tuple(interval(0, bounds(dim).hi) for dim in data.shape))
    if any(len(items) != len(axes) for items in lists if items is not None):
        raise BadModel("start, stop, step and axes of a slice have different lengths")
    spans = dict(zip(axes, zip(*(items or (UNKNOWN,) * len(axes) for items in lists))))
    shape = tuple(sliced(dim, *spans[i]) if i in spans else dim for i, dim in enumerate(data.shape))
    return Output(data.dtype, shape, (), _cut(data, shape, [spans.get(i) for i in range(len(data.shape))]))


def _slice_axes(axes: Sequence[Value], lists: Sequence[tuple[Any, ...] | None], rank: int) -> tuple[int, ...] | None:
    """The axes a Slice works on, or None if they are not known."""
    if not axes:
        count = next((len(items) for items in lists if items is not None), None)
        return None if count is None else tuple(range(count))
    found = numbers(axes[0])
    if found is None:
        return None
    places = tuple(axis_of(axis, rank) for axis in found)
    if len(set(places)) < len(places):
        raise BadModel(f"axes {list(found)} of a slice repeat")
    return places


def _cut(data: Value, shape: Shape, spans: Sequence[tuple[Any, ...] | None]) -> Any:
    """What is known of the elements that slices (start, stop, step) take of each axis."""
    if any(isinstance(item, Interval) for span in spans if span for item in span):
        return None
    cuts = tuple(slice(None) if span is None else slice(*span) for span in spans)
    return moved([data], data.dtype, shape, lambda grid: grid[cuts])


slice_ = define("Slice", 8, "data start stop step axes?", _slice)


def _mask(attrs: Mapping[str, Attr], name: str, at: int) -> bool:
    mask = attrs[name]
    return at < len(mask) and mask[at] == 1


def _strided_slice(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data = inputs[0]
    for value, what in zip(inputs[1:], ("begin", "end", "strides")):
        want_integers(value, what)
        want_rank(value, what, 1)
    lists = [items_of(value) for value in inputs[1:]]
    if len(inputs) < 4:
        lists.append(None if lists[0] is None else (1,) * len(lists[0]))
    count = next((len(items) for items in lists if items is not None), None)
    if data.shape is None or count is None:
        return Output(data.dtype, None)
    if any(items is not None and len(items) != count for items in lists):
        raise BadModel("begin, end and strides have different lengths")
    begin, end, strides = (items or (UNKNOWN,) * count for items in lists)
    return _walk(data, attrs, list(zip(begin, end, strides)))


def _walk(data: Value, attrs: Mapping[str, Attr], spans: list[tuple[Any, Any, Any]]) -> Output:
    """StridedSlice entry by entry: new axes, the ellipsis, shrunk axes and spans; the rest of the axes whole."""
    dims = data.shape or ()
    taken = sum(
        not _mask(attrs, "new_axis_mask", i) and not _mask(attrs, "ellipsis_mask", i) for i in range(len(spans))
    )
    shape: list[Dim] = []
    cuts: list[Any] = []
    at = 0
    for i, (start, stop, step) in enumerate(spans):
        if _mask(attrs, "ellipsis_mask", i):
            whole = len(dims) - taken
            shape += dims[at : at + whole]
            cuts += [slice(None)] * whole
            at += whole
            continue
        if _mask(attrs, "new_axis_mask", i):
            shape.append(1)
            cuts.append(None)
            continue
        if at >= len(dims):
            raise BadModel(f"{taken} slices for data of shape {text(dims)}")
        if _mask(attrs, "shrink_axis_mask", i):
            cuts.append(start)
        else:
            span = (_open(attrs, "begin_mask", i, start), _open(attrs, "end_mask", i, stop), step)
            shape.append(sliced(dims[at], *span))
            cuts.append(slice(*span))
        at += 1
    whole_shape = (*shape, *dims[at:])
    return Output(data.dtype, whole_shape, (), _picked(data, whole_shape, cuts))


def _open(attrs: Mapping[str, Attr], mask: str, at: int, bound: Any) -> Any:
    return None if _mask(attrs, mask, at) else bound


def _picked(data: Value, shape: Shape, cuts: Sequence[Any]) -> Any:
    bounds_of = [x for cut in cuts for x in ((cut.start, cut.stop, cut.step) if isinstance(cut, slice) else (cut,))]
    if any(isinstance(x, Interval) for x in bounds_of):
        return None
    try:
        return moved([data], data.dtype, shape, lambda grid: grid[tuple(cuts)])
    except IndexError:
        raise BadModel(f"an index is outside data of shape {text(data.shape)}") from None


MASKS = {name: ints(()) for name in ("new_axis_mask", "shrink_axis_mask", "ellipsis_mask")}
strided_slice = define(
    "StridedSlice", 1, "data begin end strides?", _strided_slice, begin_mask=ints(), end_mask=ints(), **MASKS
)


def _scatter(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, indices, updates = inputs[:3]
    want_integers(indices, "indices")
    same_type([data, updates])
    if len(inputs) > 3 and data.shape is not None:
        axis_value(inputs[3], len(data.shape))
    return like(inputs, attrs)


REDUCTION = ("none", "sum", "sub", "prod", "min", "max")
scatter_update = define("ScatterUpdate", 3, "data indices updates axis", _scatter)
scatter_nd_update = define(
    "ScatterNDUpdate", 15, "data indices updates", _scatter, reduction=enum(*REDUCTION, default="none")
)
scatter_elements_update = define(
    "ScatterElementsUpdate",
    12,
    "data indices updates axis",
    _scatter,
    reduction=enum("none", "sum", "prod", "min", "max", "mean", default="none"),
    use_init_val=bool_(True),
)
