"""What constructors check of their inputs, each a one-line BadModel; shared by the families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchconv.errors import BadModel
from batchconv.graph import Attr, Output, Value
from batchconv.ops.values import numbers
from batchconv.shape import Dim, Shape, axis_of, merge_dim, text
from batchconv.tensor import DType


def same_type(inputs: Sequence[Value]) -> DType:
    """The one element type of all inputs; BadModel if they differ."""
    types = {value.dtype for value in inputs} - {DType.DYNAMIC}
    if len(types) > 1:
        raise BadModel("inputs have different element types " + ", ".join(sorted(t.ir for t in types)))
    return next(iter(types), DType.DYNAMIC)


def want_integers(value: Value, what: str) -> None:
    """BadModel unless `value` has an integer type."""
    if not value.dtype.is_integral and value.dtype is not DType.DYNAMIC:
        raise BadModel(f"{what} must be integers, not {value.dtype.ir}")


def want_reals(value: Value, what: str = "the input") -> None:
    """BadModel unless `value` has a floating-point type."""
    if not value.dtype.is_real and value.dtype is not DType.DYNAMIC:
        raise BadModel(f"{what} must be floating point, not {value.dtype.ir}")


def want_numbers(value: Value, what: str = "the input") -> None:
    """BadModel for booleans and texts."""
    if value.dtype in (DType.BOOLEAN, DType.STRING):
        raise BadModel(f"{what} must be numbers, not {value.dtype.ir}")


def want_bools(value: Value, what: str = "the input") -> None:
    """BadModel unless `value` is boolean."""
    if value.dtype not in (DType.BOOLEAN, DType.DYNAMIC):
        raise BadModel(f"{what} must be boolean, not {value.dtype.ir}")


def want_rank(value: Value, what: str, *ranks: int) -> None:
    """BadModel unless the rank of `value` is one of `ranks`, or unknown."""
    if value.shape is not None and len(value.shape) not in ranks:
        wanted = " or ".join(map(str, ranks))
        raise BadModel(f"{what} must have rank {wanted}, not shape {text(value.shape)}")


def want_least_rank(value: Value, what: str, least: int) -> None:
    """BadModel if the rank of `value` is known to be below `least`."""
    if value.shape is not None and len(value.shape) < least:
        raise BadModel(f"{what} must have rank {least} or more, not shape {text(value.shape)}")


def want_dim(shape: Shape, axis: int, dim: Dim, what: str) -> Dim:
    """Dimension `axis` of `shape` merged with `dim`; BadModel saying `what` if they cannot agree."""
    if shape is None:
        return dim
    try:
        return merge_dim(shape[axis], dim)
    except BadModel:
        raise BadModel(f"{what}: {shape[axis]} and {dim}") from None


def want_length(attrs: Mapping[str, Attr], count: int, *names: str) -> None:
    """BadModel unless each of these list attributes is empty or has `count` elements."""
    for name in names:
        if attrs[name] and len(attrs[name]) != count:
            raise BadModel(f"attribute '{name}' = {list(attrs[name])} must have {count} elements")


def axes_of(value: Value, rank: int, what: str = "axes") -> tuple[int, ...] | None:
    """The axes that `value` lists, counted from 0, each once; None if it is computed at run time."""
    want_integers(value, what)
    want_rank(value, what, 0, 1)
    found = numbers(value)
    return None if found is None else tuple(dict.fromkeys(axis_of(axis, rank) for axis in found))


def axis_value(value: Value, rank: int, what: str = "the axis") -> int | None:
    """The one axis that `value` holds, counted from 0; None if it is computed at run time."""
    axes = axes_of(value, rank, what)
    if axes is not None and len(axes) != 1:
        raise BadModel(f"{what} must be one number, not {list(axes)}")
    return None if axes is None else axes[0]


def like(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    """Shape function: the type and shape of the first input."""
    return Output(inputs[0].dtype, inputs[0].shape)
