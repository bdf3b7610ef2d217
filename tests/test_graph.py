"""The graph: order, text, travel at any depth, names."""

from __future__ import annotations

import pickle

from growth import is_linear

from batchconv import ops
from batchconv.graph import Graph, Known, Value
from batchconv.shape import ANY, Interval
from batchconv.tensor import DType


def chain(length: int) -> Graph:
    """Relu after Relu, with a weight now and then."""
    x = ops.parameter("x", DType.F32, (ANY, 4))
    value = x.value()
    for i in range(length):
        value = ops.add(value, ops.const([1.0] * 4)) if i % 5 == 0 else ops.relu(value, name=f"r{i}")
    return Graph((x,), (ops.result(value, "out"),), "chain")


def test_a_chain_of_5000_travels() -> None:
    graph = chain(5000)
    back = pickle.loads(pickle.dumps(graph))
    assert str(back) == str(graph)
    assert len(back.ops()) == 6002
    assert back.name == "chain"


def test_operations_are_shared_after_travel() -> None:
    x = ops.parameter("x", DType.F32, (2,))
    once = ops.relu(x.value())
    back = pickle.loads(pickle.dumps(Graph((x,), (ops.result(ops.add(once, once)), ops.result(once)))))
    add = back.results[0].inputs[0].op
    assert add.inputs[0].op is add.inputs[1].op is back.results[1].inputs[0].op
    assert back.uses()[add.inputs[0]] == 3


def test_a_parameter_that_nothing_reads_stays() -> None:
    x, y = (ops.parameter(name, DType.F32, (2,)) for name in "xy")
    graph = Graph((x, y), (ops.result(y.value()),))
    assert [op.name for op in pickle.loads(pickle.dumps(graph)).ops()] == ["x", "y", ""]


def test_text() -> None:
    x = ops.parameter("x", DType.F32, (1, Interval(2, 5), ANY))
    relu = ops.relu(x.value(), name="r").op.with_names(0, ["a", "b", "a"]).value()
    big = ops.const([[0.0] * 9], name="w")
    graph = Graph((x,), (ops.result(ops.multiply(relu, ops.const(2.0))), ops.result(big)))
    assert str(graph).splitlines() == [
        "%0 = Parameter() {element_type=f32, shape=[1,2..5,?]} : f32[1,2..5,?]<x> 'x'",
        "%1 = Relu(%0) : f32[1,2..5,?]<a,b> 'r'",
        "%2 = Constant() {weight=f32[]=[2.0]} : f32[] ''",
        "%3 = Multiply(%1, %2) {auto_broadcast=numpy} : f32[1,2..5,?] ''",
        "%4 = Result(%3) : f32[1,2..5,?] ''",
        "%5 = Constant() {weight=f32[1, 9]} : f32[1,9] 'w'",
        "%6 = Result(%5) : f32[1,9] ''",
    ]


def test_names_are_kept_once() -> None:
    op = ops.parameter("x", DType.F32, (2,)).with_names(0, ["y"]).with_names(0, ["x", "y", "z"])
    assert op.outputs[0].names == ("x", "y", "z")
    assert op.named("n").outputs[0].names == ("x", "y", "z")


def test_known() -> None:
    assert Known((2,), (1, 2)).whole
    assert not Known((2,), (1, ANY)).whole
    assert ops.const([3, 4]).known == Known((2,), (3, 4))
    assert ops.const([0.0] * 1000).known is None


def test_making_and_ordering_operations_is_linear() -> None:
    assert is_linear(lambda size: lambda: chain(size), 1000)
    assert is_linear(lambda size: chain(size).ops, 1000)
    assert len(chain(10_000).ops()) == 12_002


def test_values_are_equal_by_operation_and_port() -> None:
    op = ops.parameter("x", DType.F32, (2,))
    other = ops.parameter("x", DType.F32, (2,))
    assert op.value() == Value(op, 0)
    assert len({op.value(), Value(op, 0), other.value()}) == 2
