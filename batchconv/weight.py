"""Weights as recipes: where their bytes lie and what is to be done to them; `read` is where they become arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from batchconv import packing, storage
from batchconv.errors import BadModel, Unsupported
from batchconv.tensor import Array, DType, Region, Spec

INLINE = 1024
"""Payloads of at most this many bytes travel inside the recipe (DESIGN section 1)."""

BLOCK = 1 << 20
"""Bytes that are computed on at a time: what fits the cache, not what a store likes."""

LONG = 4 * BLOCK
"""Bytes of a row beyond which a weight is encoded in another shape, one with more and shorter rows."""


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

    def of_rows(self) -> Encoder | None:
        """What encodes each row of a weight for itself to the bytes that the whole has there; None if nothing does."""
        ...

    def encode(self, block: Array, spec: Spec, stats: Array | None = None) -> Encoding:
        """Encode rows of a weight of `spec` (the whole weight's) in C order, starting and stopping at the grain."""
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
        rows = self.spec(spec).rows
        if not region.start or rows < 2 or spec.rows % rows:
            return 0, spec.rows
        grain = self.encoder.grain(spec)
        start, stop = (row * (spec.rows // rows) for row in (region.start[0], region.stop[0]))
        return start // grain * grain, min(-(-stop // grain) * grain, spec.rows)

    def apply(self, block: Array, region: Region, spec: Spec) -> Array:
        block = np.asarray(block, order="C")  # a Fill comes as one element repeated
        stats = self.encoder.stats(block) if self.encoder.needs_stats(spec) else None
        made = self.encoder.encode(block, spec, stats).parts[self.part]
        rows = self.spec(spec).rows
        if not region.start or rows < 2:
            return made[region.slices]
        skip = self.pull(region, spec).start[0] * rows // spec.rows
        return made[(slice(region.start[0] - skip, region.stop[0] - skip), *region.slices[1:])]


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
    _spec: Spec | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def spec(self) -> Spec:
        """Element type and shape after all steps."""
        if self._spec is None:
            spec = self.stored
            for step in self.steps:
                spec = step.spec(spec)
            object.__setattr__(self, "_spec", spec)
            return spec
        return self._spec

    def then(self, *steps: Step) -> Weight:
        """This recipe lengthened; BadModel at once if a step does not fit what comes before it."""
        spec = self.spec
        for step in steps:
            spec = step.spec(spec)
        longer = Weight(self.stored, self.source, self.steps + steps)
        object.__setattr__(longer, "_spec", spec)
        return longer


def rows_of(extent: Extent, spec: Spec, start: int, stop: int) -> Extent:
    """Where rows `start` to `stop` of a stored whole-byte tensor are; BadModel if its source is too short."""
    row = spec.nbytes // max(spec.rows, 1)
    if stop * row > extent.length:
        raise BadModel(f"a weight needs {spec.nbytes} bytes but its source has {extent.length}")
    return Extent(extent.url, extent.offset + start * row, (stop - start) * row)


def inline(array: Array, dtype: DType | None = None) -> Weight:
    """A recipe that carries `array` itself (for small values that we compute; codes if `dtype` is sub-byte)."""
    dtype = dtype or DType.of(array.dtype)
    if dtype is DType.STRING:
        raise Unsupported("texts are not supported")
    array = np.asarray(array, dtype.numpy, order="C")
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
        return np.broadcast_to(np.frombuffer(source.element, spec.dtype.numpy)[0], region.shape)
    flat = region.flat(spec.shape)
    if flat is not None:
        return _elements(source, spec.dtype, *flat).reshape(region.shape)
    out = np.empty(region.shape, spec.dtype.numpy)
    _gather(source, spec, region, 0, out)
    return out


RUN = 1 << 16
"""Bytes between two stretches of a box from which on they are read one by one, not with all that lies between."""


def _gather(source: Extent | bytes, spec: Spec, region: Region, base: int, out: Array) -> None:
    """`out` filled with the box `region` of the tensor of `spec` whose first element is element `base` of the source.

    Rows are read whole, in blocks, and cut; long rows each for itself.
    """
    flat = region.flat(spec.shape)
    row = Spec(spec.dtype, spec.shape[1:])
    first, stop = region.start[0], region.stop[0]
    if flat is not None:
        out[...] = _elements(source, spec.dtype, base + flat[0], base + flat[1]).reshape(region.shape)
    elif row.nbytes >= RUN:
        inner = Region(region.start[1:], region.stop[1:])
        for i in range(first, stop):
            _gather(source, row, inner, base + i * row.size, out[i - first])
    else:
        step = max(1, BLOCK // max(row.nbytes, 1))
        for start in range(first, stop, step):
            end = min(start + step, stop)
            rows = _elements(source, spec.dtype, base + start * row.size, base + end * row.size)
            cut = rows.reshape(end - start, *row.shape)[(slice(None), *region.slices[1:])]
            out[start - first : end - first] = cut


def _elements(source: Extent | bytes, dtype: DType, first: int, stop: int) -> Array:
    """Elements `first` to `stop` in C order; sub-byte types are unpacked from the byte boundary before."""
    aligned = first // 8 * 8 if dtype.bits < 8 else first
    begin, end = Spec(dtype, (aligned,)).nbytes, Spec(dtype, (stop,)).nbytes
    data = _bytes(source, begin, end - begin)
    if dtype.bits >= 8:
        return np.frombuffer(data, dtype.numpy)
    return packing.unpack(data, dtype, stop - aligned)[first - aligned :]


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
