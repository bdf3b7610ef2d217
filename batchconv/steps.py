"""The steps that weights go through between source and `.bin`; each is data and knows its result's shape beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from batchconv.errors import BadModel
from batchconv.shape import broadcast, static
from batchconv.tensor import Array, DType, Region, Spec
from batchconv.weight import Extent, Weight, read, rows_of


@dataclass(frozen=True, slots=True)
class Transpose:
    """Axis i of the result is axis perm[i] of the input (numpy.transpose)."""

    perm: tuple[int, ...]

    def spec(self, spec: Spec) -> Spec:
        if sorted(self.perm) != list(range(len(spec.shape))):
            raise BadModel(f"permutation {list(self.perm)} does not fit shape {list(spec.shape)}")
        return Spec(spec.dtype, tuple(spec.shape[axis] for axis in self.perm))

    def pull(self, region: Region, spec: Spec) -> Region:
        inverse = sorted(range(len(self.perm)), key=self.perm.__getitem__)
        return Region(tuple(region.start[i] for i in inverse), tuple(region.stop[i] for i in inverse))

    def apply(self, block: Array, region: Region, spec: Spec) -> Array:
        return np.asarray(block.transpose(self.perm), order="C")


@dataclass(frozen=True, slots=True)
class Reshape:
    """The same elements in C order, in another static shape."""

    shape: tuple[int, ...]

    def spec(self, spec: Spec) -> Spec:
        if math.prod(self.shape) != spec.size:
            raise BadModel(f"a weight of shape {list(spec.shape)} cannot become {list(self.shape)}")
        return Spec(spec.dtype, self.shape)

    def pull(self, region: Region, spec: Spec) -> Region:
        if not region.size:
            return Region.spanning(spec.shape, 0, 0)
        hull = region.hull(self.shape)
        first = hull.first(self.shape)
        return Region.spanning(spec.shape, first, first + hull.size)

    def apply(self, block: Array, region: Region, spec: Spec) -> Array:
        if not region.size:
            return block.reshape(-1)[:0].reshape(region.shape)
        hull = region.hull(self.shape)
        skip = hull.first(self.shape) - self.pull(region, spec).first(spec.shape)
        return block.reshape(-1)[skip : skip + hull.size].reshape(hull.shape)[region.inside(hull)]


@dataclass(frozen=True, slots=True)
class Cast:
    """Elements converted to `dtype` as numpy's astype does; float to float16 is clamped to +-65504 if `clamp`."""

    dtype: DType
    clamp: bool = False

    def spec(self, spec: Spec) -> Spec:
        return Spec(self.dtype, spec.shape)

    def pull(self, region: Region, spec: Spec) -> Region:
        return region

    def apply(self, block: Array, region: Region, spec: Spec) -> Array:
        if self.clamp:
            return clamped_half(block)
        with np.errstate(over="ignore", invalid="ignore"):
            return block.astype(self.dtype.numpy)


def clamped_half(block: Array) -> Array:
    """float16 with +-inf and overflow at +-65504 and NaN at 65504, as `ovc` compresses (ir.md section 5)."""
    with np.errstate(over="ignore", invalid="ignore"):
        half = block.astype(np.float16)
    if not np.isfinite(half).all():
        np.nan_to_num(half, copy=False, nan=65504.0, posinf=65504.0, neginf=-65504.0)
    return half


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows `start` to `stop` of one axis."""

    axis: int
    start: int
    stop: int

    def spec(self, spec: Spec) -> Spec:
        if not (0 <= self.axis < len(spec.shape) and 0 <= self.start <= self.stop <= spec.shape[self.axis]):
            raise BadModel(f"slice {self.start}:{self.stop} of axis {self.axis} is outside shape {list(spec.shape)}")
        shape = list(spec.shape)
        shape[self.axis] = self.stop - self.start
        return Spec(spec.dtype, tuple(shape))

    def pull(self, region: Region, spec: Spec) -> Region:
        start, stop = list(region.start), list(region.stop)
        start[self.axis] += self.start
        stop[self.axis] += self.start
        return Region(tuple(start), tuple(stop))

    def apply(self, block: Array, region: Region, spec: Spec) -> Array:
        return block


def as_stored(weight: Weight) -> Extent | None:
    """Where the tensor's own bytes lie, if they are taken as they are and whole; None if not."""
    plain = weight.spec.dtype.bits >= 8 and all(isinstance(step, Reshape) for step in weight.steps)
    return weight.source if plain and isinstance(weight.source, Extent) else None


def row(weight: Weight, index: int) -> Weight:
    """Row `index` of the tensor, as a recipe of its own; of the stored bytes, where they are taken as they are."""
    spec, source = Spec(weight.spec.dtype, weight.spec.shape[1:]), as_stored(weight)
    if source is not None and source.length >= weight.stored.nbytes:
        return Weight(spec, rows_of(source, weight.spec, index, index + 1))
    return weight.then(Slice(0, index, index + 1), Reshape(spec.shape))


UNARY: dict[str, Callable[[Array], Array]] = {
    "negative": np.negative,
    "sqrt": np.sqrt,
    "reciprocal": np.reciprocal,
    "abs": np.abs,
    "exp": np.exp,
}
BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
}


@dataclass(frozen=True, slots=True)
class Unary:
    """Each element through one function of UNARY, in the element type of the weight."""

    kind: str

    def spec(self, spec: Spec) -> Spec:
        return spec

    def pull(self, region: Region, spec: Spec) -> Region:
        return region

    def apply(self, block: Array, region: Region, spec: Spec) -> Array:
        with np.errstate(all="ignore"):
            return UNARY[self.kind](block).astype(spec.dtype.numpy, copy=False)


@dataclass(frozen=True, slots=True)
class Binary:
    """`weight KIND operand` element by element (KIND of BINARY), the operand broadcast as numpy does.

    The operand is a recipe of the same element type, so folding a batch normalisation reads nothing.
    """

    kind: str
    operand: Weight

    def spec(self, spec: Spec) -> Spec:
        other = self.operand.spec
        if other.dtype is not spec.dtype:
            raise BadModel(f"{self.kind} of {spec} and {other}: the element types differ")
        try:
            return Spec(spec.dtype, static(broadcast(spec.shape, other.shape)))
        except BadModel:
            raise BadModel(f"{self.kind} of {spec} and {other}: the shapes do not fit") from None

    def pull(self, region: Region, spec: Spec) -> Region:
        return narrowed(region, spec.shape)

    def apply(self, block: Array, region: Region, spec: Spec) -> Array:
        other = read(self.operand, narrowed(region, self.operand.spec.shape))
        with np.errstate(all="ignore"):
            return BINARY[self.kind](block, other).astype(spec.dtype.numpy, copy=False)


@dataclass(frozen=True, slots=True)
class Sum:
    """Sums over `axes`, which stay with length 1 (numpy keepdims); added up in double precision if floating point."""

    axes: tuple[int, ...]

    def spec(self, spec: Spec) -> Spec:
        if any(not 0 <= axis < len(spec.shape) for axis in self.axes):
            raise BadModel(f"axes {list(self.axes)} are outside shape {list(spec.shape)}")
        return Spec(spec.dtype, tuple(1 if i in self.axes else dim for i, dim in enumerate(spec.shape)))

    def pull(self, region: Region, spec: Spec) -> Region:
        if not region.size:
            return Region.whole((0,) * len(spec.shape))
        ends = [(0, n) if i in self.axes else (region.start[i], region.stop[i]) for i, n in enumerate(spec.shape)]
        return Region(tuple(a for a, _ in ends), tuple(b for _, b in ends))

    def apply(self, block: Array, region: Region, spec: Spec) -> Array:
        if not region.size:
            return block.reshape(-1)[:0].reshape(region.shape)
        wide = np.float64 if spec.dtype.is_real else spec.dtype.numpy
        with np.errstate(all="ignore"):
            total: Array = block.sum(axis=self.axes, keepdims=True, dtype=wide)
        return total.astype(spec.dtype.numpy)


def narrowed(region: Region, shape: tuple[int, ...]) -> Region:
    """The box of an operand of `shape` that numpy broadcasting pairs with `region` of the result."""
    skip = len(region.start) - len(shape)
    ends = zip(shape, region.start[skip:], region.stop[skip:], strict=True)
    pairs = [(a, b) if dim != 1 else (0, min(b - a, 1)) for dim, a, b in ends]
    return Region(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))
