"""The table of OpenVINO operations: version, inputs, attributes and shape function of each, and checked construction.

A row is defined by `define(...)` in a module of `batchconv.ops`; the name it is bound to is its constructor.
Source of every row: OpenVINO's operation specification (opset1 ... opset17), measured in
../shared/reference/opset.json.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from batchconv.errors import BadModel, InternalError
from batchconv.graph import Attr, Op, Output, Value
from batchconv.shape import tagged
from batchconv.tensor import DType

Infer = Callable[[Sequence[Value], Mapping[str, Attr]], "Output | tuple[Output, ...]"]
"""Shape function: inputs and checked attributes -> the output ports (dtype, shape, known value)."""

REQUIRED: Any = object()
"""The default of an attribute that must be given."""

_origin: ContextVar[str] = ContextVar("origin", default="")


@dataclass(frozen=True, slots=True)
class AttrDef:
    """One attribute: `check` returns the value in its canonical type or raises ValueError; `hint` says what fits."""

    check: Callable[[Any], Any]
    default: Any = REQUIRED
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One operation: type, the opset that has this version, input names (`?` optional, `*` variadic), attributes."""

    type: str
    version: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, AttrDef]
    infer: Infer

    def check_inputs(self, count: int) -> None:
        """BadModel unless `count` inputs fit."""
        least = sum(name[-1] not in "?*" for name in self.inputs)
        most = None if any(name[-1] == "*" for name in self.inputs) else len(self.inputs)
        if count < least or (most is not None and count > most):
            raise BadModel(f"{self.type} takes {' '.join(self.inputs) or 'no inputs'}, {count} given")

    def check_attrs(self, given: Mapping[str, Any]) -> dict[str, Attr]:
        """Every attribute in canonical form, defaults filled in; BadModel names the wrong one.

        A name with a hyphen (`exclude-pad`) may be given with an underscore.
        """
        given = {n if n in self.attrs else n.replace("_", "-"): value for n, value in given.items()}
        unknown = sorted(set(given) - set(self.attrs))
        if unknown:
            raise InternalError(f"{self.type} has no attribute {', '.join(unknown)}")
        checked = {}
        for name, definition in self.attrs.items():
            value = given.get(name, definition.default)
            if value is REQUIRED:
                raise InternalError(f"{self.type} needs attribute '{name}'")
            try:
                checked[name] = definition.check(value)
            except (TypeError, ValueError):
                raise BadModel(f"attribute '{name}' = {value!r} is not {definition.hint}") from None
        return checked


TABLE: dict[str, Row] = {}
"""Every operation defined, by IR type."""


@dataclass(frozen=True, slots=True)
class Constructor:
    """Calling it makes the operation, checked and with inferred outputs, and returns its first output."""

    row: Row

    def op(self, *inputs: Value | None, name: str = "", **attrs: Any) -> Op:
        """The operation itself (for several outputs: `.op(...).values()`); trailing None inputs are left out."""
        given = list(inputs)
        while given and given[-1] is None:
            given.pop()
        if None in given:
            raise BadModel(f"{self.row.type}: an input in the middle is missing")
        return build(self.row, tuple(v for v in given if v is not None), self.row.check_attrs(attrs), name)

    def __call__(self, *inputs: Value | None, name: str = "", **attrs: Any) -> Value:
        return Value(self.op(*inputs, name=name, **attrs), 0)


def define(type: str, opset: int, inputs: str, infer: Infer, /, **attrs: AttrDef) -> Constructor:
    """A row of the table, and its constructor. `inputs`: names, blank-separated, `x?` optional, `xs*` variadic."""
    TABLE[type] = Row(type, f"opset{opset}", tuple(inputs.split()), attrs, infer)
    return Constructor(TABLE[type])


def build(row: Row, inputs: tuple[Value, ...], attrs: Mapping[str, Attr], name: str = "") -> Op:
    """An Op of `row` with its outputs inferred; BadModel if inputs do not fit."""
    row.check_inputs(len(inputs))
    made = row.infer(inputs, attrs)
    outputs = tuple([_tagged(o) for o in (made if isinstance(made, tuple) else (made,))])
    return Op(row.type, inputs, attrs, outputs, name, _origin.get())


def _tagged(output: Output) -> Output:
    shape = tagged(output.shape)
    return output if shape is output.shape else Output(output.dtype, shape, output.names, output.known)


def rebuilt(op: Op, inputs: tuple[Value, ...]) -> Op:
    """`op` on other inputs: shapes inferred anew where dtype, shape or knowledge of an input changed; names kept."""
    if all(_same(a, b) for a, b in zip(op.inputs, inputs, strict=True)):
        return op.on(inputs)
    fresh = build(TABLE[op.type], inputs, op.attrs)
    outputs = tuple(replace(new, names=old.names) for new, old in zip(fresh.outputs, op.outputs, strict=True))
    return replace(op, inputs=inputs, outputs=outputs, cache={})


def _same(a: Value, b: Value) -> bool:
    if a.dtype is not b.dtype or a.shape != b.shape:
        return False
    return a.output.known == b.output.known or b.op.type == "Constant"


_IR_TYPES = {"Constant": "Const", "Relu": "ReLU", "PRelu": "PReLU", "Softmax": "SoftMax"}


def ir_type(op_type: str) -> str:
    """The spelling of an operation type in the IR (ir.md section 2)."""
    return _IR_TYPES.get(op_type, op_type)


@contextmanager
def origin(node: str) -> Iterator[None]:
    """Operations made inside carry `node` as the framework's node they come from."""
    token = _origin.set(node)
    try:
        yield
    finally:
        _origin.reset(token)


def ints(default: Any = REQUIRED) -> AttrDef:
    """A tuple of integers."""
    return AttrDef(lambda v: tuple(_int(i) for i in v), default, "a list of integers")


def int_(default: Any = REQUIRED) -> AttrDef:
    return AttrDef(_int, default, "an integer")


def float_(default: Any = REQUIRED) -> AttrDef:
    return AttrDef(float, default, "a number")


def floats(default: Any = REQUIRED) -> AttrDef:
    return AttrDef(lambda v: tuple(float(i) for i in v), default, "a list of numbers")


def bool_(default: Any = REQUIRED) -> AttrDef:
    return AttrDef(bool, default, "true or false")


def str_(default: Any = REQUIRED) -> AttrDef:
    return AttrDef(str, default, "a text")


def strs(default: Any = REQUIRED) -> AttrDef:
    """A tuple of texts."""
    return AttrDef(lambda v: tuple(str(i) for i in v), default, "a list of texts")


def type_(default: Any = REQUIRED) -> AttrDef:
    return AttrDef(_dtype, default, "an element type")


def any_(default: Any = REQUIRED) -> AttrDef:
    """Not checked: weights, shapes, bodies."""
    return AttrDef(lambda v: v, default, "a value")


def enum(*choices: str, default: Any = REQUIRED) -> AttrDef:
    """One of `choices`."""

    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError
        return str(value)

    return AttrDef(check, default, "one of " + ", ".join(choices))


def _int(value: Any) -> int:
    if int(value) != value:
        raise ValueError
    return int(value)


def _dtype(value: Any) -> DType:
    if not isinstance(value, DType):
        raise ValueError
    return value
