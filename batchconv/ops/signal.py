"""Fourier transforms (specification: signals)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchconv.errors import BadModel
from batchconv.graph import Attr, Output, Value
from batchconv.ops.checks import axes_of, same_type, want_dim, want_integers, want_least_rank, want_rank, want_reals
from batchconv.ops.values import as_dim, items_of
from batchconv.opset import bool_, define
from batchconv.shape import ANY, Dim, Interval, interval

__all__ = [
    "dft", "idft", "irdft", "rdft", "stft",
]  # fmt: skip


def _sizes(inputs: Sequence[Value], rank: int) -> dict[int, Dim | None] | None:
    """Axis -> the signal size asked for (None: as the data has it); None if the axes are unknown."""
    axes = axes_of(inputs[1], rank)
    if axes is None:
        return None
    if len(inputs) < 3:
        return dict.fromkeys(axes)
    want_integers(inputs[2], "signal_size")
    items = items_of(inputs[2]) or (ANY,) * len(axes)
    if len(items) != len(axes):
        raise BadModel(f"{len(items)} signal sizes for {len(axes)} axes")
    return {axis: None if item == -1 else as_dim(item) for axis, item in zip(axes, items, strict=True)}


def _complex(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data = inputs[0]
    want_reals(data)
    want_least_rank(data, "the data", 2)
    if data.shape is None:
        return Output(data.dtype, None)
    want_dim(data.shape, -1, 2, "the last dimension must hold real and imaginary parts")
    dims = list(data.shape)
    sizes = _sizes(inputs, len(dims) - 1)
    if sizes is None:
        return Output(data.dtype, (ANY,) * (len(dims) - 1) + (2,) if len(inputs) > 2 else data.shape)
    for axis, size in sizes.items():
        dims[axis] = dims[axis] if size is None else size
    return Output(data.dtype, tuple(dims))


def _half(dim: Dim) -> Dim:
    return dim // 2 + 1


def _real(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data = inputs[0]
    want_reals(data)
    if data.shape is None:
        return Output(data.dtype, None)
    dims = list(data.shape)
    sizes = _sizes(inputs, len(dims))
    if sizes is None:
        return Output(data.dtype, (ANY,) * len(dims) + (2,))
    for axis, size in sizes.items():
        dims[axis] = dims[axis] if size is None else size
    if sizes:
        dims[list(sizes)[-1]] = _half(dims[list(sizes)[-1]])
    return Output(data.dtype, (*dims, 2))


def _to_real(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data = inputs[0]
    want_reals(data)
    want_least_rank(data, "the data", 2)
    if data.shape is None:
        return Output(data.dtype, None)
    dims = list(data.shape[:-1])
    sizes = _sizes(inputs, len(dims))
    if sizes is None:
        return Output(data.dtype, (ANY,) * len(dims))
    for axis, size in sizes.items():
        whole = (dims[axis] + -1) * 2 if axis == list(sizes)[-1] else dims[axis]
        dims[axis] = whole if size is None else size
    return Output(data.dtype, tuple(dims))


dft = define("DFT", 7, "data axes signal_size?", _complex)
idft = define("IDFT", 7, "data axes signal_size?", _complex)
rdft = define("RDFT", 9, "data axes signal_size?", _real)
irdft = define("IRDFT", 9, "data axes signal_size?", _to_real)


def _stft(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, window, size, step = inputs
    dtype = same_type(inputs[:2])
    want_rank(data, "the signal", 1, 2)
    want_rank(window, "the window", 1)
    frame, hop = (as_dim((items_of(value) or (ANY,))[0]) for value in (size, step))
    if data.shape is None:
        return Output(dtype, None)
    frames: Dim = ANY
    if isinstance(frame, int) and isinstance(hop, int) and hop > 0:
        frames = (data.shape[-1] + -frame) // hop + 1
    bins = interval(1, None) if isinstance(frame, Interval) else _half(frame)
    pair = (bins, frames) if attrs["transpose_frames"] else (frames, bins)
    return Output(dtype, (*data.shape[:-1], *pair, 2))


stft = define("STFT", 15, "data window frame_size frame_step", _stft, transpose_frames=bool_())
