"""The graph: operations, the values they make, and what is known of those; immutable, and flat when it travels."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from batchconv.errors import BadModel, InternalError
from batchconv.shape import Dim, Interval, Shape, is_static, static, text
from batchconv.tensor import Array, DType
from batchconv.weight import Weight, read

Attr = Any
"""int, float, bool, str, DType, Shape, a tuple of those, a Weight (Constant) or a Graph (bodies)."""

KNOWN_LIMIT = 1024
"""Bytes up to which a value is evaluated while translating (shapes, axes, pads, scales)."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a small tensor's elements: in C order, each a number, a bool, or an Interval (integers)."""

    shape: tuple[int, ...]
    items: tuple[Any, ...]

    @property
    def whole(self) -> bool:
        """True if every element is known exactly."""
        return not any(isinstance(item, Interval) for item in self.items)

    def array(self, dtype: DType) -> Array:
        """The elements as an array; InternalError unless `whole`."""
        if not self.whole:
            raise InternalError("a value is only partly known")
        return np.array(self.items, dtype.numpy).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Output:
    """One output port: element type, shape, tensor names (as the framework had them) and what is known of the value."""

    dtype: DType
    shape: Shape
    names: tuple[str, ...] = ()
    known: Known | None = None

    def __str__(self) -> str:
        return self.dtype.ir + text(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One operation of OpenVINO; equal only to itself.

    type: OpenVINO's name (`Convolution`); inputs: Values; attrs: OpenVINO's attributes, all of them;
    outputs: one Output a port; name: the friendly name ("" = named on writing); origin: the framework's node.
    """

    type: str
    inputs: tuple[Value, ...]
    attrs: Mapping[str, Attr]
    outputs: tuple[Output, ...]
    name: str = ""
    origin: str = ""
    cache: dict[str, Any] = field(default_factory=dict, repr=False)

    def value(self, port: int = 0) -> Value:
        return Value(self, port)

    def values(self) -> tuple[Value, ...]:
        return tuple(Value(self, port) for port in range(len(self.outputs)))

    def named(self, name: str, origin: str = "") -> Op:
        """A copy under another friendly name (and, if given, from another framework's node)."""
        return Op(self.type, self.inputs, self.attrs, self.outputs, name, origin or self.origin)

    def on(self, inputs: tuple[Value, ...]) -> Op:
        """A copy on other inputs of the same types and shapes; see `opset.rebuilt` for any others."""
        return Op(self.type, inputs, self.attrs, self.outputs, self.name, self.origin)

    def with_names(self, port: int, names: Iterable[str]) -> Op:
        """A copy whose output `port` has these tensor names besides its own."""
        old = self.outputs[port]
        new = Output(old.dtype, old.shape, tuple(dict.fromkeys((*old.names, *names))), old.known)
        outputs = (*self.outputs[:port], new, *self.outputs[port + 1 :])
        return Op(self.type, self.inputs, self.attrs, outputs, self.name, self.origin)


@dataclass(frozen=True, slots=True)
class Value:
    """Output `port` of `op`: what translators and passes hold. Ask it for its shape, dtype and known value."""

    op: Op
    port: int = 0

    @property
    def output(self) -> Output:
        return self.op.outputs[self.port]

    @property
    def dtype(self) -> DType:
        return self.output.dtype

    @property
    def shape(self) -> Shape:
        return self.output.shape

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)

    @property
    def is_static(self) -> bool:
        return is_static(self.shape)

    @property
    def weight(self) -> Weight | None:
        """The recipe, if this is a Constant."""
        return self.op.attrs["weight"] if self.op.type == "Constant" else None

    @property
    def known(self) -> Known | None:
        """What is known of the elements, or None; a Constant of at most KNOWN_LIMIT bytes is read here, once."""
        if self.op.type != "Constant":
            return self.output.known
        if "known" not in self.op.cache:
            self.op.cache["known"] = _constant_known(self.op.attrs["weight"])
        known: Known | None = self.op.cache["known"]
        return known

    @property
    def array(self) -> Array | None:
        """The whole value as a small array where it is known exactly, else None."""
        known = self.known
        return known.array(self.dtype) if known is not None and known.whole else None


def _constant_known(weight: Weight) -> Known | None:
    spec = weight.spec
    if spec.nbytes > KNOWN_LIMIT or spec.dtype.bits < 8:
        return None
    return Known(spec.shape, tuple(read(weight).reshape(-1).tolist()))


def need(value: Value, what: str) -> Array:
    """The known value of `value` as an array; BadModel naming `what` if it is computed at run time."""
    array = value.array
    if array is None:
        raise BadModel(f"{what} must be known when converting, it is computed by {value.op.type} '{value.op.name}'")
    return array


def need_rank(value: Value, what: str = "the input") -> int:
    """The rank of `value`; BadModel naming `what` if it is not known."""
    if value.shape is None:
        raise BadModel(f"the rank of {what} must be known")
    return len(value.shape)


def need_shape(value: Value) -> tuple[int, ...]:
    """The static shape of `value`; BadModel if a dimension is not known."""
    return static(value.shape)


@dataclass(frozen=True, slots=True)
class Graph:
    """A network: its Parameters in order, and its results in order (Result ops; sinks such as Assign too).

    An operation is in the graph if a result reaches it; there is no other list.
    """

    parameters: tuple[Op, ...]
    results: tuple[Op, ...]
    name: str = ""

    def ops(self) -> list[Op]:
        """Every operation, inputs before users: Parameters first, then as results reach them; always in one order."""
        return ordered((*self.parameters, *self.results))

    def uses(self) -> dict[Value, int]:
        """How many inputs read each value."""
        counts: dict[Value, int] = {}
        for op in self.ops():
            for value in op.inputs:
                counts[value] = counts.get(value, 0) + 1
        return counts

    def __reduce__(self) -> tuple[Any, ...]:
        return unflatten, flatten(self)

    def __str__(self) -> str:
        return "\n".join(lines(self))


def ordered(roots: Sequence[Op], known: Container[Op] = ()) -> list[Op]:
    """All operations that `roots` reach, inputs first, short of those `known`; no recursion (networks are deep)."""
    done: dict[Op, None] = {}
    stack: list[tuple[Op, int]] = [(op, 0) for op in reversed(roots)]
    while stack:
        op, at = stack.pop()
        if op in done or op in known:
            continue
        while at < len(op.inputs) and (op.inputs[at].op in done or op.inputs[at].op in known):
            at += 1
        if at == len(op.inputs):
            done[op] = None
        else:
            stack.append((op, at + 1))
            stack.append((op.inputs[at].op, 0))
    return list(done)


Row = tuple[str, tuple[tuple[int, int], ...], dict[str, Attr], tuple[Output, ...], str, str]


def flatten(graph: Graph) -> tuple[list[Row], list[int], list[int], str]:
    """The graph as rows whose inputs are (row, port) indices; pickles at any depth."""
    ops = graph.ops()
    index = {op: i for i, op in enumerate(ops)}
    rows: list[Row] = [
        (o.type, tuple((index[v.op], v.port) for v in o.inputs), dict(o.attrs), o.outputs, o.name, o.origin)
        for o in ops
    ]
    return rows, [index[p] for p in graph.parameters], [index[r] for r in graph.results], graph.name


def unflatten(rows: list[Row], parameters: list[int], results: list[int], name: str) -> Graph:
    """The inverse of `flatten`."""
    ops: list[Op] = []
    for kind, inputs, attrs, outputs, label, origin in rows:
        ops.append(Op(kind, tuple(Value(ops[i], port) for i, port in inputs), attrs, outputs, label, origin))
    return Graph(tuple(ops[i] for i in parameters), tuple(ops[i] for i in results), name)


def lines(graph: Graph) -> Iterator[str]:
    """The text form, a line an operation: `%3 = Relu(%2) {...} : f32[1,64,?,?]<tensor,names> 'relu1'`."""
    index = {op: i for i, op in enumerate(graph.ops())}
    for op, number in index.items():
        args = ", ".join(f"%{index[v.op]}" + (f":{v.port}" if v.port else "") for v in op.inputs)
        attrs = ", ".join(f"{key}={show(value)}" for key, value in sorted(op.attrs.items()))
        outs = ", ".join(f"{out}<{','.join(out.names)}>" if out.names else str(out) for out in op.outputs)
        yield f"%{number} = {op.type}({args})" + (f" {{{attrs}}}" if attrs else "") + f" : {outs} '{op.name}'"


def show(attr: Attr) -> str:
    """An attribute for the text form; a weight as `f32[64,3,3,3]|Transpose|...`."""
    if isinstance(attr, Weight):
        small = attr.source if isinstance(attr.source, bytes) and attr.spec.size <= 8 and not attr.steps else None
        steps = "|".join([str(attr.spec), *(type(step).__name__ for step in attr.steps)])
        return steps if small is None else f"{attr.spec}={read(attr).reshape(-1).tolist()}"
    if isinstance(attr, DType):
        return attr.ir
    if isinstance(attr, tuple):
        return "[" + ",".join(show(item) for item in attr) + "]"
    return str(attr)


__all__ = [
    "Attr",
    "Dim",
    "Graph",
    "Known",
    "Op",
    "Output",
    "Value",
    "flatten",
    "need",
    "need_rank",
    "need_shape",
    "ordered",
    "show",
    "unflatten",
]
