"""Half: the encoder of fp16 and bf16, which have no scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from batchconv.formats.blocks import TILE, dot, scratch, single
from batchconv.tensor import Array, DType, Spec
from batchconv.weight import Encoding

TOP = 65504.0
"""The greatest f16."""

LOSS = 1e-3
"""Relative error above which an f16 element is bad."""

DOUBTFUL = 500
"""Codes of magnitudes up to this (500 * 2^-24) may be bad; the step of those above loses at most LOSS."""

MOST_BAD = 0.75
"""Share of bad elements from which a constant stays as it is."""


@dataclass(frozen=True, slots=True)
class Half:
    """One part, "codes": each element as f16 or bf16, the nearest, ties to even.

    f16 is clamped to +-65504 (infinities too; NaN becomes 65504), as ovc compresses (ir.md section 5); the tally
    counts the "bad" elements, those beyond 65504 or with a relative error above 1e-3, exactly. bf16 keeps
    infinities and NaN. Source of the rules: OpenVINO's CompressFloatConstants, measured.
    """

    dtype: DType = DType.F16

    def outputs(self, spec: Spec) -> dict[str, Spec]:
        return {"codes": Spec(self.dtype, spec.shape)}

    def grain(self, spec: Spec) -> int:
        return 1

    def needs_stats(self, spec: Spec) -> bool:
        return False

    def stats(self, block: Array) -> Array:
        return np.empty(0, np.float32)

    def merge(self, a: Array, b: Array) -> Array:
        return a

    def of_rows(self) -> Half:
        return self

    def encode(self, block: Array, spec: Spec, stats: Array | None = None) -> Encoding:
        flat = block.reshape(-1)
        codes = np.empty(flat.size, np.uint16)
        tally = {"error": 0.0, "square": 0.0, "bad": 0.0, "count": float(flat.size)}
        with np.errstate(all="ignore"):
            for start in range(0, flat.size, TILE):
                piece = slice(start, start + TILE)
                _half_tile(flat[piece], codes[piece], self.dtype, tally)
        return Encoding({"codes": codes.view(self.dtype.numpy).reshape(block.shape)}, tally)


def _half_tile(source: Array, codes: Array, dtype: DType, tally: dict[str, float]) -> None:
    """Codes and tally of a run of elements."""
    x = single(source)
    near, square = scratch("levels", x.shape), dot(x, x)
    if dtype is DType.BF16:
        to_bf16(x, codes, near)
    elif source.dtype != np.float64 and square < TOP * TOP:
        to_f16(x, codes, near)
        at = sparse(np.less_equal(np.left_shift(codes, 1), 2 * DOUBTFUL))
        tally["bad"] += np.count_nonzero(bad(source[at], near[at]))
    else:  # some elements may be beyond f16, or finer than f32
        near[...] = half = clamped(source)
        codes[...] = half.view(np.uint16)
        tally["bad"] += np.count_nonzero(bad(source, half))
    np.subtract(near, x, out=near)
    tally["square"] += square
    tally["error"] += dot(near, near)


def to_f16(x: Array, codes: Array, near: Array) -> None:
    """f16 bits of x, all of it within +-65504, into `codes`, and their values into `near`.

    numpy computes on sixteen floats at a time, but casts to f16 one by one. x + m - m, with m = 1.5 * 2^(e+13) for
    x of exponent e (at least that of 2^-14, where f16's subnormals begin), is x to the nearest of f16's steps there,
    ties to even; that times 2^-112 has f16's bits 13 places further up. The sign is x's own: near may be 0 for -0.
    """
    work, other = scratch("work", x.shape, np.uint32), scratch("spare", x.shape, np.uint32)
    magic = work.view(np.float32)
    np.bitwise_and(x.view(np.uint32), np.uint32(0x7F800000), out=work)
    np.multiply(magic, np.float32(1.5 * 2**13), out=magic)
    np.clip(magic, np.float32(0.75), np.float32(2**30), out=magic)
    np.add(x, magic, out=near)
    np.subtract(near, magic, out=near)
    np.multiply(near, np.float32(2**-112), out=magic)
    np.right_shift(work, np.uint32(13), out=work)
    np.right_shift(x.view(np.uint32), np.uint32(16), out=other)
    np.bitwise_and(other, np.uint32(0x8000), out=other)
    np.bitwise_or(work, other, out=work)
    np.copyto(codes, work, casting="unsafe")


def sparse(flags: Array) -> Array:
    """Indices of the few flags that are set: bytes are looked at eight at a time (numpy's way takes ten times that)."""
    whole = flags.size // 8 * 8
    eights = np.flatnonzero(flags[:whole].view(np.uint64) != 0)
    among = np.flatnonzero(flags[:whole].reshape(-1, 8)[eights])
    return np.concatenate([eights[among >> 3] * 8 + (among & 7), whole + np.flatnonzero(flags[whole:])])


def clamped(source: Array) -> Array:
    """float16 with overflow at +-65504 and NaN at 65504."""
    half = source.astype(np.float16)
    return half if np.isfinite(half).all() else np.nan_to_num(half, nan=TOP, posinf=TOP, neginf=-TOP)


def bad(source: Array, half: Array) -> Array:
    """Which elements f16 does not hold: beyond +-65504, or a relative error above LOSS."""
    exact = source.astype(np.float64)
    size = np.abs(exact)
    return (np.abs(half - exact) > LOSS * size) | ~(size <= TOP)


def to_bf16(x: Array, codes: Array, near: Array) -> None:
    """bf16 bits of x into `codes` and their values into `near`; a NaN stays one."""
    bits, work = x.view(np.uint32), scratch("work", x.shape, np.uint32)
    np.right_shift(bits, np.uint32(16), out=work)
    np.bitwise_and(work, np.uint32(1), out=work)
    np.add(work, np.uint32(0x7FFF), out=work)
    np.add(work, bits, out=work)
    np.bitwise_and(work, np.uint32(0xFFFF0000), out=near.view(np.uint32))
    np.right_shift(work, np.uint32(16), out=work)
    np.copyto(codes, work, casting="unsafe")
    nan = np.flatnonzero(np.isnan(x))
    codes[nan] = 0x7FC0


def verdict(tallies: Mapping[str, Mapping[str, float]]) -> frozenset[str]:
    """Of the layers with these tallies, those whose constants must stay as they are (at least 75 % bad for f16)."""
    return frozenset(
        layer for layer, tally in tallies.items() if tally.get("bad", 0) >= MOST_BAD * max(tally.get("count", 1), 1)
    )


def fits_f16(values: Array) -> bool:
    """ovc's whole rule on a small constant: one element must lose at most 1e-4 (and 1.0), of more less than 75 % may
    be bad."""
    if values.size == 0:
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        if values.size > 1:
            return float(np.mean(bad(values, values.astype(np.float16)))) < MOST_BAD
        exact = values.astype(np.float64)
        loss = np.abs(values.astype(np.float16).astype(np.float64) - exact)
        return bool(np.all((loss <= 1.0) & (loss <= 1e-4 * np.abs(exact))))
