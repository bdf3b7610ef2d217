"""Quantised: the one encoder of every format with scales (weight.Encoder)."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from batchconv.errors import BadModel, InternalError
from batchconv.formats.blocks import Groups, Tile, dot, dots, extremes, scratch, single, tiles
from batchconv.formats.rules import OPTIMISED, Asymmetric, Rule, eighths, float_scale
from batchconv.formats.table import FORMATS
from batchconv.tensor import Array, DType, Spec
from batchconv.weight import Encoding


@dataclass(frozen=True, slots=True)
class Quantised:
    """Codes and scales of a weight in `format` (a key of FORMATS).

    Parts are "codes", "scale", then "zero_point" (asymmetric formats) and "second_order_scale" (nvfp4).

    axes: the axes that are reduced; group: elements of the one axis that share a scale, -1: all.
    search: several scales are tried for each group, see `searched`; a scale over all rows is not searched.
    """

    format: str
    axes: tuple[int, ...]
    group: int = -1
    search: bool = False

    @property
    def groups(self) -> Groups:
        return Groups(self.axes, self.group)

    @property
    def rule(self) -> Rule:
        rule = FORMATS[self.format].rule
        if rule is None:
            raise InternalError(f"{self.format} has no scales")
        return rule

    def outputs(self, spec: Spec) -> dict[str, Spec]:
        self.groups.check(spec.shape)
        scales = self.groups.scales(spec.shape)
        parts = {
            "codes": Spec(self.rule.codes, self.groups.codes(spec.shape)),
            "scale": Spec(self.rule.scale, scales),
        }
        if self.rule.zero_point is not None:
            parts["zero_point"] = Spec(self.rule.zero_point, scales)
        if self.format == "nvfp4":
            parts["second_order_scale"] = Spec(DType.F32, (1,) * len(scales))
        return parts

    def grain(self, spec: Spec) -> int:
        return self.groups.grain

    def needs_stats(self, spec: Spec) -> bool:
        return self.groups.across_rows or self.format == "nvfp4"

    def stats(self, block: Array) -> Array:
        """[2, ...]: least and greatest of each group as far as this block goes (of all elements for nvfp4)."""
        view = self.groups.view(block)
        if self.format == "nvfp4":
            ends = [extremes(single(view[tile]).reshape(1, -1, 1)) for tile in tiles(view.shape, whole=False)]
            return np.array([min(low.item() for low, _ in ends), max(high.item() for _, high in ends)], np.float32)
        out = np.empty((2, view.shape[0], 1, view.shape[2]), np.float32)
        out[0], out[1] = np.inf, -np.inf
        for tile in tiles(view.shape, whole=False):
            low, high = extremes(view[tile])
            at = (tile[0], slice(None), tile[2])
            np.fmin(out[0][at], low, out=out[0][at])
            np.fmax(out[1][at], high, out=out[1][at])
        return out

    def merge(self, a: Array, b: Array) -> Array:
        out = np.empty_like(a)
        np.fmin(a[0], b[0], out=out[0, ...])
        np.fmax(a[1], b[1], out=out[1, ...])
        return out

    def of_rows(self) -> Quantised | None:
        return replace(self, axes=(0,)) if (self.axes, self.group) == ((1,), -1) else None

    def encode(self, block: Array, spec: Spec, stats: Array | None = None) -> Encoding:
        if self.needs_stats(spec) and stats is None:
            stats = self.stats(block)
        return _Run(self, block, spec, None if stats is None else _known(self, spec, stats)).finished()


@dataclass(frozen=True, slots=True)
class _Known:
    """What follows from the statistics of a weight and is the same for all of its blocks.

    second: the second-order scale of nvfp4, whose other scales each block still has to find; else they are here,
    as computed with, as they will be `stored`, and as `parts`; and `rule` is told what they spare it.
    """

    rule: Rule
    scale: Array | None = None
    zero: Array | None = None
    stored: Array | None = None
    second: Array | None = None
    parts: Mapping[str, Array] = field(default_factory=dict)


class _Last(threading.local):
    """The statistics that this thread met last, and what followed: blocks of one weight come one after another."""

    asked: tuple[Quantised, Spec, Array] | None = None
    known: _Known | None = None


_last = _Last()


def _known(encoder: Quantised, spec: Spec, stats: Array) -> _Known:
    asked = _last.asked
    if asked is None or asked[2] is not stats or asked[:2] != (encoder, spec) or _last.known is None:
        with np.errstate(all="ignore"):
            _last.known = _settled(encoder, spec, stats)
        _last.asked = encoder, spec, stats
    return _last.known


def _settled(encoder: Quantised, spec: Spec, stats: Array) -> _Known:
    rule, (low, high) = encoder.rule, stats
    scale, zero = rule.fit(low, high, spec.size < OPTIMISED)
    if encoder.format == "nvfp4":
        few = math.prod(encoder.groups.scales(spec.shape)) < OPTIMISED
        return _Known(rule, second=float_scale(scale, 448.0, DType.F16, few))
    if isinstance(rule, Asymmetric) and zero is not None:
        rule = rule.within(low, high, scale, zero)
    sides = side_parts(encoder, spec.shape, scale, zero)
    return _Known(rule, scale, zero, stored(rule, scale), None, sides)


class _Run:
    """One block on its way: what is filled in tile by tile."""

    def __init__(self, encoder: Quantised, block: Array, spec: Spec, known: _Known | None) -> None:
        self.encoder, self.block = encoder, block
        self.small = spec.size < OPTIMISED
        self.known = known or _Known(encoder.rule)
        self.rule, self.groups = self.known.rule, encoder.groups
        self.view = self.groups.view(block)
        outer, _, inner = self.view.shape
        self.codes = np.empty(self.view.shape, np.int8 if self.rule.codes in (DType.I4, DType.I8) else np.uint8)
        self.fitted = self.known.scale is not None
        self.scale = np.empty((outer, 1, inner), np.float32) if self.known.scale is None else self.known.scale
        self.zero = self.known.zero
        if self.rule.zero_point and not self.fitted:
            self.zero = np.empty((outer, 1, inner), np.float32)
        self.error = self.square = 0.0

    def finished(self) -> Encoding:
        with np.errstate(all="ignore"):
            for tile in tiles(self.view.shape, whole=not self.fitted):
                self.sweep(tile)
        if not (np.isfinite(self.square) and np.isfinite(self.error)):
            raise BadModel(
                f"a weight has elements that {self.encoder.format} cannot hold (NaN, infinite, or a scale beyond f16): "
                "leave it as it is (--ignore)"
            )
        count = float(self.block.size)
        return Encoding(self.parts(), {"error": self.error, "square": self.square, "count": count})

    def sweep(self, tile: Tile) -> None:
        """Scales, codes and errors of one tile."""
        x = single(self.view[tile])
        at = (tile[0], slice(None), tile[2])
        zero = None if self.zero is None else self.zero[at]
        if not self.fitted:
            low, high = extremes(x)
            self.scale[at], fresh = self.rule.fit(low, high, self.small)
            if zero is not None and fresh is not None:
                zero[:] = fresh
            if self.encoder.search and self.rule.shrink:
                self.scale[at], error, square = searched(self.rule, x, self.scale[at], zero, self.codes[tile])
                self.error, self.square = self.error + error, self.square + square
                return
        self.round(x, at, zero, self.codes[tile])

    def round(self, x: Array, at: Tile, zero: Array | None, codes: Array) -> None:
        """Codes and errors of a tile with the scales that are there for it."""
        levels = scratch("levels", x.shape)
        self.rule.round(x, self.scale[at], zero, levels, codes)
        self.square += dot(x, x)
        np.multiply(levels, self.stored(at), out=levels)
        np.subtract(levels, x, out=levels)
        self.error += dot(levels, levels)

    def stored(self, at: Tile) -> Array:
        """The scales of a tile as they will be multiplied with when the model runs."""
        if self.known.stored is not None:
            return self.known.stored[at]
        return stored(self.rule, self.scale[at], self.known.second)

    def parts(self) -> dict[str, Array]:
        shape = self.block.shape
        sides = self.known.parts or side_parts(self.encoder, shape, self.scale, self.zero, self.known.second)
        return {"codes": self.groups.restore(self.codes, shape).view(self.rule.codes.numpy), **sides}


def side_parts(
    encoder: Quantised, shape: tuple[int, ...], scale: Array, zero: Array | None, second: Array | None = None
) -> dict[str, Array]:
    """What goes with the codes of a block of `shape`, in the types that are stored."""
    rule, scales = encoder.rule, encoder.groups.scales(shape)
    parts = {"scale": narrow(rule, scale, second).reshape(scales)}
    if zero is not None and rule.zero_point is not None:
        parts["zero_point"] = zero.astype(rule.zero_point.numpy).reshape(scales)
    if second is not None:
        parts["second_order_scale"] = np.full((1,) * len(scales), second, np.float32)
    return parts


def narrow(rule: Rule, scale: Array, second: Array | None = None) -> Array:
    """The scales in their own type; nvfp4's are divided by the second-order scale."""
    if second is not None:
        return eighths(scale / second, DType.F8E4M3).view(DType.F8E4M3.numpy)
    if rule.scale is DType.F8E8M0:
        return (np.frexp(scale)[1] + 126).astype(np.uint8).view(DType.F8E8M0.numpy)
    with np.errstate(over="ignore"):
        return scale.astype(np.float16)


def stored(rule: Rule, scale: Array, second: Array | None = None) -> Array:
    """The scales as they will be multiplied with when the model runs."""
    if second is not None:
        return halved(narrow(rule, scale, second).astype(np.float32) * second)
    return halved(scale) if rule.scale is DType.F16 else scale


def halved(scale: Array) -> Array:
    """float32 scales as f16 holds them."""
    return scale.astype(np.float16).astype(np.float32)


def searched(rule: Rule, x: Array, first: Array, zero: Array | None, codes: Array) -> tuple[Array, float, float]:
    """(scales as f16 holds them, squared error, sum of squares) of a tile; its codes in `codes`.

    The data-free search: x / first (NNCF's scale) is rounded to levels q once as it is and once divided by each
    further factor of `rule.shrink`, which clips the extremes and divides the rest more finely. With the least-squares
    scale s = f16(<x, q> / <q, q>) the error of a group is |x|^2 - s (2 <x, q> - s <q, q>), three sums and no further
    pass; the levels with the least error are kept. The first are NNCF's own codes (but for ties in a table, which is
    looked up by cells), so no group is worse than there.
    """
    ratio, levels = scratch("ratio", x.shape), scratch("levels", x.shape)
    np.divide(x, first, out=ratio)
    both = np.empty((len(rule.shrink), *first.shape), np.float32)
    own, others = np.empty_like(both), scratch("others", (len(rule.shrink), *x.shape), np.uint8).view(codes.dtype)
    for i, factor in enumerate(rule.shrink):
        if i:
            np.multiply(ratio, np.float32(1 / shrunk(factor, x.shape[1])), out=levels)
        rule.snap(levels if i else ratio, zero, levels, others[i] if i else codes)
        both[i], own[i] = dots(ratio, levels), dots(levels, levels)
    scales, gains = least(both, own, first)
    scale, gain = scales[0], gains[0]
    for i in range(1, len(rule.shrink)):
        better = gains[i] > gain
        select(codes, others[i], better)
        scale, gain = np.where(better, scales[i], scale), np.maximum(gains[i], gain)
    square = dot(x, x)
    return scale, max(square - dot(np.square(first), gain), 0.0), square


def shrunk(factor: float, size: int) -> float:
    """A factor meant for groups of 128 as it suits groups of `size`: of more elements the greatest is further out."""
    return math.copysign(abs(factor) ** (math.log2(max(size, 2)) / 7), factor)


def least(both: Array, own: Array, first: Array) -> tuple[Array, Array]:
    """(least-squares scales as f16, what they take from the squares) for <x, q> and <q, q>, x in units of `first`."""
    scales = halved(both / own * first)
    steps = scales / first
    gains = steps * (2 * both - steps * own)
    if not own.all():  # nothing but zeros
        nothing = own == 0
        gains[nothing] = 0
        np.copyto(scales, halved(first), where=nothing)
    return scales, gains


def select(codes: Array, other: Array, better: Array) -> None:
    """`codes` are `other` in the groups that are better (bits, as a masked copy takes 15 times as long)."""
    mask = -better.astype(np.int8)
    np.bitwise_xor(other, codes, out=other)
    np.bitwise_and(other, mask.view(codes.dtype), out=other)
    np.bitwise_xor(codes, other, out=codes)
