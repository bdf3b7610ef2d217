"""What is known of values: grids of numbers and Intervals, and arithmetic on them (OpenVINO's bound evaluation).

A grid is an object array whose items are Python numbers, bools or Intervals (of integers or floats; `UNKNOWN`
where nothing is known, `MAYBE` for a bool).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from batchconv.errors import BadModel
from batchconv.graph import KNOWN_LIMIT, Known, Value
from batchconv.shape import ANY, Dim, Interval, Shape, interval, is_static, same, static
from batchconv.tensor import Array, DType

LOWEST = -(1 << 63)
LONGEST = 1 << 12
"""How many sizes or axes a value may list (a file that declares 2**31 of them must not make us make them)."""
UNKNOWN = Interval(LOWEST)
MAYBE = Interval(0, 1)

Grids = list[Array]


def grids(inputs: Sequence[Value], dtype: DType, shape: Shape) -> Grids | None:
    """What is known of all of `inputs`, or None if that is nothing or the result (dtype, shape) is too large to follow.

    Constants are read last, so that a bias of a convolution never is.
    """
    if shape is None or not is_static(shape) or size(shape) * dtype.bits > 8 * KNOWN_LIMIT:
        return None
    if any(v.op.type != "Constant" and v.output.known is None for v in inputs):
        return None
    found = [value.known for value in inputs]
    return None if None in found else [grid_of(known) for known in found if known is not None]


def size(shape: Shape) -> int:
    return math.prod(dim for dim in shape or () if isinstance(dim, int))


def grid_of(known: Known) -> Array:
    """The items as an object array."""
    grid = np.empty(len(known.items), object)
    grid[:] = known.items
    return grid.reshape(known.shape)


def known_of(grid: Array) -> Known:
    """The inverse of `grid_of`."""
    return Known(grid.shape, tuple(grid.reshape(-1).tolist()))


def moved(inputs: Sequence[Value], dtype: DType, shape: Shape, move: Callable[..., Array]) -> Known | None:
    """What is known after `move`, which only picks and places items (a gather, a concatenation ...)."""
    found = grids(inputs, dtype, shape)
    return None if found is None else known_of(np.asarray(move(*found), object))


def computed(inputs: Sequence[Value], dtype: DType, shape: Shape, rule: Rule) -> Known | None:
    """What is known of an elementwise result, items broadcast to each other."""
    found = grids(inputs, dtype, shape)
    if found is None:
        return None
    kind, sizes = inputs[0].dtype, static(shape)
    columns = zip(*(np.broadcast_to(grid, sizes).reshape(-1).tolist() for grid in found))
    return Known(sizes, tuple(rule(kind, *column) for column in columns))


Rule = Callable[..., Any]
"""(element type, items) -> item."""


def ends(item: Any) -> tuple[Any, Any]:
    """Lowest and highest value of an item, infinities included."""
    if not isinstance(item, Interval):
        return item, item
    return -math.inf if item.lo == LOWEST else item.lo, math.inf if item.hi is None else item.hi


def between(lo: Any, hi: Any) -> Any:
    """The item that lies between two ends."""
    if lo == hi and not math.isinf(lo):
        return lo
    return Interval(LOWEST if lo == -math.inf else lo, None if hi == math.inf else hi)


def union(a: Any, b: Any) -> Any:
    """The item that is `a` or `b`."""
    if isinstance(a, Interval) and isinstance(b, Interval) and same(a, b):
        return a
    (low, high), (least, most) = ends(a), ends(b)
    if {type(a), type(b)} <= {bool, Interval} and bool in (type(a), type(b)):
        return a if a is b else MAYBE
    return between(min(low, least), max(high, most))


def exact(function: Callable[..., Any], dtype: DType, items: Sequence[Any]) -> Any:
    """`function` of numpy on exact items, in their own element type; UNKNOWN where it is not defined."""
    with np.errstate(all="ignore"):
        result = function(*(dtype.numpy.type(item) for item in items))
    return np.asarray(result, dtype.numpy).item()


def monotone(function: Callable[..., Any]) -> Rule:
    """A rule for a function that is monotone in each argument for all values of the others: ends give ends."""

    def rule(dtype: DType, *items: Any) -> Any:
        if not any(isinstance(item, Interval) for item in items):
            return exact(function, dtype, items)
        kept = _neutral(function, items)
        if kept is not None:
            return kept
        corners = [_corner(function, corner) for corner in _corners(items)]
        return between(min(corners), max(corners))

    return rule


NEUTRAL: dict[Callable[..., Any], int] = {
    np.add: 0,
    np.subtract: 0,
    np.multiply: 1,
    np.floor_divide: 1,
    np.true_divide: 1,
}


def _neutral(function: Callable[..., Any], items: Sequence[Any]) -> Any:
    """x of x + 0, x - 0, x * 1, x / 1, so that its symbol stays."""
    neutral = NEUTRAL.get(function)
    if neutral is None:
        return None
    if items[1] == neutral:
        return items[0]
    return items[1] if items[0] == neutral and function in (np.add, np.multiply) else None


def _corners(items: Sequence[Any]) -> list[tuple[Any, ...]]:
    corners: list[tuple[Any, ...]] = [()]
    for item in items:
        corners = [(*corner, end) for corner in corners for end in ends(item)]
    return corners


def _corner(function: Callable[..., Any], corner: tuple[Any, ...]) -> Any:
    if not any(isinstance(x, float) and math.isinf(x) for x in corner):
        with np.errstate(all="ignore"):
            return np.asarray(function(*corner)).item()
    real: Callable[..., Any] = np.true_divide if function is np.floor_divide else function
    with np.errstate(all="ignore"):
        result = float(real(*(np.float64(x) for x in corner)))
    if math.isnan(result):  # infinity times 0, and a bound times 0 is 0
        return 0
    return result if math.isinf(result) or not result.is_integer() else int(result)


def divided(dtype: DType, a: Any, b: Any) -> Any:
    """a / b: integers round down (m_pythondiv), and nothing is known where b may be 0."""
    lo, hi = ends(b)
    if lo <= 0 <= hi:
        return UNKNOWN
    rule = monotone(np.true_divide if dtype.is_real else np.floor_divide)
    return rule(dtype, a, b)


def exactly(function: Callable[..., Any]) -> Rule:
    """A rule for any other function: known only where all items are exact."""

    def rule(dtype: DType, *items: Any) -> Any:
        return UNKNOWN if any(isinstance(item, Interval) for item in items) else exact(function, dtype, items)

    return rule


def modulo(function: Callable[..., Any]) -> Rule:
    """A rule for Mod and FloorMod: a remainder of numbers that are not negative is below the divisor."""

    def rule(dtype: DType, a: Any, b: Any) -> Any:
        if b == 0:
            return UNKNOWN
        if not isinstance(a, Interval) and not isinstance(b, Interval):
            return exact(function, dtype, (a, b))
        (low, high), (least, most) = ends(a), ends(b)
        if low < 0 or least <= 0 or dtype.is_real:
            return UNKNOWN
        return a if high < least else between(0, min(high, most - 1))

    return rule


def cast(target: DType) -> Rule:
    """A rule for Convert: ends are converted, what does not fit an integer is unknown."""

    def one(dtype: DType, x: Any) -> Any:
        if isinstance(x, float) and not math.isfinite(x) and not target.is_real:
            return x
        with np.errstate(all="ignore"):
            return np.asarray(x, dtype.numpy).astype(target.numpy).item()

    def rule(dtype: DType, item: Any) -> Any:
        if not isinstance(item, Interval):
            return UNKNOWN if isinstance(one(dtype, item), float) and not target.is_real else one(dtype, item)
        if target is DType.BOOLEAN:
            return True if ends(item)[0] > 0 else MAYBE
        if dtype.is_integral and target.is_integral:
            return item
        return between(*(end if isinstance(end, float) and math.isinf(end) else one(dtype, end) for end in ends(item)))

    return rule


def as_dim(item: Any) -> Dim:
    """An item as a dimension; BadModel if it is negative."""
    if isinstance(item, Interval):
        return item if item.lo >= 0 else interval(0, item.hi)
    if item < 0:
        raise BadModel(f"a dimension cannot be {item}")
    return int(item)


def items_of(value: Value) -> tuple[Any, ...] | None:
    """What is known of the elements of a value that steers a shape, in order; None if not even how many there are."""
    known = value.known
    if known is not None:
        return known.items
    if value.shape is None or not is_static(value.shape):
        return None
    if size(value.shape) > LONGEST:
        raise BadModel(f"{size(value.shape)} sizes or axes are too many")
    return (UNKNOWN,) * size(value.shape)


def dims_of(value: Value) -> Shape:
    """The shape that a value spells; None if not even the rank is known."""
    items = items_of(value)
    return None if items is None else tuple(ANY if item is UNKNOWN else as_dim(item) for item in items)


def numbers(value: Value) -> tuple[Any, ...] | None:
    """All elements, if they are known exactly."""
    known = value.known
    return known.items if known is not None and known.whole else None
