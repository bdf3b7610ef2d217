"""The `.bin` files, written part by part: each block of a source is read once and serves every target."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace

import numpy as np

from batchconv import packing, storage
from batchconv.errors import BadModel, InternalError
from batchconv.ir.geometry import begins, block_rows, grain, is_lone, out_specs
from batchconv.ir.pieces import Out, Part, Piece
from batchconv.steps import as_stored
from batchconv.storage import PartReceipt, PartWriter, Upload
from batchconv.tensor import Array, Region, Spec
from batchconv.weight import Encoded, Encoder, Encoding, Extent, Step, Weight, read, rows_of

FEW = 64 << 10
"""Ranges of at most this many bytes are fetched together from a remote store."""

Tallies = dict[tuple[int, str], dict[str, float]]
"""(target, layer) -> sums over the rows of the layer's weight (`weight.Encoding`)."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What writing a part returns: what the store said for each target, sums for the report; never tensors."""

    part: int
    parts: tuple[PartReceipt, ...]
    tallies: Tallies
    seconds: float

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    @property
    def sha256s(self) -> tuple[str | None, ...]:
        return tuple(part.sha256 for part in self.parts)

    @property
    def etags(self) -> tuple[str, ...]:
        return tuple(part.etag for part in self.parts)


def write_part(
    part: Part, uploads: Sequence[Upload], stats: Mapping[Weight, Array] | None = None, last: bool = False
) -> Receipt:
    """Every byte that comes from the part's pieces is in the uploads (one a target); safe to run again.

    stats: what `merged_stats` gave for weights that are cut over several parts. The last part is written after all
    others. Memory is a few blocks (and what a store holds back of a part).
    """
    began = time.perf_counter()
    with ExitStack() as stack:
        writers = [
            stack.enter_context(storage.part(upload, part.number, *span, last=last))
            for upload, span in zip(uploads, part.spans, strict=True)
        ]
        run = _Run(writers, stats or {}, {})
        bases = ready([piece.base for piece in part.pieces])
        for piece, base in zip(part.pieces, bases, strict=True):
            run.write(piece, base)
        receipts = tuple(writer.close() for writer in writers)
    return Receipt(part.number, receipts, run.tallies, time.perf_counter() - began)


def measure(piece: Piece) -> Array:
    """The statistics of a piece that `stats_pieces` named."""
    (base,) = ready([piece.base])
    return _measured(piece, base, _jobs(piece)[0])


def merged_stats(pieces: Sequence[Piece], measured: Sequence[Array]) -> dict[Weight, Array]:
    """What `write_part` needs, from `measure` of each of the `stats_pieces`."""
    merged: dict[Weight, Array] = {}
    for piece, stats in zip(pieces, measured, strict=True):
        key, encoder = _stats_key(piece.base, piece.outs[0]), _encoder(piece.outs[0])
        merged[key] = encoder.merge(merged[key], stats) if key in merged else stats
    return merged


def _encoder(out: Out) -> Encoder:
    if out.encoded is None:
        raise InternalError("statistics are asked of a weight that nothing encodes")
    return out.encoded.encoder


def _stats_key(base: Weight, out: Out) -> Weight:
    """The recipe of the codes: what the statistics belong to."""
    return replace(base, steps=(*base.steps, *out.casts, Encoded(_encoder(out), "codes")))


# One piece


@dataclass(slots=True)
class _Sink:
    """An output of a piece and how its bytes follow from the rows."""

    out: Out
    spec: Spec
    rows: int
    lone: bool
    skip: int

    def write(self, writer: PartWriter, array: Array, start: int, stop: int) -> None:
        """The output made of rows `start` to `stop` is in its place."""
        if self.lone and start:
            return
        if self.lone:
            begin, end = 0, self.spec.nbytes
        else:
            begin, end = begins(self.spec, start, self.rows), begins(self.spec, stop, self.rows)
        data = packing.pack(array, self.spec.dtype) if self.spec.dtype.bits < 8 else np.ascontiguousarray(array)
        size = len(data) if isinstance(data, bytes) else data.nbytes
        if size != end - begin:
            what = f"rows {start} to {stop} of '{self.out.layer}' gave {size} bytes of {self.spec}, not {end - begin}"
            raise InternalError(what)
        writer.write(self.out.offset + begin - self.skip, data)


@dataclass(slots=True)
class _Job:
    """Outputs of a piece that share their last steps: casts, then one encoder or none."""

    casts: tuple[Step, ...]
    encoder: Encoder | None
    given: Spec
    sinks: list[_Sink]

    def cast(self, block: Array, spec: Spec, region: Region) -> Array:
        """A block of the base as the encoder gets it."""
        for step in self.casts:
            block = step.apply(block, region, spec)
            spec = step.spec(spec)
        return block

    def encode(self, block: Array, stats: Array | None) -> Encoding:
        """What the encoder makes of a block; BadModel with the layer's name."""
        if self.encoder is None:
            return Encoding({"": block}, {})
        try:
            return self.encoder.encode(block, self.given, stats)
        except BadModel as error:
            raise error.at(node=self.sinks[0].out.layer) from None

    @property
    def layers(self) -> set[tuple[int, str]]:
        """(target, layer) of what the tallies belong to."""
        codes = [sink for sink in self.sinks if sink.out.encoded and sink.out.encoded.part == "codes"]
        return {(sink.out.target, sink.out.layer) for sink in codes or self.sinks}


def _jobs(piece: Piece) -> list[_Job]:
    spec = piece.base.spec
    jobs: dict[tuple[tuple[Step, ...], Encoder | None], _Job] = {}
    for out in piece.outs:
        given, made = out_specs(spec, out.tail)
        encoder = out.encoded.encoder if out.encoded else None
        job = jobs.setdefault((out.casts, encoder), _Job(out.casts, encoder, given if encoder else made, []))
        lone = is_lone(spec, made, out.encoded)
        job.sinks.append(_Sink(out, made, spec.rows, lone, 0 if lone else begins(made, piece.start, spec.rows)))
    return list(jobs.values())


@dataclass(slots=True)
class _Run:
    """What the pieces of a part are written with: a writer for each target, statistics; and what adds up."""

    writers: Sequence[PartWriter]
    stats: Mapping[Weight, Array]
    tallies: Tallies

    def write(self, piece: Piece, base: Weight) -> None:
        """All outputs of the piece are in their places; `base` is the piece's, ready to be read."""
        extent = _untouched(piece, base)
        if extent is not None:
            for out in piece.outs:
                self.writers[out.target].copy(out.offset, extent)
            return
        jobs = [(job, self.stats_for(piece, base, job)) for job in _jobs(piece)]
        spec = base.spec
        for start, stop, block in blocks(piece, base):
            region = Region.rows(spec.shape, start, stop)
            for job, stats in jobs:
                self.give(job, job.cast(block, spec, region), stats, start, stop)

    def give(self, job: _Job, block: Array, stats: Array | None, start: int, stop: int) -> None:
        """The outputs of one job made of one block: encoded once, its sums added up."""
        made = job.encode(block, stats)
        for sink in job.sinks:
            part = sink.out.encoded.part if sink.out.encoded else ""
            sink.write(self.writers[sink.out.target], made.parts[part], start, stop)
        for layer in job.layers if made.tally else ():
            sums = self.tallies.setdefault(layer, {})
            for name, value in made.tally.items():
                sums[name] = sums.get(name, 0.0) + value

    def stats_for(self, piece: Piece, base: Weight, job: _Job) -> Array | None:
        """The statistics of all rows, where the encoder needs them: given, or measured if the piece is all rows."""
        if job.encoder is None or not job.encoder.needs_stats(job.given):
            return None
        key = _stats_key(piece.base, job.sinks[0].out)
        if key in self.stats:
            return self.stats[key]
        if piece.stop - piece.start < job.given.rows:
            raise InternalError(f"'{job.sinks[0].out.layer}' is cut over several parts but was not measured before")
        return _measured(piece, base, job)


def _measured(piece: Piece, base: Weight, job: _Job) -> Array:
    spec, encoder = base.spec, _encoder(job.sinks[0].out)
    stats: Array | None = None
    for start, stop, block in blocks(piece, base):
        found = encoder.stats(job.cast(block, spec, Region.rows(spec.shape, start, stop)))
        stats = found if stats is None else encoder.merge(stats, found)
    if stats is None:
        raise InternalError("statistics are asked of no rows")
    return stats


# Reading


def _untouched(piece: Piece, base: Weight) -> Extent | None:
    """The stored bytes of a piece that goes into every target as it is."""
    if not isinstance(base.source, Extent) or base.steps or base.stored.dtype.bits < 8:
        return None
    if any(out.tail for out in piece.outs):
        return None
    return rows_of(base.source, base.stored, piece.start, piece.stop)


def blocks(piece: Piece, base: Weight) -> Iterator[tuple[int, int, Array]]:
    """(start, stop, rows) of `base`, block by block: arrays in C order, not to be written, good until the next."""
    spec = base.spec
    step = block_rows(piece.base, grain(spec, [out.tail for out in piece.outs]))
    extent = as_stored(base)
    for start in range(piece.start, piece.stop, step):
        stop = min(start + step, piece.stop)
        if extent is not None:
            yield start, stop, _direct(rows_of(extent, spec, start, stop), spec, stop - start)
        else:
            yield start, stop, np.asarray(read(base, Region.rows(spec.shape, start, stop)), order="C")


class _Local(threading.local):
    """This thread's buffer for a block as it is stored."""

    buffer = bytearray()


_local = _Local()


def _direct(extent: Extent, spec: Spec, rows: int) -> Array:
    """Stored rows, read into the buffer that this thread keeps."""
    if len(_local.buffer) < extent.length:
        _local.buffer = bytearray(extent.length)
    room = memoryview(_local.buffer)[: extent.length]
    got = storage.read_into(extent.url, extent.offset, room)
    if got != extent.length:
        raise BadModel(f"a weight ends early: {extent.length} bytes wanted, {got} there")
    flat = np.frombuffer(room.toreadonly(), spec.dtype.numpy)
    return flat.reshape((rows, *spec.shape[1:]) if spec.shape else ())


# Recipes made ready


def ready(bases: Sequence[Weight]) -> list[Weight]:
    """The recipes with what is small and remote fetched in a few requests and put into them."""
    wanted = list(dict.fromkeys(extent for base in bases for extent in _extents(base) if _is_worth(extent)))
    found = storage.read_many([(each.url, each.offset, each.length) for each in wanted]) if wanted else []
    data = dict(zip(wanted, found, strict=True))
    return [_filled(base, data) if data else base for base in bases]


def _is_worth(extent: Extent) -> bool:
    return extent.length <= FEW and not storage.is_local(extent.url)


def _extents(weight: Weight) -> Iterator[Extent]:
    """Every stored range that the recipe reads, operands included."""
    if isinstance(weight.source, Extent):
        yield weight.source
    for step in weight.steps:
        for operand in _operands(step).values():
            yield from _extents(operand)


def _filled(weight: Weight, data: Mapping[Extent, bytes]) -> Weight:
    """The recipe with the bytes of `data` in place of their extents."""
    source = weight.source
    if isinstance(source, Extent):
        source = data.get(source, source)
    return _each_operand(replace(weight, source=source), lambda operand: _filled(operand, data))


def _each_operand(weight: Weight, change: Callable[[Weight], Weight]) -> Weight:
    """The recipe with `change` done to every recipe that its steps hold."""
    steps = tuple(
        replace(step, **{name: change(operand) for name, operand in held.items()}) if held else step  # type: ignore[type-var]
        for step, held in ((step, _operands(step)) for step in weight.steps)
    )
    return replace(weight, steps=steps) if steps else weight


def _operands(step: Step) -> dict[str, Weight]:
    """The recipes that a step holds, by field."""
    held = ((each.name, getattr(step, each.name)) for each in fields(step))  # type: ignore[arg-type]
    return {name: value for name, value in held if isinstance(value, Weight)}
