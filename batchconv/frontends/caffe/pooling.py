"""Pooling (BVLC Caffe: pooling_layer): sizes rounded up, and a mean that counts the padding but nothing beyond it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from batchconv import ops
from batchconv.errors import BadModel, Unsupported
from batchconv.frontends.caffe.registry import dims, ints, rank, registry, spatial
from batchconv.frontends.translate import Node
from batchconv.graph import Value
from batchconv.shape import Dim
from batchconv.tensor import DType


@registry.op("Pooling")
def pooling(
    x: Value,
    *,
    pool: str = "MAX",
    kernel_size: int | None = None,
    stride: int | None = None,
    pad: int | None = None,
    kernel_h: int | None = None,
    kernel_w: int | None = None,
    stride_h: int | None = None,
    stride_w: int | None = None,
    pad_h: int | None = None,
    pad_w: int | None = None,
    global_pooling: bool = False,
    round_mode: str = "CEIL",
    ceil_mode: bool = True,
    _node: Node,
) -> Value | tuple[Value, ...]:
    """The largest or the mean of each window."""
    if pool not in ("MAX", "AVE"):
        raise Unsupported(f"pool {pool} is random and cannot be converted")
    if rank(x) != 4:
        raise BadModel(f"pooling takes an input of rank 4, this one has {rank(x)}")
    if global_pooling:
        return (ops.reduce_max if pool == "MAX" else ops.reduce_mean)(x, ints((2, 3)), keep_dims=True)
    window = Window(
        spatial("kernel", 2, _one(kernel_size), kernel_h, kernel_w, None),
        spatial("stride", 2, _one(stride), stride_h, stride_w, 1),
        spatial("pad", 2, _one(pad), pad_h, pad_w, 0),
    )
    window.check(dims(x)[2:])
    up = round_mode == "CEIL" and ceil_mode
    return largest(x, window, up, len(_node.outputs)) if pool == "MAX" else mean(x, window, up)


def _one(value: int | None) -> tuple[int, ...]:
    return () if value is None else (value,)


@dataclass(frozen=True, slots=True)
class Window:
    """What is pooled at a time, by axis: height, width."""

    kernel: list[int]
    strides: list[int]
    pads: list[int]

    def attrs(self) -> dict[str, Any]:
        return {"kernel": self.kernel, "strides": self.strides, "pads_begin": self.pads, "pads_end": self.pads}

    def check(self, sizes: tuple[Dim, ...]) -> None:
        """BadModel unless every window holds at least one element."""
        if min(*self.kernel, *self.strides) < 1 or any(p >= k for p, k in zip(self.pads, self.kernel)):
            raise BadModel(f"kernel {self.kernel}, stride {self.strides} and pad {self.pads} do not fit together")
        for axis, size in enumerate(sizes):
            if (
                isinstance(size, int)
                and not any(self.pads)
                and (self.count(size, axis) - 1) * self.strides[axis] >= size
            ):
                raise BadModel(f"with stride {self.strides} the last window lies outside the input")

    def count(self, size: int, axis: int) -> int:
        """How many positions Caffe gives an axis of `size`: rounded up, but with padding none that starts outside."""
        kernel, stride, pad = self.kernel[axis], self.strides[axis], self.pads[axis]
        count = -(-(size + 2 * pad - kernel) // stride) + 1
        return count - 1 if any(self.pads) and (count - 1) * stride >= size + pad else count

    def reaches(self, size: int, axis: int) -> int:
        """Where the last window ends, counted from the front padding."""
        return (self.count(size, axis) - 1) * self.strides[axis] + self.kernel[axis]

    def inside(self, size: Dim, axis: int) -> bool:
        """True if no window reaches beyond the padding."""
        if self.strides[axis] == 1:
            return True
        return isinstance(size, int) and self.reaches(size, axis) <= size + 2 * self.pads[axis]

    def end(self, size: Dim, axis: int) -> int:
        """How much padding behind the axis makes rounding up give Caffe's count."""
        pad = self.pads[axis]
        if isinstance(size, int):
            return min(pad, self.reaches(size, axis) - size - pad)
        if self.kernel[axis] < pad + self.strides[axis]:
            raise Unsupported("the mean of windows that may start in the padding takes a known height and width")
        return pad


def largest(x: Value, window: Window, up: bool, tops: int) -> tuple[Value, ...]:
    """The largest of each window, and for a second top where in its plane it stands."""
    rounding = "floor" if not up else "ceil_torch" if any(window.pads) else "ceil"
    made = ops.max_pool.op(
        x, **window.attrs(), dilations=(1, 1), rounding_type=rounding, index_element_type=DType.I64, axis=2
    )
    value, where = made.values()
    return (value,) if tops < 2 else (value, ops.convert(where, destination_type=x.dtype))


def mean(x: Value, window: Window, up: bool) -> Value:
    """The mean of each window.

    OpenVINO's AvgPool divides a window that reaches beyond the padding by the whole kernel (measured, for ceil and
    ceil_torch); where one may, the input is padded first, and the window counts what it finds.
    """
    if not any(window.pads):
        return ops.avg_pool(x, **window.attrs(), rounding_type="ceil" if up else "floor", exclude_pad=True)
    sizes = dims(x)[2:]
    if not up or all(window.inside(size, axis) for axis, size in enumerate(sizes)):
        return ops.avg_pool(x, **window.attrs(), rounding_type="floor", exclude_pad=False)
    ends = [window.end(size, axis) for axis, size in enumerate(sizes)]
    padded = ops.pad(x, ints((0, 0, *window.pads)), ints((0, 0, *ends)), ops.const(0.0, x.dtype), pad_mode="constant")
    bare = Window(window.kernel, window.strides, [0, 0])
    return ops.avg_pool(padded, **bare.attrs(), rounding_type="ceil", exclude_pad=True)
