"""The registry of translators and the walk that applies it: one neutral `Model` in, one Graph out.

A reader makes a `Model` (nodes, weights as recipes, inputs, outputs; no payload read). `translate` checks it
against the framework's `Registry` (all unsupported operators at once), cuts it where asked, and calls one
translator a node, inputs bound to positional parameters and attributes to keywords, by name.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from batchconv import ops
from batchconv.errors import BadModel, ConversionError, InternalError, Unsupported
from batchconv.frontends.binding import Entry, Registered, Translator, call, entry_of
from batchconv.graph import Graph, Op, Value, ordered
from batchconv.opset import origin
from batchconv.rewrite import rename
from batchconv.shape import Dim, Shape, text
from batchconv.tensor import Array, DType
from batchconv.weight import Weight, fill, inline


@dataclass(slots=True)
class Node:
    """One operator as the file has it.

    op: the framework's type name; name: unique in the model; inputs/outputs: tensor names ("" = left out);
    attrs: the framework's attributes (a mapping, or a function that parses them when first asked for).
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = field(default_factory=dict)
    domain: str = ""
    version: int = 1

    def attributes(self) -> Mapping[str, Any]:
        """The attributes, parsed now if they were not yet."""
        if callable(self.attrs):
            self.attrs = self.attrs()
        return self.attrs

    @property
    def label(self) -> str:
        """How a user knows it: its name, else its first output."""
        return self.name or (self.outputs[0] if self.outputs else "")


@dataclass(frozen=True, slots=True)
class Input:
    """A network input as the file declares it, or as `--input` asks for it (dtype or shape None: as declared).

    value: freeze the input to this array.
    """

    name: str
    dtype: DType | None = None
    shape: Shape = None
    value: Array | None = None
    shaped: bool = True


@dataclass(slots=True)
class Model:
    """What a reader returns: a network in its framework's own terms, payloads left where they are.

    url: the file; nodes in any order; weights: tensor name -> recipe; outputs: tensor names.
    """

    framework: str
    url: str
    inputs: list[Input]
    outputs: list[str]
    nodes: list[Node]
    weights: dict[str, Weight]
    name: str = ""
    sources: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The last part of the URL, as errors say it."""
        return self.url.rstrip("/").rsplit("/", 1)[-1]


@dataclass
class Registry:
    """The translators of one framework, by (domain, operator)."""

    framework: str
    table: dict[tuple[str, str], list[tuple[int, Translator]]] = field(default_factory=dict)

    def op(self, *names: str, since: int = 1, domain: str = "") -> Callable[[Registered], Registered]:
        """Register a function as the translator of these operators from version `since` on.

        Positional parameters are inputs (a default makes one optional, `*xs` takes the rest), keyword-only ones
        are attributes with the framework's defaults, `_node` is the Node. `**others` accepts attributes unseen.
        """

        def register(function: Registered) -> Registered:
            for name in names:
                self.add(name, function, since, domain)
            return function

        return register

    def rename(self, table: Mapping[str, Translator], since: int = 1, domain: str = "") -> None:
        """Operators that are an OpenVINO operation under another name and take no attributes."""
        for name, constructor in table.items():
            self.add(name, _positional(constructor), since, domain)

    def add(self, name: str, function: Translator, since: int, domain: str) -> None:
        entries = self.table.setdefault((domain, name), [])
        entries.append((since, function))
        entries.sort(key=lambda entry: entry[0])

    def find(self, node: Node) -> Entry | None:
        """The newest translator of `node` not newer than its version."""
        entries = self.table.get((node.domain, node.op), ())
        found = next(((since, function) for since, function in reversed(entries) if since <= node.version), None)
        return None if found is None else entry_of(*found)

    def names(self) -> list[str]:
        """Every operator with a translator, `domain.Name` outside the default domain, sorted."""
        return sorted(f"{domain}.{name}" if domain else name for domain, name in self.table)


def _positional(constructor: Translator) -> Translator:
    def translator(*inputs: Value) -> Value | Op | tuple[Value, ...]:
        return constructor(*inputs)

    return translator


def unsupported(model: Model, registry: Registry) -> list[tuple[str, list[str]]]:
    """Every (operator, node names) of `model` that has no translator, in order of first appearance."""
    missing: dict[str, list[str]] = {}
    for node in model.nodes:
        if registry.find(node) is None:
            missing.setdefault(f"{node.domain}.{node.op}" if node.domain else node.op, []).append(node.label)
    return list(missing.items())


def unsupported_text(missing: Sequence[tuple[str, list[str]]]) -> str:
    """`no translator for FancyOp ('fancy_7'), Other ('a', 'b', ... 5 in all)`."""
    parts = []
    for op, nodes in missing:
        some = ", ".join(f"'{name}'" for name in nodes[:3])
        parts.append(f"{op} ({some}{f', ... {len(nodes)} in all' if len(nodes) > 3 else ''})")
    return "no translator for " + ", ".join(parts)


def operators(model: Model) -> dict[str, int]:
    """How often each operator occurs, most frequent first."""
    counts = Counter(f"{n.domain}.{n.op}" if n.domain else n.op for n in model.nodes)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def translate(model: Model, registry: Registry, inputs: Sequence[Input] = (), outputs: Sequence[str] = ()) -> Graph:
    """The graph of `model`, cut at `inputs` and `outputs` if given (tensor or node names).

    Raises Unsupported naming every operator without a translator that the wanted outputs need; BadModel for
    cycles, missing tensors and attributes that are wrong. Every error names the model, and the node where there is one.
    """
    try:
        return _translate(model, registry, inputs, outputs)
    except ConversionError as error:
        raise error.at(model=model.file) from None


def _translate(model: Model, registry: Registry, inputs: Sequence[Input], outputs: Sequence[str]) -> Graph:
    walk = Walk(model, registry)
    wanted = walk.begin(inputs, outputs, inferred(model, registry, inputs))
    needed = walk.needed(wanted)
    missing = unsupported(replace(model, nodes=needed), registry)
    if missing:
        raise Unsupported(unsupported_text(missing))
    for node in needed:
        walk.run(node)
    return walk.graph(wanted, outputs)


def inferred(model: Model, registry: Registry, asked: Sequence[Input]) -> dict[str, Input]:
    """What the inner tensors where the graph is to be cut are, as far as the network before them tells.

    Only of those whose type or shape was not asked for; of a part that cannot be converted nothing is known.
    """
    if not asked:
        return {}
    walk = Walk(model, registry)
    declared = {entry.name for entry in model.inputs}
    named = {walk.find(entry.name): entry for entry in asked}
    cuts = [name for name, entry in named.items() if name not in declared and not (entry.dtype and entry.shaped)]
    found: dict[str, Input] = {}
    if cuts:
        walk.feed([entry for name, entry in named.items() if name in declared], {})
    for name in filter(None, cuts):
        try:
            for node in walk.needed([name]):
                walk.run(node)
            value = walk.value(name)
        except ConversionError:
            continue
        if value is not None:
            found[name] = Input(name, value.dtype, value.shape)
    return found


def producers(nodes: Sequence[Node]) -> dict[str, Node]:
    """tensor -> the node that makes it; BadModel if two do."""
    made: dict[str, Node] = {}
    for node in nodes:
        for name in node.outputs:
            if name in made:
                raise BadModel(f"tensor '{name}' is made by node '{made[name].label}' too", node=node.label, op=node.op)
            if name:
                made[name] = node
    return made


class Walk:
    """One translation under way: tensors made so far, and names waiting for values that translators passed through."""

    def __init__(self, model: Model, registry: Registry) -> None:
        self.model = model
        self.registry = registry
        self.values: dict[str, Value] = {}
        self.parameters: list[Op] = []
        self.names: dict[Value, list[str]] = {}
        self.bound: set[Value] = set()
        self.producer = producers(model.nodes)
        self.cut = False
        self.by_node = {node.name: node for node in reversed(model.nodes) if node.name}

    def find(self, name: str) -> str | None:
        """The tensor that `name` means: a tensor name, else an output (`:0` the first) of the node of that name."""
        for alias in (name, name.removesuffix(":0"), name + ":0"):
            if alias in self.producer or alias in self.model.weights or any(i.name == alias for i in self.model.inputs):
                return alias
        node, _, port = name.rpartition(":")
        for found, at in ((self.by_node.get(name), "0"), (self.by_node.get(node), port)):
            if found is not None and at.isdecimal() and int(at) < len(found.outputs):
                return found.outputs[int(at)] or None
        return None

    def begin(self, asked: Sequence[Input], outputs: Sequence[str], known: Mapping[str, Input]) -> list[str]:
        """The inputs are fed; returns the tensors of the wanted outputs. BadModel for every name that means none."""
        names = [*(entry.name for entry in asked), *outputs]
        lost = [name for name in names if self.find(name) is None]
        if lost:
            raise BadModel("the model has no tensor or node " + ", ".join(f"'{name}'" for name in dict.fromkeys(lost)))
        self.feed(asked, known)
        wanted = [found for found in map(self.find, outputs) if found] or self.model.outputs
        if not wanted:
            raise BadModel("the model has no outputs")
        return wanted

    def feed(self, asked: Sequence[Input], known: Mapping[str, Input]) -> None:
        """Parameters for the declared inputs, as overridden, and for the tensors where the graph is cut.

        known: what of the latter is (type f32 and any shape where nothing is).
        """
        overrides: dict[str, Input] = {}
        for entry in asked:
            name = self.find(entry.name) or entry.name
            if name in overrides:
                raise BadModel(f"input '{entry.name}' is given twice")
            overrides[name] = entry
        self.cut = not overrides.keys() <= {declared.name for declared in self.model.inputs}
        for declared in self.model.inputs:
            self.enter(declared.name, declared, overrides.pop(declared.name, None))
        for name, cut in overrides.items():
            self.enter(name, known.get(name) or Input(name, DType.F32), cut)

    def enter(self, name: str, declared: Input, asked: Input | None) -> None:
        """Tensor `name` becomes a Parameter, or the Constant it is frozen to."""
        dtype = (asked and asked.dtype) or declared.dtype or DType.F32
        shape = asked.shape if asked and asked.shaped else declared.shape
        if asked and asked.value is not None:
            self.values[name] = frozen(name, dtype, shape, asked.value)
            return
        op = ops.parameter(name, dtype, shape)
        if asked and asked.name != name:
            op = op.with_names(0, [asked.name])
        self.parameters.append(op)
        self.values[name] = op.value()

    def needed(self, wanted: Sequence[str]) -> list[Node]:
        """The nodes that `wanted` depends on, producers first; BadModel for a cycle or a tensor nobody makes."""
        state: dict[int, int] = {}
        order: list[Node] = []
        stack: list[tuple[Node, int]] = []
        for name in wanted:
            self.push(name, stack, state, "")
            while stack:
                node, at = stack.pop()
                if at < len(node.inputs):
                    stack.append((node, at + 1))
                    self.push(node.inputs[at], stack, state, node.label)
                elif state[id(node)] == 1:
                    state[id(node)] = 2
                    order.append(node)
        return order

    def push(self, name: str, stack: list[tuple[Node, int]], state: dict[int, int], reader: str) -> None:
        """The producer of tensor `name` goes on the stack unless it is known already."""
        if not name or name in self.values or name in self.model.weights:
            return
        node = self.producer.get(name)
        if node is None:
            raise BadModel(f"tensor '{name}' is not made by any node", node=reader)
        if state.get(id(node)) == 1:
            raise BadModel(f"the graph has a cycle through tensor '{name}'", node=node.label, op=node.op)
        if id(node) not in state:
            state[id(node)] = 1
            stack.append((node, 0))

    def value(self, name: str) -> Value | None:
        """The Value of tensor `name` (None for an input left out); a weight becomes one Constant, on first use."""
        if not name:
            return None
        if name not in self.values:
            op = ops.constant(self.model.weights[name], name).op
            self.values[name] = op.with_names(0, [name]).value()
        return self.values[name]

    def run(self, node: Node) -> None:
        """Translate `node`; its outputs get their tensor names, its first output's operation the node's name."""
        entry = self.registry.find(node)
        if entry is None:
            raise InternalError("no translator", node=node.label, op=node.op)
        try:
            with origin(node.label):
                made = call(entry, node, [self.value(name) for name in node.inputs])
        except ConversionError as error:
            raise error.at(node=node.label, op=node.op, where=entry.where) from None
        values = (made,) if isinstance(made, Value) else made.values() if isinstance(made, Op) else made
        self.bind(node, values)

    def bind(self, node: Node, values: tuple[Value, ...]) -> None:
        fresh: dict[Op, Op] = {}
        wanted = [(name, value) for name, value in zip(node.outputs, values) if name]
        if sum(bool(name) for name in node.outputs) > len(wanted):
            text = f"{len(node.outputs)} outputs are wanted, of which {len(values)} can be converted"
            raise Unsupported(text, node=node.label, op=node.op)
        for name, value in wanted:
            if value in self.bound or value.op.type in ("Parameter", "Constant") or value.op.origin != node.label:
                self.names.setdefault(value, []).append(name)
                continue
            op = fresh.get(value.op, value.op.named(node.label) if not fresh else value.op)
            fresh[value.op] = op.with_names(value.port, [name])
        for name, value in wanted:
            self.values[name] = Value(fresh[value.op], value.port) if value.op in fresh else value
            self.bound.add(self.values[name])

    def graph(self, wanted: Sequence[str], asked: Sequence[str]) -> Graph:
        """Results for the wanted tensors, in order; Parameters as the file declares them, read or not.

        Where the graph was cut, inputs of what was cut off go with it.
        """
        results = []
        for name, alias in zip(wanted, asked or wanted, strict=True):
            value = self.value(name)
            if value is None:
                raise BadModel(f"output '{name}' is left out")
            if alias != name:
                self.names.setdefault(value, []).append(alias)
            results.append(ops.result(value, alias))
        parameters = self.parameters
        if self.cut or asked:
            reached = set(ordered(results))
            parameters = [op for op in parameters if op in reached]
        return rename(Graph(tuple(parameters), tuple(results), self.model.name), self.names)


def frozen(name: str, dtype: DType, shape: Shape, value: Array) -> Value:
    """A Constant in the place of input `name`: a number everywhere, or a list; BadModel if it does not fit."""
    array = value.astype(dtype.numpy)
    wanted = array.shape if shape is None else tuple(dim if isinstance(dim, int) else 1 for dim in shape)
    if array.ndim == 0:
        weight = fill(array.item(), dtype, wanted)
    elif shape is not None and math.prod(wanted) != array.size and not _fits(array.shape, shape):
        raise BadModel(f"value of shape {list(array.shape)} for input '{name}' of shape {text(shape)}")
    else:
        weight = inline(array if math.prod(wanted) != array.size else array.reshape(wanted), dtype)
    return ops.constant(weight, name).op.with_names(0, [name]).value()


def _fits(sizes: Sequence[int], shape: Sequence[Dim]) -> bool:
    return len(sizes) == len(shape) and all(not isinstance(dim, int) or dim == n for dim, n in zip(shape, sizes))
