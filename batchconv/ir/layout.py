"""Where every weight's bytes go in the `.bin` of every artifact, and the parts in which they are written.

All artifacts (variants) of a model are laid out together, so that a block of the source is read once for all of
them. Offsets follow from the recipes alone; how the work is cut does not move a byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from batchconv import storage
from batchconv.graph import Graph
from batchconv.steps import Cast, Reshape
from batchconv.tensor import DType, Region, Spec
from batchconv.weight import BLOCK, Encoded, Encoder, Extent, Step, Weight

ALIGN = 64
"""Every placement starts at a multiple of this: what a vector load and a cache line like."""

SMALL = 64 << 10
"""Weights of fewer bytes come after all others: a part is cut through the large ones only."""

PART = 32 << 20
"""Bytes of the largest artifact (or of the source) that a part has by default."""

LEAST = 5 << 20
"""Object stores take no smaller part but the last."""

SCATTERED = 32 << 20
"""Block size for recipes that read much more than they give (a transposition): fewer blocks read less."""


@dataclass(frozen=True, slots=True)
class Out:
    """One tensor that a piece gives: the last steps to it, and where its bytes go in the `.bin` of `target`."""

    target: int
    tail: tuple[Step, ...]
    offset: int
    nbytes: int
    layer: str

    @property
    def encoded(self) -> Encoded | None:
        """The step that ends the tail, if it is one of several outputs of an encoder."""
        last = self.tail[-1] if self.tail else None
        return last if isinstance(last, Encoded) else None

    @property
    def casts(self) -> tuple[Step, ...]:
        """The steps before that."""
        return self.tail[:-1] if self.encoded else self.tail


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows `start` to `stop` of `base`, and all that is made of them."""

    base: Weight
    start: int
    stop: int
    outs: tuple[Out, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One task: consecutive bytes of every target's `.bin` (`spans`: start and size), and the pieces that fill them.

    Scales and zero points lie in the last part's span but come from the part of their codes.
    """

    number: int
    spans: tuple[tuple[int, int], ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """For each variant: where its recipes lie and how large its `.bin` is; and the parts, the same for all."""

    offsets: tuple[dict[Weight, int], ...]
    sizes: tuple[int, ...]
    parts: tuple[Part, ...]


def weights(graph: Graph) -> list[tuple[Weight, str]]:
    """Every Constant's recipe with its name, bodies included, in the order of the graph."""
    found: list[tuple[Weight, str]] = []
    for op in graph.ops():
        if op.type == "Constant":
            found.append((op.attrs["weight"], op.name))
        for attr in op.attrs.values():
            if isinstance(attr, Graph):
                found.extend(weights(attr))
    return found


def blob_size(weight: Weight) -> int:
    """Bytes a Constant has in the `.bin`: packed elements; text as it is stored; one byte if there are no elements."""
    spec = weight.spec
    return max(_stored_bytes(weight) if spec.dtype is DType.STRING else spec.nbytes, 1)


def _stored_bytes(weight: Weight) -> int:
    source = weight.source
    return source.length if isinstance(source, Extent) else len(source) if isinstance(source, bytes) else 0


# Recipes taken apart

_NOTHING = Weight(Spec(DType.U8, (1,)), b"\0")


def split(weight: Weight) -> tuple[Weight, tuple[Step, ...]]:
    """(base, tail): casts and an encoding at the end are the tail; what a Reshape at the end does moves no byte.

    Without an encoding the base's own shape does not matter either: stored elements that no step touches are 1-D.
    A tensor without elements is one zero byte.
    """
    stored = weight.stored
    if stored.dtype is DType.STRING:
        return Weight(Spec(DType.U8, (_stored_bytes(weight),)), weight.source), ()
    steps = _shaved(weight.steps)
    if not (steps or stored.size) or (steps and not weight.spec.size):
        return _NOTHING, ()
    if not steps and isinstance(weight.source, bytes):
        return Weight(Spec(DType.U8, (stored.nbytes,)), weight.source[: stored.nbytes]), ()
    encoded = bool(steps) and isinstance(steps[-1], Encoded)
    at = len(steps) - encoded
    while at and isinstance(steps[at - 1], Cast):
        at -= 1
    base = Weight(stored, weight.source, steps[:at])
    return (base if encoded else core(base)), steps[at:]


def core(base: Weight) -> Weight:
    """The recipe of the same bytes whatever their shape: equal for all that can be made from one read."""
    steps = _shaved(base.steps)
    if steps:
        return Weight(base.stored, base.source, steps)
    return Weight(Spec(base.stored.dtype, (base.stored.size,)), base.source)


def _shaved(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    end = len(steps)
    while end and isinstance(steps[end - 1], Reshape):
        end -= 1
    return steps[:end]


# Geometry of one output: how its bytes follow from rows of the base


def out_specs(base: Spec, tail: Iterable[Step]) -> tuple[Spec, Spec]:
    """What the last step of the tail gets, and what it gives."""
    before = after = base
    for step in tail:
        before, after = after, step.spec(after)
    return before, after


def begins(out: Spec, row: int, rows: int) -> int:
    """The byte of a tensor of `out` where what is made of row `row` (of `rows`) of its base begins."""
    if row >= rows:
        return out.nbytes
    return row * out.rows // rows * (out.size // out.rows) * out.dtype.bits // 8


def is_lone(base: Spec, out: Spec, encoded: Encoded | None) -> bool:
    """True for a part that does not follow the rows (one scale for all, a table): it comes whole with each block."""
    return encoded is not None and encoded.part != "codes" and out.rows == 1 and base.rows > 1


def grain(base: Spec, tails: Iterable[tuple[Step, ...]]) -> int:
    """Blocks of `base` start and stop at multiples of this many rows; all rows where it cannot be cut."""
    total = 1
    for tail in tails:
        given, out = out_specs(base, tail)
        encoded = tail[-1] if tail and isinstance(tail[-1], Encoded) else None
        group = encoded.encoder.grain(given) if encoded else 1
        total = math.lcm(total, group)
        if not is_lone(base, out, encoded):
            total = math.lcm(total, _whole_bytes(base, out, group))
    return max(min(total, base.rows), 1)


def _whole_bytes(base: Spec, out: Spec, group: int) -> int:
    """Rows of the base after which the output is at a whole byte."""
    if out.rows == base.rows:
        each = 1
    elif out.rows == -(-base.rows // group):
        each = group
    else:
        return max(base.rows, 1)
    unit = _UNIT.get(out.dtype, 1)
    return each * (unit // math.gcd(unit, out.size // out.rows))


_UNIT = {
    dtype: 4 if dtype is DType.U6 else 8 if dtype is DType.U3 else 8 // dtype.bits
    for dtype in DType
    if 0 < dtype.bits < 8
}
"""Elements after which a packed type is at a whole byte (u3 and u6: at the end of a group of 3 bytes)."""


def block_rows(base: Weight, step: int) -> int:
    """Rows of `base` to compute on at a time: about BLOCK bytes in memory, a multiple of `step`."""
    spec = base.spec
    row = max(spec.size // max(spec.rows, 1) * max(spec.dtype.bits // 8, 1), 1)
    size = BLOCK
    if isinstance(base.source, Extent) and not storage.is_local(base.source.url):
        size = 8 * BLOCK
    if base.steps and row * spec.rows > size and _is_scattered(base, max(size // row, 1)):
        size = SCATTERED
    return max(size // row // step, 1) * step


def _is_scattered(base: Weight, rows: int) -> bool:
    """True if a block of rows makes `read` go through far more of the source than it uses."""
    specs = [base.stored]
    for step in base.steps:
        specs.append(step.spec(specs[-1]))
    region = Region.rows(specs[-1].shape, 0, min(rows, specs[-1].rows))
    wanted = region.size
    for step, spec in zip(reversed(base.steps), reversed(specs[:-1]), strict=True):
        region = step.pull(region, spec)
    if region.flat(base.stored.shape) is not None:
        return region.size > 4 * wanted
    return region.shape[0] * (base.stored.size // base.stored.rows) > 4 * wanted


# Grouping: what is made from one read


@dataclass(slots=True)
class _Item:
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
    def is_side(self) -> bool:
        """Scales, zero points: whatever an encoder gives beside the codes."""
        encoded = self.encoded
        return encoded is not None and encoded.part != "codes"

    def out(self, begin: int = 0, end: int | None = None) -> Out:
        """Its bytes from `begin` to `end`, as a piece carries them."""
        end = self.nbytes if end is None else end
        return Out(self.target, self.tail, self.offset + begin, end - begin, self.layer)


@dataclass(slots=True)
class _Group:
    """All items that can be made from the same stored bytes; `order` is where the variants' graphs have them."""

    order: tuple[int, ...]
    nbytes: int
    items: dict[object, _Item] = field(default_factory=dict)


@dataclass(slots=True)
class _Read:
    """Items made from one pass over `base`: at most one of each target beside the sides."""

    base: Weight
    nbytes: int
    mains: list[_Item] = field(default_factory=list)
    sides: list[_Item] = field(default_factory=list)

    def takes(self, item: _Item) -> bool:
        """True if this pass can give `item` too."""
        if item.encoded is not None and item.base != self.base:
            return False
        return item.is_side or all(main.target != item.target for main in self.mains)

    def serves(self, item: _Item) -> bool:
        """True if the codes that go with the side `item` are made here."""
        return any(main.target == item.target and _encoder(main) == _encoder(item) for main in self.mains)


def _encoder(item: _Item) -> Encoder | None:
    return item.encoded.encoder if item.encoded else None


Variants = Sequence[Sequence[tuple[Weight, str]]]


def lay_out(variants: Variants, part_bytes: int = PART) -> Layout:
    """The layout of every variant's recipes (each with the name of its layer), and the parts to write them in.

    Offsets depend on a variant's own recipes and their order alone, as long as all variants have their weights in
    the same order; `part_bytes` moves nothing.
    """
    groups, items = _grouped(variants)
    ordered = sorted(groups, key=lambda group: (group.nbytes < SMALL, group.order))
    reads = [read for group in ordered for read in _reads(group)]
    ends, sizes = _place(reads, len(variants))
    offsets = tuple({weight: item.offset for weight, item in each} for each in items)
    return Layout(offsets, sizes, _Cutter(ends, sizes, part_bytes).cut(reads))


def _grouped(variants: Variants) -> tuple[list[_Group], list[list[tuple[Weight, _Item]]]]:
    """The groups, and each variant's recipes with their items; equal recipes of a variant share one."""
    groups: dict[Weight, _Group] = {}
    found: list[list[tuple[Weight, _Item]]] = []
    for target, recipes in enumerate(variants):
        found.append([])
        after: tuple[int, ...] = (-1,)
        for index, (weight, layer) in enumerate(recipes):
            base, tail = split(weight)
            is_encoded = bool(tail) and isinstance(tail[-1], Encoded)
            same = core(base) if is_encoded else base
            group = groups.get(same)
            if group is None:
                group = groups[same] = _Group(_order(after, target, index), same.spec.nbytes)
            after = max(after, group.order)
            key = (target, tail, base if is_encoded else None)
            item = group.items.get(key)
            if item is None:
                nbytes = blob_size(weight) if tail else group.nbytes
                item = group.items[key] = _Item(target, base, tail, nbytes, layer)
            found[-1].append((weight, item))
    return list(groups.values()), found


def _order(after: tuple[int, ...], target: int, index: int) -> tuple[int, ...]:
    """A sort key behind `after` and before what follows it: later variants slip in what only they have."""
    if target == 0:
        return (index,)
    if len(after) > 1 and after[-2] == target:
        return (*after[:-1], index)
    return (*after, target, index)


def _reads(group: _Group) -> list[_Read]:
    """The passes over a group's bytes: one, unless encoders see different shapes or a variant wants two codes."""
    items = list(group.items.values())
    if len(items) == 1 and not items[0].is_side:
        return [_Read(items[0].base, group.nbytes, items)]
    mains = sorted((item for item in items if not item.is_side), key=lambda item: item.encoded is None)
    reads: list[_Read] = []
    for item in mains:
        _first([read for read in reads if read.takes(item)], item, group.nbytes, reads).mains.append(item)
    for item in items:
        if item.is_side:
            fit = [read for read in reads if read.takes(item)]
            _first([read for read in fit if read.serves(item)] or fit, item, group.nbytes, reads).sides.append(item)
    return reads


def _first(fit: list[_Read], item: _Item, nbytes: int, reads: list[_Read]) -> _Read:
    """The first that fits, or a new one."""
    if not fit:
        fit = [_Read(item.base, nbytes)]
        reads.extend(fit)
    return fit[0]


def _place(reads: Sequence[_Read], targets: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Every item has its offset: mains, then sides; where the mains of each target end, and where all does."""
    cursor = [0] * targets
    for item in (item for read in reads for item in read.mains):
        item.offset = _aligned(cursor[item.target])
        cursor[item.target] = item.offset + item.nbytes
    ends = tuple(cursor)
    for item in (item for read in reads for item in read.sides):
        item.offset = _aligned(cursor[item.target])
        cursor[item.target] = item.offset + item.nbytes
    return ends, tuple(cursor)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGN) * ALIGN


# Cutting


class _Cutter:
    """Fills one part after another; the last takes what is left, and the sides of all."""

    def __init__(self, ends: tuple[int, ...], sizes: tuple[int, ...], part_bytes: int) -> None:
        self.ends, self.sizes = ends, sizes
        self.part_bytes, self.least = part_bytes, min(LEAST, part_bytes * LEAST // PART)
        self.starts = [0] * len(sizes)
        self.cursor = [0] * len(sizes)
        self.taken = 0
        self.pieces: list[Piece] = []
        self.parts: list[Part] = []

    def cut(self, reads: Iterable[_Read]) -> tuple[Part, ...]:
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

    def take_all(self, read: _Read) -> None:
        """The whole of `read` is in the part being filled."""
        outs = tuple(item.out() for item in (*read.mains, *read.sides))
        self.pieces.append(Piece(read.base, 0, read.base.spec.rows, outs))
        self.taken += read.nbytes
        for item in read.mains:
            self.pass_over(item)

    def pass_over(self, item: _Item) -> None:
        """All of `item` is in the part, and the padding behind it."""
        self.cursor[item.target] = min(_aligned(item.offset + item.nbytes), self.ends[item.target])

    def take_cut(self, read: _Read) -> None:
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

    def __init__(self, read: _Read) -> None:
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


# Statistics


def stats_pieces(layout: Layout) -> list[Piece]:
    """Pieces to be measured before any part is written: of weights cut over several parts whose scales need all rows.

    One encoder each (`outs` are those that wait for its statistics).
    """
    return [
        waiting
        for part in layout.parts
        for piece in part.pieces
        if piece.stop - piece.start < piece.base.spec.rows
        for waiting in _waiting(piece)
    ]


def _waiting(piece: Piece) -> Iterator[Piece]:
    spec = piece.base.spec
    found: dict[tuple[tuple[Step, ...], Encoder], list[Out]] = {}
    for out in piece.outs:
        if out.encoded and out.encoded.encoder.needs_stats(out_specs(spec, out.tail)[0]):
            found.setdefault((out.casts, out.encoded.encoder), []).append(out)
    for outs in found.values():
        yield replace(piece, outs=tuple(outs))
