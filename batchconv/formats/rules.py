"""The arithmetic of each format: from the extremes of a group to its scale, from elements to codes.

Every rule works in float32, on [outer, reduced, inner] tiles and [outer, 1, inner] scales, and follows what NNCF 3.4
computes in its OpenVINO backend for weights of 10,000 elements and more (openvino/optimized_functions/models.py) and
in its numpy reference below that or where there is no optimised model (int2, int3, codebooks; weight_lowering.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import numpy as np

from batchconv.formats.blocks import scratch
from batchconv.formats.half import to_f16
from batchconv.tensor import Array, DType

EPS = np.finfo(np.float32).eps
"""NNCF's floor under the magnitude of a scale."""

OPTIMISED = 10_000
"""Elements from which NNCF computes in OpenVINO (MIN_INPUT_SIZE_FOR_OPTIMIZED_COMPRESSION), floor and all."""

# fmt: off
NF4 = np.array((
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
), np.float32)
"""The sixteen quantiles of QLoRA (Dettmers et al. 2023, appendix E), in the order of the codes."""

NF4_BOUNDS = np.array((
    -0.84809643, -0.6106329, -0.45999527, -0.33967942, -0.2346074, -0.13791174, -0.045525018, 0.03979015, 0.120255254,
    0.20352125, 0.29201376, 0.38931254, 0.5016634, 0.6427869, 0.8614784,
), np.float32)
"""Where OpenVINO and NNCF change from one code to the next (the midpoints, rounded as they print them)."""
# fmt: on

CB4 = np.array(
    [-3.5, -2.5, -1.875, -1.375, -1.0, -0.625, -0.3125, 0.0, 0.28125, 0.5625, 0.875, 1.125, 1.5, 2.0, 2.5, 3.5],
    np.float32,
)
"""NNCF's fixed codebook (CB4_QUANTILES); each value is an f8e4m3."""

F4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
"""The magnitudes of f4e2m1 (OCP Microscaling Formats v1.0, section 5.3.3) in the order of the codes."""


class Rule(Protocol):
    """How one format makes a scale, and codes."""

    @property
    def codes(self) -> DType: ...
    @property
    def scale(self) -> DType: ...
    @property
    def zero_point(self) -> DType | None: ...
    @property
    def shrink(self) -> tuple[float, ...]:
        """Factors on the scale of groups of 128 that the search tries, NNCF's (1) first; empty: no search."""
        ...

    def fit(self, low: Array, high: Array, small: bool) -> tuple[Array, Array | None]:
        """Scale and zero point of groups with these extremes; `small`: a weight that NNCF computes in numpy."""
        ...

    def round(self, x: Array, scale: Array, zero: Array | None, levels: Array, codes: Array | None) -> None:
        """`levels` becomes what each x / scale is rounded to (less the zero point), `codes` its codes if wanted."""
        ...

    def snap(self, ratio: Array, zero: Array | None, levels: Array, codes: Array) -> None:
        """`levels` (may be `ratio`) and `codes` become what the quotients are rounded to, or nearly so (a table)."""
        ...


def floored(scale: Array) -> Array:
    """Scales with EPS where the magnitude is less."""
    return np.where(np.abs(scale) < EPS, EPS, scale)


def peak(low: Array, high: Array) -> Array:
    """max |w| of groups with these extremes."""
    return np.maximum(np.abs(low), np.abs(high))


@dataclass(frozen=True, slots=True)
class Symmetric:
    """Levels -2^(b-1) .. 2^(b-1)-1 and a signed scale: the greater magnitude falls on the lowest level."""

    bits: int
    codes: DType
    shrink: tuple[float, ...] = ()
    scale: DType = DType.F16
    zero_point: DType | None = None

    @property
    def offset(self) -> int:
        """What is added to a level to make its code (types without a sign)."""
        return 0 if self.codes in (DType.I8, DType.I4) else 1 << (self.bits - 1)

    def fit(self, low: Array, high: Array, small: bool) -> tuple[Array, Array | None]:
        least = np.abs(low)
        return floored(np.where(least >= high, least, -high) / np.float32(1 << (self.bits - 1))), None

    def round(self, x: Array, scale: Array, zero: Array | None, levels: Array, codes: Array | None) -> None:
        np.divide(x, scale, out=levels)
        self.snap(levels, zero, levels, codes)

    def snap(self, ratio: Array, zero: Array | None, levels: Array, codes: Array | None) -> None:
        half = 1 << (self.bits - 1)
        np.rint(ratio, out=levels)
        np.clip(levels, np.float32(-half), np.float32(half - 1), out=levels)
        if codes is not None:
            signed = codes.view(np.int8)
            np.copyto(signed, levels, casting="unsafe")
            if self.offset:
                np.add(signed, np.int8(self.offset), out=signed)


@dataclass(frozen=True, slots=True)
class Asymmetric:
    """Levels 0 .. 2^b-1 from min(0, min) to max(0, max), with a zero point of the codes' type.

    clips: False where it is known that no element is rounded to a level beyond these.
    """

    bits: int
    codes: DType
    shrink: tuple[float, ...] = ()
    scale: DType = DType.F16
    clips: bool = True

    @property
    def top(self) -> np.float32:
        """The greatest level."""
        return np.float32((1 << self.bits) - 1)

    @property
    def zero_point(self) -> DType | None:
        return self.codes

    def fit(self, low: Array, high: Array, small: bool) -> tuple[Array, Array | None]:
        low, high = np.minimum(low, np.float32(0)), np.maximum(high, np.float32(0))
        scale = floored((high - low) / self.top)
        return scale, np.clip(-np.rint(low / scale), np.float32(0), self.top)

    def round(self, x: Array, scale: Array, zero: Array | None, levels: Array, codes: Array | None) -> None:
        np.divide(x, scale, out=levels)
        self.snap(levels, zero, levels, codes)

    def snap(self, ratio: Array, zero: Array | None, levels: Array, codes: Array | None) -> None:
        assert zero is not None
        np.add(ratio, zero, out=levels)
        np.rint(levels, out=levels)
        if self.clips:
            np.clip(levels, np.float32(0), self.top, out=levels)
        if codes is not None:
            np.copyto(codes, levels, casting="unsafe")
        np.subtract(levels, zero, out=levels)

    def within(self, low: Array, high: Array, scale: Array, zero: Array) -> Asymmetric:
        """This rule for elements from `low` to `high`: where these need no clip, none between does (it is monotone)."""
        ends = np.rint(np.stack([low, high]) / scale + zero)
        return replace(self, clips=not bool((ends >= 0).all() and (ends <= self.top).all()))


@dataclass(frozen=True, slots=True)
class Table:
    """Sixteen ascending values; a code is how many of the fifteen bounds lie below x / scale."""

    name: str
    codes: DType
    shrink: tuple[float, ...] = ()
    scale: DType = DType.F16
    zero_point: DType | None = None

    def fit(self, low: Array, high: Array, small: bool) -> tuple[Array, Array | None]:
        return floored(peak(low, high) / TABLES[self.name][0][-1]), None

    def round(self, x: Array, scale: Array, zero: Array | None, levels: Array, codes: Array | None) -> None:
        values, bounds = TABLES[self.name]
        np.divide(x, scale, out=levels)
        count = codes if codes is not None else scratch("count", x.shape, np.uint8)
        above = scratch("above", x.shape, np.bool_)
        np.greater(levels, bounds[0], out=count.view(np.bool_))
        for bound in bounds[1:]:
            np.greater(levels, bound, out=above)
            np.add(count, above.view(np.uint8), out=count)
        np.take(values, count, out=levels, mode="clip")

    def snap(self, ratio: Array, zero: Array | None, levels: Array, codes: Array) -> None:
        looked_up(self.name, ratio, levels, codes)


TABLES = {"nf4": (NF4, NF4_BOUNDS), "cb4": (CB4, (CB4[1:] + CB4[:-1]) * np.float32(0.5))}
"""name -> values, bounds."""


@dataclass(frozen=True, slots=True)
class Float4:
    """f4e2m1, nearest even, the greatest magnitude on 6; an f8e8m0 scale is the next power of two."""

    scale: DType = DType.F16
    shrink: tuple[float, ...] = ()
    codes: DType = DType.F4E2M1
    zero_point: DType | None = None

    def fit(self, low: Array, high: Array, small: bool) -> tuple[Array, Array | None]:
        return float_scale(peak(low, high), 6.0, self.scale, small), None

    def round(self, x: Array, scale: Array, zero: Array | None, levels: Array, codes: Array | None) -> None:
        np.divide(x, scale, out=levels)
        count = codes if codes is not None else scratch("count", x.shape, np.uint8)
        above = scratch("above", x.shape, np.bool_)
        sign = scratch("sign", x.shape, np.uint8)
        np.signbit(levels, out=sign.view(np.bool_))
        np.abs(levels, out=levels)
        np.greater(levels, np.float32(0.25), out=count.view(np.bool_))
        for bound, even in F4_BOUNDS[1:]:
            (np.greater_equal if even else np.greater)(levels, bound, out=above)
            np.add(count, above.view(np.uint8), out=count)
        np.left_shift(sign, np.uint8(3), out=sign)
        np.bitwise_or(count, sign, out=count)
        np.take(F4_SIGNED, count, out=levels, mode="clip")

    def snap(self, ratio: Array, zero: Array | None, levels: Array, codes: Array) -> None:
        looked_up("f4", ratio, levels, codes)


F4_BOUNDS = tuple(
    (np.float32((F4[i] + F4[i + 1]) / 2), i % 2 == 1)  # a tie goes to the code that is even
    for i in range(7)
)
F4_SIGNED = np.concatenate([F4, -F4])


@dataclass(frozen=True, slots=True)
class Float8:
    """f8e4m3 or f8e5m2, the greatest magnitude on the greatest value; by way of f16, as OpenVINO converts."""

    codes: DType
    scale: DType = DType.F16
    shrink: tuple[float, ...] = ()
    zero_point: DType | None = None

    def fit(self, low: Array, high: Array, small: bool) -> tuple[Array, Array | None]:
        top = 448.0 if self.codes is DType.F8E4M3 else 57344.0
        return float_scale(peak(low, high), top, self.scale, small), None

    def round(self, x: Array, scale: Array, zero: Array | None, levels: Array, codes: Array | None) -> None:
        np.divide(x, scale, out=levels)  # at most the greatest value, which f16 holds
        half = scratch("narrow", x.shape, np.uint16)
        to_f16(levels, half, scratch("near", x.shape))
        taken(eighth_values(self.codes), half, 8, levels, codes)

    def snap(self, ratio: Array, zero: Array | None, levels: Array, codes: Array) -> None:
        self.round(ratio, np.ones((1, 1, 1), np.float32), zero, levels, codes)


CELLS = 1 << 14
"""Cells that `looked_up` divides the range of a table into."""


def looked_up(name: str, ratio: Array, levels: Array, codes: Array) -> None:
    """`levels` and `codes` become the value and the code of the cell that each ratio falls into: no comparisons."""
    table, top = cells(name)
    np.multiply(ratio, np.float32((CELLS / 2 - 1) / top), out=levels)
    np.add(levels, np.float32(CELLS / 2), out=levels)
    np.clip(levels, np.float32(0), np.float32(CELLS - 1), out=levels)
    short = scratch("short", levels.shape, np.int32)
    np.copyto(short, levels, casting="unsafe")  # float to int64 is not vectorised
    np.bitwise_and(short, np.int32(CELLS - 1), out=short)  # NaN is anything
    taken(table, short, 4, levels, codes)


def taken(table: Array, index: Array, width: int, levels: Array, codes: Array | None) -> None:
    """`levels` become the float32 of `table` at `index`, less their last `width` bits, which are the `codes`."""
    cell, low = scratch("cell", levels.shape, np.intp), np.uint32((1 << width) - 1)
    np.copyto(cell, index)
    np.take(table, cell, out=levels, mode="wrap")
    bits = levels.view(np.uint32)
    if codes is not None:
        code = scratch("code", levels.shape, np.uint32)
        np.bitwise_and(bits, low, out=code)
        np.copyto(codes, code, casting="unsafe")
    np.bitwise_and(bits, ~low, out=bits)


@cache
def cells(name: str) -> tuple[Array, float]:
    """(the value nearest to the middle of each cell, the greatest value) of a table, or of f4e2m1.

    The last four bits of a value are its code (so it is off by a millionth): one table to look into instead of two.
    """
    values = F4_SIGNED if name == "f4" else TABLES[name][0]
    middles = (np.arange(CELLS, dtype=np.float32) + 0.5 - CELLS / 2) / (CELLS / 2 - 1) * values.max()
    codes = np.abs(middles[:, None] - values).argmin(axis=1).astype(np.uint32)
    table = (values[codes].view(np.uint32) & np.uint32(0xFFFFFFF0) | codes).view(np.float32)
    return table, float(values.max())


def eighths(x: Array, dtype: DType) -> Array:
    """The bits of x as `dtype`, an 8-bit float, rounded to f16 on the way."""
    with np.errstate(over="ignore"):
        half = x.astype(np.float16)
    codes: Array = eighth_codes(dtype)[half.view(np.uint16)]
    return codes


@cache
def eighth_values(dtype: DType) -> Array:
    """What each f16 bit pattern becomes as `dtype`: a float32 whose last eight bits, else zero, are the code."""
    codes = eighth_codes(dtype)
    values = codes.view(dtype.numpy).astype(np.float32)
    return (values.view(np.uint32) | codes).view(np.float32)


@cache
def eighth_codes(dtype: DType) -> Array:
    """What each of the 65,536 f16 bit patterns becomes as `dtype`: nearest even, at most the greatest value."""
    half = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    top = np.float32(448 if dtype is DType.F8E4M3 else 57344)
    with np.errstate(invalid="ignore"):
        codes: Array = np.clip(half, -top, top).astype(dtype.numpy).view(np.uint8)
    return codes


def float_scale(greatest: Array, top: float, dtype: DType, small: bool) -> Array:
    """max|w| / top with NNCF's floor (before the division where it computes in OpenVINO); a power of two for f8e8m0."""
    ratio = np.float32(top)
    scale = floored(greatest / ratio) if small else floored(greatest) / ratio
    if dtype is not DType.F8E8M0:
        return scale
    mantissa, exponent = np.frexp(scale)
    power: Array = np.ldexp(np.float32(1), np.clip(exponent - (mantissa == np.float32(0.5)), -127, 127))
    return power
