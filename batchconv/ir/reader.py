"""IR v10 or v11 read back, for our own checks: layers, edges and constants, as the files have them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from batchconv import storage
from batchconv.errors import BadModel
from batchconv.tensor import Array, DType, Spec
from batchconv.weight import Extent, Weight, read

_CONTROL = re.compile(rb"&#0*(\d{1,2});")
_PRIVATE = 0xF700
"""Where control characters, which XML 1.0 has no way to write but OpenVINO writes, are kept while parsing."""

BODIES = ("body", "then_body", "else_body")


@dataclass(frozen=True, slots=True)
class Port:
    """A port: its number, precision name, tensor names and dimensions (-1: dynamic)."""

    id: int
    precision: str
    names: tuple[str, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as written; `weight` is a recipe that reads a Const's elements, `rt_info` the names of its marks."""

    id: int
    name: str
    type: str
    version: str
    data: Mapping[str, str]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    rt_info: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    weight: Weight | None = None
    bodies: Mapping[str, Net] = field(default_factory=dict)

    @property
    def array(self) -> Array:
        """The elements of a Const (one code each, if narrower than a byte); BadModel for any other layer."""
        if self.weight is None:
            raise BadModel("this layer is no constant", node=self.name, op=self.type)
        return read(self.weight)


@dataclass(frozen=True, slots=True)
class Edge:
    """From (layer id, port) to (layer id, port)."""

    source: tuple[int, int]
    target: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Net:
    """A network or body."""

    name: str
    layers: tuple[Layer, ...]
    edges: tuple[Edge, ...]
    rt_info: Element | None

    def layer(self, name: str) -> Layer:
        """The layer of that name; KeyError if there is none."""
        return {layer.name: layer for layer in self.layers}[name]

    def of_type(self, type: str) -> list[Layer]:
        return [layer for layer in self.layers if layer.type == type]

    def input(self, layer: Layer, port: int = 0) -> Layer:
        """The layer that feeds that input; KeyError if none does."""
        sources = {edge.target: edge.source[0] for edge in self.edges}
        return {each.id: each for each in self.layers}[sources[layer.id, port]]


Blob = bytes | tuple[str, int]
"""A `.bin`: its bytes, or its URL and size."""


def read_ir(xml: bytes | str, bin: bytes | None = None) -> Net:
    """The network in `xml`: the bytes themselves (then `bin` too), or the URL of the `.xml`, its `.bin` beside it.

    BadModel, one line, if it is not such a file or a constant lies outside the `.bin`.
    """
    if isinstance(xml, bytes):
        return _network(_parsed(xml), bin or b"")
    url = xml.removesuffix(".xml") + ".bin"
    blob: Blob = bin if bin is not None else (url, storage.size(url) if storage.exists(url) else 0)
    return _network(_parsed(storage.read(xml, 0, storage.size(xml))), blob)


def _network(root: Element, blob: Blob) -> Net:
    if root.tag != "net" or root.get("version") not in ("10", "11"):
        raise BadModel("this is no IR of version 10 or 11")
    try:
        return _net(root, blob)
    except (KeyError, ValueError) as error:
        raise BadModel(f"this IR is not well formed: {type(error).__name__} {error}") from None


class _Builder(TreeBuilder):
    """Refuses document types: entities are declared there, and grow without bound."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise BadModel("an IR has no DOCTYPE")


def _parsed(xml: bytes) -> Element:
    parser = XMLParser(target=_Builder())
    try:
        parser.feed(_CONTROL.sub(_moved, xml))
        root = parser.close()
    except ParseError as error:
        raise BadModel(f"this is no XML: {error}") from None
    if not isinstance(root, Element):
        raise BadModel("this is no XML: nothing is in it")
    return root


def _moved(match: re.Match[bytes]) -> bytes:
    code = int(match[1])
    return match[0] if code > 31 or code in (9, 10, 13) else b"&#%d;" % (_PRIVATE + code)


def _text(value: str) -> str:
    """An attribute with its control characters back in place."""
    return re.sub("[\uf700-\uf71f]", lambda m: chr(ord(m[0]) - _PRIVATE), value)


def _net(root: Element, blob: Blob) -> Net:
    layers = tuple(_layer(each, blob) for each in root.iterfind("layers/layer"))
    edges = tuple(
        Edge(
            (int(each.attrib["from-layer"]), int(each.attrib["from-port"])),
            (int(each.attrib["to-layer"]), int(each.attrib["to-port"])),
        )
        for each in root.iterfind("edges/edge")
    )
    return Net(_text(root.get("name", "")), layers, edges, root.find("rt_info"))


def _layer(element: Element, blob: Blob) -> Layer:
    found = element.find("data")
    data = {} if found is None else {key: _text(value) for key, value in found.attrib.items()}
    kind = element.attrib["type"]
    return Layer(
        int(element.attrib["id"]),
        _text(element.attrib["name"]),
        kind,
        element.attrib["version"],
        data,
        tuple(_ports(element, "input")),
        tuple(_ports(element, "output")),
        tuple(each.attrib["name"] for each in element.iterfind("rt_info/attribute")),
        names(element.get("output_names", "")),
        _weight(data, blob) if kind == "Const" else None,
        {tag: _net(body, blob) for tag in BODIES for body in element.iterfind(tag)},
    )


def _ports(element: Element, tag: str) -> Iterator[Port]:
    for port in element.iterfind(f"{tag}/port"):
        shape = tuple(int(dim.text or "") for dim in port.iterfind("dim"))
        yield Port(int(port.attrib["id"]), port.get("precision", ""), names(port.get("names", "")), shape)


def names(text: str) -> tuple[str, ...]:
    """Tensor names apart: a comma inside one is `\\,`."""
    return tuple(each.replace("\\,", ",") for each in re.split(r"(?<!\\),", _text(text))) if text else ()


def _weight(data: Mapping[str, str], blob: Blob) -> Weight:
    shape = tuple(int(dim) for dim in data["shape"].split(",") if dim.strip())
    spec = Spec(DType.named(data["element_type"]), shape)
    offset, size = int(data["offset"]), int(data["size"])
    whole = len(blob) if isinstance(blob, bytes) else blob[1]
    if offset < 0 or size < spec.nbytes or offset + size > whole:
        raise BadModel(f"a constant of {size} bytes at {offset} does not fit {spec} in a .bin of {whole} bytes")
    if isinstance(blob, bytes):
        return Weight(spec, blob[offset : offset + size])
    return Weight(spec, Extent(blob[0], offset, size))
