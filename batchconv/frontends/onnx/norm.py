"""Normalisation (ONNX operators BatchNormalization ... LRN) and Dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from batchconv import ops
from batchconv.errors import Unsupported
from batchconv.frontends.onnx.forms import axis_in, cast, dims, i64, joined, like, per_channel, shape_of, spatial_axes
from batchconv.frontends.onnx.registry import onnx
from batchconv.graph import Value, need_rank
from batchconv.tensor import DType


@onnx.op("BatchNormalization")
def batch_normalization(
    x: Value,
    scale: Value,
    bias: Value,
    mean: Value,
    variance: Value,
    *,
    consumed_inputs: object = None,
    epsilon: float = 1e-5,
    is_test: int = 1,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: int = 0,
    _node: Any,
) -> Value:
    if training_mode or sum(map(bool, _node.outputs)) > 1:
        raise Unsupported("batch normalisation in training mode is not supported")
    if not spatial and need_rank(x) != 2:
        raise Unsupported("attribute 'spatial' = 0 is not supported")
    rest = [cast(value, x.dtype) for value in (scale, bias, mean, variance)]
    return ops.batch_norm_inference(x, *rest, epsilon=epsilon)


@onnx.op("InstanceNormalization")
def instance_normalization(
    x: Value, scale: Value, bias: Value, *, consumed_inputs: object = None, epsilon: float = 1e-5
) -> Value:
    rank = need_rank(x)
    y = ops.mvn(x, spatial_axes(x), eps=epsilon, normalize_variance=True, eps_mode="INSIDE_SQRT")
    return ops.add(ops.multiply(y, per_channel(scale, rank)), per_channel(bias, rank))


@onnx.op("LayerNormalization")
def layer_normalization(
    x: Value,
    scale: Value,
    bias: Value | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    _node: Any,
) -> tuple[Value, ...]:
    axes = i64(list(range(axis_in(axis, x), need_rank(x))))
    y = ops.multiply(ops.mvn(x, axes, eps=epsilon, normalize_variance=True, eps_mode="INSIDE_SQRT"), scale)
    y = y if bias is None else ops.add(y, bias)
    if len(_node.outputs) == 1:
        return (y,)
    mean = ops.reduce_mean(x, axes, keep_dims=True)
    variance = ops.reduce_mean(ops.squared_difference(x, mean), axes, keep_dims=True)
    deviation = ops.sqrt(ops.add(variance, like(epsilon, x)))
    return y, mean, ops.divide(like(1, x), deviation)


@onnx.op("RMSNormalization")
def rms_normalization(x: Value, scale: Value, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Value:
    axes = i64(list(range(axis_in(axis, x), need_rank(x))))
    square = ops.reduce_mean(ops.multiply(x, x), axes, keep_dims=True)
    return ops.multiply(ops.divide(x, ops.sqrt(ops.add(square, like(epsilon, x)))), scale)


@onnx.op("GroupNormalization")
def group_normalization_by_group(
    x: Value, scale: Value, bias: Value, *, epsilon: float = 1e-5, num_groups: int
) -> Value:
    """Scale and bias have one element a group; each is repeated for the channels of its group."""
    return group_normalization(
        x, repeated(scale, x, num_groups), repeated(bias, x, num_groups), epsilon=epsilon, num_groups=num_groups
    )


def repeated(value: Value, x: Value, groups: int) -> Value:
    """[groups] as [channels of `x`], each element as often as a group has channels."""
    channels = ops.divide(dims(x, 1, 2), i64([groups]))
    wide = ops.broadcast(ops.unsqueeze(value, i64([1])), joined(i64([groups]), channels))
    return ops.reshape(wide, i64([-1]), special_zero=False)


@onnx.op("GroupNormalization", since=21)
def group_normalization(
    x: Value, scale: Value, bias: Value, *, epsilon: float = 1e-5, num_groups: int, stash_type: int = 1
) -> Value:
    return ops.group_normalization(x, scale, bias, num_groups=num_groups, epsilon=epsilon)


@onnx.op("MeanVarianceNormalization")
def mean_variance_normalization(
    x: Value, *, axes: Sequence[int] = (0, 2, 3), across_channels: int = 0, normalize_variance: int = 1
) -> Value:
    mean = ops.reduce_mean(x, i64(list(axes)), keep_dims=True)
    centred = ops.subtract(x, mean)
    if not normalize_variance:
        return centred
    variance = ops.reduce_mean(ops.multiply(centred, centred), i64(list(axes)), keep_dims=True)
    return ops.divide(centred, ops.add(ops.sqrt(variance), like(1e-9, x)))


@onnx.op("LpNormalization")
def lp_normalization(x: Value, *, axis: int = -1, p: int = 2) -> Value:
    axes = i64([axis_in(axis, x)])
    norm = ops.reduce_l1(x, axes, keep_dims=True) if p == 1 else ops.reduce_l2(x, axes, keep_dims=True)
    return ops.select(ops.equal(norm, like(0, x)), like(0, x), ops.divide(x, norm))


@onnx.op("LRN")
def lrn(x: Value, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int) -> Value:
    return ops.lrn(x, i64([1]), alpha=alpha, beta=beta, bias=bias, size=size)


@onnx.op("Dropout")
def dropout(
    x: Value, *, consumed_inputs: object = None, is_test: int = 1, ratio: float = 0.5, _node: Any
) -> tuple[Value, ...]:
    return (x, cast(_all_true(x), x.dtype))[: len(_node.outputs)]


@onnx.op("Dropout", since=10)
def dropout_with_bool_mask(x: Value, *, ratio: float = 0.5, _node: Any) -> tuple[Value, ...]:
    return (x, _all_true(x))[: len(_node.outputs)]


@onnx.op("Dropout", since=12)
def dropout_with_inputs(
    x: Value, ratio: Value | None = None, training: Value | None = None, *, seed: int = 0, _node: Any
) -> tuple[Value, ...]:
    drops = ratio is None or ratio.array is None or ratio.array.any()
    if training is not None and drops and (training.array is None or training.array.any()):
        raise Unsupported("dropout in training mode is not supported")
    return (x, _all_true(x))[: len(_node.outputs)]


def _all_true(x: Value) -> Value:
    return ops.broadcast(ops.const(np.True_, DType.BOOLEAN), shape_of(x))
