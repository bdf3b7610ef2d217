"""Weights as recipes: where their bytes lie and what is to be done to them; `read` is where they become arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from batchconv import packing, storage
from batchconv.errors import BadModel
from batchconv.tensor import Array, DType, Region, Spec

INLINE = 1024
"""Payloads of at most this many bytes travel inside the recipe (DESIGN section 1)."""

BLOCK = 1 << 20
"""Bytes that are computed on at a time: what fits the cache, not what a store likes."""


class Step(Protocol):
    """One thing done to a weight: a frozen dataclass, data and not a closure, so that recipes compare and travel."""

    def spec(self, spec: Spec) -> Spec:
        """What comes out of a tensor of `spec`, before any byte is read; BadModel if the step does not fit it."""
        ...

    def pull(self, region: Region, spec: Spec) -> Region:
        """Which box of the input (of `spec`) the output box `region` is computed from."""
        ...

    def apply(self, block: Array, region: Region, spec: Spec) -> Array:
        """The output box `region`, computed from `block`, the input box that `pull` named (input of `spec`)."""
        ...


class Encoder(Protocol):
    """A frozen dataclass that turns one weight into several tensors from one read: codes, scales, zero points.

    Rows below are rows of the encoder's input along axis 0. `Encoded(encoder, part)` is the step that picks one
    of the tensors, so each is a recipe of its own; whoever writes them all encodes each block once.
    """

    def outputs(self, spec: Spec) -> dict[str, Spec]:
        """part name ("codes", "scale", ...) -> what comes out of a weight of `spec`; BadModel if it does not fit."""
        ...

    def grain(self, spec: Spec) -> int:
        """Blocks must start and stop at multiples of this many rows (group size where groups lie along axis 0)."""
        ...

    def needs_stats(self, spec: Spec) -> bool:
        """True if a scale depends on all rows (reduction over axis 0): `stats` of every block must be merged first."""
        ...

    def stats(self, block: Array) -> Array:
        """What the scales need to know of a block of rows (e.g. min and max a column); small."""
        ...

    def merge(self, a: Array, b: Array) -> Array:
        """The stats of two blocks together; associative and commutative, exact."""
        ...

    def encode(self, block: Array, spec: Spec, stats: Array | None = None) -> Encoding:
        """Encode rows of a weight of `spec` (the whole weight's), starting and stopping at the grain."""
        ...


@dataclass(frozen=True, slots=True)
class Encoding:
    """A block encoded: part name -> array (rows of that part; parts independent of the rows come whole each time).

    tally: sums over the block that add up over a weight (squared error, squared values, count, bad halves ...).
    """

    parts: dict[str, Array]
    tally: dict[str, float]


@dataclass(frozen=True, slots=True)
class Encoded:
    """The step that gives one part of what `encoder` makes (a Step like any other when read alone)."""

    encoder: Encoder
    part: str

    def spec(self, spec: Spec) -> Spec:
        return self.encoder.outputs(spec)[self.part]

    def pull(self, region: Region, spec: Spec) -> Region:
        if self.encoder.needs_stats(spec) or not spec.shape:
            return Region.whole(spec.shape)
        start, stop = self._rows(region, spec)
        return Region.rows(spec.shape, start, stop)

    def _rows(self, region: Region, spec: Spec) -> tuple[int, int]:
        """Input rows that rows of the part come from, widened to the grain."""
        part = self.spec(spec)
        if not part.shape or not region.start or part.rows == 1:
            return 0, spec.rows
        grain = self.encoder.grain(spec)
        start, stop = (row * spec.rows // part.rows for row in (region.start[0], region.stop[0]))
        return start // grain * grain, min(-(-stop // grain) * grain, spec.rows)

    def apply(self, block: Array, region: Region, spec: Spec) -> Array:
        stats = self.encoder.stats(block) if self.encoder.needs_stats(spec) else None
        made = self.encoder.encode(block, spec, stats).parts[self.part]
        first = self.pull(region, spec).start[0] if spec.shape and region.start else 0
        skip = first * self.spec(spec).rows // spec.rows if spec.rows else 0
        if not region.start or self.spec(spec).rows == 1:
            return made[region.slices]
        rows = slice(region.start[0] - skip, region.stop[0] - skip)
        return made[(rows, *region.slices[1:])]


@dataclass(frozen=True, slots=True)
class Extent:
    """Where stored bytes are: `length` bytes from `offset` of the object at `url` (a local path or fsspec URL)."""

    url: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Fill:
    """A tensor of one repeated value, whose little-endian bytes are `element`: nothing is stored."""

    element: bytes


@dataclass(frozen=True, slots=True)
class Weight:
    """A recipe; equal recipes are the same bytes.

    stored: element type and shape as they lie in the source (little endian, C order).
    source: an Extent, the bytes themselves (up to INLINE), or a Fill.
    steps: applied in order when a region is read.
    """

    stored: Spec
    source: Extent | bytes | Fill
    steps: tuple[Step, ...] = ()

    @property
    def spec(self) -> Spec:
        """Element type and shape after all steps."""
        spec = self.stored
        for step in self.steps:
            spec = step.spec(spec)
        return spec

    def then(self, *steps: Step) -> Weight:
        """This recipe lengthened; BadModel at once if a step does not fit what comes before it."""
        longer = replace(self, steps=self.steps + steps)
        _ = longer.spec
        return longer


def inline(array: Array, dtype: DType | None = None) -> Weight:
    """A recipe that carries `array` itself (for small values that we compute; codes if `dtype` is sub-byte)."""
    dtype = dtype or DType.of(array.dtype)
    array = np.ascontiguousarray(array, dtype=dtype.numpy)
    return Weight(Spec(dtype, array.shape), packing.pack(array, dtype))


def fill(value: float | int | bool, dtype: DType, shape: tuple[int, ...]) -> Weight:
    """A recipe of `shape` full of `value`; no bytes until it is written."""
    return Weight(Spec(dtype, shape), Fill(np.asarray(value, dtype.numpy).tobytes()))


def read(weight: Weight, region: Region | None = None) -> Array:
    """The box `region` (default: all) of the finished tensor, as an array in its dtype's numpy type.

    Walks `pull` back to a box of the source, reads only that, and walks `apply` forward. Memory is what the box
    needs. Raises StorageError, or BadModel where the source is shorter than the recipe says.
    """
    specs = [weight.stored]
    for step in weight.steps:
        specs.append(step.spec(specs[-1]))
    regions = [region or Region.whole(specs[-1].shape)]
    for step, spec in zip(reversed(weight.steps), reversed(specs[:-1]), strict=True):
        regions.append(step.pull(regions[-1], spec))
    regions.reverse()
    block = load(weight.source, weight.stored, regions[0])
    for step, out, spec in zip(weight.steps, regions[1:], specs, strict=False):
        block = step.apply(block, out, spec)
    return block


def load(source: Extent | bytes | Fill, spec: Spec, region: Region) -> Array:
    """The box `region` of a stored tensor of `spec`, before any step."""
    if isinstance(source, Fill):
        return np.broadcast_to(np.frombuffer(source.element, spec.dtype.numpy), region.shape)
    flat = region.flat(spec.shape)
    if flat is not None:
        return _elements(source, spec, *flat).reshape(region.shape)
    return _gather(source, spec, region)


def _gather(source: Extent | bytes, spec: Spec, region: Region) -> Array:
    """A box that is not contiguous: its rows are read in blocks of whole rows and sliced."""
    out = np.empty(region.shape, spec.dtype.numpy)
    step = max(1, BLOCK * spec.rows // max(spec.nbytes, 1))
    for start in range(region.start[0], region.stop[0], step):
        stop = min(start + step, region.stop[0])
        cover = Region.rows(spec.shape, start, stop)
        rows = load(source, spec, cover)
        out[start - region.start[0] : stop - region.start[0]] = rows[(slice(None), *region.slices[1:])]
    return out


def _elements(source: Extent | bytes, spec: Spec, first: int, stop: int) -> Array:
    """Elements `first` to `stop` in C order; sub-byte types are unpacked from the byte boundary before."""
    bits = spec.dtype.bits
    per = 8 // np.gcd(bits, 8)
    aligned = first // per * per
    begin, end = aligned * bits // 8, (stop * bits + 7) // 8
    data = _bytes(source, begin, end - begin)
    if bits >= 8:
        return np.frombuffer(data, spec.dtype.numpy)
    return packing.unpack(data, spec.dtype, stop - aligned)[first - aligned :]


def _bytes(source: Extent | bytes, begin: int, length: int) -> bytes | bytearray:
    if isinstance(source, bytes):
        data: bytes | bytearray = source[begin : begin + length]
    elif begin + length > source.length:
        raise BadModel(f"a weight needs {begin + length} bytes but its source has {source.length}")
    else:
        data = storage.read(source.url, source.offset + begin, length)
    if len(data) != length:
        raise BadModel(f"a weight ends early: {length} bytes wanted, {len(data)} there")
    return data
