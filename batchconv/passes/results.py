"""Every output of the network on a port of its own."""

from __future__ import annotations

from dataclasses import replace

from batchconv import ops
from batchconv.graph import Graph, Op, Value


def results_apart(graph: Graph) -> Graph:
    """Result(x), Result(x) = Result(x), Result(Identity(x)), for Results of different names.

    Compiling a network leaves one of the names of a port that several Results show; were it an input's, that is lost.
    """
    readers: dict[Value, list[Op]] = {}
    for op in graph.results:
        if op.type == "Result":
            readers.setdefault(op.inputs[0], []).append(op)
    apart = {op for value, shared in readers.items() for op in _others(value, shared)}
    return _moved(graph, apart) if apart else graph


def _others(value: Value, shared: list[Op]) -> list[Op]:
    """The Results that need another port: all whose name is not that of the one that stays."""
    names = [op.name for op in shared]
    stays = next((name for name in value.output.names if name in names), names[0])
    return [op for op in shared if op.name and op.name != stays]


def _moved(graph: Graph, apart: set[Op]) -> Graph:
    """The graph with an Identity in front of each of these Results, which takes the tensor name from the value."""
    taken: dict[Value, set[str]] = {}
    for op in apart:
        taken.setdefault(op.inputs[0], set()).add(op.name)
    new: dict[Op, Op] = {}
    copies: dict[tuple[Value, str], Value] = {}
    for op in graph.ops():
        inputs = tuple(Value(new[value.op], value.port) for value in op.inputs)
        if op in apart:
            key = inputs[0], op.name
            inputs = (copies.setdefault(key, _copy(*key)),)
        fresh = op if inputs == op.inputs else op.on(inputs)
        for port in range(len(op.outputs)):
            fresh = _without(fresh, port, taken.get(Value(op, port), set()))
        new[op] = fresh
    return Graph(tuple(new[p] for p in graph.parameters), tuple(new[r] for r in graph.results), graph.name)


def _copy(value: Value, name: str) -> Value:
    return ops.identity(value).op.named(name, value.op.origin).with_names(0, [name]).value()


def _without(op: Op, port: int, names: set[str]) -> Op:
    """`op` whose output `port` lacks these tensor names."""
    if not names:
        return op
    outputs = list(op.outputs)
    outputs[port] = replace(outputs[port], names=tuple(name for name in outputs[port].names if name not in names))
    return Op(op.type, op.inputs, op.attrs, tuple(outputs), op.name, op.origin)
