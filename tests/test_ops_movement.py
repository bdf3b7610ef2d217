"""Reshape, Concat, Gather, Slice ...: shapes as OpenVINO infers them, and what is refused."""

from __future__ import annotations

import pytest
from ops_compare import Case, c, op_of, ours, p, shape_of, theirs

from batchconv import ops
from batchconv.graph import Value
from batchconv.tensor import DType


def pattern(*parts: object) -> Value:
    """A target shape: numbers, and Values of one element each."""
    values = [part if isinstance(part, Value) else c([part]) for part in parts]
    return ops.concat(*values, axis=0)


def dim(text: str, axis: int) -> Value:
    return ops.gather(shape_of(text), c([axis]), c(0))


def reshape(text: str, target: list[int], special_zero: bool = True) -> Case:
    return lambda: ops.reshape(p("f32" + text), c(target), special_zero=special_zero)


CASES: list[Case] = [
    reshape("[1,3,4,5]", [0, -1]),
    reshape("[1,3,4,5]", [3, 20], False),
    reshape("[?,3,4,5]", [0, -1]),
    reshape("[?,3,4,5]", [-1, 12]),
    reshape("[2..6,3,4,5]", [-1, 30]),
    reshape("[?,3,?,5]", [0, 0, -1]),
    reshape("[?,3,?,5]", [0, -1, 0, 5]),
    reshape("[...]", [0, -1, 4]),
    reshape("[...]", [2, 4]),
    reshape("[6]", [2, 3]),
    reshape("[1]", []),
    reshape("[0,3]", [0, 4]),
    reshape("[0,3]", [0, 7], False),
    reshape("[2,3]", [-1, 1, 6], False),
    lambda: ops.reshape(p("f32[2,3]"), p("i64[3]"), special_zero=False),
    lambda: ops.reshape(p("f32[2,3]"), p("i64[?]"), special_zero=False),
    lambda: ops.reshape(p("f32[?,3,4]"), pattern(dim("f32[?,7]", 0), 12), special_zero=False),
    lambda: ops.reshape(p("f32[?,3,4]"), pattern(dim("f32[2..5,7]", 0), 12), special_zero=False),
    lambda: ops.squeeze(p("f32[1,3,1,5]"), c([0, 2])),
    lambda: ops.squeeze(p("f32[1,3,1,5]"), c([-2])),
    lambda: ops.squeeze(p("f32[1,3,1,5]")),
    lambda: ops.squeeze(p("f32[?,3,1,5]"), c([0])),
    lambda: ops.squeeze(p("f32[?,3,1,5]"), c(2)),
    lambda: ops.squeeze(p("f32[?,3,1,5]")),
    lambda: ops.squeeze(p("f32[...]"), c([1])),
    lambda: ops.squeeze(p("f32[1,3,1,5]"), p("i64[1]")),
    lambda: ops.unsqueeze(p("f32[?,3]"), c([0, -1])),
    lambda: ops.unsqueeze(p("f32[?,3]"), c(1)),
    lambda: ops.unsqueeze(p("f32[...]"), c([1])),
    lambda: ops.unsqueeze(p("f32[?,3]"), p("i64[1]")),
    lambda: ops.transpose(p("f32[1,?,3,4..5]"), c([0, 3, 1, 2])),
    lambda: ops.transpose(p("f32[...]"), c([0, 3, 1, 2])),
    lambda: ops.transpose(p("f32[1,2]"), p("i64[2]")),
    lambda: ops.concat(p("f32[1,?,3]"), p("f32[1,4,?]"), axis=1),
    lambda: ops.concat(p("f32[1,2..3,3]"), p("f32[?,4,?]"), p("f32[?,5..,1..7]"), axis=-2),
    lambda: ops.concat(p("f32[...]"), p("f32[1,4,?]"), axis=1),
    lambda: ops.split.op(p("f32[1,?,12]"), c(2), num_splits=3),
    lambda: ops.split.op(p("f32[1,3..12,12]"), c(1), num_splits=3),
    lambda: ops.split.op(p("f32[1,?,12]"), c(-2), num_splits=2),
    lambda: ops.split.op(p("f32[...]"), c(1), num_splits=2),
    lambda: ops.split.op(p("f32[1,3]"), p("i64[]"), num_splits=2),
    lambda: ops.variadic_split.op(p("f32[1,?,12]"), c(2), c([3, -1, 4])),
    lambda: ops.variadic_split.op(p("f32[1,?,12]"), c(1), c([3, -1])),
    lambda: ops.variadic_split.op(p("f32[1,?,12]"), c(1), c([3, 7])),
    lambda: ops.variadic_split.op(p("f32[...]"), c(1), c([3, 7])),
    lambda: ops.variadic_split.op(p("f32[1,9]"), c(1), p("i64[2]")),
    lambda: ops.tile(p("f32[1,?,12]"), c([2, 1, 3])),
    lambda: ops.tile(p("f32[3,4..5]"), c([2, 1, 3])),
    lambda: ops.tile(p("f32[2,3,4]"), c([3])),
    lambda: ops.tile(p("f32[2,3,4]"), p("i64[3]")),
    lambda: ops.tile(p("f32[...]"), c([3])),
    lambda: ops.broadcast(p("f32[3,1]"), c([2, 3, 4])),
    lambda: ops.broadcast(p("f32[3,1]"), c([2, 1, 4]), mode="bidirectional"),
    lambda: ops.broadcast(p("f32[?,1]"), c([2, 1, 4]), mode="bidirectional"),
    lambda: ops.broadcast(p("f32[3]"), c([2, 3, 4]), c([1]), mode="explicit"),
    lambda: ops.broadcast(p("f32[1]"), shape_of("f32[?,3,4..5]")),
    lambda: ops.broadcast(p("f32[?]"), shape_of("f32[?,3,4..5]"), mode="bidirectional"),
    lambda: ops.broadcast(p("f32[1]"), p("i64[3]")),
    lambda: ops.broadcast(p("f32[1]"), p("i64[?]")),
    lambda: ops.pad(p("f32[1,?,3,4..5]"), c([0, 1, 2, 3]), c([0, 0, 0, 1]), c(0.0)),
    lambda: ops.pad(p("f32[1,3,3,4]"), c([0, 1, 2, -1]), c([0, 0, -1, 1]), pad_mode="constant"),
    lambda: ops.pad(p("f32[1,3,3,4]"), c([0, 1, 2, 1]), c([0, 0, 1, 1]), pad_mode="reflect"),
    lambda: ops.pad(p("f32[1,3]"), p("i64[2]"), c([0, 1]), pad_mode="edge"),
    lambda: ops.pad(p("f32[...]"), c([0, 1]), c([0, 1]), pad_mode="edge"),
    lambda: ops.range(c(0), c(10), c(3), output_type=DType.I64),
    lambda: ops.range(c(10), c(0), c(-4), output_type=DType.I32),
    lambda: ops.range(c(0.0), c(1.0), c(0.1), output_type=DType.F32),
    lambda: ops.range(c(0), p("i64[]"), c(1), output_type=DType.I64),
    lambda: ops.shape_of(p("f32[1,?]"), output_type=DType.I32),
    lambda: ops.shape_of(p("f32[...]")),
]

CASES += [
    lambda: ops.gather(p("f32[1,?,3]"), p("i64[5,?]"), c(1)),
    lambda: ops.gather(p("f32[1,?,3]"), c(0), c(-1)),
    lambda: ops.gather(p("f32[2,?,3]"), p("i64[2,4]"), c(1), batch_dims=1),
    lambda: ops.gather(p("f32[2,?,3]"), p("i64[2,4]"), c(2), batch_dims=-1),
    lambda: ops.gather(p("f32[...]"), p("i64[2,4]"), c(2)),
    lambda: ops.gather(p("f32[2,3]"), p("i64[4]"), p("i64[]")),
    lambda: ops.gather_elements(p("f32[2,?,3]"), p("i64[2,4,3]"), axis=1),
    lambda: ops.gather_elements(p("f32[...]"), p("i64[2,4,3]"), axis=1),
    lambda: ops.gather_elements(p("f32[2,?,3]"), p("i64[...]"), axis=1),
    lambda: ops.gather_nd(p("f32[2,?,3]"), p("i64[5,2]")),
    lambda: ops.gather_nd(p("f32[2,?,3]"), p("i64[2,5,1]"), batch_dims=1),
    lambda: ops.gather_nd(p("f32[2,4,5,3]"), p("i64[2,4,1]"), batch_dims=2),
    lambda: ops.gather_nd(p("f32[2,?,3]"), p("i64[5,?]")),
    lambda: ops.scatter_update(p("f32[2,?,3]"), p("i64[5]"), p("f32[2,5,3]"), c(1)),
    lambda: ops.scatter_nd_update(p("f32[2,?,3]"), p("i64[5,1]"), p("f32[5,?,3]")),
    lambda: ops.scatter_elements_update(p("f32[2,?,3]"), p("i64[2,1,3]"), p("f32[2,1,3]"), c(1), reduction="sum"),
]


def cut(text: str, start: list[int], stop: list[int], step: list[int], axes: list[int] | None = None) -> Case:
    lists = [c(start), c(stop), c(step)] + ([c(axes)] if axes is not None else [])
    return lambda: ops.slice(p("f32" + text), *lists)


BIG = 2**31 - 1
HUGE = 2**63 - 1
CASES += [
    cut("[10,11,12]", [1, 2, 3], [9, 5, 4], [2, 1, 1]),
    cut("[10,11,12]", [1], [9], [2], [-2]),
    cut("[10,11,12]", [-3], [HUGE], [1], [0]),
    cut("[10,11,12]", [-1], [-HUGE], [-1], [0]),
    cut("[?,11,12]", [0], [HUGE], [1], [0]),
    cut("[?,11,12]", [1], [HUGE], [1], [0]),
    cut("[?,11,12]", [0], [5], [1], [0]),
    cut("[?,11,12]", [0], [-1], [1], [0]),
    cut("[?,11,12]", [-3], [-1], [1], [0]),
    cut("[3..8,11,12]", [1], [5], [1], [0]),
    cut("[3..8,11,12]", [1], [-1], [2], [0]),
    cut("[3..8,11,12]", [-1], [-HUGE], [-1], [0]),
    cut("[3..8,11,12]", [-1], [0], [-2], [0]),
    cut("[3..8,11,12]", [5], [2], [1], [0]),
    cut("[...]", [5], [2], [1], [0]),
    lambda: ops.slice(p("f32[10,11]"), p("i64[1]"), c([5]), c([1]), c([0])),
    lambda: ops.slice(p("f32[10,11]"), c([2]), p("i64[1]"), c([1]), c([1])),
    lambda: ops.slice(p("f32[10,11]"), c([2]), dim("f32[4..6]", 0), c([1]), c([1])),
    lambda: ops.slice(p("f32[10,?]"), c([2]), p("i64[1]"), c([1]), p("i64[1]")),
]


def strided(
    text: str, begin: list[int], end: list[int], strides: list[int] | None = None, **masks: tuple[int, ...]
) -> Case:
    lists = [c(begin), c(end)] + ([c(strides)] if strides is not None else [])
    full = {"begin_mask": (0,) * len(begin), "end_mask": (0,) * len(begin), **masks}
    return lambda: ops.strided_slice(p("f32" + text), *lists, **full)


CASES += [
    strided("[10,11,12]", [1, 2, 3], [9, 5, 4], [2, 1, 1]),
    strided("[10,11,12]", [1, 2], [9, 5]),
    strided("[10,11,12]", [1, 0], [9, 0], end_mask=(0, 1)),
    strided("[10,11,12]", [1, 0, 2], [2, 0, 0], shrink_axis_mask=(1, 0, 0), end_mask=(0, 1, 1)),
    strided("[10,11,12]", [0, 0, 1], [0, 0, 0], ellipsis_mask=(1, 0, 0), new_axis_mask=(0, 1, 0), end_mask=(0, 0, 1)),
    strided("[10,11,12,13]", [0, 0, 1], [3, 0, 2], ellipsis_mask=(0, 1, 0), shrink_axis_mask=(0, 0, 1)),
    strided("[?,11,12]", [0, 1], [0, 3], end_mask=(1, 0), begin_mask=(1, 0)),
    strided("[?,11,12]", [0], [-1]),
    strided("[?,11,12]", [1], [BIG]),
    strided("[3..8,11,12]", [0], [0], [-1], begin_mask=(1,), end_mask=(1,)),
    strided("[3..8,11,12]", [0], [5], [2], begin_mask=(1,)),
    strided("[3..8,11,12]", [-2], [0], [1], end_mask=(1,)),
    strided("[10,11,12]", [5], [2], [-1]),
    strided("[...]", [5], [2], [-1]),
    lambda: ops.strided_slice(p("f32[10,?]"), p("i64[2]"), c([5, 5]), c([1, 1]), begin_mask=(0, 0), end_mask=(0, 0)),
    lambda: ops.strided_slice(p("f32[10,?]"), p("i64[2]"), c([5, 5]), c([1, 1]), begin_mask=(0, 1), end_mask=(0, 0)),
]


def test_a_range_up_to_a_dimension_has_its_bounds() -> None:
    made = ops.range(c(0), ops.squeeze(dim("f32[3..7]", 0)), c(1), output_type=DType.I64)
    assert ours(made.op) == [("i64", "[3..7]")]


def test_the_rest_of_a_bounded_axis_is_bounded() -> None:
    op = ops.variadic_split.op(p("f32[1,6..12,12]"), c(1), c([3, -1]))
    assert ours(op) == [("f32", "[1,3,12]"), ("f32", "[1,3..9,12]")]


@pytest.mark.parametrize("case", CASES)
def test_shapes_are_those_of_openvino(case: Case) -> None:
    pytest.importorskip("openvino")
    op = op_of(case())
    assert ours(op) == theirs(op)
