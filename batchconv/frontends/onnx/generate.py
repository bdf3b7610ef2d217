"""What makes tensors out of sizes and numbers: ConstantOfShape, Range, EyeLike, Random*."""

from __future__ import annotations

from typing import Any

import numpy as np

from batchconv import ops
from batchconv.errors import BadModel
from batchconv.frontends.onnx.forms import cast, dims, first, i64, known_ints
from batchconv.frontends.onnx.registry import onnx
from batchconv.frontends.onnx.tensors import dtype_of
from batchconv.graph import Value, need_rank
from batchconv.tensor import DType
from batchconv.weight import Weight, fill, read

_LARGEST = 1 << 40
_STORED = 1 << 26
"""Elements up to which a fill is written out; larger ones are made when the network runs."""


@onnx.op("ConstantOfShape")
def constant_of_shape(shape: Value, *, value: Weight | None = None) -> Value:
    dtype = DType.F32 if value is None else value.spec.dtype
    element = np.zeros(1, np.float32) if value is None else read(value)
    if element.size != 1:
        raise BadModel(f"attribute 'value' has {element.size} elements")
    wanted = known_ints(shape)
    if wanted is None:
        return ops.broadcast(ops.const(element.reshape(()), dtype), shape)
    size = 1
    for dim in wanted:
        size *= dim
    if min(wanted, default=0) < 0 or size > _LARGEST:
        raise BadModel(f"a constant of shape {wanted} cannot be made")
    if size > _STORED:  # a file of a kilobyte must not fill a disk
        return ops.broadcast(ops.const(element.reshape(()), dtype), i64(wanted))
    return ops.constant(fill(element.reshape(-1)[0], dtype, tuple(wanted)))


@onnx.op("Range")
def range_(start: Value, limit: Value, delta: Value) -> Value:
    return ops.range(first(start), first(limit), first(delta), output_type=start.dtype)


@onnx.op("EyeLike")
def eye_like(x: Value, *, dtype: int | None = None, k: int = 0) -> Value:
    kind = x.dtype if dtype is None else dtype_of(dtype)
    if need_rank(x) != 2:
        raise BadModel(f"the input must be a matrix, its rank is {x.rank}")
    rows, columns = (first(dims(x, at, at + 1)) for at in (0, 1))
    return ops.eye(rows, columns, i64(k), output_type=kind)


def _uniform(shape: Value, low: float, high: float, seed: float, dtype: DType) -> Value:
    ends = (ops.const(np.array(end), dtype) for end in (low, high))
    return ops.random_uniform(shape, *ends, output_type=dtype, global_seed=0, op_seed=int(seed) or 1)


@onnx.op("RandomUniform")
def random_uniform(*, dtype: int = 1, high: float = 1.0, low: float = 0.0, seed: float = 0.0, shape: Any) -> Value:
    return _uniform(i64(list(shape)), low, high, seed, dtype_of(dtype))


@onnx.op("RandomUniformLike")
def random_uniform_like(
    x: Value, *, dtype: int | None = None, high: float = 1.0, low: float = 0.0, seed: float = 0.0
) -> Value:
    kind = x.dtype if dtype is None else dtype_of(dtype)
    return _uniform(ops.shape_of(x, output_type=DType.I64), low, high, seed, kind)


@onnx.op("RandomNormal")
def random_normal(*, dtype: int = 1, mean: float = 0.0, scale: float = 1.0, seed: float = 0.0, shape: Any) -> Value:
    return _normal(i64(list(shape)), mean, scale, seed, dtype_of(dtype))


@onnx.op("RandomNormalLike")
def random_normal_like(
    x: Value, *, dtype: int | None = None, mean: float = 0.0, scale: float = 1.0, seed: float = 0.0
) -> Value:
    kind = x.dtype if dtype is None else dtype_of(dtype)
    return _normal(ops.shape_of(x, output_type=DType.I64), mean, scale, seed, kind)


def _normal(shape: Value, mean: float, scale: float, seed: float, dtype: DType) -> Value:
    """Two uniform numbers make a normal one (Box and Muller)."""
    a = _uniform(shape, float(np.finfo(np.float32).tiny), 1.0, seed, DType.F32)
    b = _uniform(shape, 0.0, 1.0, seed + 10000, DType.F32)
    radius = ops.sqrt(ops.multiply(ops.log(a), ops.const(-2.0)))
    number = ops.multiply(radius, ops.cos(ops.multiply(b, ops.const(2 * np.pi))))
    return cast(ops.add(ops.multiply(number, ops.const(scale)), ops.const(mean)), dtype)
