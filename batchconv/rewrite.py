"""One sweep over a graph that serves many rules; the result is a new graph with every tensor name kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from batchconv.errors import InternalError
from batchconv.graph import Graph, Op, Value
from batchconv.opset import rebuilt

Replacement = Value | tuple[Value, ...] | None
Uses = Callable[[Value], int]
Rule = Callable[[Op, Uses], Replacement]
"""(operation, how often a value is read) -> what takes its place (one Value for each output), or None.

A value that only this operation reads has `uses(value) <= 1` (0 while it is itself part of a replacement)."""

LIMIT = 100
"""Rewrites of one operation in a row after which a rule set is taken to run in circles."""


@dataclass
class Sweep:
    """State of one sweep: new values for old, how often each is read, and names waiting for existing values."""

    rules: Mapping[str, Iterable[Rule]]
    counts: dict[Value, int]
    new: dict[Op, tuple[Value, ...]] = field(default_factory=dict)
    reads: dict[Value, int] = field(default_factory=dict)
    seen: set[Op] = field(default_factory=set)
    names: dict[Value, list[str]] = field(default_factory=dict)
    changed: bool = False

    def value(self, old: Value) -> Value:
        return self.new[old.op][old.port]

    def visit(self, old: Op) -> None:
        """`old` gets its place in the new graph, through whatever rules fire on it."""
        inputs = tuple(self.value(v) for v in old.inputs)
        first = op = old if inputs == old.inputs else rebuilt(old, inputs)
        values = op.values()
        for _ in range(LIMIT):
            replacement = self.fire(op)
            if replacement is None:
                break
            self.changed = True
            values = self.adopt(op, replacement)
            if len(values) != 1 or values[0].op in self.seen:
                break
            op = values[0].op
        else:
            raise InternalError("rules rewrite this operation in circles", node=old.name, op=old.type)
        self.settle(old, first, values)

    def fire(self, op: Op) -> tuple[Value, ...] | None:
        """What the first rule that applies puts in the place of `op`."""
        for rule in self.rules.get(op.type, ()):
            replacement = rule(op, lambda value: self.reads.get(value, 0))
            if replacement is not None:
                return replacement if isinstance(replacement, tuple) else (replacement,)
        return None

    def adopt(self, op: Op, values: tuple[Value, ...]) -> tuple[Value, ...]:
        """The replacements under the names of what they replace."""
        if len(values) != len(op.outputs):
            raise InternalError(
                f"a rule gave {len(values)} values for {len(op.outputs)} outputs", node=op.name, op=op.type
            )
        adopted = []
        for value, output in zip(values, op.outputs, strict=True):
            if value.op in self.seen:
                self.names.setdefault(value, []).extend(output.names)
            elif len(values) == 1:
                value = Value(
                    replace(value.op.with_names(value.port, output.names), name=op.name or value.op.name), value.port
                )
            else:
                self.names.setdefault(value, []).extend(output.names)
            adopted.append(value)
        return tuple(adopted)

    def settle(self, old: Op, op: Op, values: tuple[Value, ...]) -> None:
        """Record where the outputs of `old` went; `op` was it on its new inputs, `values` may replace it."""
        self.new[old] = values
        for port, value in enumerate(values):
            self.reads[value] = self.reads.get(value, 0) + self.counts.get(Value(old, port), 0)
        for value in values:
            self.count(value.op, known=value.op is op)
        if all(value.op is not op for value in values):
            self.release(op)

    def count(self, op: Op, known: bool) -> None:
        """Mark `op` and the new operations below it as seen; those a rule made are counted as readers."""
        stack = [op]
        while stack:
            inner = stack.pop()
            if inner in self.seen:
                continue
            self.seen.add(inner)
            stack.extend(value.op for value in inner.inputs)
            for value in () if known else inner.inputs:
                self.reads[value] = self.reads.get(value, 0) + 1

    def release(self, op: Op) -> None:
        """`op` reads its inputs no longer; nor do those that nobody reads any more read theirs."""
        stack = [op]
        while stack:
            for value in stack.pop().inputs:
                self.reads[value] = self.reads.get(value, 0) - 1
                if self.reads[value] == 0 and value.op.type != "Parameter":
                    stack.append(value.op)


def rewrite(graph: Graph, rules: Mapping[str, Iterable[Rule]]) -> Graph:
    """The graph after one sweep, inputs before users, in which every rule saw every operation of its types.

    rules: operation type -> rules in order; a replacement is offered to the rules again. Tensor names of what is
    replaced move to what replaces it; Parameters and Results keep their order. The same graph if nothing fired.
    """
    sweep = Sweep(rules, graph.uses())
    for op in graph.ops():
        sweep.visit(op)
    if not sweep.changed:
        return graph
    parameters = tuple(sweep.new[op][0].op for op in graph.parameters)
    results = tuple(sweep.new[op][0].op for op in graph.results)
    return rename(Graph(parameters, results, graph.name), sweep.names)


def rename(graph: Graph, names: Mapping[Value, Iterable[str]]) -> Graph:
    """The graph with tensor names added to existing values."""
    if not any(names.values()):
        return graph
    new: dict[Op, Op] = {}
    for op in graph.ops():
        inputs = tuple(Value(new[v.op], v.port) for v in op.inputs)
        fresh = op if inputs == op.inputs else replace(op, inputs=inputs, cache={})
        for port in range(len(op.outputs)):
            if names.get(Value(op, port)):
                fresh = fresh.with_names(port, names[Value(op, port)])
        new[op] = fresh
    return Graph(tuple(new[p] for p in graph.parameters), tuple(new[r] for r in graph.results), graph.name)
