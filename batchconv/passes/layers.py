"""Where the channels of a layer lie in its weights: what a factor of its input or output becomes as a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from batchconv.graph import Op, Value
from batchconv.passes.recipes import FLOATS, constant, reshaped
from batchconv.weight import Weight


@dataclass(frozen=True, slots=True)
class Channels:
    """One end of a layer. port: input that is its weights; axis: of the channels, from the end, in the data there.

    shape: of a vector of `count` channels (here with its length) that numpy broadcasting pairs with the weights.
    """

    port: int
    axis: int
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of channels."""
        product = 1
        for dim in self.shape:
            product *= dim
        return product

    def vector(self, factor: Weight, rank: int | None) -> Weight | None:
        """`factor`, of data of that rank, as it is to be paired with the weights; None if it is not per channel."""
        dims = factor.spec.shape
        if rank is None or len(dims) > rank:
            return None
        if factor.spec.size == 1:
            return reshaped(factor, (1,) * len(self.shape))
        place = len(dims) + self.axis
        if place < 0 or dims[place] != self.count or factor.spec.size != self.count:
            return None
        return reshaped(factor, self.shape)


Ends = tuple[Channels, Channels]
"""(at the data, at the output)"""


def _convolution(op: Op, w: tuple[int, ...]) -> Ends:
    ones, axis = (1,) * (len(w) - 2), 1 - len(w)
    return Channels(1, axis, (w[1], *ones)), Channels(1, axis, (w[0], 1, *ones))


def _group_convolution(op: Op, w: tuple[int, ...]) -> Ends:
    ones, axis = (1,) * (len(w) - 3), 2 - len(w)
    return Channels(1, axis, (w[0], 1, w[2], *ones)), Channels(1, axis, (w[0], w[1], 1, *ones))


def _backprop(op: Op, w: tuple[int, ...]) -> Ends:
    data, out = _convolution(op, w)
    return Channels(1, out.axis, out.shape), Channels(1, data.axis, data.shape)


def _group_backprop(op: Op, w: tuple[int, ...]) -> Ends:
    data, out = _group_convolution(op, w)
    return Channels(1, out.axis, out.shape), Channels(1, data.axis, data.shape)


def _matmul(op: Op, w: tuple[int, ...]) -> Ends:
    left = op.inputs[0].weight is not None
    own, other = ("transpose_a", "transpose_b") if left else ("transpose_b", "transpose_a")
    inner_last = left != op.attrs[own]
    inner, outer = (-1, -2) if inner_last else (-2, -1)
    shapes = {axis: (w[axis],) if axis == -1 else (w[axis], 1) for axis in (-1, -2)}
    at_data = (-2 if left else -1) if not op.attrs[other] else (-1 if left else -2)
    return Channels(1 - left, at_data, shapes[inner]), Channels(1 - left, -2 if left else -1, shapes[outer])


LAYERS: dict[str, Callable[[Op, tuple[int, ...]], Ends]] = {
    "Convolution": _convolution,
    "GroupConvolution": _group_convolution,
    "ConvolutionBackpropData": _backprop,
    "GroupConvolutionBackpropData": _group_backprop,
    "MatMul": _matmul,
}


def ends_of(op: Op) -> Ends | None:
    """The channels of a layer whose weights are a floating-point Constant; None for any other operation."""
    if op.type not in LAYERS:
        return None
    ports = (1, 0) if op.type == "MatMul" else (1,)
    weight = next((w for port in ports if (w := op.inputs[port].weight) is not None), None)
    if weight is None or weight.spec.dtype not in FLOATS:
        return None
    data = op.inputs[0 if op.inputs[1].weight is not None else 1]
    if op.type == "MatMul" and (len(weight.spec.shape) < 2 or (data.rank or 0) < 2):
        return None
    return LAYERS[op.type](op, weight.spec.shape)


def reweighted(op: Op, port: int, weight: Weight) -> tuple[Value, ...]:
    """The inputs of `op` with other weights, under the friendly name of the old."""
    inputs = list(op.inputs)
    inputs[port] = constant(weight, op.inputs[port].op.name)
    return tuple(inputs)
