"""Boxes and regions: NonMaxSuppression, RoiAlign, MaxRoiPool, DeformConv."""

from __future__ import annotations

from collections.abc import Sequence

from batchconv import ops
from batchconv.errors import BadModel, Unsupported
from batchconv.frontends.onnx.forms import cast, first, i64, joined, reshape
from batchconv.frontends.onnx.nn import Ints, biased, window
from batchconv.frontends.onnx.registry import onnx
from batchconv.graph import Value, need_shape
from batchconv.tensor import DType


@onnx.op("NonMaxSuppression")
def non_max_suppression(
    boxes: Value,
    scores: Value,
    most: Value | None = None,
    iou: Value | None = None,
    least: Value | None = None,
    *,
    center_point_box: int = 0,
) -> Value:
    return ops.non_max_suppression(
        boxes,
        scores,
        i64(0) if most is None else first(most),
        ops.const(0.0) if iou is None else first(iou),
        ops.const(float("-inf")) if least is None else first(least),
        box_encoding="center" if center_point_box else "corner",
        sort_result_descending=False,
        output_type=DType.I64,
    )


@onnx.op("RoiAlign")
def roi_align(
    x: Value,
    rois: Value,
    batch: Value,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Value:
    return _roi_align(x, rois, batch, "asymmetric", mode, output_height, output_width, sampling_ratio, spatial_scale)


@onnx.op("RoiAlign", since=16)
def roi_align_half_pixel(
    x: Value,
    rois: Value,
    batch: Value,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Value:
    modes = {"half_pixel": "half_pixel_for_nn", "output_half_pixel": "asymmetric"}
    if coordinate_transformation_mode not in modes:
        raise BadModel(
            f"attribute 'coordinate_transformation_mode' = {coordinate_transformation_mode!r}"
            f" is not one of {', '.join(modes)}"
        )
    aligned = modes[coordinate_transformation_mode]
    return _roi_align(x, rois, batch, aligned, mode, output_height, output_width, sampling_ratio, spatial_scale)


def _roi_align(
    x: Value, rois: Value, batch: Value, aligned: str, mode: str, height: int, width: int, ratio: int, scale: float
) -> Value:
    return ops.roi_align(
        x,
        rois,
        batch,
        pooled_h=height,
        pooled_w=width,
        sampling_ratio=ratio,
        spatial_scale=scale,
        mode=mode,
        aligned_mode=aligned,
    )


@onnx.op("MaxRoiPool")
def max_roi_pool(x: Value, rois: Value, *, pooled_shape: Sequence[int], spatial_scale: float = 1.0) -> Value:
    height, width = pooled_shape
    return ops.roi_pooling(x, rois, pooled_h=height, pooled_w=width, spatial_scale=spatial_scale, method="max")


@onnx.op("DeformConv")
def deform_conv(
    x: Value,
    w: Value,
    offset: Value,
    b: Value | None = None,
    mask: Value | None = None,
    *,
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    offset_group: int = 1,
    pads: Ints = None,
    strides: Ints = None,
) -> Value:
    attrs = window(2, "NOTSET", dilations, pads, strides)
    y = ops.deformable_convolution(
        x, offset, w, mask, group=group, deformable_group=offset_group, bilinear_interpolation_pad=True, **attrs
    )
    return biased(y, b, 4)


@onnx.op("Col2Im")
def col2im(
    x: Value, image: Value, block: Value, *, dilations: Ints = None, pads: Ints = None, strides: Ints = None
) -> Value:
    count = need_shape(block)[0]
    if count != 2:
        raise Unsupported(f"images of {count} dimensions are not supported")
    attrs = window(count, "NOTSET", dilations, pads, strides)
    attrs.pop("auto_pad")
    return ops.col2im(x, image, block, **attrs)


@onnx.op("AffineGrid")
def affine_grid(theta: Value, size: Value, *, align_corners: int = 0) -> Value:
    """Places in [-1, 1] of a regular grid, each taken through the affine map of its image."""
    spatial = need_shape(size)[0] - 2
    if spatial not in (2, 3):
        raise BadModel(f"a grid of {spatial} dimensions")
    axes = [_places(size, at + 2, bool(align_corners), theta.dtype) for at in range(spatial)]
    shape = ops.slice(size, i64([2]), i64([2 + spatial]), i64([1]))
    grid = []
    for at, places in enumerate(axes):
        line = reshape(places, *(-1 if at == axis else 1 for axis in range(spatial)), 1)
        grid.append(ops.broadcast(line, joined(shape, i64([1])), mode="bidirectional"))
    ones = ops.broadcast(ops.const(1.0, theta.dtype), joined(shape, i64([1])))
    points = reshape(ops.concat(*reversed(grid), ones, axis=spatial), -1, spatial + 1)
    moved = ops.matmul(points, theta, transpose_b=True)
    batch = ops.slice(size, i64([0]), i64([1]), i64([1]))
    return ops.reshape(moved, joined(batch, shape, i64([spatial])), special_zero=False)


def _places(size: Value, at: int, corners: bool, dtype: DType) -> Value:
    """`size[at]` numbers evenly over [-1, 1], from its ends or from half a step inside."""
    count = cast(ops.gather(size, i64(at), i64(0)), dtype)
    steps = ops.range(ops.const(0.0, dtype), count, ops.const(1.0, dtype), output_type=dtype)
    one, two = ops.const(1.0, dtype), ops.const(2.0, dtype)
    if corners:
        return ops.subtract(ops.divide(ops.multiply(steps, two), ops.subtract(count, one)), one)
    return ops.subtract(ops.divide(ops.add(ops.multiply(steps, two), one), count), one)
