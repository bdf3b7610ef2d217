"""Dimensions known, bounded or free, and the arithmetic on them.

A dimension is an int when it is known and an `Interval` when it is not; a shape is a tuple of dimensions, or
None where not even the rank is known (OpenVINO: `ov::Dimension`, `ov::PartialShape`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from batchconv.errors import BadModel


@dataclass(frozen=True, slots=True)
class Interval:
    """An integer that is only known to lie between `lo` and `hi` (both included; `hi` None: no upper bound).

    symbol: the same number on two dimensions says that they are equal whatever they are; 0 says nothing.
    """

    lo: int = 0
    hi: int | None = None
    symbol: int = field(default=0, compare=False)

    def __str__(self) -> str:
        if self.lo == 0 and self.hi is None:
            return "?"
        return f"{self.lo or ''}..{'' if self.hi is None else self.hi}"

    def __add__(self, other: Dim) -> Dim:
        if other == 0:
            return self
        b = bounds(other)
        return interval(self.lo + b.lo, None if self.hi is None or b.hi is None else self.hi + b.hi)

    __radd__ = __add__

    def __mul__(self, other: Dim) -> Dim:
        if other in (0, 1):
            return self if other else 0
        b = bounds(other)
        return interval(self.lo * b.lo, None if self.hi is None or b.hi is None else self.hi * b.hi)

    __rmul__ = __mul__

    def __sub__(self, other: Dim) -> Dim:
        if other == 0:
            return self
        b = bounds(other)
        return interval(self.lo - b.hi if b.hi is not None else 0, None if self.hi is None else self.hi - b.lo)

    def __rsub__(self, other: int) -> Dim:
        return interval(other - self.hi if self.hi is not None else 0, other - self.lo)

    def __floordiv__(self, other: Dim) -> Dim:
        b = bounds(other)
        if other == 1 or b.lo <= 0:
            return self if other == 1 else ANY
        return interval(0 if b.hi is None else self.lo // b.hi, None if self.hi is None else self.hi // b.lo)


Dim = int | Interval
Shape = tuple[Dim, ...] | None
ANY = Interval()


def interval(lo: int, hi: int | None) -> Dim:
    """The dimension between `lo` and `hi`; negative bounds are raised to 0, equal ones give an int."""
    lo = max(lo, 0)
    if hi is None:
        return Interval(lo)
    return lo if hi <= lo else Interval(lo, hi)


_symbols = itertools.count(1)


def tagged(shape: Shape) -> Shape:
    """`shape` with a symbol of its own on every dimension that is not known and has none."""
    if shape is None or all(isinstance(dim, int) or dim.symbol for dim in shape):
        return shape
    return tuple(d if isinstance(d, int) or d.symbol else replace(d, symbol=next(_symbols)) for d in shape)


def same(a: Dim, b: Dim) -> bool:
    """True if the two are certainly equal."""
    if isinstance(a, int) or isinstance(b, int):
        return a == b
    return a.symbol == b.symbol != 0


def bounds(dim: Dim) -> Interval:
    """`dim` as an Interval (an int becomes a point)."""
    return dim if isinstance(dim, Interval) else Interval(dim, dim)


def ceil_div(dim: Dim, by: int) -> Dim:
    """`dim` / `by` rounded up."""
    if isinstance(dim, int):
        return -(-dim // by)
    return interval(-(-dim.lo // by), None if dim.hi is None else -(-dim.hi // by))


def is_static(shape: Shape) -> bool:
    return shape is not None and all(isinstance(dim, int) for dim in shape)


def static(shape: Shape) -> tuple[int, ...]:
    """`shape` with every dimension an int; BadModel if one is not known."""
    if shape is None or not is_static(shape):
        raise BadModel(f"shape {text(shape)} must be known here")
    return tuple(dim for dim in shape if isinstance(dim, int))


def product(dims: Iterable[Dim]) -> Dim:
    result: Dim = 1
    for dim in dims:
        result = result * dim
    return result


def merge_dim(a: Dim, b: Dim) -> Dim:
    """What is known of a dimension that is both `a` and `b`; BadModel if it cannot be both."""
    if a == b:
        return b if isinstance(a, Interval) and not a.symbol else a
    x, y = bounds(a), bounds(b)
    lo = max(x.lo, y.lo)
    his = [h for h in (x.hi, y.hi) if h is not None]
    if his and min(his) < lo:
        raise BadModel(f"dimensions {a} and {b} do not agree")
    both = interval(lo, min(his) if his else None)
    return a if both == a else b if both == b else both


def merge(a: Shape, b: Shape) -> Shape:
    """What is known of a shape that is both `a` and `b`."""
    if a is None or b is None:
        return b if a is None else a
    if len(a) != len(b):
        raise BadModel(f"shapes {text(a)} and {text(b)} do not agree")
    return tuple(merge_dim(x, y) for x, y in zip(a, b, strict=True))


def broadcast_dim(a: Dim, b: Dim) -> Dim:
    """Numpy's rule for one dimension: equal, or one of them 1."""
    if a == 1:
        return b
    if b == 1 or same(a, b):
        return a
    if isinstance(a, int) and isinstance(b, int):
        raise BadModel(f"dimensions {a} and {b} cannot be broadcast")
    if isinstance(a, int) or isinstance(b, int):
        return a if isinstance(a, int) else b
    x, y = bounds(a), bounds(b)
    if x.lo > 1:
        return a if y.lo <= 1 else merge_dim(a, b)
    if y.lo > 1:
        return b
    return interval(
        min(x.lo, y.lo) if 0 in (x.lo, y.lo) else max(x.lo, y.lo),
        None if x.hi is None or y.hi is None else max(x.hi, y.hi),
    )


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape of an elementwise operation with numpy broadcasting; None if a rank is unknown."""
    if a is None or b is None:
        return None
    rank = max(len(a), len(b))
    x, y = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    return tuple(broadcast_dim(p, q) for p, q in zip(x, y, strict=True))


def axis_of(axis: int, rank: int) -> int:
    """`axis` counted from 0; BadModel outside -rank..rank-1."""
    if not -max(rank, 1) <= axis < max(rank, 1):
        raise BadModel(f"axis {axis} is outside a tensor of rank {rank}")
    return axis % max(rank, 1)


def text(shape: Sequence[Dim] | None) -> str:
    """`[1,3,?,8..16]`; `...` where the rank is unknown (the syntax of `--input`)."""
    return "[...]" if shape is None else "[" + ",".join(str(dim) for dim in shape) + "]"
