"""An ONNX file -> Model: nodes, names and shapes are read, tensors stay where they are (onnx.proto, ModelProto)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from batchconv.errors import BadModel, ConversionError
from batchconv.frontends.onnx.attributes import Piece, Unread, attributes
from batchconv.frontends.onnx.tensors import Folder, dtype_of, tensor
from batchconv.frontends.protobuf import Source, signed
from batchconv.frontends.translate import Input, Model, Node
from batchconv.shape import ANY, Dim, Shape
from batchconv.tensor import DType
from batchconv.weight import Weight, inline

Attrs = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
_LARGEST_DIM = 1 << 40


def read(url: str, files: Mapping[str, str] | None = None) -> Model:
    """The model at `url`, headers only; BadModel (one line, naming the file) if it is damaged or not ONNX."""
    model = Model("onnx", url, [], [], [], {})
    try:
        _read(model, Source(url))
    except ConversionError as error:
        raise error.at(model=model.file) from None
    return model


def _read(model: Model, source: Source) -> None:
    if not source.size:
        raise BadModel("not an ONNX model: the file is empty")
    graph, versions = _model(source)
    folder = Folder(model.url)
    reading = Reading(model, source, folder, versions)
    reading.graph(*graph)
    model.sources = (model.url, *sorted(folder.sizes))


def _model(source: Source) -> tuple[Piece, dict[str, int]]:
    """Where the graph lies, and the version of each operator set."""
    graph: Piece | None = None
    versions: dict[str, int] = {}
    known = False
    try:
        for number, wire, value, at in source.fields():
            if _WIRE.get(number, wire) != wire:
                raise BadModel(f"byte {at}: field {number} has wire type {wire}")
            known = known or number == 1
            if number == 7:
                graph = value, at
            elif number == 8:
                domain, version = _opset(source, value, at)
                versions[domain] = version
    except BadModel as error:
        raise BadModel(f"{'damaged or cut short' if known else 'not an ONNX model'}: {error.message}") from None
    if graph is None:
        raise BadModel("not an ONNX model: it has no graph")
    return graph, versions


_WIRE = {1: 0, 5: 0, 7: 2, 8: 2}
"""Fields of a ModelProto whose wire type tells it from other protobuf files."""


def _opset(source: Source, value: Any, at: int) -> tuple[str, int]:
    domain, version = "", 1
    for number, _, item, start in source.within(value, at):
        if number == 1:
            domain = source.text(item, start)
        elif number == 2 and isinstance(item, int):
            version = item
    return _domain(domain), version


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


class Reading:
    """One GraphProto on its way into a Model."""

    def __init__(self, model: Model, source: Source, folder: Folder, versions: dict[str, int]) -> None:
        self.model = model
        self.source = source
        self.folder = folder
        self.versions = versions
        self.seen: set[str] = set()

    def graph(self, value: Any, at: int) -> None:
        """Nodes, weights, inputs and outputs of the graph at byte `at` enter the model."""
        source, model = self.source, self.model
        inputs: list[Piece] = []
        for number, _, item, start in source.within(value, at):
            if number == 1:
                self.node(item, start)
            elif number == 5:
                self.weight(*tensor(source, item, start, self.folder))
            elif number == 2:
                model.name = source.text(item, start)
            elif number == 11:
                inputs.append((item, start))
            elif number == 12:
                model.outputs.append(self.value_info(item, start)[0])
            elif number == 15:
                self.refused("sparse tensor", self.sparse_name(item, start))
        for piece in inputs:
            self.input(*piece)

    def node(self, value: Any, at: int) -> None:
        """One NodeProto; a Constant becomes a weight."""
        source, text = self.source, self.source.text
        inputs: list[str] = []
        outputs: list[str] = []
        pieces: list[Piece] = []
        name = op = domain = ""
        for number, _, item, start in source.within(value, at):
            if number == 1:
                inputs.append(text(item, start))
            elif number == 2:
                outputs.append(text(item, start))
            elif number == 5:
                pieces.append((item, start))
            elif number == 3:
                name = text(item, start)
            elif number == 4:
                op = text(item, start)
            elif number == 7:
                domain = _domain(text(item, start))
        if name in self.seen or not name:
            name = next(filter(None, outputs), f"{name}@{at}")
        self.seen.add(name)
        attrs: Attrs = partial(attributes, source, pieces, self.folder) if pieces else {}
        node = Node(op, name, tuple(inputs), tuple(outputs), attrs, domain, self.versions.get(domain, 1))
        if op == "Constant" and not domain and outputs:
            self.constant(node)
        else:
            self.model.nodes.append(node)

    def constant(self, node: Node) -> None:
        """A Constant node's one attribute as a weight under the name of its output."""
        try:
            made = [_constant(key, value) for key, value in node.attributes().items()]
        except ConversionError as error:
            raise error.at(node=node.label, op=node.op) from None
        if len(made) == 1 and made[0] is not None:
            self.weight(node.outputs[0], made[0])
        else:
            self.model.nodes.append(replace(node, op="Constant of texts or sparse values"))

    def weight(self, name: str, weight: Weight) -> None:
        if weight.stored.dtype is DType.STRING:
            self.refused("tensor of texts", name)
        else:
            self.model.weights[name] = weight

    def refused(self, what: str, name: str) -> None:
        """Something that is reported as unsupported, together with all else, if an output needs it."""
        self.model.nodes.append(Node(what, name, (), (name,)))

    def input(self, value: Any, at: int) -> None:
        """A network input, unless it is the default of an initializer."""
        name, kind = self.value_info(value, at)
        if name in self.model.weights:
            return
        if kind is None:
            self.refused("input that is no tensor", name)
            return
        try:
            code, shape = self.tensor_type(*kind)
            self.model.inputs.append(Input(name, dtype_of(code), shape))
        except ConversionError as error:
            raise type(error)(f"input '{name}': {error.message}") from None

    def value_info(self, value: Any, at: int) -> tuple[str, Piece | None]:
        """(name, tensor type) of a ValueInfoProto; None if it is a sequence, a map or an optional."""
        source, name, kind = self.source, "", None
        for number, _, item, start in source.within(value, at):
            if number == 1:
                name = source.text(item, start)
            elif number == 2:
                for inner, _, type_, place in source.within(item, start):
                    kind = (type_, place) if inner == 1 else kind
        return name, kind

    def tensor_type(self, value: Any, at: int) -> tuple[int, Shape]:
        """(element type, shape) of a TypeProto.Tensor; a shape left out is any shape."""
        code, shape = 0, None
        for number, _, item, start in self.source.within(value, at):
            if number == 1 and isinstance(item, int):
                code = item
            elif number == 2:
                dims = self.source.within(item, start)
                shape = tuple(self.dim(dim, place) for key, _, dim, place in dims if key == 1)
        return code, shape

    def dim(self, value: Any, at: int) -> Dim:
        """A dimension: a number, or free if it is named, left out or negative."""
        for number, _, item, _ in self.source.within(value, at):
            if number == 1 and isinstance(item, int) and signed(item) >= 0:
                if item > _LARGEST_DIM:
                    raise BadModel(f"dimension {item} is too large")
                return item
        return ANY

    def sparse_name(self, value: Any, at: int) -> str:
        for number, _, item, start in self.source.within(value, at):
            if number == 1:
                return tensor(self.source, item, start, self.folder)[0]
        return ""


def _constant(key: str, value: Any) -> Weight | None:
    """The recipe of a Constant's attribute; None for texts and sparse tensors."""
    if isinstance(value, Weight):
        return value
    for prefix, dtype in (("value_float", np.float32), ("value_int", np.int64)):
        if key in (prefix, prefix + "s"):
            try:
                return inline(np.array(value, dtype))
            except (ValueError, TypeError, OverflowError):
                raise BadModel(f"attribute '{key}' has a value of another type") from None
    return None


__all__ = ["Unread", "read"]
