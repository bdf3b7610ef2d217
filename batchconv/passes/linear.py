"""Scales and shifts: batch normalisation taken apart, chains made one, factors moved into the weights of layers.

Each rule moves recipes only. A layer's bias stays an Add, which is how OpenVINO has it.
"""

from __future__ import annotations

from batchconv import ops
from batchconv.graph import Op, Output, Value
from batchconv.opset import rebuilt
from batchconv.passes.layers import LAYERS, Channels, ends_of, reweighted
from batchconv.passes.recipes import (
    FLOATS,
    beside_constant,
    combined,
    constant,
    grows,
    mapped,
    narrow,
    number,
    on,
    reshaped,
    wide,
)
from batchconv.rewrite import Declined, Replacement, Uses
from batchconv.steps import Sum
from batchconv.tensor import DType
from batchconv.weight import BLOCK, Weight

SHARED = Declined("what comes before is read elsewhere too")
SHARED_WEIGHTS = Declined("the weights of the layer are read elsewhere too")
NOT_PER_CHANNEL = Declined("the constant is not one number a channel")
LARGER = Declined("the constants together are larger than either")


def plain(op: Op) -> tuple[Value, Weight] | None:
    """`beside_constant`, but None where integers become real numbers: plugins know that pattern."""
    found = beside_constant(op)
    return None if found is None or dequantized(found[0]) else found


def dequantized(value: Value) -> bool:
    """True for Convert(i8 or u8) and Subtract(Convert(i8 or u8), zero point) of what is computed."""
    op = value.op.inputs[0].op if value.op.type == "Subtract" else value.op
    if op.type != "Convert" or op.inputs[0].op.type == "Parameter":
        return False
    return op.inputs[0].dtype.is_integral and op.inputs[0].dtype.bits <= 8


@on("BatchNormInference")
def batch_norm(op: Op, uses: Uses) -> Replacement:
    """BatchNorm(x, gamma, beta, mean, var) = Add(Multiply(x, s), beta - mean * s), s = gamma / sqrt(var + epsilon)"""
    data, given = op.inputs[0], [value.weight for value in op.inputs[1:]]
    if data.rank is None or data.dtype not in FLOATS:
        return Declined("the rank of its data is not known")
    kind = DType.F64 if data.dtype is DType.F64 else DType.F32
    gamma, beta, mean, variance = (weight and narrow(wide(weight), kind) for weight in given)
    if gamma is None or beta is None or mean is None or variance is None:
        return Declined("its parameters are computed at run time")
    spread = mapped("sqrt", combined("add", variance, number(op.attrs["epsilon"], kind)))
    scale = combined("divide", gamma, spread)
    shift = combined("subtract", beta, combined("multiply", mean, scale))
    shape = (gamma.spec.size,) + (1,) * (data.rank - 2)
    s, t = (constant(narrow(reshaped(weight, shape), data.dtype)) for weight in (scale, shift))
    return ops.add(ops.multiply(data, s), t)


@on("Divide")
def divide_by_constant(op: Op, uses: Uses) -> Replacement:
    """x / c = x * (1 / c)"""
    found = plain(op)
    if found is None or found[0] is not op.inputs[0]:
        return None
    return ops.multiply(found[0], constant(mapped("reciprocal", found[1]), op.inputs[1].op.name))


@on("Subtract")
def subtract_constant(op: Op, uses: Uses) -> Replacement:
    """x - c = x + (-c)"""
    found = plain(op)
    if found is None or found[0] is not op.inputs[0]:
        return None
    return ops.add(found[0], constant(mapped("negative", found[1]), op.inputs[1].op.name))


@on("Multiply", "Add")
def merge_constants(op: Op, uses: Uses) -> Replacement:
    """(x * a) * b = x * (a * b);  (x + a) + b = x + (a + b)"""
    outer = plain(op)
    inner = plain(outer[0].op) if outer and outer[0].op.type == op.type else None
    if outer is None or inner is None:
        return None
    if uses(outer[0]) > 1:
        return SHARED
    if grows(inner[1].spec, outer[1].spec):
        return LARGER
    kind, make = ("multiply", ops.multiply) if op.type == "Multiply" else ("add", ops.add)
    return make(inner[0], constant(combined(kind, inner[1], outer[1])))


@on("Multiply")
def scale_layer(op: Op, uses: Uses) -> Replacement:
    """Multiply(Convolution(x, w), s) = Convolution(x, w * s), for every layer"""
    found = plain(op)
    if found is None or found[0].op.type not in LAYERS:
        return None
    weight = scaled_weight(found[0], found[1], uses)
    if not isinstance(weight, Weight):
        return weight
    layer, (_, out) = found[0].op, ends_of(found[0].op) or (None, None)
    return None if out is None else unnamed(rebuilt(layer, reweighted(layer, out.port, weight)))


def scaled_weight(value: Value, factor: Weight, uses: Uses) -> Weight | Declined | None:
    """The weights of the layer that makes `value` times `factor`, if they can take it."""
    ends = ends_of(value.op)
    if ends is None:
        return None
    if uses(value) > 1:
        return SHARED
    return times(value.op, ends[1], factor, value.rank, uses)


def times(layer: Op, end: Channels, factor: Weight, rank: int | None, uses: Uses) -> Weight | Declined:
    """The weights of `layer` times `factor` of the data at one end, if `factor` is one number a channel there."""
    held = layer.inputs[end.port]
    vector = end.vector(factor, rank)
    if vector is None or held.weight is None or held.dtype is not vector.spec.dtype:
        return NOT_PER_CHANNEL
    return SHARED_WEIGHTS if uses(held) > 1 else combined("multiply", held.weight, vector)


def unnamed(op: Op) -> Value:
    """The one output of `op`, without the tensor names of the value that it was."""
    out = op.outputs[0]
    return Op(op.type, op.inputs, op.attrs, (Output(out.dtype, out.shape),), op.name, op.origin).value()


@on("Multiply")
def scale_of_shift(op: Op, uses: Uses) -> Replacement:
    """Multiply(Add(x, b), s) = Add(Multiply(x, s), b * s), where the Multiply goes into what makes x"""
    outer = plain(op)
    inner = plain(outer[0].op) if outer and outer[0].op.type == "Add" else None
    if outer is None or inner is None:
        return None
    (total, scale), (x, shift) = outer, inner
    if uses(total) > 1 or uses(x) > 1:
        return SHARED
    if grows(shift.spec, scale.spec):
        return LARGER
    if x.op.type in LAYERS:
        weight = scaled_weight(x, scale, uses)
        if not isinstance(weight, Weight):
            return weight
    elif x.op.type != "Multiply" or plain(x.op) is None:
        return None
    return ops.add(ops.multiply(x, constant(scale)), constant(combined("multiply", shift, scale)))


@on(*LAYERS)
def scaled_input(op: Op, uses: Uses) -> Replacement:
    """Convolution(Multiply(x, s), w) = Convolution(x, w * s), for every layer (padding with zeros stays zeros)"""
    ends = ends_of(op)
    if ends is None or op.inputs[1 - ends[0].port].op.type != "Multiply":
        return None
    end, data = ends[0], op.inputs[1 - ends[0].port]
    found = plain(data.op)
    if found is None:
        return None
    if uses(data) > 1:
        return SHARED
    weight = times(op, end, found[1], data.rank, uses) if keeps_channels(found[0], data, end) else NOT_PER_CHANNEL
    if isinstance(weight, Declined):
        return weight
    inputs = list(reweighted(op, end.port, weight))
    inputs[1 - end.port] = found[0]
    return rebuilt(op, tuple(inputs)).value()


def keeps_channels(x: Value, data: Value, end: Channels) -> bool:
    """True if `x` has the rank and the channels of `data`, so that a factor of one number a channel did not add any."""
    return x.shape is not None and x.rank == data.rank and x.shape[end.axis] == end.count


@on("Convolution", "GroupConvolution")
def shifted_input(op: Op, uses: Uses) -> Replacement:
    """Convolution(Add(x, b), w) = Add(Convolution(x, w), sum(w * b)), if nothing is padded and w is at most a block"""
    ends, data = ends_of(op), op.inputs[0]
    found = plain(data.op) if data.op.type == "Add" else None
    if ends is None or found is None:
        return None
    if uses(data) > 1:
        return SHARED
    if any((*op.attrs["pads_begin"], *op.attrs["pads_end"])) or op.attrs["auto_pad"] not in ("explicit", "valid"):
        return Declined("the layer pads what the Add gives")
    held, vector = op.inputs[1].weight, ends[0].vector(found[1], data.rank)
    if vector is None or held is None or not keeps_channels(found[0], data, ends[0]):
        return NOT_PER_CHANNEL
    if held.spec.nbytes > BLOCK:
        return Declined("the weights would be read twice")
    axes = range(1 if op.type == "Convolution" else 2, len(held.spec.shape))
    summed = combined("multiply", wide(held), vector).then(Sum(tuple(axes)))
    bias = narrow(reshaped(summed, (ends[1].count,) + (1,) * (-1 - ends[1].axis)), data.dtype)
    return ops.add(unnamed(rebuilt(op, (found[0], op.inputs[1]))), constant(bias))
