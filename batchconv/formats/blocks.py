"""Which elements of a weight share a scale, and blocks of it seen as [outer, reduced, inner] in tiles for the cache."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchconv.errors import BadModel
from batchconv.tensor import Array

TILE = 1 << 19
"""Elements that one sweep of numpy calls works on, at most: blocks are swept whole.

Fewer would stay in a nearer cache, but then threads spend more time on handing each other the interpreter.
"""

SHORT = 512
"""Elements of a group up to which its extremes are found faster by columns, with a copy, than one group at a time."""

Tile = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class Groups:
    """Elements along `axes` share a scale; where `size` is given, each run of that many along the one axis does."""

    axes: tuple[int, ...]
    size: int = -1

    def check(self, shape: tuple[int, ...]) -> None:
        """BadModel unless the groups fit a weight of `shape`."""
        if not self.axes or not all(0 <= axis < len(shape) for axis in self.axes):
            raise BadModel(f"axes {list(self.axes)} cannot be reduced in shape {list(shape)}")
        if self.size > 0 and (len(self.axes) != 1 or shape[self.axes[0]] % self.size):
            raise BadModel(f"groups of {self.size} along axes {list(self.axes)} do not fit shape {list(shape)}")

    @property
    def across_rows(self) -> bool:
        """True if a scale depends on all rows."""
        return self.size < 0 and 0 in self.axes

    @property
    def grain(self) -> int:
        """Rows that must stay together."""
        return self.size if self.size > 0 and self.axes == (0,) else 1

    def codes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the codes of a weight of `shape`: [.., groups, size, ..] where there are groups."""
        if self.size < 0:
            return shape
        axis = self.axes[0]
        return (*shape[:axis], shape[axis] // self.size, self.size, *shape[axis + 1 :])

    def scales(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the scales of a weight of `shape`."""
        if self.size < 0:
            return tuple(1 if axis in self.axes else dim for axis, dim in enumerate(shape))
        axis = self.axes[0]
        return (*shape[:axis], shape[axis] // self.size, 1, *shape[axis + 1 :])

    def order(self, rank: int) -> tuple[int, ...] | None:
        """The permutation that makes the reduced axes neighbours, None where they are."""
        first, last = min(self.axes), max(self.axes)
        if last - first + 1 == len(self.axes):
            return None
        return (*(axis for axis in range(rank) if axis not in self.axes), *sorted(self.axes))

    def view(self, block: Array) -> Array:
        """The block as [outer, reduced, inner]; a copy only where the reduced axes are not neighbours."""
        shape = block.shape
        if self.size > 0:
            axis = self.axes[0]
            outer = math.prod(shape[:axis]) * (shape[axis] // self.size)
            return block.reshape(outer, self.size, math.prod(shape[axis + 1 :]))
        reduced = math.prod(shape[axis] for axis in self.axes)
        order = self.order(len(shape))
        if order is not None:
            return block.transpose(order).reshape(-1, reduced, 1)
        first, last = min(self.axes), max(self.axes)
        return block.reshape(math.prod(shape[:first]), reduced, math.prod(shape[last + 1 :]))

    def restore(self, codes: Array, shape: tuple[int, ...]) -> Array:
        """What `view` shaped as [outer, reduced, inner], in the shape of the codes of a block of `shape`."""
        order = self.order(len(shape)) if self.size < 0 else None
        if order is None:
            return codes.reshape(self.codes(shape))
        inverse = sorted(range(len(order)), key=order.__getitem__)
        return np.ascontiguousarray(codes.reshape([shape[axis] for axis in order]).transpose(inverse))


def tiles(shape: tuple[int, ...], whole: bool) -> Iterator[Tile]:
    """Boxes of about TILE elements that cover [outer, reduced, inner]; `whole`: no box cuts the reduced axis."""
    outer, reduced, inner = shape
    across = min(inner, max(64, TILE // reduced)) if whole else min(inner, TILE)
    down = reduced if whole else max(1, min(reduced, TILE // max(across, 1)))
    deep = max(1, TILE // max(across * down, 1)) if across == inner and down == reduced else 1
    for a in range(0, outer, deep):
        for r in range(0, reduced, max(down, 1)):
            for b in range(0, inner, max(across, 1)):
                yield slice(a, a + deep), slice(r, r + down), slice(b, b + across)


_LOCAL = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
    """An array of this thread under that name, kept between calls; what it holds is not defined."""
    size = math.prod(shape)
    kept = getattr(_LOCAL, name, None)
    if kept is None or kept.size < size:
        kept = np.empty(size, dtype)
        setattr(_LOCAL, name, kept)
    return kept[:size].reshape(shape)


def single(tile: Array, name: str = "single") -> Array:
    """The tile as float32: itself, or a copy in scratch."""
    if tile.dtype == np.float32:
        return tile
    out = scratch(name, tile.shape)
    with np.errstate(over="ignore"):
        np.copyto(out, tile, casting="unsafe")
    return out


def extremes(tile: Array) -> tuple[Array, Array]:
    """Least and greatest element along the middle axis, as float32 [outer, 1, inner]; NaN is passed over."""
    if tile.dtype != np.float32:
        tile = single(tile)
    if tile.shape[2] == 1:
        low, high = _flat_extremes(tile[:, :, 0])
        return low[:, None, None], high[:, None, None]
    return np.fmin.reduce(tile, axis=1, keepdims=True), np.fmax.reduce(tile, axis=1, keepdims=True)


def _flat_extremes(flat: Array) -> tuple[Array, Array]:
    """Least and greatest of each row: of short ones by columns of four elements, which are moved as one."""
    size = flat.shape[1]
    if size > SHORT or size % 4 or not flat.flags.c_contiguous:
        return np.fmin.reduce(flat, axis=1), np.fmax.reduce(flat, axis=1)
    columns = scratch("columns", (size // 4, len(flat) * 4))
    np.copyto(columns.view(np.complex128), flat.view(np.complex128).T)
    low, high = (each.reduce(columns, axis=0).reshape(-1, 4) for each in (np.fmin, np.fmax))
    return (
        np.fmin(np.fmin(low[:, 0], low[:, 1]), np.fmin(low[:, 2], low[:, 3])),
        np.fmax(np.fmax(high[:, 0], high[:, 1]), np.fmax(high[:, 2], high[:, 3])),
    )


CHUNK = 4096
"""Elements that BLAS is given at a time: it starts threads of its own for more than 10,000."""


def dot(a: Array, b: Array) -> float:
    """Sum of the products of all elements: of CHUNK in float32, of their sums in float64."""
    if not (a.flags.c_contiguous and b.flags.c_contiguous):
        return float(np.einsum("arb,arb->", a, b))
    a, b = a.reshape(-1), b.reshape(-1)
    whole = a.size // CHUNK * CHUNK
    sums = np.matmul(a[:whole].reshape(-1, 1, CHUNK), b[:whole].reshape(-1, CHUNK, 1))
    return float(sums.sum(dtype=np.float64)) + float(np.dot(a[whole:], b[whole:]))


def dots(a: Array, b: Array) -> Array:
    """Sums of products along the middle axis, [outer, 1, inner]."""
    if a.shape[2] == 1:
        summed: Array = np.einsum("ar,ar->a", a[:, :, 0], b[:, :, 0])[:, None, None]
    else:
        summed = np.einsum("arb,arb->ab", a, b)[:, None, :]
    return summed
