"""The sweep: what rules see, what becomes of what they make, counts of readers, names, order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from growth import is_linear
from hypothesis import given
from hypothesis import strategies as st

from batchconv import ops
from batchconv.errors import InternalError
from batchconv.graph import Graph, Op, Value
from batchconv.rewrite import Declined, Replacement, Rules, Uses, rename, rewrite
from batchconv.shape import ANY
from batchconv.tensor import DType


def parameter(name: str = "x") -> Op:
    return ops.parameter(name, DType.F32, (ANY, 2))


def graph(parameter: Op, *values: Value) -> Graph:
    return Graph((parameter,), tuple(ops.result(value) for value in values))


def types(graph: Graph) -> list[str]:
    return [op.type for op in graph.ops() if op.type not in ("Parameter", "Result")]


def named(value: Value, *names: str) -> Value:
    return value.op.named(names[0]).with_names(0, names).value()


def without_relu(op: Op, uses: Uses) -> Replacement:
    return op.inputs[0]


def test_nothing_fires() -> None:
    x = parameter()
    before = graph(x, ops.relu(x.value()))
    assert rewrite(before, {"Relu": [lambda op, uses: None], "Add": [without_relu]}) is before


def test_a_replacement_is_offered_again_and_so_is_what_is_inside() -> None:
    def sigmoid_to_tanh(op: Op, uses: Uses) -> Replacement:
        return ops.relu(ops.tanh(ops.relu(op.inputs[0])))

    x = parameter()
    done = rewrite(graph(x, ops.sigmoid(x.value())), {"Sigmoid": [sigmoid_to_tanh], "Relu": [without_relu]})
    assert types(done) == ["Tanh"]


def test_rules_come_in_order_and_those_for_every_type_first() -> None:
    seen: list[str] = []

    def note(name: str) -> object:
        return lambda op, uses: seen.append(f"{name} {op.type}")

    x = parameter()
    rules = {"Relu": [note("a"), note("b")], "*": [note("any")]}
    rewrite(graph(x, ops.relu(x.value())), rules)  # type: ignore[arg-type]
    assert seen == ["any Parameter", "any Relu", "a Relu", "b Relu", "any Result"]


def test_names_of_what_goes_move_on() -> None:
    x = parameter()
    gone = named(ops.relu(x.value()), "gone", "gone:0")
    kept = named(ops.tanh(gone), "kept")
    done = rewrite(graph(x, named(ops.relu(kept), "last"), gone), {"Relu": [without_relu]})
    (tanh,) = [op for op in done.ops() if op.type == "Tanh"]
    assert (tanh.name, tanh.outputs[0].names) == ("kept", ("kept", "last"))
    assert done.parameters[0].outputs[0].names == ("x", "gone", "gone:0")
    assert done.results[1].inputs[0].op is done.parameters[0] is tanh.inputs[0].op


def test_names_and_origin_go_to_what_is_new() -> None:
    x = parameter()
    old = named(ops.sigmoid(x.value()), "s", "s:0")
    done = rewrite(graph(x, old), {"Sigmoid": [lambda op, uses: ops.relu(ops.tanh(op.inputs[0]), name="mine")]})
    relu = done.results[0].inputs[0].op
    assert (relu.name, relu.outputs[0].names) == ("s", ("s", "s:0"))
    assert relu.inputs[0].op.name == ""


def test_several_outputs() -> None:
    x = parameter()
    split = ops.split.op(x.value(), ops.const(1), num_splits=2).with_names(0, ["a"]).with_names(1, ["b"])

    def swapped(op: Op, uses: Uses) -> Replacement:
        return (ops.relu(op.inputs[0]), ops.tanh(op.inputs[0]))

    done = rewrite(graph(x, split.value(1), split.value(0)), {"Split": [swapped]})
    assert [r.inputs[0].op.type for r in done.results] == ["Tanh", "Relu"]
    assert [r.inputs[0].output.names for r in done.results] == [("b",), ("a",)]


def test_uses_count_what_is_there_now() -> None:
    seen: list[tuple[str, int]] = []

    def watch(op: Op, uses: Uses) -> Replacement:
        seen.append((op.name, uses(op.inputs[0])))
        return None

    x = parameter()
    once, twice = ops.relu(x.value()), ops.sigmoid(x.value())
    ends = [
        ops.tanh(once, name="one reader"),
        ops.tanh(twice, name="two readers"),
        ops.tanh(ops.elu(twice, alpha=1.0), name="two readers, the one between gone"),
    ]
    rewrite(graph(x, *ends), {"Elu": [without_relu], "Tanh": [watch]})
    assert seen == [("one reader", 1), ("two readers", 2), ("two readers, the one between gone", 2)]


def test_uses_count_what_a_replacement_reads() -> None:
    seen: list[int] = []

    def squared(op: Op, uses: Uses) -> Replacement:
        return ops.multiply(op.inputs[0], ops.tanh(op.inputs[0]))

    def watch(op: Op, uses: Uses) -> Replacement:
        seen.append(uses(op.inputs[0]))
        return None

    x = parameter()
    rewrite(graph(x, ops.sigmoid(ops.elu(x.value(), alpha=1.0))), {"Sigmoid": [squared], "Tanh": [watch]})
    assert seen == [2]


def test_a_result_counts_as_a_reader() -> None:
    seen: list[int] = []
    x = parameter()
    relu = ops.relu(x.value())
    rules: Rules = {"Tanh": [lambda op, uses: seen.append(uses(op.inputs[0]))]}  # type: ignore[list-item, func-returns-value]
    rewrite(graph(x, ops.tanh(relu), relu), rules)
    assert seen == [2]


def test_circles_end() -> None:
    x = parameter()
    rules: Rules = {
        "Relu": [lambda op, uses: ops.tanh(op.inputs[0])],
        "Tanh": [lambda op, uses: ops.relu(op.inputs[0])],
    }
    with pytest.raises(InternalError, match="circles"):
        rewrite(graph(x, ops.relu(x.value())), rules)


def test_a_rule_may_put_something_behind_what_it_saw() -> None:
    x = parameter()
    done = rewrite(graph(x, named(ops.relu(x.value()), "r")), {"Relu": [lambda op, uses: ops.tanh(op.value())]})
    assert types(done) == ["Relu", "Tanh"]


def test_a_rule_must_keep_types_and_outputs() -> None:
    x = parameter()

    def wrong(op: Op, uses: Uses) -> Replacement:
        return ops.convert(op.inputs[0], destination_type=DType.F16)

    with pytest.raises(InternalError, match=r"rule wrong gave f16\[\?,2\] for f32\[\?,2\]"):
        rewrite(graph(x, ops.relu(x.value())), {"Relu": [wrong]})
    with pytest.raises(InternalError, match="gave"):
        rewrite(graph(x, ops.relu(x.value())), {"Relu": [lambda op, uses: (x.value(), x.value())]})


def test_explained() -> None:
    def no(op: Op, uses: Uses) -> Replacement:
        return Declined("today")

    said: list[str] = []
    x = parameter()
    rewrite(graph(x, ops.relu(x.value(), name="r")), {"Relu": [no, without_relu]}, said.append)
    assert said == ["no: Relu 'r': not done, today", "without_relu: Relu 'r': done"]


def test_bodies_are_rewritten() -> None:
    x = parameter()
    inner = parameter("inner")
    body = graph(inner, ops.relu(ops.relu(inner.value())))
    holder = Op("Loop", (x.value(),), {"body": body}, (x.outputs[0],), "loop")
    done = rewrite(graph(x, holder.value()), {"Relu": [without_relu]})
    (loop,) = [op for op in done.ops() if op.type == "Loop"]
    assert types(loop.attrs["body"]) == []
    assert types(body) == ["Relu", "Relu"]


def test_rename_adds_names() -> None:
    x = parameter()
    relu = ops.relu(x.value())
    done = rename(graph(x, ops.tanh(relu)), {relu: ["a"], x.value(): ["b"]})
    assert [op.outputs[0].names for op in done.ops()] == [("x", "b"), ("a",), (), ()]


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """A random graph of unary and binary operations, most of them read."""
    x = parameter()
    values = [x.value()]
    for i in range(draw(st.integers(1, 14))):
        a, b = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        kind = draw(st.sampled_from(["Relu", "Tanh", "Sigmoid", "Add", "Multiply"]))
        two = {"Add": ops.add, "Multiply": ops.multiply}
        one = {"Relu": ops.relu, "Tanh": ops.tanh, "Sigmoid": ops.sigmoid}
        value = two[kind](a, b) if kind in two else one[kind](a)
        values.append(named(value, f"n{i}"))
    picked = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    return graph(x, *picked)


def merge(op: Op, uses: Uses) -> Replacement:
    """Add(Add(a, b), c) = Multiply(a, Add(b, c)), once"""
    inner = op.inputs[0].op
    if inner.type != "Add" or uses(op.inputs[0]) > 1:
        return None
    return ops.multiply(inner.inputs[0], ops.add(inner.inputs[1], op.inputs[1]))


def expand(op: Op, uses: Uses) -> Replacement:
    """Sigmoid(x) = Multiply(Tanh(x), Relu(Tanh(x)))"""
    inner = ops.tanh(op.inputs[0])
    return ops.multiply(inner, ops.relu(inner))


@given(networks())
def test_counts_are_exact_whatever_fires(before: Graph) -> None:
    """One sweep gives what single firings give when all readers are counted anew before each."""
    rules = {"Relu": [without_relu], "Add": [merge], "Sigmoid": [expand], "Multiply": [], "Tanh": []}
    wanted = {name for op in before.ops() for output in op.outputs for name in output.names}
    done = rewrite(before, rules)
    assert [p.name for p in done.parameters] == ["x"]
    assert len(done.results) == len(before.results)
    assert not {"Relu", "Sigmoid"} & set(types(done))
    for old, new in zip(before.results, done.results):
        assert set(old.inputs[0].output.names) <= set(new.inputs[0].output.names) <= wanted
    assert evaluate(done) == evaluate(rewritten_slowly(before))


def evaluate(graph: Graph) -> list[str]:
    """Each result as an expression."""
    text: dict[Op, str] = {}
    for op in graph.ops():
        text[op] = f"{op.type}({', '.join(text[v.op] for v in op.inputs)})" if op.inputs else op.name
    return [text[op] for op in graph.results]


def rewritten_slowly(before: Graph) -> Graph:
    """The same rules, one firing at a time, readers recounted from the graph itself each time."""
    while True:
        counts = before.uses()
        for op in before.ops():
            made = fired(op, lambda value, counts=counts: counts.get(value, 0))  # type: ignore[misc]
            if made is not None:
                before = replaced(before, op, made)
                break
        else:
            return before


def fired(op: Op, uses: Uses) -> Value | None:
    rule = {"Relu": without_relu, "Add": merge, "Sigmoid": expand}.get(op.type)
    made = rule(op, uses) if rule else None
    return made if isinstance(made, Value) else None


def replaced(graph: Graph, old: Op, made: Value) -> Graph:
    new: dict[Op, Value] = {}
    for op in graph.ops():
        inputs = tuple(new[v.op] for v in op.inputs)
        new[op] = op.on(inputs).value() if inputs != op.inputs else op.value()
        if op is old:
            new[op] = made
    return Graph(graph.parameters, tuple(new[r].op for r in graph.results))


def long(length: int) -> Iterator[Value]:
    x = parameter()
    value = x.value()
    yield value
    for i in range(length):
        value = ops.relu(value) if i % 10 == 0 else ops.tanh(value)
        yield value


def test_a_sweep_is_linear() -> None:
    def swept(size: int) -> Callable[[], Graph]:
        first, *_, last = long(size)
        return partial(rewrite, graph(first.op, last), {"Relu": [without_relu]})

    assert is_linear(swept, 1000)
    assert len(types(swept(10_000)())) == 9000
