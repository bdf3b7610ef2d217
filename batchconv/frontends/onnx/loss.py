"""Losses over classes, as training exports leave them in: NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss."""

from __future__ import annotations

from typing import Any

from batchconv import ops
from batchconv.errors import BadModel
from batchconv.frontends.onnx.forms import cast, i64, like
from batchconv.frontends.onnx.registry import onnx
from batchconv.graph import Value, need_rank
from batchconv.tensor import DType


@onnx.op("NegativeLogLikelihoodLoss")
def negative_log_likelihood(
    x: Value,
    target: Value,
    weight: Value | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Value:
    """x [N, C, ...], target [N, ...]: minus the weighted likelihood of each target class."""
    target = cast(target, DType.I64)
    counts = like(1, x)
    if ignore_index is not None:
        ignored = ops.equal(target, i64(ignore_index))
        target = ops.select(ignored, i64(0), target)
        counts = ops.select(ignored, like(0, x), counts)
    picked = ops.gather_elements(x, ops.unsqueeze(target, i64([1])), axis=1)
    if weight is not None:
        counts = ops.multiply(ops.gather(weight, target, i64(0)), counts)
    loss = ops.multiply(ops.negative(ops.squeeze(picked, i64([1]))), counts)
    return _reduced(loss, ops.broadcast(counts, ops.shape_of(loss, output_type=DType.I64)), reduction)


def _reduced(loss: Value, counts: Value, reduction: str) -> Value:
    if reduction == "none":
        return loss
    axes = i64(list(range(need_rank(loss))))
    total = ops.reduce_sum(loss, axes, keep_dims=False)
    if reduction == "sum":
        return total
    if reduction != "mean":
        raise BadModel(f"attribute 'reduction' = {reduction!r} is not one of none, mean, sum")
    return ops.divide(total, ops.reduce_sum(counts, axes, keep_dims=False))


@onnx.op("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(
    x: Value,
    target: Value,
    weight: Value | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
    _node: Any,
) -> tuple[Value, ...]:
    logs = ops.log_softmax(x, axis=1)
    return negative_log_likelihood(logs, target, weight, ignore_index=ignore_index, reduction=reduction), logs
