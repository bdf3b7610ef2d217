"""Element types, the type-and-shape of stored tensors, and boxes inside them.

Element types are those of OpenVINO (IR v11, "Precision names" and "element_type names" of its reader).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_EXTENDED = {"bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"}


class DType(Enum):
    """An OpenVINO element type: (name in `element_type`, name in `precision`, bits, numpy name of one element).

    A type narrower than a byte is held in memory as one code per element, in the numpy type named here, and
    packed only when it is written (see `batchconv.packing`).
    """

    F32 = ("f32", "FP32", 32, "float32")
    F16 = ("f16", "FP16", 16, "float16")
    BF16 = ("bf16", "BF16", 16, "bfloat16")
    F64 = ("f64", "FP64", 64, "float64")
    I4 = ("i4", "I4", 4, "int8")
    I8 = ("i8", "I8", 8, "int8")
    I16 = ("i16", "I16", 16, "int16")
    I32 = ("i32", "I32", 32, "int32")
    I64 = ("i64", "I64", 64, "int64")
    U1 = ("u1", "BIN", 1, "uint8")
    U2 = ("u2", "U2", 2, "uint8")
    U3 = ("u3", "U3", 3, "uint8")
    U4 = ("u4", "U4", 4, "uint8")
    U6 = ("u6", "U6", 6, "uint8")
    U8 = ("u8", "U8", 8, "uint8")
    U16 = ("u16", "U16", 16, "uint16")
    U32 = ("u32", "U32", 32, "uint32")
    U64 = ("u64", "U64", 64, "uint64")
    BOOLEAN = ("boolean", "BOOL", 8, "bool")
    NF4 = ("nf4", "NF4", 4, "uint8")
    F4E2M1 = ("f4e2m1", "F4E2M1", 4, "uint8")
    F8E4M3 = ("f8e4m3", "F8E4M3", 8, "float8_e4m3fn")
    F8E5M2 = ("f8e5m2", "F8E5M2", 8, "float8_e5m2")
    F8E8M0 = ("f8e8m0", "F8E8M0", 8, "float8_e8m0fnu")
    STRING = ("string", "STRING", 0, "object")
    DYNAMIC = ("dynamic", "UNSPECIFIED", 0, "object")

    def __init__(self, ir: str, precision: str, bits: int, numpy_name: str) -> None:
        self.ir = ir
        self.precision = precision
        self.bits = bits
        self.numpy_name = numpy_name

    @cached_property
    def numpy(self) -> np.dtype[Any]:
        """The numpy type of one element in memory (ml_dtypes is imported only for the types it defines)."""
        if self.numpy_name in _EXTENDED:
            import ml_dtypes

            extended: np.dtype[Any] = np.dtype(getattr(ml_dtypes, self.numpy_name))
            return extended
        return np.dtype(self.numpy_name)

    @property
    def is_real(self) -> bool:
        """True for floating-point types, those narrower than a byte included."""
        return self.name[0] == "F" or self in (DType.BF16, DType.NF4)

    @property
    def is_integral(self) -> bool:
        return self.name[0] in "IU"

    @classmethod
    def named(cls, text: str) -> DType:
        """The type with that IR name (`f32`); KeyError otherwise."""
        return _BY_IR[text]

    @classmethod
    def of(cls, dtype: npt.DTypeLike) -> DType:
        """The type whose elements numpy holds as `dtype` (whole-byte types only); KeyError otherwise."""
        return _BY_NUMPY[np.dtype(dtype).name]


_BY_IR = {d.ir: d for d in DType}
_BY_NUMPY = {d.numpy_name: d for d in DType if d.bits >= 8}


@dataclass(frozen=True, slots=True)
class Spec:
    """The element type and static shape of a tensor that is stored or will be."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the `.bin`: types narrower than a byte packed and padded (u3 and u6 to groups of three bytes)."""
        unit = 24 if self.dtype.bits in (3, 6) else 8
        return -(-self.size * self.dtype.bits // unit) * (unit // 8)

    @property
    def rows(self) -> int:
        """Length of axis 0 (1 for a scalar)."""
        return self.shape[0] if self.shape else 1

    def __str__(self) -> str:
        return f"{self.dtype.ir}{list(self.shape)}"


@dataclass(frozen=True, slots=True)
class Region:
    """A box inside a tensor: per axis from `start` (included) to `stop` (not)."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Region:
        """All of a tensor of that shape."""
        return cls((0,) * len(shape), tuple(shape))

    @classmethod
    def rows(cls, shape: Sequence[int], start: int, stop: int) -> Region:
        """Rows `start` to `stop` of axis 0, every other axis whole; a scalar has one row."""
        if not shape:
            return cls((), ())
        return cls((start,) + (0,) * (len(shape) - 1), (stop, *shape[1:]))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """What indexes the box in an array of the whole tensor."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def flat(self, shape: Sequence[int]) -> tuple[int, int] | None:
        """(first, last + 1) element in C order if the box is contiguous in a tensor of `shape`, else None."""
        if self.size == 0:
            return 0, 0
        hull = self.hull(shape)
        return None if hull != self else (self.first(shape), self.first(shape) + self.size)

    def first(self, shape: Sequence[int]) -> int:
        """Number, in C order in a tensor of `shape`, of the box's first element."""
        first = 0
        for start, dim in zip(self.start, shape, strict=True):
            first = first * dim + start
        return first

    def hull(self, shape: Sequence[int]) -> Region:
        """The smallest contiguous box around this one: all axes after the first that is longer than 1 are whole."""
        axis = next((i for i, (a, b) in enumerate(zip(self.start, self.stop)) if b - a > 1), len(shape))
        return Region(
            (*self.start[: axis + 1], *(0 for _ in shape[axis + 1 :])), (*self.stop[: axis + 1], *shape[axis + 1 :])
        )

    def inside(self, outer: Region) -> tuple[slice, ...]:
        """What indexes this box in an array of `outer`, a box around it."""
        return tuple(slice(a - o, b - o) for a, b, o in zip(self.start, self.stop, outer.start, strict=True))

    @classmethod
    def spanning(cls, shape: Sequence[int], first: int, stop: int) -> Region:
        """The smallest contiguous box of a tensor of `shape` that holds elements `first` to `stop` of its C order."""
        if first >= stop:
            return cls((0,) * len(shape), (0,) * len(shape))
        last, width = stop - 1, math.prod(shape)
        low: list[int] = []
        high: list[int] = []
        for dim in shape:
            width //= dim
            (a, first), (b, last) = divmod(first, width), divmod(last, width)
            low.append(a)
            high.append(b + 1)
            if a != b:
                break
        rest = shape[len(low) :]
        return cls((*low, *(0 for _ in rest)), (*high, *rest))
