"""One sweep over a graph that serves many rules; the result is a new graph with every tensor name kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from batchconv.errors import InternalError
from batchconv.graph import Graph, Op, Value, ordered
from batchconv.opset import rebuilt


class Declined(str):
    """What a rule may return instead of None: why it leaves the operation as it is, in a few words."""

    __slots__ = ()


Uses = Callable[[Value], int]
"""How many inputs read a value in the graph as it now is (the operation offered to a rule among them)."""

Replacement = Value | tuple[Value, ...] | Declined | None
Rule = Callable[[Op, Uses], Replacement]
"""(operation, uses) -> what takes its place (one Value for each output), or None or Declined.

A value that only this operation reads has `uses(value) <= 1` (0 while it is itself part of a replacement)."""

Rules = Mapping[str, Iterable[Rule]]
"""Operation type -> the rules it is offered to, in order; those under `*` are offered every operation, first."""

Explain = Callable[[str], None]

LIMIT = 100
"""Replacements within replacements after which a rule set is taken to run in circles."""

BODIES = frozenset(("If", "Loop", "TensorIterator"))


@dataclass(slots=True)
class Sweep:
    """State of one sweep.

    new: operations of the old graph -> where their outputs went; reads: operations of the graph as it is now -> how
    often each output is read, and whether the graph itself holds them; names: names waiting for existing values.
    """

    rules: Rules
    explain: Explain | None
    reads: dict[Op, list[int]]
    new: dict[Op, tuple[Value, ...]] = field(default_factory=dict)
    names: dict[Value, list[str]] = field(default_factory=dict)
    changed: bool = False

    def uses(self, value: Value) -> int:
        counts = self.reads.get(value.op)
        return counts[value.port] if counts else 0

    def place(self, old: Op, moved: Mapping[Op, tuple[Value, ...]], depth: int = 0) -> tuple[Value, ...]:
        """Where the outputs of `old` go when those of its inputs went to `moved`, after whatever rules fire on it."""
        op = old
        inputs = tuple([moved[v.op][v.port] if v.op in moved else v for v in old.inputs])
        if inputs != old.inputs:
            op = rebuilt(old, inputs)
            self.reads[op] = self.reads.pop(old)
        if op.type in BODIES:
            op = self.descend(op)
        made = self.fire(op)
        return op.values() if made is None else self.adopt(op, made, depth)

    def descend(self, op: Op) -> Op:
        """`op` with its bodies rewritten by the same rules."""
        bodies = {key: rewrite(body, self.rules, self.explain) for key, body in op.attrs.items() if type(body) is Graph}
        if all(body is op.attrs[key] for key, body in bodies.items()):
            return op
        self.changed = True
        new = replace(op, attrs={**op.attrs, **bodies}, cache={})
        self.reads[new] = self.reads.pop(op)
        return new

    def fire(self, op: Op) -> tuple[Value, ...] | None:
        """What the first rule that applies puts in the place of `op`."""
        for key in ("*", op.type):
            for rule in self.rules.get(key, ()):
                made = rule(op, self.uses)
                if made is None or isinstance(made, Declined):
                    if made and self.explain:
                        self.explain(f"{rule.__name__}: {op.type} '{op.name}': not done, {made}")
                    continue
                if self.explain:
                    self.explain(f"{rule.__name__}: {op.type} '{op.name}': done")
                return checked(rule, op, made if isinstance(made, tuple) else (made,))
        return None

    def adopt(self, op: Op, made: tuple[Value, ...], depth: int) -> tuple[Value, ...]:
        """The values `made` in the place of `op`, under its names, and themselves offered to the rules."""
        if depth == LIMIT:
            raise InternalError("rules rewrite this operation in circles", node=op.name, op=op.type)
        self.changed = True
        named = self.christened(op, made)
        fresh = ordered([value.op for value in named], self.reads)
        self.count(op, named, fresh)
        moved: dict[Op, tuple[Value, ...]] = {}
        for inner in fresh:
            moved[inner] = self.place(inner, moved, depth + 1)
        final = tuple(moved[v.op][v.port] if v.op in moved else v for v in named)
        if named is made:
            for value, output in zip(final, op.outputs, strict=True):
                if output.names:
                    self.names.setdefault(value, []).extend(output.names)
        return final

    def christened(self, op: Op, made: tuple[Value, ...]) -> tuple[Value, ...]:
        """`made` carrying the names of `op` if one new operation makes all of it; else `made`, to be named later."""
        maker = made[0].op
        if maker in self.reads or any(value.op is not maker for value in made):
            return made
        for value, output in zip(made, op.outputs, strict=True):
            if output.names:
                maker = maker.with_names(value.port, output.names)
        maker = maker.named(op.name or maker.name, op.origin or maker.origin)
        return tuple(Value(maker, value.port) for value in made)

    def count(self, op: Op, made: tuple[Value, ...], fresh: list[Op]) -> None:
        """Readers of `op` read `made` now, and `fresh` operations their inputs; what nobody reads, reads nothing."""
        for inner in fresh:
            self.reads[inner] = [0] * (len(inner.outputs) + 1)
        before = list(self.reads[op])
        for inner in fresh:
            for value in inner.inputs:
                self.reads[value.op][value.port] += 1
        for port, value in enumerate(made):
            self.reads[value.op][value.port] += before[port]
            self.reads[op][port] -= before[port]
        self.reads[made[0].op][-1] += before[-1]
        self.reads[op][-1] = 0
        for dead in (op, *reversed(fresh)):
            if not any(self.reads[dead]):
                self.release(dead)

    def release(self, op: Op) -> None:
        """`op`, which nobody reads, reads its inputs no longer; nor do those that nobody reads any more read theirs."""
        stack = [op]
        while stack:
            for value in stack.pop().inputs:
                counts = self.reads[value.op]
                counts[value.port] -= 1
                if not any(counts):
                    stack.append(value.op)


def checked(rule: Rule, op: Op, made: tuple[Value, ...]) -> tuple[Value, ...]:
    """`made`, after InternalError if it cannot stand in the place of `op`."""
    if [value.dtype for value in made] != [output.dtype for output in op.outputs]:
        text = (
            f"rule {rule.__name__} gave {', '.join(str(v.output) for v in made)} for {', '.join(map(str, op.outputs))}"
        )
        raise InternalError(text, node=op.name, op=op.type)
    return made


def readers(graph: Graph, ops: Iterable[Op]) -> dict[Op, list[int]]:
    """For each operation how often each output is read, and as last item how often the graph itself holds it."""
    reads = {op: [0] * (len(op.outputs) + 1) for op in ops}
    for op in reads:
        for value in op.inputs:
            reads[value.op][value.port] += 1
    for op in (*graph.parameters, *graph.results):
        reads[op][-1] += 1
    return reads


def rewrite(graph: Graph, rules: Rules, explain: Explain | None = None) -> Graph:
    """The graph after one sweep, inputs before users, in which every rule saw every operation of its types.

    What a rule makes is offered to the rules again, its new inner operations too. Tensor names of what is replaced
    move to what replaces it; Parameters and Results keep their order. The same graph if nothing fired. Bodies (which
    must be closed: no Value of the graph around them) are rewritten too. `explain` is told what fired and what did not.
    """
    ops = graph.ops()
    sweep = Sweep(rules, explain, readers(graph, ops))
    for op in ops:
        sweep.new[op] = sweep.place(op, sweep.new)
    if not sweep.changed:
        return graph
    parameters = tuple(sweep.new[op][0].op for op in graph.parameters)
    results = tuple(sweep.new[op][0].op for op in graph.results)
    return rename(Graph(parameters, results, graph.name), sweep.names)


def rename(graph: Graph, names: Mapping[Value, Iterable[str]]) -> Graph:
    """The graph with tensor names added to existing values."""
    if not any(names.values()):
        return graph
    ports: dict[Op, list[Value]] = {}
    for value in names:
        ports.setdefault(value.op, []).append(value)
    new: dict[Op, Op] = {}
    for op in graph.ops():
        fresh = op
        if any(new[v.op] is not v.op for v in op.inputs):
            fresh = op.on(tuple(Value(new[v.op], v.port) for v in op.inputs))
        for value in ports.get(op, ()):
            fresh = fresh.with_names(value.port, names[value])
        new[op] = fresh
    return Graph(tuple(new[p] for p in graph.parameters), tuple(new[r] for r in graph.results), graph.name)
