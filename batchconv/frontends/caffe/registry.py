"""Where Caffe's translators register, and what several of them need: layer blobs, axes, attributes given twice."""

from __future__ import annotations

import math
from collections.abc import Sequence

from batchconv import ops
from batchconv.errors import BadModel
from batchconv.frontends.translate import Registry
from batchconv.graph import Value
from batchconv.shape import Dim
from batchconv.steps import Reshape
from batchconv.tensor import DType

registry = Registry("caffe")


def blob(value: Value | None, number: int, shape: Sequence[int]) -> Value:
    """Blob `number` of a layer in the shape that its parameters ask for (files store old 4-D shapes too)."""
    if value is None:
        raise BadModel("the layer has no weights" if number == 0 else f"the layer has no blob {number}")
    weight = value.weight
    if weight is None:
        raise BadModel(f"blob {number} is not stored in the file")
    spec = weight.spec
    if spec.size != math.prod(shape):
        raise BadModel(f"blob {number} has shape {list(spec.shape)}, the layer needs {list(shape)}")
    return value if spec.shape == tuple(shape) else ops.constant(weight.then(Reshape(tuple(shape))), value.op.name)


def blob_size(value: Value | None) -> int:
    """How many numbers the first blob of a layer has; BadModel if there is none."""
    if value is None or value.weight is None:
        raise BadModel("the layer has no weights")
    return value.weight.spec.size


def no_blob(value: Value | None, number: int, why: str) -> None:
    """BadModel if the layer has a blob that its parameters leave out."""
    if value is not None:
        raise BadModel(f"the layer has a blob {number}, but {why}")


def rank(x: Value) -> int:
    """The rank of a layer's input; BadModel if it is not known."""
    if x.rank is None:
        raise BadModel("the rank of the input must be known: give its shape")
    return x.rank


def axis_in(x: Value, axis: int) -> int:
    """`axis` of `x` counted from 0."""
    if not -rank(x) <= axis < rank(x):
        raise BadModel(f"axis {axis} is outside an input of rank {rank(x)}")
    return axis % rank(x)


def dims(x: Value) -> tuple[Dim, ...]:
    """The dimensions of a layer's input, its rank being known."""
    rank(x)
    return x.shape or ()


def channels(x: Value, axis: int = 1) -> int | None:
    """How many channels `x` has, where that is known."""
    dim = dims(x)[axis_in(x, axis)]
    return dim if isinstance(dim, int) else None


def per_channel(value: Value, x: Value, axis: int = 1) -> Value:
    """A blob of one number a channel, shaped so that it broadcasts over `x`."""
    size = blob_size(value)
    at = axis_in(x, axis)
    return blob(value, 0, (1,) * at + (size,) + (1,) * (rank(x) - at - 1))


def number(value: float, like: Value) -> Value:
    """A constant of one number in the element type of `like`."""
    return ops.const([value] if like.rank else value, like.dtype)


def ints(values: Sequence[int]) -> Value:
    """A constant list of i64."""
    return ops.const(list(values), DType.I64)


def spatial(
    name: str, count: int, given: Sequence[int], h: int | None, w: int | None, default: int | None
) -> list[int]:
    """A window parameter for each spatial axis: `name_h` and `name_w`, or one value, or one each."""
    if h is not None or w is not None:
        if given or count != 2 or (default is None and None in (h, w)):
            raise BadModel(f"{name}_h and {name}_w stand for two axes, and instead of '{name}'")
        return [default or 0 if side is None else side for side in (h, w)]
    if len(given) not in (0, 1, count) or (not given and default is None):
        raise BadModel(f"'{name}' has {len(given)} values for {count} axes")
    return list(given) * count if len(given) == 1 else list(given) or [default or 0] * count
