"""Where every weight's bytes go in the `.bin` of every artifact, and the parts in which they are written.

All artifacts (variants) of a model are laid out together, so that a block of the source is read once for all of
them. Offsets follow from the recipes alone; how the work is cut does not move a byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from batchconv.graph import Graph
from batchconv.ir.cut import ALIGN, MOST, PART, SMALL, Cutter, Item, Read, aligned
from batchconv.ir.geometry import blob_size, core, split
from batchconv.ir.pieces import Layout, Out, Part, Piece, stats_pieces
from batchconv.steps import row
from batchconv.weight import LONG, Encoded, Weight

__all__ = ["Layout", "Out", "Part", "Piece", "blob_size", "lay_out", "stats_pieces", "weights"]


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
    reads = [apart for read in reads for apart in _apart(read)]
    offsets = tuple({weight: item.offset for weight, item in each} for each in items)
    part_bytes = max(part_bytes, max([*sizes, sum(read.nbytes for read in reads)]) // MOST)
    return Layout(offsets, sizes, Cutter(ends, sizes, part_bytes).cut(reads))


@dataclass(slots=True)
class _Group:
    """All items that can be made from the same stored bytes; `order` is where the variants' graphs have them."""

    order: tuple[int, ...]
    nbytes: int
    items: dict[object, Item] = field(default_factory=dict)


def _grouped(variants: Variants) -> tuple[list[_Group], list[list[tuple[Weight, Item]]]]:
    """The groups, and each variant's recipes with their items; equal recipes of a variant share one."""
    groups: dict[Weight, _Group] = {}
    found: list[list[tuple[Weight, Item]]] = []
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
                item = group.items[key] = Item(target, base, tail, nbytes, layer)
            found[-1].append((weight, item))
    return list(groups.values()), found


def _order(after: tuple[int, ...], target: int, index: int) -> tuple[int, ...]:
    """A sort key behind `after` and before what follows it: later variants slip in what only they have."""
    if target == 0:
        return (index,)
    if len(after) > 1 and after[-2] == target:
        return (*after[:-1], index)
    return (*after, target, index)


def _reads(group: _Group) -> list[Read]:
    """The passes over a group's bytes: one, unless encoders see different shapes or a variant wants two codes."""
    items = list(group.items.values())
    if len(items) == 1 and not items[0].is_side:
        return [Read(items[0].base, group.nbytes, items)]
    mains = sorted((item for item in items if not item.is_side), key=lambda item: item.encoded is None)
    reads: list[Read] = []
    for item in mains:
        _first([read for read in reads if read.takes(item)], item, group.nbytes, reads).mains.append(item)
    for item in items:
        if item.is_side:
            fit = [read for read in reads if read.takes(item)]
            _first([read for read in fit if read.serves(item)] or fit, item, group.nbytes, reads).sides.append(item)
    return reads


def _first(fit: list[Read], item: Item, nbytes: int, reads: list[Read]) -> Read:
    """The first that fits, or a new one."""
    if not fit:
        fit = [Read(item.base, nbytes)]
        reads.extend(fit)
    return fit[0]


def _apart(read: Read) -> list[Read]:
    """A pass over several matrices with scales that go through a whole one, as a pass over each.

    A block would else be a matrix. Each matrix must give whole bytes, and the next one's codes begin where a
    placement may.
    """
    spec, count = read.base.spec, read.base.spec.rows
    if count < 2 or spec.nbytes <= LONG * count:
        return [read]
    encoders = {item.encoder for item in (*read.mains, *read.sides) if item.encoder}
    even = all(not item.nbytes % (count * ALIGN) for item in read.mains) and not spec.size // count % 8
    if not (encoders and even and all(encoder.of_rows() for encoder in encoders)):
        return [read]
    apart = []
    for index in range(count):
        base = row(read.base, index)
        mains, sides = ([_nth(item, base, index, count) for item in each] for each in (read.mains, read.sides))
        apart.append(Read(base, read.nbytes // count, mains, sides))
    return apart


def _nth(item: Item, base: Weight, index: int, count: int) -> Item:
    """What of the item is made of `base`, row `index` of `count`."""
    nbytes, tail, encoder = item.nbytes // count, item.tail, item.encoder and item.encoder.of_rows()
    if item.encoded and encoder:
        tail = (*tail[:-1], replace(item.encoded, encoder=encoder))
    return Item(item.target, base, tail, nbytes, item.layer, item.offset + index * nbytes)


def _place(reads: Sequence[Read], targets: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Every item has its offset: mains, then sides; where the mains of each target end, and where all does."""
    cursor = [0] * targets
    for item in (item for read in reads for item in read.mains):
        item.offset = aligned(cursor[item.target])
        cursor[item.target] = item.offset + item.nbytes
    ends = tuple(cursor)
    for item in (item for read in reads for item in read.sides):
        item.offset = aligned(cursor[item.target])
        cursor[item.target] = item.offset + item.nbytes
    return ends, tuple(cursor)
