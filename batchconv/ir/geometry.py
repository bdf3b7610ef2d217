"""Recipes taken apart, and how the bytes of what is made of a weight follow from its rows."""

from __future__ import annotations

import math
from collections.abc import Iterable

from batchconv import storage
from batchconv.steps import Cast, Reshape
from batchconv.tensor import DType, Region, Spec
from batchconv.weight import BLOCK, Encoded, Extent, Step, Weight

SCATTERED = 32 << 20
"""Block size for recipes that read much more than they give (a transposition): fewer blocks read less."""


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
