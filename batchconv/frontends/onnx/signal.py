"""Signals: windows, and the discrete Fourier transform."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batchconv import ops
from batchconv.errors import Unsupported
from batchconv.frontends.onnx.forms import axis_in, cast, first, i64, known_ints
from batchconv.frontends.onnx.registry import onnx
from batchconv.frontends.onnx.tensors import dtype_of
from batchconv.graph import Value, need_rank
from batchconv.tensor import DType


def cosines(size: Value, periodic: int, code: int, weights: Sequence[float]) -> Value:
    """weights[0] - weights[1] cos(t) + weights[2] cos(2 t) for `size` t from 0 round the circle."""
    f32 = DType.F32
    count = cast(first(size), f32)
    steps = ops.range(ops.const(0.0), count, ops.const(1.0), output_type=f32)
    around = count if periodic else ops.subtract(count, ops.const(1.0))
    turn = ops.divide(ops.multiply(steps, ops.const(2 * np.pi)), around)
    y = ops.subtract(ops.const(weights[0]), ops.multiply(ops.cos(turn), ops.const(weights[1])))
    if len(weights) == 3:
        y = ops.add(y, ops.multiply(ops.cos(ops.multiply(turn, ops.const(2.0))), ops.const(weights[2])))
    return cast(y, dtype_of(code))


@onnx.op("HannWindow")
def hann_window(size: Value, *, output_datatype: int = 1, periodic: int = 1) -> Value:
    return cosines(size, periodic, output_datatype, (0.5, 0.5))


@onnx.op("HammingWindow")
def hamming_window(size: Value, *, output_datatype: int = 1, periodic: int = 1) -> Value:
    return cosines(size, periodic, output_datatype, (25 / 46, 21 / 46))


@onnx.op("BlackmanWindow")
def blackman_window(size: Value, *, output_datatype: int = 1, periodic: int = 1) -> Value:
    return cosines(size, periodic, output_datatype, (0.42, 0.5, 0.08))


@onnx.op("DFT")
def dft(x: Value, length: Value | None = None, *, axis: int = 1, inverse: int = 0, onesided: int = 0) -> Value:
    return _transformed(x, length, axis_in(axis, x), inverse, onesided)


@onnx.op("DFT", since=20)
def dft_along(
    x: Value, length: Value | None = None, axis: Value | None = None, *, inverse: int = 0, onesided: int = 0
) -> Value:
    at = [-2] if axis is None else known_ints(axis)
    if at is None:
        raise Unsupported("an axis that is computed at run time is not supported")
    return _transformed(x, length, axis_in(at[0], x), inverse, onesided)


def _transformed(x: Value, length: Value | None, axis: int, inverse: int, onesided: int) -> Value:
    """The transform of numbers [..., 1] or complex ones [..., 2]."""
    axes, size = i64([axis]), None if length is None else ops.reshape(length, i64([1]), special_zero=False)
    if (x.shape or (2,))[-1] == 1:
        real = ops.squeeze(x, i64([need_rank(x) - 1]))
        if onesided and not inverse:
            return ops.rdft(real, axes, size)
        x = ops.concat(x, ops.multiply(x, ops.const(0.0, x.dtype)), axis=need_rank(x) - 1)
    if inverse:
        return ops.irdft(x, axes, size) if onesided else ops.idft(x, axes, size)
    if onesided:
        raise Unsupported("attribute 'onesided' = 1 is not supported for complex numbers")
    return ops.dft(x, axes, size)
