"""Sampling regions of pictures, and deformable convolution (specification: detection, image, convolution)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchconv.errors import BadModel
from batchconv.graph import Attr, Output, Value
from batchconv.ops.checks import same_type, want_dim, want_integers, want_rank
from batchconv.ops.nn import AUTO_PAD, WINDOW, windows
from batchconv.ops.values import dims_of
from batchconv.opset import bool_, define, enum, float_, int_, ints, str_
from batchconv.shape import ANY, Shape, product, text

__all__ = [
    "binary_convolution", "col2im", "deformable_convolution", "deformable_psroi_pooling", "extract_image_patches",
    "grid_sample", "roi_align", "roi_align_rotated",
]  # fmt: skip


def _rois(inputs: Sequence[Value], width: int) -> Shape:
    """[regions, channels] of pictures [n, c, h, w], regions [r, width] and the picture of each."""
    data, rois, picture = inputs
    want_rank(data, "the data", 4)
    want_rank(rois, "the regions", 2)
    want_rank(picture, "batch_indices", 1)
    want_integers(picture, "batch_indices")
    want_dim(rois.shape, 1, width, f"a region must be {width} numbers")
    count = want_dim(picture.shape, 0, rois.shape[0] if rois.shape else ANY, "regions and batch_indices differ")
    return (count, data.shape[1] if data.shape else ANY)


def _roi_align(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    head = _rois(inputs, 4) or ()
    return Output(same_type(inputs[:2]), (*head, attrs["pooled_h"], attrs["pooled_w"]))


def _roi_align_rotated(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    head = _rois(inputs, 5) or ()
    return Output(same_type(inputs[:2]), (*head, attrs["pooled_h"], attrs["pooled_w"]))


POOLED = {"pooled_h": int_(), "pooled_w": int_(), "sampling_ratio": int_(), "spatial_scale": float_()}
roi_align = define(
    "ROIAlign",
    9,
    "data rois batch_indices",
    _roi_align,
    **POOLED,
    mode=enum("avg", "max"),
    aligned_mode=enum("asymmetric", "half_pixel_for_nn", "half_pixel", default="asymmetric"),
)
roi_align_rotated = define(
    "ROIAlignRotated", 15, "data rois batch_indices", _roi_align_rotated, **POOLED, clockwise_mode=bool_()
)


def _grid_sample(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, grid = inputs
    want_rank(data, "the data", 4)
    want_rank(grid, "the grid", 4)
    want_dim(grid.shape, 3, 2, "the grid must hold pairs")
    batch = want_dim(grid.shape, 0, data.shape[0] if data.shape else ANY, "batches of data and grid differ")
    place = grid.shape[1:3] if grid.shape else (ANY, ANY)
    return Output(data.dtype, (batch, data.shape[1] if data.shape else ANY, *place))


grid_sample = define(
    "GridSample",
    9,
    "data grid",
    _grid_sample,
    align_corners=bool_(False),
    mode=enum("bilinear", "bicubic", "nearest", default="bilinear"),
    padding_mode=enum("zeros", "border", "reflection", default="zeros"),
)


def _patches(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, sizes = inputs[0], attrs["sizes"]
    want_rank(data, "the data", 4)
    if any(len(attrs[name]) != 2 for name in ("sizes", "strides", "rates")):
        raise BadModel("sizes, strides and rates must be two numbers each")
    if data.shape is None:
        return Output(data.dtype, (ANY,) * 4)
    window = {
        "strides": attrs["strides"],
        "dilations": attrs["rates"],
        "pads_begin": (),
        "pads_end": (),
        "auto_pad": attrs["auto_pad"],
    }
    places = windows(data.shape[2:], sizes, window)
    return Output(data.dtype, (data.shape[0], data.shape[1] * int(sizes[0] * sizes[1]), *places))


extract_image_patches = define(
    "ExtractImagePatches",
    3,
    "image",
    _patches,
    sizes=ints(),
    strides=ints(),
    rates=ints(),
    auto_pad=enum("valid", "same_upper", "same_lower"),
)


def _deformable(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, _, filters = inputs[:3]
    dtype = same_type(inputs)
    want_rank(data, "the data", 4)
    want_rank(filters, "the filters", 4)
    if filters.shape is None or data.shape is None:
        channels = filters.shape[0] if filters.shape else ANY
        return Output(dtype, (data.shape[0] if data.shape else ANY, channels, ANY, ANY))
    want_dim(data.shape, 1, filters.shape[1] * int(attrs["group"]), "channels of data and filters differ")
    return Output(dtype, (data.shape[0], filters.shape[0], *windows(data.shape[2:], filters.shape[2:], attrs)))


deformable_convolution = define(
    "DeformableConvolution",
    8,
    "data offsets filters mask?",
    _deformable,
    **WINDOW,
    group=int_(1),
    deformable_group=int_(1),
    bilinear_interpolation_pad=bool_(False),
)


def _deformable_psroi(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    want_rank(inputs[0], "the data", 4)
    want_rank(inputs[1], "the regions", 2)
    count = inputs[1].shape[0] if inputs[1].shape else ANY
    return Output(inputs[0].dtype, (count, attrs["output_dim"], attrs["group_size"], attrs["group_size"]))


deformable_psroi_pooling = define(
    "DeformablePSROIPooling",
    1,
    "feature_maps coords offsets?",
    _deformable_psroi,
    output_dim=int_(),
    spatial_scale=float_(),
    group_size=int_(1),
    mode=str_("bilinear_deformable"),
    spatial_bins_x=int_(1),
    spatial_bins_y=int_(1),
    trans_std=float_(1.0),
    part_size=int_(1),
)


def _binary(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, filters = inputs
    want_rank(data, "the data", 4)
    want_rank(filters, "the filters", 4)
    if data.shape is None or filters.shape is None:
        return Output(data.dtype, (ANY,) * 4)
    want_dim(data.shape, 1, filters.shape[1], "channels of data and filters differ")
    return Output(data.dtype, (data.shape[0], filters.shape[0], *windows(data.shape[2:], filters.shape[2:], attrs)))


binary_convolution = define(
    "BinaryConvolution",
    1,
    "data filters",
    _binary,
    **{**WINDOW, "auto_pad": AUTO_PAD},
    mode=enum("xnor-popcount"),
    pad_value=float_(),
)


def _col2im(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, output, kernel = inputs
    want_rank(data, "the data", 2, 3)
    want_integers(output, "output_size")
    size, cell = dims_of(output) or (ANY, ANY), dims_of(kernel)
    if data.shape is None:
        return Output(data.dtype, None)
    area = product(cell) if cell is not None else ANY
    channels = data.shape[-2] // area if isinstance(area, int) and area else ANY
    if len(size) != 2:
        raise BadModel(f"output_size {text(size)} must have two elements")
    return Output(data.dtype, (*data.shape[:-2], channels, *size))


col2im = define(
    "Col2Im",
    15,
    "data output_size kernel_size",
    _col2im,
    strides=ints((1, 1)),
    dilations=ints((1, 1)),
    pads_begin=ints((0, 0)),
    pads_end=ints((0, 0)),
)
