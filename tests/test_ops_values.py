"""What is known of values: shape subgraphs give the shapes that OpenVINO infers, and arithmetic is exact or unknown."""

from __future__ import annotations

import numpy as np
import pytest
from ops_compare import Case, c, dims, op_of, ours, p, shape_of, theirs

from batchconv import ops
from batchconv.errors import BadModel
from batchconv.graph import KNOWN_LIMIT, Known, Value
from batchconv.ops.values import MAYBE, UNKNOWN
from batchconv.shape import Interval
from batchconv.tensor import DType

S = "f32[2,3,?,4..8]"
F32, I32, I64 = DType.F32, DType.I32, DType.I64


def s() -> Value:
    return shape_of(S)


def floats(value: Value) -> Value:
    return ops.convert(value, destination_type=F32)


def ints(value: Value) -> Value:
    return ops.convert(value, destination_type=I64)


def at(value: Value, *indices: int) -> Value:
    return ops.gather(value, c(list(indices)), c(0))


def spread(value: Value) -> Value:
    """An operation whose shape is what `value` holds."""
    return ops.broadcast(p("f32[1]"), value)


SUBGRAPHS: list[Case] = [
    lambda: spread(s()),
    lambda: spread(ops.shape_of(p(S), output_type=I32)),
    lambda: spread(at(s(), 3, 0, -1)),
    lambda: spread(ops.concat(at(s(), 0), c([7]), at(s(), 3), axis=0)),
    lambda: spread(ops.slice(s(), c([1]), c([4]), c([1]))),
    lambda: spread(ops.slice(s(), c([-1]), c([-5]), c([-1]))),
    lambda: spread(ops.strided_slice(s(), c([1]), c([0]), c([2]), begin_mask=(0,), end_mask=(1,))),
    lambda: spread(ops.unsqueeze(ops.squeeze(at(s(), 3)), c([0]))),
    lambda: spread(ops.unsqueeze(ops.gather(s(), c(3), c(0)), c(0))),
    lambda: spread(ops.reshape(at(s(), 3), c([-1]), special_zero=False)),
    lambda: spread(ops.add(s(), c([1, 0, 2, 3]))),
    lambda: spread(ops.subtract(s(), c([1, 0, 0, 3]))),
    lambda: spread(ops.multiply(s(), c([2]))),
    lambda: spread(ops.multiply(s(), c(3))),
    lambda: spread(ops.divide(s(), c([2, 1, 2, 3]))),
    lambda: spread(ops.maximum(s(), c([5]))),
    lambda: spread(ops.minimum(s(), c([5]))),
    lambda: spread(ops.floor_mod(c([7, 8, 9, 10]), c([4, 3, 5, 6]))),
    lambda: spread(ops.mod(c([7, 8, 9, 10]), c([4, 3, 5, 6]))),
    lambda: spread(ints(floats(s()))),
    lambda: spread(ints(ops.floor(ops.multiply(floats(s()), c([1.0, 1.0, 2.0, 2.0]))))),
    lambda: spread(ints(ops.ceiling(ops.divide(floats(s()), c(3.0))))),
    lambda: spread(ints(ops.floor(ops.multiply(floats(at(s(), 0, 1)), c([0.7, 1 / 3]))))),
    lambda: spread(ints(ops.multiply(c([10.0, 3.0]), c([0.1, 1.3333334])))),
    lambda: spread(ops.reduce_prod(s(), c([0]), keep_dims=True)),
    lambda: spread(ops.reduce_prod(at(s(), 0, 1), c([0]), keep_dims=True)),
    lambda: spread(ops.reduce_prod(at(s(), 1, 3), c([0]), keep_dims=True)),
    lambda: spread(ops.reduce_max(at(s(), 0, 1), c([0]), keep_dims=True)),
    lambda: spread(ops.reduce_min(at(s(), 0, 1), c([0]), keep_dims=True)),
    lambda: spread(ops.concat(*ops.split.op(s(), c(0), num_splits=4).values()[2:], axis=0)),
    lambda: spread(ops.concat(*ops.variadic_split.op(s(), c(0), c([1, -1])).values()[1:], axis=0)),
    lambda: spread(ops.tile(at(s(), 1, 3), c([2]))),
    lambda: spread(ops.broadcast(c([5]), c([3]))),
    lambda: spread(ops.broadcast(c(5), c([3]))),
    lambda: spread(ops.range(c(1), c(6), c(2), output_type=I64)),
    lambda: spread(ops.select(ops.equal(c([1, -1, 3]), c([-1])), c([4]), c([1, 2, 3]))),
    lambda: spread(ops.select(ops.equal(at(s(), 0, 1), c([2])), c([9]), at(s(), 0, 1))),
    lambda: spread(ops.convert(ops.greater(s(), c([0])), destination_type=I64)),
    lambda: spread(ops.absolute(c([-3, 4]))),
    lambda: spread(ops.negative(c([-3, -4]))),
    lambda: spread(ops.reshape(ops.transpose(c([[1, 2], [3, 4]]), c([1, 0])), c([-1]), special_zero=False)),
    lambda: spread(ops.squeeze(ops.gather(c([[1, 2], [3, 4]]), c([1]), c(0)), c([0]))),
]


@pytest.mark.parametrize("case", SUBGRAPHS)
def test_shape_subgraphs_give_the_shapes_of_openvino(case: Case) -> None:
    pytest.importorskip("openvino")
    (made,), (wanted,) = ours(op := op_of(case())), theirs(op)
    pairs = zip(dims(made[1]), dims(wanted[1]), strict=True)
    assert [a if b != Interval() else b for a, b in pairs] == list(dims(wanted[1]))


def items(value: Value) -> tuple[object, ...] | None:
    return None if value.known is None else value.known.items


ANY, SOME = Interval(), Interval(4, 8)
EXACT = [
    (lambda: ops.divide(s(), c([2])), (1, 1, ANY, Interval(2, 4))),
    (lambda: ops.minimum(s(), c([5])), (2, 3, Interval(0, 5), Interval(4, 5))),
    (lambda: ints(ops.ceiling(ops.divide(floats(s()), c(3.0)))), (1, 1, ANY, Interval(2, 3))),
    (lambda: ops.subtract(s(), c([3])), (-1, 0, Interval(-3), Interval(1, 5))),
    (lambda: ops.negative(s()), (-2, -3, Interval(-(1 << 63), 0), Interval(-8, -4))),
    (lambda: ops.multiply(s(), c([-1])), (-2, -3, Interval(-(1 << 63), 0), Interval(-8, -4))),
    (lambda: ops.divide(c([7, -7, 5]), c([2, 2, 0])), (3, -4, UNKNOWN)),
    (lambda: ops.divide(c([1.0, -7.0]), c([3.0, 2.0])), (float(np.float32(1) / np.float32(3)), -3.5)),
    (lambda: ops.divide(s(), at(s(), 2)), (UNKNOWN,) * 4),
    (lambda: ops.mod(c([-7, 7]), c([3, -3])), (-1, 1)),
    (lambda: ops.floor_mod(c([-7, 7]), c([3, -3])), (2, -2)),
    (lambda: ops.floor_mod(s(), c([16])), (2, 3, Interval(0, 15), SOME)),
    (lambda: ops.mod(s(), c([0])), (UNKNOWN,) * 4),
    (lambda: ops.multiply(s(), c([0])), (0, 0, 0, 0)),
    (lambda: ops.greater(s(), c([3])), (False, False, MAYBE, True)),
    (lambda: ops.less(s(), c([3])), (True, False, MAYBE, False)),
    (lambda: ops.greater_equal(s(), c([4])), (False, False, MAYBE, True)),
    (lambda: ops.less_equal(s(), c([8])), (True, True, MAYBE, True)),
    (lambda: ops.equal(s(), c([3])), (False, True, MAYBE, False)),
    (lambda: ops.not_equal(s(), c([3])), (True, False, MAYBE, True)),
    (lambda: ops.select(ops.equal(s(), c([5])), c([1]), s()), (2, 3, Interval(0), Interval(1, 8))),
    (lambda: ops.logical_and(ops.greater(s(), c([2])), c([True])), (False, True, MAYBE, True)),
    (lambda: ops.logical_and(ops.greater(s(), c([2])), c([False])), (False,) * 4),
    (lambda: ops.logical_or(ops.greater(s(), c([2])), c([True])), (True,) * 4),
    (lambda: ops.logical_or(ops.greater(s(), c([2])), c([False])), (False, True, MAYBE, True)),
    (lambda: ops.logical_xor(ops.greater(s(), c([2])), c([True])), (True, False, MAYBE, False)),
    (lambda: ops.logical_not(ops.greater(s(), c([2]))), (True, False, MAYBE, False)),
    (lambda: ops.sqrt(c([2.0])), (float(np.sqrt(np.float32(2))),)),
    (lambda: ops.power(c([2, 3]), c([3])), (8, 27)),
    (lambda: ops.round(c([0.5, 1.5, -2.5])), (0.0, 2.0, -2.0)),
    (lambda: ops.round(c([0.5, 1.5, -2.5]), mode="half_away_from_zero"), (1.0, 2.0, -3.0)),
    (lambda: ints(c([1.9, -1.9])), (1, -1)),
    (lambda: ints(c([float("inf"), 1.0])), (UNKNOWN, 1)),
    (lambda: floats(s()), (2.0, 3.0, Interval(0), Interval(4, 8))),
    (lambda: ops.convert(c([300]), destination_type=DType.U8), (44,)),
    (lambda: ops.convert(s(), destination_type=DType.BOOLEAN), (True, True, MAYBE, True)),
    (lambda: ops.reduce_sum(s(), c([0]), keep_dims=False), (Interval(9),)),
    (lambda: ops.reduce_logical_and(ops.greater(s(), c([1])), c([0]), keep_dims=False), (MAYBE,)),
    (lambda: ops.reduce_logical_or(ops.greater(s(), c([1])), c([0]), keep_dims=False), (True,)),
    (lambda: ops.gather(c([1, 2, 3]), ops.gather(s(), c([3]), c(0)), c(0)), (UNKNOWN,)),
    (lambda: ops.add(s(), p("i64[4]")), None),
    (lambda: ops.add(c([2**62]), c([2**62])), (-(2**63),)),
]


@pytest.mark.parametrize(("case", "expected"), EXACT)
def test_items_are_exact_bounded_or_unknown(case: Case, expected: tuple[object, ...] | None) -> None:
    assert items(case()) == expected


def test_symbols_survive_shape_subgraphs() -> None:
    """[n, c, h, w] flattened by its own n: what is left is known though n is not."""
    data = p("f32[?,3,?,5]")
    wanted = ops.concat(at(ops.shape_of(data), 0, 2), c([-1]), axis=0)
    assert str(ops.reshape(data, wanted, special_zero=False).output) == "f32[?,?,15]"


def test_equal_bounds_are_not_the_same_dimension() -> None:
    data = p("f32[?,3,5]")
    wanted = ops.concat(at(shape_of("f32[?]"), 0), c([-1]), axis=0)
    assert str(ops.reshape(data, wanted, special_zero=False).output) == "f32[?,?]"


def test_large_values_are_not_followed() -> None:
    count = KNOWN_LIMIT // 8
    assert ops.broadcast(c(1), c([count])).known == Known((count,), (1,) * count)
    assert ops.broadcast(c(1), c([count + 1])).known is None


def test_constants_beside_unknown_values_are_not_read(tmp_path: object) -> None:
    from batchconv.tensor import Spec
    from batchconv.weight import Extent, Weight

    absent = ops.constant(Weight(Spec(F32, (4,)), Extent("/no/such/file", 0, 16)))
    assert str(ops.add(p("f32[1,4]"), absent).output) == "f32[1,4]"


def test_an_index_outside_is_refused() -> None:
    with pytest.raises(BadModel, match=r"indices \[4\] are outside an axis of 4 elements"):
        at(s(), 4)
