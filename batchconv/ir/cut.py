"""The laid-out bytes cut into parts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from batchconv.ir.geometry import begins, block_rows, grain, is_lone, out_specs
from batchconv.ir.pieces import Out, Part, Piece
from batchconv.weight import Encoded, Encoder, Step, Weight

ALIGN = 64
"""Every placement starts at a multiple of this: what a vector load and a cache line like."""

SMALL = 64 << 10
"""Weights of fewer bytes come after all others: a part is cut through the large ones only."""

PART = 32 << 20
"""Bytes of the largest artifact (or of the source) that a part has by default."""

LEAST = 5 << 20
"""Object stores take no smaller part but the last."""

MOST = 9_000
"""Object stores take 10,000 parts; larger models have larger ones."""


def aligned(offset: int) -> int:
    """The first place from `offset` on."""
    return -(-offset // ALIGN) * ALIGN


@dataclass(slots=True)
class Item:
    """One recipe of one variant, with its place once it has one."""

    target: int
    base: Weight
    tail: tuple[Step, ...]
    nbytes: int
    layer: str
    offset: int = -1

    @property
    def encoded(self) -> Encoded | None:
        last = self.tail[-1] if self.tail else None
        return last if isinstance(last, Encoded) else None

    @property
    def encoder(self) -> Encoder | None:
        """What encodes it, if anything does."""
        encoded = self.encoded
        return encoded.encoder if encoded else None

    @property
    def is_side(self) -> bool:
        """Scales, zero points: whatever an encoder gives beside the codes."""
        encoded = self.encoded
        return encoded is not None and encoded.part != "codes"

    def out(self, begin: int = 0, end: int | None = None) -> Out:
        """Its bytes from `begin` to `end`, as a piece carries them."""
        end = self.nbytes if end is None else end
        return Out(self.target, self.tail, self.offset + begin, end - begin, self.layer)


@dataclass(slots=True)
class Read:
    """Items made from one pass over `base`: at most one of each target beside the sides."""

    base: Weight
    nbytes: int
    mains: list[Item] = field(default_factory=list)
    sides: list[Item] = field(default_factory=list)

    def takes(self, item: Item) -> bool:
        """True if this pass can give `item` too."""
        if item.encoded is not None and item.base != self.base:
            return False
        return item.is_side or all(main.target != item.target for main in self.mains)

    def serves(self, item: Item) -> bool:
        """True if the codes that go with the side `item` are made here."""
        return any(main.target == item.target and main.encoder == item.encoder for main in self.mains)


class Cutter:
    """Fills one part after another; the last takes what is left, and the sides of all."""

    def __init__(self, ends: tuple[int, ...], sizes: tuple[int, ...], part_bytes: int) -> None:
        self.ends, self.sizes = ends, sizes
        self.part_bytes, self.least = part_bytes, min(LEAST, part_bytes * LEAST // PART)
        self.starts = [0] * len(sizes)
        self.cursor = [0] * len(sizes)
        self.taken = 0
        self.pieces: list[Piece] = []
        self.parts: list[Part] = []

    def cut(self, reads: Iterable[Read]) -> tuple[Part, ...]:
        """The parts that hold all of `reads`."""
        for read in reads:
            ends = [(item.target, item.offset + item.nbytes) for item in read.mains]
            if not (self.has_enough(ends, read.nbytes) and self.may_close()):
                self.take_all(read)
                continue
            if read.nbytes >= SMALL:
                self.take_cut(read)
            else:
                self.take_all(read)
            self.close()
        self.close(last=True)
        return tuple(self.parts)

    def may_close(self) -> bool:
        """False if a target would have nothing left for the next part."""
        return all(at < end or not end for at, end in zip(self.cursor, self.ends, strict=True))

    def has_enough(self, reached: Iterable[tuple[int, int]], more: int) -> bool:
        """True if the part could end once its targets are `reached` and `more` bytes of base are read."""
        at = list(self.cursor)
        for target, end in reached:
            at[target] = end
        filled = [a - start for a, start, end in zip(at, self.starts, self.ends, strict=True) if end]
        return bool(filled) and max(*filled, self.taken + more) >= self.part_bytes and min(filled) >= self.least

    def take_all(self, read: Read) -> None:
        """The whole of `read` is in the part being filled."""
        outs = tuple(item.out() for item in (*read.mains, *read.sides))
        self.pieces.append(Piece(read.base, 0, read.base.spec.rows, outs))
        self.taken += read.nbytes
        for item in read.mains:
            self.pass_over(item)

    def pass_over(self, item: Item) -> None:
        """All of `item` is in the part, and the padding behind it."""
        self.cursor[item.target] = min(aligned(item.offset + item.nbytes), self.ends[item.target])

    def take_cut(self, read: Read) -> None:
        """`read` fills this part and the next ones, at whole blocks of its rows."""
        cut = _Rows(read)
        row = 0
        while row < cut.rows:
            stop = self.stop(cut, row)
            self.pieces.append(cut.piece(row, stop))
            self.taken += cut.nbytes(row, stop)
            if stop < cut.rows:
                reached = dict(cut.reached(stop))
                self.cursor = [reached.get(target, at) for target, at in enumerate(self.cursor)]
                self.close()
            row = stop
        for item in read.mains:
            self.pass_over(item)

    def stop(self, cut: _Rows, row: int) -> int:
        """The first end of a block at which the part has enough, or the last row if little or too little is left."""
        low, high = row // cut.block + 1, -(-cut.rows // cut.block)
        while low < high:
            middle = (low + high) // 2
            stop = middle * cut.block
            if self.has_enough(cut.reached(stop), cut.nbytes(row, stop)):
                high = middle
            else:
                low = middle + 1
        stop = min(low * cut.block, cut.rows)
        return cut.rows if cut.nbytes(stop, cut.rows) <= self.part_bytes // 4 else stop

    def close(self, last: bool = False) -> None:
        """The part being filled is done, if it has enough and leaves something to the next, or is the last."""
        if not last and not (self.may_close() and self.has_enough((), 0)):
            return
        stops = list(self.sizes if last else self.cursor)
        spans = tuple((start, stop - start) for start, stop in zip(self.starts, stops, strict=True))
        self.parts.append(Part(len(self.parts), spans, tuple(self.pieces)))
        self.starts, self.pieces, self.taken = stops, [], 0


class _Rows:
    """The geometry of a pass that is cut: which bytes of each output come from which rows."""

    def __init__(self, read: Read) -> None:
        self.read = read
        self.spec = read.base.spec
        self.rows = self.spec.rows
        self.items = [(item, out_specs(self.spec, item.tail)[1]) for item in (*read.mains, *read.sides)]
        self.block = block_rows(read.base, grain(self.spec, [item.tail for item, _ in self.items]))

    def nbytes(self, start: int, stop: int) -> int:
        """Bytes of the base's rows `start` to `stop`."""
        return self.spec.nbytes * (stop - start) // self.rows

    def reached(self, row: int) -> list[tuple[int, int]]:
        """(target, end of its bytes) of every main when rows up to `row` are written."""
        mains = self.items[: len(self.read.mains)]
        return [(item.target, item.offset + begins(out, row, self.rows)) for item, out in mains]

    def piece(self, start: int, stop: int) -> Piece:
        outs = []
        for item, out in self.items:
            if not is_lone(self.spec, out, item.encoded):
                outs.append(item.out(begins(out, start, self.rows), begins(out, stop, self.rows)))
            elif start == 0:
                outs.append(item.out())
        return Piece(self.read.base, start, stop, tuple(outs))
