"""Dimensions and shapes: bounds contain every dimension they may stand for."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchconv.errors import BadModel
from batchconv.shape import (
    ANY,
    Dim,
    Interval,
    axis_of,
    bounds,
    broadcast,
    broadcast_dim,
    ceil_div,
    interval,
    is_static,
    merge,
    merge_dim,
    product,
    same,
    static,
    tagged,
    text,
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Dim, int]:
    """A dimension and a number that it may be."""
    lo = draw(st.integers(0, 6))
    value = draw(st.integers(lo, 9))
    hi = draw(st.one_of(st.none(), st.integers(value, 12)))
    return interval(lo, hi), value


def within(value: int, dim: Dim) -> bool:
    b = bounds(dim)
    return b.lo <= value and (b.hi is None or value <= b.hi)


@given(pairs(), pairs())
def test_arithmetic_contains_every_outcome(a: tuple[Dim, int], b: tuple[Dim, int]) -> None:
    (x, m), (y, n) = a, b
    assert within(m + n, x + y)
    assert within(m * n, x * y)
    if isinstance(x, Interval) and m >= n:
        assert within(m - n, x - y)
    if isinstance(x, Interval) and n > 0:
        assert within(m // n, x // y)
    assert within(-(-m // 3), ceil_div(x, 3))


@given(pairs(), pairs())
def test_broadcasting_contains_every_outcome(a: tuple[Dim, int], b: tuple[Dim, int]) -> None:
    (x, m), (y, n) = a, b
    if m == n or 1 in (m, n):
        assert within(n if m == 1 else m, broadcast_dim(x, y))


@given(pairs(), pairs())
def test_merging_contains_what_both_may_be(a: tuple[Dim, int], b: tuple[Dim, int]) -> None:
    (x, m), (y, _) = a, b
    if within(m, y):
        assert within(m, merge_dim(x, y))


def test_what_cannot_agree_is_refused() -> None:
    for function, a, b, message in [
        (merge_dim, 3, 4, "dimensions 3 and 4 do not agree"),
        (merge_dim, Interval(5, 9), Interval(1, 4), "dimensions 5..9 and 1..4 do not agree"),
        (broadcast_dim, 3, 4, "dimensions 3 and 4 cannot be broadcast"),
        (merge, (1, 2), (1,), "shapes [1,2] and [1] do not agree"),
    ]:
        with pytest.raises(BadModel) as caught:
            function(a, b)  # type: ignore[arg-type]
        assert str(caught.value) == message


def test_unknown_rank_takes_the_other_shape_or_stays() -> None:
    assert merge(None, (1, 2)) == merge((1, 2), None) == (1, 2)
    assert broadcast(None, (1, 2)) is None


def test_symbols_tell_dimensions_apart() -> None:
    first, second = tagged((ANY, ANY)) or ()
    assert first == second == ANY
    assert same(first, first)
    assert not same(first, second)
    assert not same(ANY, ANY)
    assert same(3, 3)
    assert same(pickle.loads(pickle.dumps(first)), first)
    assert tagged((first, 3)) == (first, 3)


def test_symbols_stay_where_a_dimension_stays() -> None:
    dim = (tagged((ANY,)) or ())[0]
    assert isinstance(dim, Interval)
    kept = [dim + 0, 0 + dim, dim - 0, dim * 1, 1 * dim, dim // 1, merge_dim(dim, ANY), merge_dim(ANY, dim)]
    assert all(same(other, dim) for other in (*kept, broadcast_dim(dim, 1), broadcast_dim(1, dim)))
    assert not any(same(other, dim) for other in (dim + 1, dim * 2, dim // 2, broadcast_dim(dim, ANY)))


def test_text_is_the_syntax_of_the_command_line() -> None:
    assert text((1, ANY, Interval(8, 16), Interval(2), Interval(0, 9))) == "[1,?,8..16,2..,..9]"
    assert text(None) == "[...]"


def test_static_shapes_and_products() -> None:
    assert static((1, 2)) == (1, 2)
    assert is_static((1, 2))
    assert not is_static((1, ANY))
    assert not is_static(None)
    assert product((2, Interval(1, 3), 0)) == 0
    assert product((2, Interval(1, 3))) == Interval(2, 6)
    with pytest.raises(BadModel, match=r"shape \[1,\?\] must be known here"):
        static((1, ANY))


def test_axes_count_from_the_end_too() -> None:
    assert [axis_of(axis, 3) for axis in (0, 2, -1, -3)] == [0, 2, 2, 0]
    assert axis_of(0, 0) == 0
    with pytest.raises(BadModel, match="axis 3 is outside a tensor of rank 3"):
        axis_of(3, 3)
