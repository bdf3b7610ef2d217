"""Operations that change nothing, or that two of which are one."""

from __future__ import annotations

from collections.abc import Sequence

from batchconv import ops
from batchconv.graph import Op
from batchconv.opset import TABLE, build
from batchconv.passes.recipes import beside_constant, on, uniform
from batchconv.rewrite import Declined, Replacement, Uses
from batchconv.shape import Dim, Interval, Shape, axis_of, same

VIEWS = ("Reshape", "Squeeze", "Unsqueeze")


def alike(a: Shape, b: Shape) -> bool:
    """True if the two shapes are certainly equal."""
    return a is not None and b is not None and len(a) == len(b) and all(map(same, a, b))


@on("Convert")
def convert_to_same(op: Op, uses: Uses) -> Replacement:
    """Convert(x, type of x) = x"""
    return op.inputs[0] if op.attrs["destination_type"] is op.inputs[0].dtype else None


@on("Concat")
def concat_of_one(op: Op, uses: Uses) -> Replacement:
    """Concat(x) = x"""
    return op.inputs[0] if len(op.inputs) == 1 else None


@on("Split", "VariadicSplit")
def split_in_one(op: Op, uses: Uses) -> Replacement:
    """Split(x, axis, 1) = x"""
    return op.inputs[0] if len(op.outputs) == 1 else None


@on("Tile")
def tile_once(op: Op, uses: Uses) -> Replacement:
    """Tile(x, [1, 1, ...]) = x"""
    repeats = op.inputs[1].known
    if repeats is None or any(item != 1 for item in repeats.items) or op.inputs[0].rank is None:
        return None
    return op.inputs[0] if len(repeats.items) <= op.inputs[0].rank else None


@on("Broadcast")
def broadcast_to_same(op: Op, uses: Uses) -> Replacement:
    """Broadcast(x, shape of x) = x"""
    return op.inputs[0] if alike(op.inputs[0].shape, op.outputs[0].shape) else None


@on("Pad")
def pad_nothing(op: Op, uses: Uses) -> Replacement:
    """Pad(x, [0, 0, ...], [0, 0, ...]) = x"""
    pads = [value.known for value in op.inputs[1:3]]
    return op.inputs[0] if all(known and not any(known.items) for known in pads) else None


@on("Add", "Subtract", "Multiply", "Divide")
def neutral_constant(op: Op, uses: Uses) -> Replacement:
    """x + 0 = x - 0 = x * 1 = x / 1 = x"""
    found = beside_constant(op)
    if found is None or (op.type in ("Subtract", "Divide") and found[0] is not op.inputs[0]):
        return None
    value, weight = found
    if uniform(weight) != (0.0 if op.type in ("Add", "Subtract") else 1.0):
        return None
    return value if _fits(weight.spec.shape, value.shape) else Declined("the constant may make the result larger")


def _fits(small: Sequence[int], shape: Shape) -> bool:
    """True if broadcasting `small` with `shape` certainly gives `shape`."""
    if shape is None or len(small) > len(shape):
        return False
    return all(n in (1, dim) for n, dim in zip(reversed(small), reversed(shape)))


@on(*VIEWS)
def view_to_same(op: Op, uses: Uses) -> Replacement:
    """Reshape(x, shape of x) = x; one dimension that is not known is what the others leave"""
    before, after = op.inputs[0].shape, op.outputs[0].shape
    if before is None or after is None or len(before) != len(after):
        return None
    unlike = [i for i, (a, b) in enumerate(zip(before, after)) if not same(a, b)]
    if not unlike:
        return op.inputs[0]
    (axis, *more) = unlike
    free = all(isinstance(dims[axis], Interval) for dims in (before, after))
    others = (*before[:axis], *before[axis + 1 :])
    return op.inputs[0] if free and not more and all(isinstance(dim, int) and dim for dim in others) else None


@on("Reshape")
def view_of_view(op: Op, uses: Uses) -> Replacement:
    """Reshape(Reshape(x, a), b) = Reshape(x, b)"""
    inner, target = op.inputs[0].op, op.inputs[1].known
    if inner.type not in VIEWS or inner.inputs[0].weight is not None:
        return None
    x, between = inner.inputs[0], op.inputs[0].shape
    copies = op.attrs["special_zero"]
    if target is None or (copies and not all(_alike(x.shape, between, i, n) for i, n in enumerate(target.items))):
        return Declined("its target refers to the shape in between")
    return ops.reshape(x, op.inputs[1], special_zero=op.attrs["special_zero"])


def _alike(before: Shape, between: Shape, axis: int, item: Dim) -> bool:
    """True if item `axis` of a target shape means the same for both shapes (0: the dimension at its place)."""
    if item != 0 and not isinstance(item, Interval):
        return True
    if before is None or between is None or axis >= min(len(before), len(between)):
        return False
    return same(before[axis], between[axis])


@on("Squeeze", "Unsqueeze")
def squeeze_of_unsqueeze(op: Op, uses: Uses) -> Replacement:
    """Squeeze(Unsqueeze(x, axes), axes) = Unsqueeze(Squeeze(x, axes), axes) = x"""
    inner = op.inputs[0].op
    if {op.type, inner.type} != {"Squeeze", "Unsqueeze"} or min(len(op.inputs), len(inner.inputs)) < 2:
        return None
    outer, within = op.inputs[1].known, inner.inputs[1].known
    x, after = inner.inputs[0], op.outputs[0].shape
    if outer is None or within is None or x.shape is None or after is None or len(x.shape) != len(after):
        return None
    rank = max(len(after), op.inputs[0].rank or 0)
    same_axes = {axis_of(axis, rank) for axis in outer.items} == {axis_of(axis, rank) for axis in within.items}
    return x if same_axes else None


def order_of(op: Op) -> tuple[int, ...] | None:
    """The permutation of a Transpose, if it is known."""
    order, rank = op.inputs[1].known, op.inputs[0].rank
    if order is None or not order.whole or (not order.items and rank is None):
        return None
    return tuple(order.items) or tuple(reversed(range(rank or 0)))


@on("Transpose")
def transpose_nothing(op: Op, uses: Uses) -> Replacement:
    """Transpose(x, [0, 1, ...]) = x"""
    order = order_of(op)
    return op.inputs[0] if order is not None and order == tuple(range(len(order))) else None


@on("Transpose")
def transpose_of_transpose(op: Op, uses: Uses) -> Replacement:
    """Transpose(Transpose(x, a), b) = Transpose(x, a[b])"""
    inner = op.inputs[0].op
    outer_order, inner_order = order_of(op), order_of(inner) if inner.type == "Transpose" else None
    if outer_order is None or inner_order is None or inner.inputs[0].weight is not None:
        return None
    return ops.transpose(inner.inputs[0], ops.const([inner_order[axis] for axis in outer_order]))


@on("Reshape")
def reshape_without_shapes(op: Op, uses: Uses) -> Replacement:
    """Reshape(x, computed) = Reshape(x, [0, 512, -1]): dimensions of x at their place, known, and the only other"""
    before, after = op.inputs[0].shape, op.outputs[0].shape
    if op.inputs[1].weight is not None or before is None or after is None:
        return None
    target = [_target(dim, before, axis) for axis, dim in enumerate(after)]
    if target.count(-1) > 1 or 0 in after or (-1 in target and 0 in before):
        return Declined("more than one dimension is computed at run time")
    return ops.reshape(op.inputs[0], ops.const(target), special_zero=True)


def _target(dim: Dim, before: Sequence[Dim], axis: int) -> int:
    if isinstance(dim, int):
        return dim
    return 0 if axis < len(before) and same(dim, before[axis]) else -1


@on("Convolution", "GroupConvolution")
def padded_input(op: Op, uses: Uses) -> Replacement:
    """Convolution(Pad(x, a, b), w) = Convolution(x, w) that pads by a and b more, for zeros around the window axes"""
    inner = op.inputs[0].op
    if inner.type != "Pad":
        return None
    begin, end = (value.known for value in inner.inputs[1:3])
    if uses(op.inputs[0]) > 1 or begin is None or end is None or not (begin.whole and end.whole):
        return Declined("the Pad is computed at run time or read elsewhere too")
    if not _pads_zeros(inner) or any((*begin.items[:2], *end.items[:2])) or min((*begin.items, *end.items)) < 0:
        return Declined("the Pad adds something else than zeros around the window axes")
    if op.attrs["auto_pad"] not in ("explicit", "valid"):
        return Declined("the layer pads by its input's size")
    own = op.attrs if op.attrs["auto_pad"] == "explicit" else {}
    pads = {
        name: tuple(map(sum, zip(own.get(name) or (0,) * len(more), more)))
        for name, more in (("pads_begin", begin.items[2:]), ("pads_end", end.items[2:]))
    }
    return build(TABLE[op.type], (inner.inputs[0], op.inputs[1]), {**op.attrs, **pads, "auto_pad": "explicit"}).value()


def _pads_zeros(pad: Op) -> bool:
    value = pad.inputs[3].known if len(pad.inputs) > 3 else None
    return pad.attrs["pad_mode"] == "constant" and (len(pad.inputs) < 4 or (value is not None and value.items == (0,)))
