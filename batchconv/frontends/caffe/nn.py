"""Layers with weights, pooling and normalisation (BVLC Caffe: conv, pooling, inner_product, batch_norm, lrn, mvn)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from batchconv import ops
from batchconv.errors import BadModel, Unsupported
from batchconv.frontends.caffe.registry import (
    axis_in,
    blob,
    blob_size,
    channels,
    dims,
    ints,
    no_blob,
    number,
    per_channel,
    rank,
    registry,
    spatial,
)
from batchconv.frontends.translate import Node
from batchconv.graph import Value
from batchconv.steps import Binary, Unary
from batchconv.tensor import DType
from batchconv.weight import Weight, inline


def bias(y: Value, b: Value | None, wanted: bool, size: int, axis: int) -> Value:
    """`y` plus the second blob of a layer, if it has one."""
    if not wanted:
        no_blob(b, 1, "bias_term is false")
        return y
    shape = (size,) + (1,) * (rank(y) - axis_in(y, axis) - 1)
    return ops.add(y, blob(b, 1, (1,) * axis_in(y, axis) + shape))


FILTERS = {
    (False, False): ops.convolution,
    (False, True): ops.group_convolution,
    (True, False): ops.convolution_backprop_data,
    (True, True): ops.group_convolution_backprop_data,
}
"""(transposed, in groups) -> operation."""


@registry.op("Convolution", "Deconvolution", "ConvolutionDepthwise", "DepthwiseConvolution")
def convolution(
    x: Value,
    w: Value | None = None,
    b: Value | None = None,
    *,
    num_output: int,
    bias_term: bool = True,
    pad: Sequence[int] = (),
    kernel_size: Sequence[int] = (),
    stride: Sequence[int] = (),
    dilation: Sequence[int] = (),
    pad_h: int | None = None,
    pad_w: int | None = None,
    kernel_h: int | None = None,
    kernel_w: int | None = None,
    stride_h: int | None = None,
    stride_w: int | None = None,
    group: int = 1,
    axis: int = 1,
    _node: Node,
) -> Value:
    """Cross-correlation by weights [num_output, channels / group, kernel...], or its transpose by [channels, ...]."""
    count, transposed = _spatial_axes(x, axis), _node.op == "Deconvolution"
    if _node.op == "ConvolutionDepthwise" and group == 1:
        group = num_output
    kernel = spatial("kernel", count, kernel_size, kernel_h, kernel_w, None)
    pads = spatial("pad", count, pad, pad_h, pad_w, 0)
    inside = _each_group(w, num_output, group, kernel)
    ends = (inside * group, num_output // group) if transposed else (num_output, inside)
    y = FILTERS[transposed, group > 1](
        x,
        blob(w, 0, _grouped((*ends, *kernel), group)),
        strides=spatial("stride", count, stride, stride_h, stride_w, 1),
        pads_begin=pads,
        pads_end=pads,
        dilations=spatial("dilation", count, dilation, None, None, 1),
    )
    return bias(y, b, bias_term, num_output, 1)


def _spatial_axes(x: Value, axis: int) -> int:
    if axis_in(x, axis) != 1:
        raise Unsupported(f"channels on axis {axis} are not supported, only on axis 1")
    if rank(x) < 3:
        raise BadModel(f"an input of rank {rank(x)} has no spatial axes")
    return rank(x) - 2


def _each_group(w: Value | None, num_output: int, group: int, kernel: Sequence[int]) -> int:
    """Input channels of a group, as the size of the weights tells."""
    if group < 1 or num_output < 1 or num_output % group or min(kernel) < 1:
        raise BadModel(f"num_output {num_output}, group {group} and kernel {list(kernel)} do not fit together")
    inside, rest = divmod(blob_size(w), num_output * math.prod(kernel))
    if rest or not inside:
        size, each = blob_size(w), num_output * math.prod(kernel)
        raise BadModel(f"blob 0 has {size} numbers, which is no multiple of num_output x kernel = {each}")
    return inside


def _grouped(shape: tuple[int, ...], group: int) -> tuple[int, ...]:
    """The shape of a filter with the groups as an axis of their own, as OpenVINO has it."""
    return (group, shape[0] // group, *shape[1:]) if group > 1 else shape


@registry.op("InnerProduct")
def inner_product(
    x: Value,
    w: Value | None = None,
    b: Value | None = None,
    *,
    num_output: int,
    bias_term: bool = True,
    axis: int = 1,
    transpose: bool = False,
) -> Value:
    """The axes from `axis` on, as one, times weights [num_output, inputs] ([inputs, num_output] if `transpose`)."""
    at = axis_in(x, axis)
    inside, rest = divmod(blob_size(w), max(num_output, 1))
    if rest or not inside:
        raise BadModel(f"blob 0 has {blob_size(w)} numbers, which is no multiple of num_output = {num_output}")
    if rank(x) != at + 1:
        x = ops.reshape(x, ints((0,) * at + (inside,)), special_zero=True)
    weights = blob(w, 0, (inside, num_output) if transpose else (num_output, inside))
    y = ops.matmul(x, weights, transpose_b=not transpose)
    return bias(y, b, bias_term, num_output, at)


@registry.op("Embed")
def embed(
    x: Value, w: Value | None = None, b: Value | None = None, *, num_output: int, input_dim: int, bias_term: bool = True
) -> Value:
    """Row x of the weights for every element of the input."""
    table = blob(w, 0, (input_dim, num_output))
    y = ops.gather(table, ops.convert(x, destination_type=DType.I32), ops.const(0, DType.I64))
    return bias(y, b, bias_term, num_output, -1)


def folded(weight: Weight, kind: str, operand: Weight) -> Weight:
    return weight.then(Binary(kind, operand))


def scalar(value: float, dtype: DType = DType.F32) -> Weight:
    """A recipe of one number."""
    return inline(np.asarray(value, dtype.numpy))


@registry.op("BatchNorm")
def batch_norm(
    x: Value,
    mean: Value | None = None,
    variance: Value | None = None,
    factor: Value | None = None,
    *,
    use_global_stats: bool = True,
    eps: float = 1e-5,
) -> Value:
    """(x - mean / factor) / sqrt(variance / factor + eps), factor 0 meaning statistics of 0; or by the batch's own."""
    if not use_global_stats:
        return ops.mvn(x, ints((0, *range(2, rank(x)))), normalize_variance=True, eps=eps, eps_mode="INSIDE_SQRT")
    size = blob_size(mean)
    if channels(x) not in (None, size):
        raise BadModel(f"blob 0 has {size} numbers for {channels(x)} channels")
    count = blob(factor, 2, (1,)).array
    if count is None:
        raise BadModel("blob 2 is not stored in the file")
    part = scalar(0.0 if count[0] == 0 else float(np.float32(1) / np.float32(count[0])))
    scale = folded(folded(_weight(variance, 1, size), "multiply", part), "add", scalar(eps))
    scale = scale.then(Unary("sqrt"), Unary("reciprocal"))
    shift = folded(folded(_weight(mean, 0, size), "multiply", part), "multiply", scale).then(Unary("negative"))
    return affine(x, scale, shift)


def _weight(value: Value | None, number: int, size: int) -> Weight:
    weight = blob(value, number, (size,)).weight
    assert weight is not None
    return weight


def affine(x: Value, scale: Weight, shift: Weight) -> Value:
    """x * scale + shift, one number a channel each."""
    y = ops.multiply(x, per_channel(ops.constant(scale), x))
    return ops.add(y, per_channel(ops.constant(shift), x))


@registry.op("BN")
def bn(
    x: Value,
    slope: Value | None = None,
    offset: Value | None = None,
    mean: Value | None = None,
    variance: Value | None = None,
    *,
    eps: float = 1e-5,
) -> Value:
    """(x - mean) / sqrt(variance + eps) * slope + offset; with two blobs (SegNet, merged) x * slope + offset."""
    size = blob_size(slope)
    scale, shift = _weight(slope, 0, size), _weight(offset, 1, size)
    if mean is not None:
        deviation = folded(_weight(variance, 3, size), "add", scalar(eps)).then(Unary("sqrt"))
        scale = folded(scale, "divide", deviation)
        shift = folded(shift, "subtract", folded(_weight(mean, 2, size), "multiply", scale))
    return affine(x, scale, shift)


@registry.op("LRN")
def lrn(
    x: Value,
    *,
    local_size: int = 5,
    alpha: float = 1.0,
    beta: float = 0.75,
    norm_region: str = "ACROSS_CHANNELS",
    k: float = 1.0,
) -> Value:
    """x / (k + alpha * sum of squares / n over n neighbours) ** beta; within a channel k is 1 and n a square."""
    if local_size % 2 == 0:
        raise BadModel(f"local_size {local_size} must be odd")
    if norm_region == "ACROSS_CHANNELS":
        return ops.lrn(x, ints((1,)), alpha=alpha, beta=beta, bias=k, size=local_size)
    pads = [local_size // 2] * 2
    mean = ops.avg_pool(
        ops.multiply(x, x),
        kernel=[local_size] * 2,
        strides=(1, 1),
        pads_begin=pads,
        pads_end=pads,
        rounding_type="floor",
        exclude_pad=False,
    )
    one = number(1.0, x)
    scale = ops.add(ops.multiply(mean, number(alpha, x)), one)
    return ops.multiply(x, ops.power(scale, number(-beta, x)))


@registry.op("MVN")
def mvn(x: Value, *, normalize_variance: bool = True, across_channels: bool = False, eps: float = 1e-9) -> Value:
    """(x - mean) / (deviation + eps) over the spatial axes, and the channels if `across_channels`."""
    axes = ints(tuple(range(1 if across_channels else 2, rank(x))))
    return ops.mvn(x, axes, normalize_variance=normalize_variance, eps=eps, eps_mode="OUTSIDE_SQRT")


@registry.op("Normalize")
def normalize(
    x: Value,
    scale: Value | None = None,
    *,
    across_spatial: bool = True,
    channel_shared: bool = True,
    eps: float = 1e-10,
) -> Value:
    """SSD's: x / sqrt(sum of squares + eps) over the channels, and the picture if `across_spatial`, times a scale."""
    axes = ints(tuple(range(1, rank(x))) if across_spatial else (1,))
    y = ops.normalize_l2(x, axes, eps=eps, eps_mode="add")
    if channel_shared:
        return ops.multiply(y, blob(scale, 0, (1,) * rank(x)))
    if len(dims(x)) > 1 and channels(x) not in (None, blob_size(scale)):
        raise BadModel(f"blob 0 has {blob_size(scale)} numbers for {channels(x)} channels")
    return ops.multiply(y, per_channel(blob(scale, 0, (blob_size(scale),)), x))
