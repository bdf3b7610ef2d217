"""Resizing and rearranging pictures: Interpolate, DepthToSpace ... (specification: image, data movement)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from batchconv.errors import BadModel
from batchconv.graph import Attr, Output, Value
from batchconv.ops.checks import axes_of, want_integers, want_least_rank, want_rank, want_reals
from batchconv.ops.values import as_dim, items_of, numbers
from batchconv.opset import bool_, define, enum, float_, int_, ints
from batchconv.shape import ANY, Dim, Interval, bounds, interval, text

__all__ = [
    "depth_to_space", "interpolate", "space_to_depth",
]  # fmt: skip


def _interpolate(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, wanted = inputs[:2]
    sizes = attrs["shape_calculation_mode"] == "sizes"
    (want_integers if sizes else want_reals)(wanted, "sizes" if sizes else "scales")
    want_rank(wanted, "sizes or scales", 1)
    if data.shape is None:
        return Output(data.dtype, None)
    rank = len(data.shape)
    axes = axes_of(inputs[2], rank) if len(inputs) > 2 else tuple(range(rank))
    padded = [dim + pads for dim, pads in zip(data.shape, _pads(attrs, rank), strict=True)]
    if axes is None:
        return Output(data.dtype, (ANY,) * rank)
    if len(inputs) > 2 and min(numbers(inputs[2]) or (0,)) < 0:
        raise BadModel("the axes of Interpolate must not be negative")
    items = items_of(wanted) or (ANY,) * len(axes)
    if len(items) != len(axes):
        raise BadModel(f"{len(items)} sizes or scales for {len(axes)} axes")
    for axis, item in zip(axes, items, strict=True):
        padded[axis] = as_dim(item) if sizes else scaled(padded[axis], item)
    return Output(data.dtype, tuple(padded))


def _pads(attrs: Mapping[str, Attr], rank: int) -> list[int]:
    """Pads at both ends of each axis together; lists may be shorter than the rank."""
    both = [list(attrs[name]) + [0] * (rank - len(attrs[name])) for name in ("pads_begin", "pads_end")]
    if any(len(pads) > rank for pads in both):
        raise BadModel(f"more pads than the rank {rank} of the data")
    return [a + b for a, b in zip(*both, strict=True)]


def scaled(dim: Dim, scale: Any) -> Dim:
    """`dim` times the scale, rounded down as OpenVINO does it: in f32, the scale raised by 1e-6."""
    if isinstance(scale, Interval):
        return ANY
    if scale == 1:
        return dim
    if isinstance(dim, int):
        return math.floor(np.float32(dim) * (np.float32(scale) + np.float32(1e-6)))
    low, high = scaled(dim.lo, scale), None if dim.hi is None else scaled(dim.hi, scale)
    return interval(bounds(low).lo, None if high is None else bounds(high).hi)


interpolate = define(
    "Interpolate",
    11,
    "data scales_or_sizes axes?",
    _interpolate,
    mode=enum("nearest", "linear", "linear_onnx", "cubic", "bilinear_pillow", "bicubic_pillow"),
    shape_calculation_mode=enum("sizes", "scales"),
    coordinate_transformation_mode=enum(
        "half_pixel",
        "pytorch_half_pixel",
        "asymmetric",
        "tf_half_pixel_for_nn",
        "align_corners",
        default="half_pixel",
    ),
    nearest_mode=enum(
        "round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple", default="round_prefer_floor"
    ),
    antialias=bool_(False),
    pads_begin=ints(()),
    pads_end=ints(()),
    cube_coeff=float_(-0.75),
)


def _depth_to_space(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, block = inputs[0], attrs["block_size"]
    want_least_rank(data, "the data", 3)
    if data.shape is None:
        return Output(data.dtype, None)
    cell = block ** (len(data.shape) - 2)
    if isinstance(data.shape[1], int) and data.shape[1] % cell:
        raise BadModel(f"{data.shape[1]} channels cannot be spread over blocks of {cell}")
    return Output(data.dtype, (data.shape[0], data.shape[1] // cell, *(dim * block for dim in data.shape[2:])))


def _space_to_depth(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, block = inputs[0], attrs["block_size"]
    want_least_rank(data, "the data", 3)
    if data.shape is None:
        return Output(data.dtype, None)
    if any(isinstance(dim, int) and dim % block for dim in data.shape[2:]):
        raise BadModel(f"data of shape {text(data.shape)} cannot be cut into blocks of {block}")
    cell = block ** (len(data.shape) - 2)
    return Output(data.dtype, (data.shape[0], data.shape[1] * cell, *(dim // block for dim in data.shape[2:])))


BLOCK_MODE = enum("blocks_first", "depth_first")
depth_to_space = define("DepthToSpace", 1, "data", _depth_to_space, block_size=int_(), mode=BLOCK_MODE)
space_to_depth = define("SpaceToDepth", 1, "data", _space_to_depth, block_size=int_(), mode=BLOCK_MODE)
