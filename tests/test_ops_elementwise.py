"""Elementwise operations, MatMul and reductions: types and shapes as OpenVINO infers them, and what is refused."""

from __future__ import annotations

import pytest
from ops_compare import Case, c, op_of, ours, p, theirs, zeros

from batchconv import ops
from batchconv.opset import Constructor
from batchconv.tensor import DType

UNARY = [
    ops.absolute, ops.acos, ops.acosh, ops.asin, ops.asinh, ops.atan, ops.atanh, ops.ceiling, ops.cos, ops.cosh,
    ops.elu, ops.erf, ops.exp, ops.floor, ops.gelu, ops.hsigmoid, ops.hswish, ops.log, ops.mish, ops.negative,
    ops.relu, ops.round, ops.sigmoid,
    ops.sign, ops.sin, ops.sinh, ops.softplus, ops.softsign, ops.sqrt, ops.tan, ops.tanh, ops.identity,
    ops.is_nan, ops.is_inf, ops.is_finite, ops.erfinv,
]  # fmt: skip
ARITHMETIC = [
    ops.add, ops.subtract, ops.multiply, ops.divide, ops.power, ops.maximum, ops.minimum, ops.mod, ops.floor_mod,
    ops.squared_difference,
]  # fmt: skip
COMPARISON = [ops.equal, ops.not_equal, ops.greater, ops.less, ops.greater_equal, ops.less_equal]
LOGICAL = [ops.logical_and, ops.logical_or, ops.logical_xor]
BITWISE = [ops.bitwise_and, ops.bitwise_or, ops.bitwise_xor, ops.bitwise_left_shift, ops.bitwise_right_shift]
SHAPES = [
    ("[1,3,5]", "[3,1]"),
    ("[?,3,5]", "[4,1,5]"),
    ("[?,3,?]", "[?,1,?]"),
    ("[2..4,3]", "[1..9,3]"),
    ("[2..4,3]", "[3..9,?]"),
    ("[1..4]", "[0..9]"),
    ("[0..4]", "[0..9]"),
    ("[..4]", "[2..]"),
    ("[1..4]", "[4]"),
    ("[5..9]", "[1..]"),
    ("[]", "[?,2]"),
    ("[...]", "[?,2]"),
    ("[0,2]", "[1,2]"),
    ("[?]", "[0]"),
]


def one(op: Constructor, text: str) -> Case:
    return lambda: op(p(text))


def two(op: Constructor, a: str, b: str, **attrs: object) -> Case:
    return lambda: op(p(a), p(b), **attrs)


CASES: list[Case] = [one(op, "f32[1,?,3..4]") for op in UNARY]
CASES += [one(op, "f16[...]") for op in UNARY]
CASES += [two(op, "f32[1,3,?]", "f32[4,1,5]") for op in ARITHMETIC]
CASES += [two(ops.add, "i64" + a, "i64" + b) for a, b in SHAPES]
CASES += [two(ops.greater, "f32" + a, "f32" + b) for a, b in SHAPES]
CASES += [two(op, "i32[1,3,?]", "i32[4,1,5]") for op in (*COMPARISON, *BITWISE)]
CASES += [two(op, "boolean[1,3,?]", "boolean[4,1,5]") for op in LOGICAL]
CASES += [
    two(ops.add, "f32[2,?]", "f32[2..3,5]", auto_broadcast="none"),
    two(ops.divide, "i64[2,?]", "i64[5]", m_pythondiv=False),
    lambda: ops.bitwise_not(p("u8[1,?]")),
    lambda: ops.logical_not(p("boolean[1,?]")),
    lambda: ops.clamp(p("f32[1,?]"), min=0.0, max=6.0),
    lambda: ops.prelu(p("f32[1,8,?]"), zeros(8)),
    lambda: ops.hard_sigmoid(p("f32[1,8,?]"), c(0.2), c(0.5)),
    lambda: ops.selu(p("f32[1,8,?]"), c(1.67), c(1.05)),
    lambda: ops.swish(p("f32[1,8,?]")),
    lambda: ops.swish(p("f32[1,8,?]"), c(1.5)),
    lambda: ops.convert(p("f32[1,8,?]"), destination_type=DType.I64),
    lambda: ops.convert_like(p("f32[1,8,?]"), p("u8[?]")),
    lambda: ops.select(p("boolean[3,1]"), p("f32[1,?]"), p("f32[2,1,4..5]")),
    lambda: ops.select(p("boolean[...]"), p("f32[1,?]"), p("f32[2,1,4..5]")),
    lambda: ops.select(p("boolean[2,?]"), p("f32[2,3]"), p("f32[?,3]"), auto_broadcast="none"),
    lambda: ops.fake_quantize(p("f32[?,8,?]"), zeros(8, 1), zeros(8, 1), c(0.0), c(1.0), levels=256),
    lambda: ops.fake_quantize(p("f32[...]"), zeros(8, 1), zeros(8, 1), c(0.0), c(1.0), levels=255),
]

MATMUL = [
    ("[2,3]", "[3,4]", False, False),
    ("[?,3]", "[4,3]", False, True),
    ("[3,2..5]", "[3,4]", True, False),
    ("[3]", "[3,4]", False, False),
    ("[5,2,3]", "[3]", False, False),
    ("[3]", "[3]", False, False),
    ("[3]", "[3]", True, True),
    ("[?,1,2,3]", "[7,3,?]", False, False),
    ("[1..4,2,?]", "[2..9,5..6,4]", False, False),
    ("[...]", "[3,4]", False, False),
    ("[3]", "[8,4,3]", False, True),
]
CASES += [
    lambda a=a, b=b, s=s, t=t: ops.matmul(p("f32" + a), p("f32" + b), transpose_a=s, transpose_b=t)
    for a, b, s, t in MATMUL
]

REDUCTIONS = [
    ops.reduce_l1, ops.reduce_l2, ops.reduce_max, ops.reduce_mean, ops.reduce_min, ops.reduce_prod, ops.reduce_sum,
]  # fmt: skip
CASES += [lambda op=op: op(p("f32[1,?,3..4,5]"), c([1, -1]), keep_dims=False) for op in REDUCTIONS]
CASES += [
    lambda op=op: op(p("boolean[1,?,3..4,5]"), c([0]), keep_dims=True)
    for op in (ops.reduce_logical_and, ops.reduce_logical_or)
]
CASES += [
    lambda: ops.reduce_mean(p("f32[1,?,3..4,5]"), c([2, 3]), keep_dims=True),
    lambda: ops.reduce_mean(p("f32[1,?,3..4,5]"), c(2), keep_dims=False),
    lambda: ops.reduce_mean(p("f32[1,?,3..4,5]"), p("i64[2]"), keep_dims=True),
    lambda: ops.reduce_mean(p("f32[1,?,3..4,5]"), p("i64[2]"), keep_dims=False),
    lambda: ops.reduce_mean(p("f32[...]"), c([2, 3]), keep_dims=True),
    lambda: ops.reduce_sum(p("i32[2,3]"), c([0, 1]), keep_dims=False),
    lambda: ops.cum_sum(p("f32[1,?]"), c(1), exclusive=True),
    lambda: ops.topk.op(p("f32[1,?,30]"), c(5), axis=-1, mode="max", sort="value", index_element_type=DType.I64),
    lambda: ops.topk.op(p("f32[1,3..40,30]"), c(5), axis=1, mode="min", sort="none"),
    lambda: ops.topk.op(p("f32[1,?,30]"), c(5), axis=1, mode="min", sort="none"),
    lambda: ops.topk.op(p("f32[1,8,30]"), p("i32[]"), axis=1, mode="min", sort="index"),
    lambda: ops.topk.op(p("f32[...]"), c(3), axis=1, mode="min", sort="index"),
]


@pytest.mark.parametrize("case", CASES)
def test_shapes_are_those_of_openvino(case: Case) -> None:
    pytest.importorskip("openvino")
    op = op_of(case())
    assert ours(op) == theirs(op)
