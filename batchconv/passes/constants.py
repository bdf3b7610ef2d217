"""What can be computed now: known values become small Constants, operations on weights become steps.

The result goes by the name of the operation; of the (first) weight where that has none.
"""

from __future__ import annotations

from batchconv import ops
from batchconv.graph import KNOWN_LIMIT, Op, Value
from batchconv.passes.recipes import FLOATS, combined, constant, grows, mapped, on
from batchconv.rewrite import Declined, Replacement, Uses
from batchconv.shape import axis_of, static
from batchconv.steps import Binary, Cast, Reshape, Slice, Transpose
from batchconv.weight import Weight

BINARY = {"Add": "add", "Subtract": "subtract", "Multiply": "multiply", "Divide": "divide"}
UNARY = {"Negative": "negative", "Sqrt": "sqrt", "Abs": "abs", "Exp": "exp"}


@on("*")
def known_value(op: Op, uses: Uses) -> Replacement:
    """f(...) = Constant, where shape inference knows every element of every result"""
    for output in op.outputs:
        if output.known is None or not output.known.whole or output.dtype.bits < 8:
            return None
    if op.type in ("Parameter", "Constant", "Result") or not op.outputs or _decodes(op):
        return None
    name = op.inputs[0].op.name if op.inputs and op.inputs[0].weight is not None else ""
    return tuple(ops.const(o.known.array(o.dtype), o.dtype, name) for o in op.outputs if o.known is not None)


def _decodes(op: Op) -> bool:
    """True on the way from weights stored as bytes to real numbers: plugins know that pattern."""
    while op.type in ("Multiply", "Subtract"):
        op = op.inputs[0].op
    return op.type == "Convert" and op.inputs[0].op.type == "Constant" and is_bytes(op.inputs[0])


def is_bytes(codes: Value) -> bool:
    """True for 8-bit integers, or narrower, in two dimensions or more."""
    return codes.dtype.is_integral and codes.dtype.bits <= 8 and (codes.rank or 0) > 1


def stored(value: Value) -> Weight | None:
    """The recipe of a Constant of numbers."""
    weight = value.weight
    return None if weight is None or not weight.spec.dtype.bits else weight


def instead(op: Op, weight: Weight) -> Value:
    """`weight` in the place of `op`, under the name of its first input if it has none itself."""
    return constant(weight, op.inputs[0].op.name)


@on("Reshape", "Squeeze", "Unsqueeze")
def reshape_constant(op: Op, uses: Uses) -> Replacement:
    """Reshape(w) = w|Reshape"""
    weight = stored(op.inputs[0])
    if weight is None or not op.value().is_static:
        return None
    return instead(op, weight.then(Reshape(static(op.outputs[0].shape))))


@on("Transpose")
def transpose_constant(op: Op, uses: Uses) -> Replacement:
    """Transpose(w, order) = w|Transpose"""
    weight, order = stored(op.inputs[0]), op.inputs[1].known
    if weight is None or order is None or not order.whole:
        return None
    perm = tuple(order.items) or tuple(reversed(range(len(weight.spec.shape))))
    return instead(op, weight.then(Transpose(perm)))


@on("Convert")
def convert_constant(op: Op, uses: Uses) -> Replacement:
    """Convert(w) = w|Cast"""
    weight, target = stored(op.inputs[0]), op.attrs["destination_type"]
    if weight is None or min(target.bits, weight.spec.dtype.bits) < 8:
        return None
    if is_bytes(op.inputs[0]) and target.is_real:
        return Declined("plugins know weights stored as bytes")
    if "rt_info" in op.attrs or (target.bits > weight.spec.dtype.bits and weight.spec.nbytes > KNOWN_LIMIT):
        return Declined("the weight would take more room")
    return instead(op, weight.then(Cast(target)))


@on(*BINARY)
def combine_constants(op: Op, uses: Uses) -> Replacement:
    """Add(a, b) = a|add(b)"""
    a, b = (stored(value) for value in op.inputs)
    if a is None or b is None or op.attrs["auto_broadcast"] != "numpy":
        return None
    if grows(a.spec, b.spec) and op.value().is_static:
        return Declined("the result is larger than either constant")
    if a.spec.dtype in FLOATS:
        return instead(op, combined(BINARY[op.type], a, b))
    if a.spec.dtype.is_integral and a.spec.dtype.bits >= 8 and op.type != "Divide":
        return instead(op, a.then(Binary(BINARY[op.type], b)))
    return None


@on(*UNARY)
def map_constant(op: Op, uses: Uses) -> Replacement:
    """Sqrt(w) = w|sqrt"""
    weight = stored(op.inputs[0])
    if weight is None or weight.spec.dtype not in FLOATS:
        return None
    return instead(op, mapped(UNARY[op.type], weight))


@on("Slice")
def slice_constant(op: Op, uses: Uses) -> Replacement:
    """Slice(w, start, stop, 1, axes) = w|Slice"""
    weight = stored(op.inputs[0])
    if weight is None or not op.value().is_static:
        return None
    found = [value.known for value in op.inputs[1:]]
    if any(known is None or not known.whole for known in found):
        return None
    starts, _, steps, *axes = [known.items for known in found if known is not None]
    if any(step != 1 for step in steps):
        return Declined("rows are skipped")
    shape = static(op.outputs[0].shape)
    for axis, start in zip(axes[0] if axes else range(len(starts)), starts):
        at = axis_of(axis, len(shape))
        size = weight.spec.shape[at]
        first = min(max(start + size if start < 0 else start, 0), size)
        weight = weight.then(Slice(at, first, first + shape[at]))
    return instead(op, weight)


@on("Split", "VariadicSplit")
def split_constant(op: Op, uses: Uses) -> Replacement:
    """Split(w, axis) = w|Slice, w|Slice, ..."""
    weight, axis = stored(op.inputs[0]), op.inputs[1].array
    if weight is None or axis is None or not all(value.is_static for value in op.values()):
        return None
    at, start = axis_of(int(axis.reshape(-1)[0]), len(weight.spec.shape)), 0
    pieces: list[Value] = []
    for output in op.outputs:
        length = static(output.shape)[at]
        pieces.append(instead(op, weight.then(Slice(at, start, start + length))))
        start += length
    return tuple(pieces)
