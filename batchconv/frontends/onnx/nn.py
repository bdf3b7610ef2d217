"""Convolutions, pooling, matrix products (ONNX operators Conv ... Gemm)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from batchconv import ops
from batchconv.errors import BadModel, Unsupported
from batchconv.frontends.binding import taking
from batchconv.frontends.onnx.forms import cast, i64, like, per_channel, reshape, spatial_axes
from batchconv.frontends.onnx.registry import onnx
from batchconv.graph import Value, need_rank, need_shape
from batchconv.shape import is_static, static
from batchconv.tensor import DType

Ints = Sequence[int] | None
_AUTO_PAD = {"NOTSET": "explicit", "SAME_UPPER": "same_upper", "SAME_LOWER": "same_lower", "VALID": "valid"}


def window(count: int, auto_pad: str, dilations: Ints, pads: Ints, strides: Ints) -> dict[str, Any]:
    """Attributes of a convolution or pooling over `count` axes, from ONNX's."""
    if auto_pad not in _AUTO_PAD:
        raise BadModel(f"attribute 'auto_pad' = {auto_pad!r} is not one of {', '.join(_AUTO_PAD)}")
    pads = tuple(pads or (0,) * (2 * count)) if auto_pad == "NOTSET" else (0,) * (2 * count)
    given = {"strides": tuple(strides or (1,) * count), "dilations": tuple(dilations or (1,) * count)}
    for name, values, wanted in [(n, v, count) for n, v in given.items()] + [("pads", pads, 2 * count)]:
        if len(values) != wanted:
            raise BadModel(f"attribute '{name}' = {list(values)} must have {wanted} elements")
    ends = {"pads_begin": pads[:count], "pads_end": pads[count:], "auto_pad": _AUTO_PAD[auto_pad]}
    return {**given, **ends}


def spatial(x: Value, w: Value, kernel_shape: Ints) -> int:
    """How many axes a kernel moves over; BadModel if `kernel_shape` is not that of the weights."""
    rank = x.rank or need_rank(w, "the weights")
    if w.shape is not None and kernel_shape and tuple(kernel_shape) != w.shape[2:] and w.is_static:
        raise BadModel(f"attribute 'kernel_shape' = {list(kernel_shape)} is not that of weights {list(w.shape)}")
    if w.rank is not None and w.rank != rank:
        raise BadModel(f"data of rank {rank} and weights of rank {w.rank} do not fit together")
    return rank - 2


def grouped(w: Value, group: int) -> Value:
    """Weights [a, b, k...] as [group, a / group, b, k...]."""
    shape = need_shape(w)
    if group < 1 or not shape or shape[0] % group:
        raise BadModel(f"attribute 'group' = {group} does not divide weights {list(shape)}")
    return reshape(w, group, shape[0] // group, *shape[1:])


def biased(y: Value, b: Value | None, rank: int) -> Value:
    return y if b is None else ops.add(y, per_channel(b, rank))


@onnx.op("Conv")
def conv(
    x: Value,
    w: Value,
    b: Value | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> Value:
    count = spatial(x, w, kernel_shape)
    attrs = window(count, auto_pad, dilations, pads, strides)
    y = ops.convolution(x, w, **attrs) if group == 1 else ops.group_convolution(x, grouped(w, group), **attrs)
    return biased(y, b, count + 2)


@onnx.op("ConvTranspose")
def conv_transpose(
    x: Value,
    w: Value,
    b: Value | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    output_padding: Ints = None,
    output_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> Value:
    count = spatial(x, w, kernel_shape)
    attrs = window(count, auto_pad, dilations, pads, strides)
    attrs["output_padding"] = tuple(output_padding or (0,) * count)
    for name, values, fits in (
        ("output_padding", output_padding, (count,)),
        ("output_shape", output_shape, (count, count + 2)),
    ):
        if values and len(values) not in fits:
            raise BadModel(f"attribute '{name}' = {list(values)} must have {count} elements")
    size = None
    if output_shape and not is_static((x.shape or (None,))[2:]):
        size = i64(list(output_shape[-count:]))
        # measured: with an output shape, OpenVINO's same_upper puts the larger half in front
        attrs |= {"auto_pad": "same_lower" if auto_pad == "SAME_UPPER" else "same_upper"}
    elif output_shape or auto_pad.startswith("SAME"):
        attrs |= _pads_for(x, w, attrs, output_shape, auto_pad == "SAME_UPPER")
    if group == 1:
        y = ops.convolution_backprop_data(x, w, size, **attrs)
    else:
        y = ops.group_convolution_backprop_data(x, grouped(w, group), size, **attrs)
    return biased(y, b, count + 2)


def _pads_for(x: Value, w: Value, attrs: dict[str, Any], wanted: Ints, upper: bool) -> dict[str, Any]:
    """Explicit pads that give the wanted output (default: input times stride), by ONNX's formula for ConvTranspose."""
    kernel, strides, extra = need_shape(w)[2:], attrs["strides"], list(attrs["output_padding"])
    sizes = static((x.shape or ())[2:]) if wanted else (1,) * len(kernel)  # an input times stride: pads of any size
    wanted = (wanted or strides)[-len(kernel) :]
    begin, end = [], []
    for at, (size, stride, k, dilation, out) in enumerate(zip(sizes, strides, kernel, attrs["dilations"], wanted)):
        total = stride * (size - 1) + extra[at] + (k - 1) * dilation + 1 - out
        if total < 0:
            extra[at], total = extra[at] - total, 0
        half = total // 2 if upper else total - total // 2
        begin.append(half)
        end.append(total - half)
    return {"pads_begin": begin, "pads_end": end, "output_padding": extra, "auto_pad": "explicit"}


@onnx.op("MaxPool")
def max_pool(
    x: Value,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints = None,
    kernel_shape: Ints,
    pads: Ints = None,
    storage_order: int = 0,
    strides: Ints = None,
    _node: Any,
) -> tuple[Value, ...]:
    if storage_order and len(_node.outputs) > 1:
        raise Unsupported("attribute 'storage_order' = 1 is not supported")
    kernel = tuple(kernel_shape or ())
    attrs = window(len(kernel), auto_pad, dilations, pads, strides)
    attrs["rounding_type"] = "ceil_torch" if ceil_mode else "floor"
    return ops.max_pool.op(x, kernel=kernel, index_element_type=DType.I64, axis=0, **attrs).values()


@onnx.op("AveragePool")
def average_pool(
    x: Value,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Ints = None,
    kernel_shape: Ints,
    pads: Ints = None,
    strides: Ints = None,
) -> Value:
    kernel = tuple(kernel_shape or ())
    attrs = _undilated(window(len(kernel), auto_pad, dilations, pads, strides))
    if ceil_mode and count_include_pad and _beyond(kernel, attrs):
        bare = _undilated(window(len(kernel), "NOTSET", None, None, strides))
        return ops.avg_pool(
            _padded_before(x, kernel, attrs), kernel=kernel, rounding_type="ceil", exclude_pad=True, **bare
        )
    rounding = "ceil_torch" if ceil_mode else "floor"
    return ops.avg_pool(x, kernel=kernel, rounding_type=rounding, exclude_pad=not count_include_pad, **attrs)


def _undilated(attrs: dict[str, Any]) -> dict[str, Any]:
    if any(dilation != 1 for dilation in attrs["dilations"]):
        raise Unsupported("attribute 'dilations' other than 1 is not supported")
    return {name: value for name, value in attrs.items() if name != "dilations"}


def _beyond(kernel: tuple[int, ...], attrs: dict[str, Any]) -> bool:
    """True if there is padding, and rounded up, a window may reach beyond what lies behind an axis."""
    ends = zip(kernel, attrs["strides"], attrs["pads_end"])
    padded = any((*attrs["pads_begin"], *attrs["pads_end"]))
    return padded and any(step > 1 and k > end + 1 for k, step, end in ends)


def _padded_before(x: Value, kernel: tuple[int, ...], attrs: dict[str, Any]) -> Value:
    """`x` with the zeros around it that the mean of a window counts; behind no more than some window reaches.

    OpenVINO's AvgPool divides a window that reaches beyond the padding by the whole kernel (measured).
    """
    begin, end = attrs["pads_begin"], list(attrs["pads_end"])
    sizes = x.shape[2:] if x.shape is not None else (None,) * len(kernel)
    for axis, (size, k, step) in enumerate(zip(sizes, kernel, attrs["strides"])):
        if isinstance(size, int):
            last = -(-(size + begin[axis] + end[axis] - k) // step) * step
            last -= step if last >= size + begin[axis] else 0
            end[axis] = min(end[axis], last + k - size - begin[axis])
        elif k < end[axis] + step:
            raise Unsupported("the mean of windows that may start in the padding takes a known height and width")
    return ops.pad(x, i64([0, 0, *begin]), i64([0, 0, *end]), like(0, x), pad_mode="constant")


@onnx.op("LpPool")
def lp_pool(
    x: Value,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints = None,
    kernel_shape: Ints,
    p: float = 2,
    pads: Ints = None,
    strides: Ints = None,
) -> Value:
    kernel = tuple(kernel_shape or ())
    attrs = _undilated(window(len(kernel), auto_pad, dilations, pads, strides))
    rounding = "ceil_torch" if ceil_mode else "floor"
    powers = ops.power(ops.abs(x), like(p, x))
    mean = ops.avg_pool(powers, kernel=kernel, rounding_type=rounding, exclude_pad=False, **attrs)
    return ops.power(ops.multiply(mean, like(math.prod(kernel), x)), like(_root(p), x))


def _root(p: float) -> float:
    if not p > 0:
        raise BadModel(f"attribute 'p' = {p} must be above 0")
    return 1 / p


@onnx.op("GlobalAveragePool")
def global_average_pool(x: Value) -> Value:
    return ops.reduce_mean(x, spatial_axes(x), keep_dims=True)


@onnx.op("GlobalMaxPool")
def global_max_pool(x: Value) -> Value:
    return ops.reduce_max(x, spatial_axes(x), keep_dims=True)


@onnx.op("GlobalLpPool")
def global_lp_pool(x: Value, *, p: float = 2) -> Value:
    total = ops.reduce_sum(ops.power(ops.abs(x), like(p, x)), spatial_axes(x), keep_dims=True)
    return ops.power(total, like(_root(p), x))


@onnx.op("MatMul")
def matmul(a: Value, b: Value) -> Value:
    return ops.matmul(a, b)


@onnx.op("Gemm")
def gemm(
    a: Value,
    b: Value,
    c: Value | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    broadcast: int = 0,
) -> Value:
    y = ops.matmul(a, b, transpose_a=bool(transA), transpose_b=bool(transB))
    if alpha != 1:
        y = ops.multiply(y, like(alpha, y))
    if c is None or beta == 0:
        return y
    return ops.add(y, c if beta == 1 else ops.multiply(c, like(beta, c)))


@onnx.op("ConvInteger")
@taking(conv)
def conv_integer(
    x: Value, w: Value, x_zero: Value | None = None, w_zero: Value | None = None, **attributes: Any
) -> Value:
    x32 = centred(x, x_zero, 0)
    w32 = centred(w, None if w_zero is None else per_channel(w_zero, need_rank(w), 0), 0)
    return cast(conv(x32, w32, **attributes), DType.I32)


@onnx.op("MatMulInteger")
def matmul_integer(a: Value, b: Value, a_zero: Value | None = None, b_zero: Value | None = None) -> Value:
    if a_zero is not None and a_zero.rank == 1 and a_zero.shape != (1,):
        a_zero = ops.unsqueeze(a_zero, i64([1]))
    return cast(ops.matmul(centred(a, a_zero, 0), centred(b, b_zero, 0)), DType.I32)


def centred(x: Value, zero: Value | None, axis: int) -> Value:
    """Quantised numbers less their zero point, as f32 (exact: they have 8 bits)."""
    real = cast(x, DType.F32)
    return real if zero is None else ops.subtract(real, cast(zero, DType.F32))


@onnx.op("Einsum")
def einsum(*operands: Value, equation: str) -> Value:
    return ops.einsum(*operands, equation=equation.replace(" ", ""))
