"""Resize and Upsample, and what samples an image at given places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from batchconv import ops
from batchconv.errors import BadModel, Unsupported
from batchconv.frontends.onnx.forms import axis_in, cast, dims, i64, known_ints
from batchconv.frontends.onnx.registry import onnx
from batchconv.graph import Value, need_rank
from batchconv.shape import Interval

_COORDINATES = {
    "half_pixel": "half_pixel",
    "pytorch_half_pixel": "pytorch_half_pixel",
    "asymmetric": "asymmetric",
    "tf_half_pixel_for_nn": "tf_half_pixel_for_nn",
    "align_corners": "align_corners",
}
_MODES = {"nearest": "nearest", "linear": "linear_onnx", "bilinear": "linear_onnx", "cubic": "cubic"}


def interpolate(x: Value, scales: Value | None, sizes: Value | None, mode: str, **attrs: Any) -> Value:
    """`x` resized on the axes that change, by one factor or to one size an axis of `x`."""
    if mode not in _MODES:
        raise BadModel(f"attribute 'mode' = {mode!r} is not one of {', '.join(_MODES)}")
    axes = changed(x, scales, sizes)
    if not axes:
        return x
    target = sizes if sizes is not None else scales
    assert target is not None
    array = target.array
    wanted = ops.gather(target, i64(axes), i64(0)) if array is None else ops.const(array[axes], target.dtype)
    kind = _MODES[mode] if mode != "linear" or len(axes) <= 3 else "linear"
    calculation = "scales" if sizes is None else "sizes"
    return ops.interpolate(x, wanted, i64(axes), mode=kind, shape_calculation_mode=calculation, **attrs)


def changed(x: Value, scales: Value | None, sizes: Value | None) -> list[int]:
    """The axes whose factor is not known to be 1."""
    factors = None if scales is None else scales.array
    lengths = known_ints(sizes)
    for given in (value.shape for value in (scales, sizes) if value is not None):
        if given not in (None, (x.rank,)) and not isinstance(given[0] if given else 0, Interval):
            raise BadModel(f"scales or sizes of shape {list(given)} for data of rank {need_rank(x)}")
    axes = []
    for axis in range(need_rank(x)):
        if factors is not None and sizes is None and factors[axis] == 1:
            continue
        if lengths is not None and x.shape is not None and x.shape[axis] == lengths[axis]:
            continue
        axes.append(axis)
    return axes


def simple(x: Value, scales: Value, mode: str) -> Value:
    """What Upsample and the first Resize do: corners at corners, nearest downwards."""
    return interpolate(x, scales, None, mode, coordinate_transformation_mode="asymmetric", nearest_mode="simple")


@onnx.op("Upsample")
def upsample_height_width(
    x: Value, *, height_scale: float = 1.0, width_scale: float = 1.0, mode: str = "nearest"
) -> Value:
    return upsample_scales(x, scales=(1.0, 1.0, height_scale, width_scale), mode=mode)


@onnx.op("Upsample", since=7)
def upsample_scales(x: Value, *, scales: Sequence[float], mode: str = "nearest") -> Value:
    return simple(x, ops.const(np.array(scales, np.float32)), mode)


@onnx.op("Upsample", since=9)
@onnx.op("Resize", since=10)
def upsample(x: Value, scales: Value, *, mode: str = "nearest") -> Value:
    return simple(x, scales, mode)


@onnx.op("Resize", since=11)
def resize(
    x: Value,
    roi: Value | None = None,
    scales: Value | None = None,
    sizes: Value | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Value:
    if coordinate_transformation_mode not in _COORDINATES:
        raise Unsupported(
            f"attribute 'coordinate_transformation_mode' = {coordinate_transformation_mode!r} is not supported"
        )
    if exclude_outside and mode == "cubic":
        raise Unsupported("attribute 'exclude_outside' = 1 is not supported")
    scales, sizes = (None if v is None or v.shape == (0,) else v for v in (scales, sizes))
    if sizes is None and scales is None:
        raise BadModel("neither scales nor sizes are given")
    if keep_aspect_ratio_policy != "stretch" and sizes is not None:
        sizes = _kept_aspect(x, sizes, axes, keep_aspect_ratio_policy)
    return interpolate(
        x,
        _on_all_axes(x, scales, axes, None),
        _on_all_axes(x, sizes, axes, x),
        mode,
        antialias=bool(antialias),
        coordinate_transformation_mode=_COORDINATES[coordinate_transformation_mode],
        cube_coeff=cubic_coeff_a,
        nearest_mode=nearest_mode,
    )


def _on_all_axes(x: Value, value: Value | None, axes: Sequence[int] | None, sizes: Value | None) -> Value | None:
    """Scales (others 1) or sizes (others as they are) of some axes as those of all."""
    if value is None or axes is None:
        return value
    if value.rank not in (1, None):
        raise BadModel(f"scales or sizes of rank {value.rank} must have rank 1")
    places = {axis_in(axis, x): at for at, axis in enumerate(axes)}
    parts = []
    for axis in range(need_rank(x)):
        if axis in places:
            parts.append(ops.slice(value, i64([places[axis]]), i64([places[axis] + 1]), i64([1])))
        else:
            parts.append(ops.const(np.ones(1, np.float32)) if sizes is None else dims(x, axis, axis + 1))
    if all(part.array is not None for part in parts):
        return ops.const(np.concatenate([part.array for part in parts if part.array is not None]), value.dtype)
    return ops.concat(*(cast(part, value.dtype) for part in parts), axis=0)


def _kept_aspect(x: Value, sizes: Value, axes: Sequence[int] | None, policy: str) -> Value:
    """One factor for all axes: the smallest (`not_larger`) or largest (`not_smaller`) that the sizes ask for."""
    wanted = known_ints(sizes)
    places = [axis_in(axis, x) for axis in (range(need_rank(x)) if axes is None else axes)]
    current = [dim for dim in ((x.shape or ())[place] for place in places) if isinstance(dim, int)]
    if wanted is None or len(current) != len(places):
        raise Unsupported(f"attribute 'keep_aspect_ratio_policy' = {policy!r} needs static shapes")
    factors = [new / old for new, old in zip(wanted, current)]
    factor = min(factors) if policy == "not_larger" else max(factors)
    return i64([int(np.floor(old * factor + 0.5)) for old in current])


@onnx.op("GridSample")
def grid_sample(
    x: Value, grid: Value, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Value:
    names = {
        "linear": "bilinear",
        "cubic": "bicubic",
        "bilinear": "bilinear",
        "bicubic": "bicubic",
        "nearest": "nearest",
    }
    if mode not in names:
        raise BadModel(f"attribute 'mode' = {mode!r} is not one of {', '.join(names)}")
    if x.rank not in (4, None):
        raise Unsupported(f"data of rank {x.rank} is not supported")
    return ops.grid_sample(x, grid, align_corners=bool(align_corners), mode=names[mode], padding_mode=padding_mode)
