"""Steps: what a recipe gives for any box is that box of what numpy gives for the whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchconv.errors import BadModel
from batchconv.steps import Binary, Cast, Reshape, Slice, Sum, Transpose, Unary
from batchconv.tensor import Array, DType, Region, Spec
from batchconv.weight import Extent, Fill, Step, Weight, inline, read

KINDS = [DType.F32, DType.F16, DType.F64, DType.I32, DType.U8, DType.BOOLEAN, DType.U4, DType.I4, DType.U1, DType.U3]
SHAPES = st.lists(st.integers(1, 5), max_size=4).map(tuple)


def codes(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> Array:
    """Random elements in the numpy type of `dtype`."""
    if dtype.bits < 8:
        low = -8 if dtype is DType.I4 else 0
        return np.asarray(rng.integers(low, low + (1 << dtype.bits), shape), dtype.numpy)
    return np.asarray(rng.uniform(0.5, 9.5, shape)).astype(dtype.numpy)


NUMPY: dict[str, Callable[..., Array]] = {
    "negative": lambda a: -a,
    "sqrt": lambda a: a**0.5,
    "reciprocal": lambda a: 1 / a,
    "abs": abs,
    "add": lambda a, b: a + b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
}


def reference(step: Step, array: Array) -> Array:
    """The step on a whole array, written a second time."""
    match step:
        case Transpose(perm):
            return array.transpose(perm)
        case Reshape(shape):
            return array.reshape(shape)
        case Slice(axis, start, stop):
            return array[(slice(None),) * axis + (slice(start, stop),)]
        case Cast(dtype, clamp):
            return np.clip(array, -65504, 65504).astype(np.float16) if clamp else array.astype(dtype.numpy)
        case Unary(kind):
            return NUMPY[kind](array)
        case Binary(kind, operand):
            return NUMPY[kind](array, read(operand))
        case Sum(axes):
            return array.astype(np.float64).sum(axes, keepdims=True).astype(array.dtype)
    raise AssertionError(step)


@st.composite
def steps(draw: st.DrawFn, spec: Spec) -> Step:
    """A step that fits `spec`."""
    axes = range(len(spec.shape))
    offers: list[st.SearchStrategy[Step]] = [st.builds(Transpose, st.permutations(axes).map(tuple))]
    offers.append(st.builds(Reshape, st.sampled_from(factorings(spec.size))))
    if spec.shape:
        axis = draw(st.sampled_from(axes))
        start = draw(st.integers(0, spec.shape[axis]))
        offers.append(st.just(Slice(axis, start, draw(st.integers(start, spec.shape[axis])))))
    if spec.dtype.bits >= 8:
        offers.append(st.just(Cast(draw(st.sampled_from([DType.F32, DType.F64, DType.I32])))))
    if spec.dtype in (DType.F32, DType.F64):
        offers.append(st.builds(Unary, st.sampled_from(["negative", "abs"])))
        offers.append(st.builds(Binary, st.sampled_from(["add", "multiply", "divide"]), operands(spec)))
        if spec.shape and spec.size:
            offers.append(st.just(Sum((draw(st.sampled_from(axes)),))))
        offers.append(st.just(Cast(DType.F16, clamp=True)))
    return draw(st.one_of(offers))


@st.composite
def operands(draw: st.DrawFn, spec: Spec) -> Weight:
    """A recipe that broadcasts with `spec`, itself with a step, now and then of more dimensions."""
    shape = [draw(st.sampled_from([1, dim])) for dim in spec.shape[draw(st.integers(0, len(spec.shape))) :]]
    if draw(st.booleans()) and len(shape) == len(spec.shape) < 4:
        shape = [draw(st.integers(1, 3)), *shape]
    array = np.arange(1, 1 + math.prod(shape)).reshape(shape).astype(spec.dtype.numpy)
    return inline(array).then(Unary("negative"))


def factorings(size: int) -> list[tuple[int, ...]]:
    """Some shapes of that many elements."""
    divisors = [d for d in range(1, size + 1) if size % d == 0] or [0]
    pairs = [(d, size // d if d else 3) for d in divisors]
    triples = [(a, b // c, c) for a, b in pairs for c in divisors if c and b % c == 0]
    return [(size,), (1, size), (size, 1), *pairs, *triples[:20]]


@st.composite
def chains(draw: st.DrawFn) -> tuple[DType, tuple[int, ...], list[Step]]:
    dtype, shape = draw(st.sampled_from(KINDS)), draw(SHAPES)
    spec, chain = Spec(dtype, shape), []
    for _ in range(draw(st.integers(0, 5))):
        chain.append(draw(steps(spec)))
        spec = chain[-1].spec(spec)
    return dtype, shape, chain


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> Region:
    starts = [draw(st.integers(0, dim)) for dim in shape]
    return Region(tuple(starts), tuple(draw(st.integers(a, dim)) for a, dim in zip(starts, shape)))


@settings(max_examples=150, deadline=None)
@given(chains(), st.sampled_from(["inline", "file", "fill"]), st.data())
def test_boxes_of_a_chain(
    tmp_path_factory: pytest.TempPathFactory,
    chain: tuple[DType, tuple[int, ...], list[Step]],
    source: str,
    data: st.DataObject,
) -> None:
    dtype, shape, todo = chain
    array = codes(np.random.default_rng(7), dtype, shape)
    weight = inline(array, dtype)
    if source == "file":
        weight = in_file(tmp_path_factory.getbasetemp() / "weight.bin", weight)
    if source == "fill" and dtype.bits >= 8:
        array = np.full(shape, 3).astype(dtype.numpy)
        weight = Weight(weight.stored, Fill(np.asarray(3).astype(dtype.numpy).tobytes()))
    for step in todo:
        array = reference(step, array)
        weight = weight.then(step)
    assert weight.spec.shape == array.shape
    assert array.dtype == weight.spec.dtype.numpy
    exact = not any(isinstance(step, Sum) for step in todo)
    same(read(weight), array, exact)
    region = data.draw(boxes(array.shape))
    same(read(weight, region), array[region.slices], exact)
    rows = data.draw(st.integers(1, 3))
    blocks = [
        read(weight, Region.rows(array.shape, a, min(a + rows, weight.spec.rows)))
        for a in range(0, weight.spec.rows, rows)
    ]
    if array.shape and blocks:
        same(np.concatenate(blocks), array, exact)


def same(got: Array, want: Array, exact: bool = True) -> None:
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if exact:
        np.testing.assert_array_equal(got, want)
    else:
        np.testing.assert_allclose(got, want, rtol=1e-5)


def in_file(path: Path, weight: Weight, offset: int = 13) -> Weight:
    """The same weight stored in a file."""
    assert isinstance(weight.source, bytes)
    path.write_bytes(b"\xff" * offset + weight.source + b"\xff" * 9)
    return Weight(weight.stored, Extent(str(path), offset, len(weight.source)))


@pytest.mark.parametrize("kind", ["sqrt", "reciprocal", "negative", "abs"])
def test_unary(kind: str) -> None:
    array = np.array([0.25, 4.0, 9.0], np.float32)
    same(read(inline(array).then(Unary(kind))), NUMPY[kind](array))


def test_division_by_zero_and_overflow_are_silent() -> None:
    zero = inline(np.zeros(2, np.float32))
    assert read(inline(np.array([1, 0], np.float32)).then(Binary("divide", zero))).tolist()[0] == math.inf
    assert read(inline(np.full(2, 3e38, np.float32)).then(Cast(DType.F16))).tolist() == [math.inf] * 2


def test_clamped_to_half() -> None:
    array = np.array([1e6, -1e6, math.inf, -math.inf, math.nan, 65504, 65519.9, 1e-8, 0.1], np.float32)
    half = read(inline(array).then(Cast(DType.F16, clamp=True)))
    assert half.tolist() == [65504, -65504, 65504, -65504, 65504, 65504, 65504, 0, float(np.float16(0.1))]


def test_sum_is_added_in_double_precision() -> None:
    array = np.array([1e8, *[1.0] * 100, -1e8], np.float32)
    assert read(inline(array).then(Sum((0,)))).tolist() == [100.0]


WRONG = [
    (Transpose((0, 0)), "permutation"),
    (Reshape((7,)), "cannot become"),
    (Slice(2, 0, 1), "outside"),
    (Slice(0, 1, 3), "outside"),
    (Slice(0, 2, 1), "outside"),
    (Binary("add", inline(np.zeros(3, np.float64))), "element types differ"),
    (Binary("add", inline(np.zeros(4, np.float32))), "do not fit"),
    (Sum((2,)), "outside"),
]


@pytest.mark.parametrize(("step", "message"), WRONG)
def test_what_does_not_fit_is_said_before_reading(step: Step, message: str) -> None:
    weight = Weight(Spec(DType.F32, (2, 3)), Extent("nowhere", 0, 24))
    with pytest.raises(BadModel, match=message):
        weight.then(step)


@pytest.mark.parametrize("shape", list(itertools.product([1, 2, 3], repeat=3)))
def test_flat_and_spanning_regions(shape: tuple[int, ...]) -> None:
    order = np.arange(math.prod(shape)).reshape(shape)
    for bounds in itertools.product(*([(a, b) for a in range(n) for b in range(a + 1, n + 1)] for n in shape)):
        region = Region(tuple(a for a, _ in bounds), tuple(b for _, b in bounds))
        inside = order[region.slices].reshape(-1)
        contiguous = bool((np.diff(inside) == 1).all())
        assert region.flat(shape) == ((inside[0], inside[-1] + 1) if contiguous else None)
        hull = region.hull(shape)
        assert set(inside) <= set(order[hull.slices].reshape(-1))
        assert hull.flat(shape) is not None
    for first, stop in itertools.combinations(range(order.size + 1), 2):
        box = Region.spanning(shape, first, stop)
        assert set(range(first, stop)) <= set(order[box.slices].reshape(-1).tolist())
        assert box.flat(shape) is not None
