"""Quantisation: QuantizeLinear as FakeQuantize and Convert, DequantizeLinear as Convert, Subtract, Multiply."""

from __future__ import annotations

from typing import Any

from batchconv import ops
from batchconv.errors import Unsupported
from batchconv.frontends.binding import taking
from batchconv.frontends.onnx.forms import axis_in, cast, i64, like, per_channel, reshape
from batchconv.frontends.onnx.nn import biased, conv
from batchconv.frontends.onnx.registry import onnx
from batchconv.frontends.onnx.tensors import dtype_of
from batchconv.graph import Value, need_rank, need_shape
from batchconv.tensor import DType

F32 = DType.F32


def along(value: Value, x: Value, axis: int, block: int = 0) -> Value:
    """A scale or zero point so that it broadcasts over `x`: one number, one a slice of `axis`, or one a block."""
    if value.shape in ((), (1,)):
        return reshape(value)
    if block:
        return _repeated(value, axis_in(axis, x), block, need_shape(x))
    return per_channel(value, need_rank(x), axis_in(axis, x)) if value.rank == 1 else value


def _repeated(value: Value, axis: int, block: int, shape: tuple[int, ...]) -> Value:
    """Each element of `value` as often along `axis` as a block has elements."""
    sizes = list(need_shape(value))
    wide = ops.broadcast(ops.unsqueeze(value, i64([axis + 1])), i64([*sizes[: axis + 1], block, *sizes[axis + 1 :]]))
    sizes[axis] *= block
    whole = reshape(wide, *sizes)
    if sizes[axis] == shape[axis]:
        return whole
    return ops.slice(whole, i64([0]), i64([shape[axis]]), i64([1]), i64([axis]))


def span(dtype: DType) -> tuple[int, int]:
    """Lowest and highest number of an integer type."""
    signed = dtype.name[0] == "I"
    return (-(1 << dtype.bits - 1), (1 << dtype.bits - 1) - 1) if signed else (0, (1 << dtype.bits) - 1)


def quantized(x: Value, scale: Value, zero: Value | None, dtype: DType) -> Value:
    """Numbers of `dtype` nearest to x / scale + zero; scale and zero broadcast over `x`."""
    scale = cast(scale, x.dtype)
    if dtype.is_real:
        return cast(ops.divide(x, scale), dtype)
    if dtype.bits > 16:
        raise Unsupported(f"quantisation to {dtype.ir} is not supported")
    low, high = span(dtype)
    ends = [
        ops.multiply(scale, like(end, x) if zero is None else ops.subtract(like(end, x), cast(zero, x.dtype)))
        for end in (low, high)
    ]
    y = ops.fake_quantize(x, *ends, like(low, x), like(high, x), levels=high - low + 1)
    return cast(y, dtype)


@onnx.op("QuantizeLinear")
def quantize_linear(
    x: Value,
    scale: Value,
    zero: Value | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Value:
    dtype = zero.dtype if zero is not None else dtype_of(output_dtype) if output_dtype else DType.U8
    real = x if x.dtype.is_real else cast(x, scale.dtype)
    spread = None if zero is None else along(zero, x, axis, block_size)
    return quantized(real, along(scale, x, axis, block_size), spread, dtype)


@onnx.op("DequantizeLinear")
def dequantize_linear(
    x: Value,
    scale: Value,
    zero: Value | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Value:
    y = cast(x, scale.dtype)
    if zero is not None:
        y = ops.subtract(y, cast(along(zero, x, axis, block_size), scale.dtype))
    y = ops.multiply(y, along(scale, x, axis, block_size))
    return cast(y, dtype_of(output_dtype)) if output_dtype else y


@onnx.op("DynamicQuantizeLinear")
def dynamic_quantize_linear(x: Value) -> tuple[Value, ...]:
    axes, zero = i64(list(range(need_rank(x)))), like(0, x)
    low = ops.minimum(ops.reduce_min(x, axes, keep_dims=False), zero)
    high = ops.maximum(ops.reduce_max(x, axes, keep_dims=False), zero)
    scale = ops.divide(ops.subtract(high, low), like(255, x))
    shift = ops.clamp(ops.round(ops.divide(ops.negative(low), scale)), min=0.0, max=255.0)
    y = ops.clamp(ops.add(ops.round(ops.divide(x, scale)), shift), min=0.0, max=255.0)
    return cast(y, DType.U8), scale, cast(shift, DType.U8)


@onnx.op("QLinearMatMul")
@onnx.op("QLinearMatMul", domain="com.microsoft")
def qlinear_matmul(
    a: Value, a_scale: Value, a_zero: Value, b: Value, b_scale: Value, b_zero: Value, scale: Value, zero: Value
) -> Value:
    left = dequantize_linear(a, a_scale, a_zero, axis=-2)
    right = dequantize_linear(b, b_scale, b_zero, axis=-1)
    y = ops.matmul(left, right)
    return quantized(y, along(scale, y, -2), along(zero, y, -2), zero.dtype)


@onnx.op("QLinearConv")
@taking(conv)
def qlinear_conv(
    x: Value,
    x_scale: Value,
    x_zero: Value,
    w: Value,
    w_scale: Value,
    w_zero: Value,
    scale: Value,
    zero: Value,
    b: Value | None = None,
    **attributes: Any,
) -> Value:
    real = dequantize_linear(x, x_scale, x_zero)
    y = conv(real, dequantize_linear(w, w_scale, w_zero, axis=0), **attributes)
    if b is not None:
        y = biased(y, ops.multiply(cast(b, F32), ops.multiply(along(x_scale, x, 1), w_scale)), need_rank(x))
    return quantized(y, along(scale, y, 1), along(zero, y, 1), zero.dtype)
