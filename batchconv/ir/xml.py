"""The `.xml` of an IR v11, exactly as OpenVINO's own writer lays it out (ir.md sections 1, 2 and 6)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from batchconv.errors import InternalError
from batchconv.graph import Attr, Graph, Op, Output, Value
from batchconv.ir.geometry import blob_size
from batchconv.opset import TABLE, ir_type
from batchconv.shape import Interval, Shape
from batchconv.tensor import DType
from batchconv.weight import Weight

RT_INFO = "rt_info"
"""The key in `Op.attrs` of marks that are not attributes: a tuple of names, or of (name, value)."""

_SHAPES = {("Parameter", "shape"), ("ReadValue", "variable_shape")}
_XML_NAME = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_SPECIAL = re.compile(r'[\x00-\x1f&<"]')
_ENTITIES = {"&": "&amp;", "<": "&lt;", '"': "&quot;", "\0": "\ufffd"}


def write_xml(graph: Graph, offsets: Mapping[Weight, int], name: str, rt_info: Mapping[str, Any]) -> bytes:
    """The text of the network, the same bytes for the same graph.

    offsets: where each Constant's recipe lies in the `.bin`. rt_info: model-level remarks, nested mappings of values.
    """
    text = "".join(
        (
            '<?xml version="1.0"?>\n',
            f'<net name="{escape(name)}" version="11">\n',
            network(graph, offsets),
            "".join(_remarks("rt_info", rt_info, "\t")),
            "</net>\n",
        )
    )
    return text.encode("utf-8", "replace")


def network(graph: Graph, offsets: Mapping[Weight, int]) -> str:
    """`<layers>` and `<edges>` of a graph or body, one tab deep."""
    numbered = number(graph)
    dims = _Dims()
    layers = "".join(_layer(op, numbered, dims, offsets) for op in numbered.names)
    return f"\t<layers>\n{layers}\t</layers>\n{_edges(numbered)}"


@dataclass(frozen=True, slots=True)
class Numbered:
    """Operations in the order of their layers: position (the layer id) and unique name of each; names of Results.

    results: tensor names of each Result; lent: those that the values they show do not have themselves.
    """

    ids: dict[Op, int]
    names: dict[Op, str]
    results: dict[Op, tuple[str, ...]]
    lent: dict[Value, tuple[str, ...]]


def number(graph: Graph) -> Numbered:
    """Parameters, then inputs before users, then sinks, then Results; nameless operations are `Type_id`."""
    ends = dict.fromkeys(graph.results)
    starts = dict.fromkeys(graph.parameters)
    middle = [op for op in graph.ops() if op not in ends and op not in starts]
    sinks = [op for op in ends if op.type != "Result"]
    results = [op for op in ends if op.type == "Result"]
    ids = {op: i for i, op in enumerate((*starts, *middle, *sinks, *results))}
    seen: dict[Value, int] = {}
    for op in results:
        seen[op.inputs[0]] = seen.get(op.inputs[0], 0) + 1
    shown = {op: _shown(op, seen[op.inputs[0]] > 1) for op in results}
    lent: dict[Value, tuple[str, ...]] = {}
    for op, names in shown.items():
        lent[op.inputs[0]] = (*lent.get(op.inputs[0], ()), *names)
    return Numbered(ids, _names(ids), shown, lent)


def _shown(op: Op, shared: bool) -> tuple[str, ...]:
    """A Result's tensor names: its own; its name where Results share a value of that name; the value's; its name."""
    names, value = op.outputs[0].names, op.inputs[0].output.names
    if not names and shared and op.name in value:
        return (op.name,)
    return names or value or ((op.name,) if op.name else ())


def _names(ids: Mapping[Op, int]) -> dict[Op, str]:
    """A name of its own for each operation; those given go first, so that a made-up one never takes one."""
    taken: set[str] = set()
    names = {op: _unused(op.name, taken) for op in ids if op.name}
    names |= {op: _unused(f"{op.type}_{i}", taken) for op, i in ids.items() if not op.name}
    return {op: names[op] for op in ids}


def _unused(name: str, taken: set[str]) -> str:
    unique, suffix = name, 0
    while unique in taken:
        suffix += 1
        unique = f"{name}_{suffix}"
    taken.add(unique)
    return unique


def _layer(op: Op, numbered: Numbered, dims: _Dims, offsets: Mapping[Weight, int]) -> str:
    row = TABLE.get(op.type)
    if row is None:
        raise InternalError("this operation is in no opset", node=op.name, op=op.type)
    head = f'\t\t<layer id="{numbered.ids[op]}" name="{escape(numbered.names[op])}" type="{ir_type(op.type)}"'
    head += f' version="{row.version}"{_tensor_names("output_names", numbered.results.get(op, ()))}'
    inner = _data(op, offsets) + _marks(op.attrs.get(RT_INFO, ())) + _ports(op, dims, numbered.lent)
    return f"{head}>\n{inner}\t\t</layer>\n" if inner else f"{head} />\n"


def _tensor_names(key: str, names: tuple[str, ...]) -> str:
    """The attribute that lists tensor names, sorted; nothing if there are none."""
    if not names:
        return ""
    listed = ",".join(sorted(name.replace(",", "\\,") for name in set(names)))
    return f' {key}="{escape(listed)}"'


def _data(op: Op, offsets: Mapping[Weight, int]) -> str:
    pairs = _constant(op, offsets) if op.type == "Constant" else _attributes(op)
    text = " ".join(f'{key}="{value}"' for key, value in pairs)
    return f"\t\t\t<data {text} />\n" if text else ""


def _constant(op: Op, offsets: Mapping[Weight, int]) -> Iterator[tuple[str, str]]:
    weight: Weight = op.attrs["weight"]
    spec = weight.spec
    yield "element_type", spec.dtype.ir
    yield "shape", ", ".join(map(str, spec.shape))
    yield "offset", str(offsets[weight])
    yield "size", str(blob_size(weight))


def _attributes(op: Op) -> Iterator[tuple[str, str]]:
    if op.type == "Parameter":
        yield "shape", shape_text(op.attrs["shape"])
    for key, value in op.attrs.items():
        if (op.type, key) in _SHAPES:
            if op.type != "Parameter":
                yield key, shape_text(value)
        elif key != RT_INFO and value is not None and not isinstance(value, Graph):
            yield key, attribute(value)


def shape_text(shape: Shape) -> str:
    """`?,3,8..16`, `...` where the rank is unknown, nothing for a scalar."""
    return "..." if shape is None else ",".join(map(str, shape))


def attribute(value: Attr) -> str:
    """The text of an attribute in `<data>`, escaped."""
    if isinstance(value, tuple):
        if any(isinstance(item, Interval) for item in value):
            return shape_text(value)
        return ", ".join(attribute(item) for item in value)
    text = _TEXT.get(type(value))
    if text is None:
        raise InternalError(f"attributes of type {type(value).__name__} cannot be written")
    return text(value)


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")


def escape(text: str) -> str:
    """`text` as it stands between double quotes: control characters as OpenVINO writes them (`&#09;`)."""
    if _SPECIAL.search(text) is None:
        return text
    return _SPECIAL.sub(lambda m: _ENTITIES.get(m[0]) or f"&#{ord(m[0]):02};", text)


_TEXT: dict[type, Callable[[Any], str]] = {
    bool: lambda value: "true" if value else "false",
    int: str,
    float: _number,
    str: escape,
    DType: lambda value: str(value.ir),
}


def _marks(marks: Iterable[str | tuple[str, str]]) -> str:
    lines = []
    for mark in marks:
        name, value = (mark, None) if isinstance(mark, str) else mark
        more = "" if value is None else f' value="{escape(value)}"'
        lines.append(f'\t\t\t\t<attribute name="{escape(name)}" version="0"{more} />\n')
    return f"\t\t\t<rt_info>\n{''.join(lines)}\t\t\t</rt_info>\n" if lines else ""


class _Dims(dict[Shape, str]):
    """shape -> the `<dim>` lines of a port; networks have few different ones."""

    def __missing__(self, shape: Shape) -> str:
        dims = ("-1" if isinstance(dim, Interval) else str(dim) for dim in shape or ())
        self[shape] = text = "".join(f"\t\t\t\t\t<dim>{dim}</dim>\n" for dim in dims)
        return text


def _ports(op: Op, dims: _Dims, lent: Mapping[Value, tuple[str, ...]]) -> str:
    """Inputs numbered from 0, outputs going on from there; a Result has inputs only."""
    ins = [_port(i, value.output, "", dims) for i, value in enumerate(op.inputs)]
    outs = []
    for i, output in enumerate(op.outputs if op.type != "Result" else ()):
        names = output.names + lent.get(Value(op, i), ())
        outs.append(_port(len(ins) + i, output, _tensor_names("names", names), dims))
    text = f"\t\t\t<input>\n{''.join(ins)}\t\t\t</input>\n" if ins else ""
    return text + (f"\t\t\t<output>\n{''.join(outs)}\t\t\t</output>\n" if outs else "")


def _port(number: int, output: Output, names: str, dims: _Dims) -> str:
    inner = dims[output.shape]
    end = f">\n{inner}\t\t\t\t</port>\n" if inner else " />\n"
    return f'\t\t\t\t<port id="{number}" precision="{output.dtype.precision}"{names}{end}'


def _edges(numbered: Numbered) -> str:
    """Every edge, by the layer it comes from and then by the layer it goes to."""
    out: list[list[str]] = [[] for _ in numbered.ids]
    for op, to in numbered.ids.items():
        for port, value in enumerate(op.inputs):
            source = numbered.ids[value.op]
            out[source].append(
                f'\t\t<edge from-layer="{source}" from-port="{len(value.op.inputs) + value.port}"'
                f' to-layer="{to}" to-port="{port}" />\n'
            )
    lines = "".join(line for group in out for line in group)
    return f"\t<edges>\n{lines}\t</edges>\n" if lines else "\t<edges />\n"


def _remarks(key: str, value: Any, tab: str) -> Iterator[str]:
    """Model-level rt_info: mappings nest, values stand in `value`; a key that is no XML name goes into `name`."""
    tag, label = (key, "") if _XML_NAME.fullmatch(key) else ("info", f' name="{escape(key)}"')
    if not isinstance(value, Mapping):
        yield f'{tab}<{tag}{label} value="{escape(_remark(value))}" />\n'
    elif not value:
        yield f"{tab}<{tag}{label} />\n"
    else:
        yield f"{tab}<{tag}{label}>\n"
        for inner, item in value.items():
            yield from _remarks(inner, item, tab + "\t")
        yield f"{tab}</{tag}>\n"


def _remark(value: Any) -> str:
    if isinstance(value, bool):
        return "YES" if value else "NO"
    if isinstance(value, list | tuple):
        return " ".join(map(_remark, value))
    return str(value)
