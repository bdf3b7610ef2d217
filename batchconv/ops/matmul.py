"""Matrix multiplication and what is made of it (specification: matrix, sequence)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchconv.errors import BadModel
from batchconv.graph import Attr, Output, Value
from batchconv.ops.checks import same_type, want_least_rank
from batchconv.opset import bool_, define
from batchconv.shape import Dim, Shape, broadcast, merge_dim, text

__all__ = [
    "matmul",
]  # fmt: skip


def _rows(shape: tuple[Dim, ...], transpose: bool) -> tuple[Dim, ...]:
    if transpose and len(shape) > 1:
        return (*shape[:-2], shape[-1], shape[-2])
    return shape


def product_shape(a: Shape, b: Shape, transpose_a: bool, transpose_b: bool) -> Shape:
    """numpy.matmul's rule: 1-D operands lend a dimension that the result drops; the batch dimensions broadcast."""
    if a is None or b is None:
        return None
    x, y = _rows(a, transpose_a), _rows(b, transpose_b)
    x, y = x if len(x) > 1 else (1, *x), y if len(y) > 1 else (*y, 1)
    try:
        merge_dim(x[-1], y[-2])
    except BadModel:
        raise BadModel(f"shapes {text(a)} and {text(b)} cannot be multiplied") from None
    batch = broadcast(x[:-2], y[:-2]) or ()
    return (*batch, *(() if len(a) == 1 else (x[-2],)), *(() if len(b) == 1 else (y[-1],)))


def _matmul(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    a, b = inputs
    want_least_rank(a, "the first input", 1)
    want_least_rank(b, "the second input", 1)
    return Output(same_type(inputs), product_shape(a.shape, b.shape, attrs["transpose_a"], attrs["transpose_b"]))


matmul = define("MatMul", 1, "a b", _matmul, transpose_a=bool_(False), transpose_b=bool_(False))
