"""Layers that compute element by element, and reductions (BVLC Caffe: neuron, eltwise, scale, bias, argmax layers)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from batchconv import ops
from batchconv.errors import BadModel
from batchconv.frontends.caffe.registry import axis_in, blob, blob_size, dims, ints, no_blob, number, rank, registry
from batchconv.graph import Value
from batchconv.shape import Dim
from batchconv.tensor import DType

registry.rename({"Sigmoid": ops.sigmoid, "TanH": ops.tanh, "AbsVal": ops.abs, "BNLL": ops.softplus})


@registry.op("ReLU")
def relu(x: Value, *, negative_slope: float = 0.0) -> Value:
    """x, or negative_slope * x below 0."""
    return ops.relu(x) if negative_slope == 0 else ops.prelu(x, ops.const([negative_slope], x.dtype))


@registry.op("ReLU6")
def relu6(x: Value, *, negative_slope: float = 0.0, threshold: float = 6.0) -> Value:
    """x between 0 and 6; with a slope, the part below 0 leaks."""
    if negative_slope:
        return ops.minimum(ops.prelu(x, ops.const([negative_slope], x.dtype)), number(threshold, x))
    return ops.clamp(x, min=0.0, max=threshold)


@registry.op("Clip")
def clip(x: Value, *, min: float, max: float) -> Value:
    return ops.clamp(x, min=min, max=max)


@registry.op("PReLU")
def prelu(x: Value, slope: Value | None = None, *, channel_shared: bool = False) -> Value:
    """x, or its channel's slope * x below 0."""
    size = 1 if channel_shared else blob_size(slope)
    count = dims(x)[axis_in(x, 1)]
    if isinstance(count, int) and size not in (1, count):
        raise BadModel(f"blob 0 has {size} numbers for {count} channels")
    return ops.prelu(x, blob(slope, 0, (size,)))


@registry.op("ELU")
def elu(x: Value, *, alpha: float = 1.0) -> Value:
    return ops.elu(x, alpha=alpha)


@registry.op("Swish")
def swish(x: Value, *, beta: float = 1.0) -> Value:
    """x * sigmoid(beta * x)."""
    return ops.multiply(x, ops.sigmoid(linear(x, beta, 0.0)))


def linear(x: Value, scale: float, shift: float) -> Value:
    """scale * x + shift, without what changes nothing."""
    if scale != 1:
        x = ops.multiply(x, number(scale, x))
    return ops.add(x, number(shift, x)) if shift else x


@registry.op("Power")
def power(x: Value, *, power: float = 1.0, scale: float = 1.0, shift: float = 0.0) -> Value:
    """(shift + scale * x) ** power."""
    y = linear(x, scale, shift)
    return y if power == 1 else ops.power(y, number(power, x))


@registry.op("Exp")
def exp(x: Value, *, base: float = -1.0, scale: float = 1.0, shift: float = 0.0) -> Value:
    """base ** (shift + scale * x), base -1 meaning e."""
    return ops.exp(linear(x, scale * _log(base), shift * _log(base)))


@registry.op("Log")
def log(x: Value, *, base: float = -1.0, scale: float = 1.0, shift: float = 0.0) -> Value:
    """The logarithm to `base` (-1: e) of shift + scale * x."""
    y = ops.log(linear(x, scale, shift))
    return y if base == -1 else ops.multiply(y, number(1 / _log(base), x))


def _log(base: float) -> float:
    if base == -1:
        return 1.0
    if base <= 0 or base == 1:
        raise BadModel(f"base {base} is no base of a logarithm")
    return math.log(base)


@registry.op("Threshold")
def threshold(x: Value, *, threshold: float = 0.0) -> Value:
    """1 above the threshold, 0 elsewhere."""
    return ops.convert(ops.greater(x, number(threshold, x)), destination_type=x.dtype)


@registry.op("Dropout")
def dropout(x: Value) -> Value:
    """The input: nothing is dropped when testing."""
    return x


@registry.op("Eltwise")
def eltwise(*xs: Value, operation: str = "SUM", coeff: Sequence[float] = ()) -> Value:
    """Product, sum with coefficients, or maximum of all inputs, which have one shape."""
    if len(xs) < 2 or (coeff and len(coeff) != len(xs)):
        raise BadModel(f"{len(xs)} inputs and {len(coeff)} coefficients: at least two, and one for each")
    if coeff and operation != "SUM":
        raise BadModel(f"coefficients are for SUM, not {operation}")
    combine = {"PROD": ops.multiply, "SUM": ops.add, "MAX": ops.maximum}[operation]
    terms = [linear(x, factor, 0.0) for x, factor in zip(xs, coeff or (1.0,) * len(xs))]
    y = terms[0]
    for term in terms[1:]:
        y = combine(y, term)
    return y


def aligned(x: Value, other: Value, axis: int, num_axes: int) -> Value:
    """The scale or bias of a layer, shaped so that its axes lie on those of `x` from `axis` on."""
    if other.weight is None:
        behind = rank(x) - rank(other) - axis_in(x, axis) if rank(other) else 0
        if behind < 0:
            raise BadModel(f"an input of rank {rank(other)} does not fit from axis {axis} on")
        return ops.unsqueeze(other, ints(range(rank(other), rank(other) + behind))) if behind else other
    if num_axes == 0:
        return blob(other, 0, ())
    at = axis_in(x, axis)
    shape = _covered(other, dims(x)[at:] if num_axes < 0 else dims(x)[at : at + num_axes])
    return blob(other, 0, (*shape, *(1,) * (rank(x) - at - len(shape))))


def _covered(other: Value, axes: Sequence[Dim]) -> tuple[int, ...]:
    """The shape of blob 0 over these axes: as they are, and as the blob has it where they are not known."""
    wanted = [dim if isinstance(dim, int) else -1 for dim in axes]
    known, size = math.prod(dim for dim in wanted if dim > 0), blob_size(other)
    if wanted.count(-1) < 2:
        return tuple(size // max(known, 1) if dim < 0 else dim for dim in wanted)
    stored = other.weight.spec.shape if other.weight else ()
    if len(stored) != len(wanted):
        raise BadModel("the shape of the input must be known on the axes of blob 0")
    return stored


@registry.op("Scale")
def scale(
    x: Value,
    factor: Value | None = None,
    offset: Value | None = None,
    *,
    axis: int = 1,
    num_axes: int = 1,
    bias_term: bool = False,
) -> Value:
    """x * factor + offset, a blob or a second input covering the axes of x from `axis` on."""
    if factor is None:
        raise BadModel("the layer has no weights")
    factor = aligned(x, factor, axis, num_axes)
    y = ops.multiply(x, factor)
    if not bias_term:
        no_blob(offset, 1, "bias_term is false")
        return y
    if offset is None:
        raise BadModel("the layer has no blob 1")
    like = factor.shape or ()
    return ops.add(y, blob(offset, 1, [dim for dim in like if isinstance(dim, int)]))


@registry.op("Bias")
def bias(x: Value, offset: Value | None = None, *, axis: int = 1, num_axes: int = 1) -> Value:
    """x + offset, a blob or a second input covering the axes of x from `axis` on."""
    if offset is None:
        raise BadModel("the layer has no weights")
    return ops.add(x, aligned(x, offset, axis, num_axes))


@registry.op("Axpy")
def axpy(a: Value, x: Value, y: Value) -> Value:
    """a * x + y, one a for every channel of every picture."""
    if rank(a) == 2:
        a = ops.unsqueeze(a, ints((2, 3)))
    return ops.add(ops.multiply(x, a), y)


@registry.op("Reduction")
def reduction(x: Value, *, operation: str = "SUM", axis: int = 0, coeff: float = 1.0) -> Value:
    """Sum, sum of absolute values, sum of squares or mean over all axes from `axis` on, times coeff."""
    axes = ints(range(axis_in(x, axis), rank(x)))
    if operation == "SUMSQ":
        x = ops.multiply(x, x)
    reduce = {"ASUM": ops.reduce_l1, "MEAN": ops.reduce_mean}.get(operation, ops.reduce_sum)
    return linear(reduce(x, axes, keep_dims=False), coeff, 0.0)


@registry.op("ArgMax")
def arg_max(x: Value, *, out_max_val: bool = False, top_k: int = 1, axis: int | None = None) -> Value:
    """Where the top_k largest stand (as numbers), or they themselves; without axis for each picture as a whole."""
    if axis is not None:
        values, places = _largest(x, top_k, axis_in(x, axis))
        return values if out_max_val else ops.convert(places, destination_type=x.dtype)
    flat = ops.reshape(x, ints((0, 1, -1)), special_zero=True)
    values, places = _largest(flat, top_k, 2)
    indices = ops.convert(places, destination_type=x.dtype)
    return ops.concat(indices, values, axis=1) if out_max_val else indices


def _largest(x: Value, count: int, axis: int) -> tuple[Value, Value]:
    made = ops.topk.op(
        x, ops.const(count, DType.I64), axis=axis, mode="max", sort="value", index_element_type=DType.I32
    )
    values, places = made.values()
    return values, places


@registry.op("Softmax")
def softmax(x: Value, *, axis: int = 1) -> Value:
    return ops.softmax(x, axis=axis_in(x, axis))
