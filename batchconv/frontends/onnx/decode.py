"""Numbers that a TensorProto holds as varints (`int32_data` and friends): a step that decodes block by block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from batchconv import packing, storage
from batchconv.errors import BadModel
from batchconv.tensor import Array, DType, Region, Spec
from batchconv.weight import BLOCK, Extent, Fill, Weight


def decoded(numbers: Array, dtype: DType) -> Array:
    """int64 numbers of a TensorProto as elements: half and float8 numbers are bit patterns, 4-bit ones pairs."""
    if dtype.bits < 8:
        return packing.unpack(numbers.astype(np.uint8).tobytes(), dtype, len(numbers) * 8 // dtype.bits)
    if dtype.is_real:
        return numbers.astype(f"u{dtype.bits // 8}").view(dtype.numpy)
    return numbers.astype(dtype.numpy)


def varint_array(data: bytes) -> Array:
    """Whole varints as int64; BadModel if one is longer than ten bytes or cut off."""
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw < 128)
    if len(raw) and (not len(ends) or ends[-1] != len(raw) - 1):
        raise BadModel("a list of numbers ends inside one")
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])[: len(ends)]
    lengths = ends - starts + 1
    values = np.zeros(len(ends), np.uint64)
    for place in range(int(lengths.max(initial=0))):
        if place == 10:
            raise BadModel("a number is longer than 64 bits")
        longer = lengths > place
        values[longer] |= (raw[starts[longer] + place].astype(np.uint64) & 127) << np.uint64(7 * place)
    return values.view(np.int64)


def _stamp(url: str) -> int:
    """What changes when a local file is written anew, so that no index outlives its file."""
    return os.stat(storage.local_path(url)).st_mtime_ns if storage.is_local(url) else 0


@lru_cache(maxsize=8)
def _index(extent: Extent, stamp: int) -> tuple[int, ...]:
    """How many varints end before each BLOCK of the extent, and in all of it."""
    counts = [0]
    for block in _blocks(extent, 0, extent.length):
        counts.append(counts[-1] + int(np.count_nonzero(np.frombuffer(block, np.uint8) < 128)))
    return tuple(counts)


def _blocks(extent: Extent, start: int, stop: int) -> Iterator[bytes]:
    for at in range(start, stop, BLOCK):
        yield storage.read(extent.url, extent.offset + at, min(BLOCK, stop - at))


def _varints(extent: Extent, first: int, stop: int) -> Array:
    """Varints number `first` to `stop` of the extent; BadModel if it has fewer."""
    counts = _index(extent, _stamp(extent.url))
    if stop > counts[-1]:
        raise BadModel(f"a tensor needs {stop} numbers, {counts[-1]} are there")
    begin = int(np.searchsorted(counts, first, side="right")) - 1
    end = int(np.searchsorted(counts, stop, side="left"))
    data = b"".join(_blocks(extent, max(begin * BLOCK - 10, 0), min(end * BLOCK, extent.length)))
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) < 128)
    before = int(np.searchsorted(ends, min(begin * BLOCK, 10)))
    skip = first - counts[begin] + before
    start = int(ends[skip - 1]) + 1 if skip else 0
    return varint_array(data[start : int(ends[skip + stop - first - 1]) + 1])


@dataclass(frozen=True, slots=True)
class Varints:
    """In the place of a fill: the numbers that lie at `extent` as varints (their place depends on their values)."""

    extent: Extent

    def spec(self, spec: Spec) -> Spec:
        return spec

    def pull(self, region: Region, spec: Spec) -> Region:
        return region

    def apply(self, block: Array, region: Region, spec: Spec) -> Array:
        if not region.size:
            return block
        flat = region.flat(spec.shape)
        cover = region if flat else Region.rows(spec.shape, region.start[0], region.stop[0])
        first, stop = flat or cover.flat(spec.shape) or (0, spec.size)
        per = max(1, 8 // spec.dtype.bits)
        numbers = _varints(self.extent, first // per, -(-stop // per))
        rows = decoded(numbers, spec.dtype)[first % per :][: stop - first].reshape(cover.shape)
        return rows if flat else rows[(slice(None), *region.slices[1:])]


def varint_weight(extent: Extent, spec: Spec) -> Weight:
    """A recipe for a tensor of `spec` that is stored as varints at `extent`; nothing is read."""
    return Weight(spec, Fill(bytes(spec.dtype.numpy.itemsize)), (Varints(extent),))
