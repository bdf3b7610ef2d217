"""Networks as text for tests of passes: `Multiply(Convolution(x, w), s)` to a graph and back, and run by OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from batchconv import ops
from batchconv.graph import Graph, Op, Value
from batchconv.ir.xml import write_xml
from batchconv.opset import TABLE, Constructor
from batchconv.packing import pack
from batchconv.shape import ANY, Shape
from batchconv.steps import Binary, Cast, Reshape, Slice, Sum, Transpose, Unary
from batchconv.tensor import Array, DType, Spec
from batchconv.weight import Extent, Step, Weight, read

SIGNS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}


def symbol(name: str, text: str, folder: str = "") -> Value:
    """`f16[8,3,3,3]` as a weight stored in file `name` (that need not exist), `x` of the name: a Parameter."""
    kind, _, dims = text.partition("[")
    dtype = DType.named(kind or "f32")
    shape = tuple(ANY if d == "?" else int(d) for d in dims[:-1].split(",") if d)
    if name.startswith("x"):
        return ops.parameter(name, dtype, shape).value()
    spec = Spec(dtype, tuple(int(d) for d in shape if isinstance(d, int)))
    return ops.constant(Weight(spec, Extent(f"{folder}{name}", 0, spec.nbytes)), name)


def build(text: str, symbols: str, folder: str = "") -> Graph:
    """The graph of an expression of operations (a tuple: several results); `symbols`: `x[1,3,?] w[8,3]`."""
    names = [item.partition("[") for item in symbols.split()]
    values: dict[str, Value] = {}
    for name, _, dims in names:
        label, _, kind = name.partition(":")
        values[label] = symbol(label, f"{kind}[{dims}", folder)
    made = eval(text, {**calls(), **values})
    results = made if isinstance(made, tuple) else (made,)
    parameters = tuple(v.op for v in values.values() if v.op.type == "Parameter")
    return Graph(parameters, tuple(ops.result(v) for v in results))


def calls() -> dict[str, Any]:
    """Operation types as functions of values and lists, with defaults for what a test does not say."""
    others = {"const": ops.const, "DType": DType, "w8": np.array([[1], [2], [3]], np.int8)}
    return {name: _call(Constructor(row)) for name, row in TABLE.items()} | others


def _call(make: Constructor) -> Any:
    def call(*inputs: Any, **attrs: Any) -> Any:
        values = [v if isinstance(v, Value) else ops.const(v) for v in inputs]
        if "filters" in make.row.inputs:
            spatial = (values[0].rank or 4) - 2
            defaults: dict[str, Any] = {"strides": (1,) * spatial, "dilations": (1,) * spatial, "auto_pad": "explicit"}
            defaults |= {"pads_begin": (0,) * spatial, "pads_end": (0,) * spatial}
            attrs = {**defaults, **attrs}
        if make.row.type == "Reshape":
            attrs.setdefault("special_zero", True)
        if make.row.type == "BatchNormInference":
            attrs.setdefault("epsilon", 1e-3)
        made = make.op(*values, **attrs)
        return made.value() if len(made.outputs) == 1 else made.values()

    return call


def show(graph: Graph) -> str:
    """The inverse of `build`: attributes left out, weights with what is done to them (`w * s`)."""
    return ", ".join(_show(op.inputs[0]) for op in graph.results)


def _show(value: Value) -> str:
    op = value.op
    if op.type == "Parameter":
        return op.name
    if value.weight is not None:
        return recipe(value.weight)
    port = f".{value.port}" if len(op.outputs) > 1 else ""
    return f"{op.type}({', '.join(map(_show, op.inputs))}){port}"


def recipe(weight: Weight) -> str:
    """`w * s`, with the shape of an operand only where it was changed: `w * s[8,1,1,1]`."""
    source = weight.source
    text = source.url.rsplit("/", 1)[-1] if isinstance(source, Extent) else number(read(weight))
    before: Step | None = None
    for step in weight.steps if isinstance(source, Extent) else ():
        text = f"({text}){_step(step)}" if type(before) is Binary and type(step) is not Binary else text + _step(step)
        before = step
    return text


def number(array: Array) -> str:
    """A small constant, as short as it can be told."""
    items = [format(item, ".6g") for item in array.reshape(-1).tolist()]
    return "[" + ",".join(items) + "]" if array.ndim else items[0]


def _step(step: Step) -> str:
    match step:
        case Binary(kind, operand):
            last = operand.steps[-1] if operand.steps and isinstance(operand.source, Extent) else None
            text = f"({recipe(operand)})" if isinstance(last, Binary) else recipe(operand)
            return f" {SIGNS[kind]} {text}"
        case Reshape(shape):
            return "[" + ",".join(map(str, shape)) + "]"
        case Cast(dtype):
            return f":{dtype.ir}"
        case Unary(kind):
            return f".{kind}"
        case Sum(axes):
            return f".sum{list(axes)}".replace(" ", "")
        case Transpose(perm):
            return f".T{list(perm)}".replace(" ", "")
        case Slice(axis, start, stop):
            return f".rows({axis},{start}:{stop})"
    return f"|{step}"


def store(symbols: str, folder: Path, seed: int = 0) -> None:
    """The files of the weights among `symbols`: random numbers, positive where named var."""
    rng = np.random.default_rng(seed)
    for item in symbols.split():
        name, _, dims = item.partition("[")
        label, _, kind = name.partition(":")
        dtype = DType.named(kind or "f32")
        shape = [int(d) for d in dims[:-1].split(",") if d and d != "?"]
        data = rng.uniform(0.5, 1.5, shape) if label.startswith(("var", "c")) else rng.normal(size=shape)
        (folder / label).write_bytes(np.asarray(data).astype(dtype.numpy).tobytes())


def run(graph: Graph, feeds: Mapping[str, Array]) -> list[Array]:
    """What OpenVINO computes of `graph` at full precision."""
    import openvino as ov

    offsets: dict[Weight, int] = {}
    data = bytearray()
    for op in graph.ops():
        weight = op.attrs.get("weight")
        if isinstance(weight, Weight) and weight not in offsets:
            offsets[weight] = len(data)
            data += pack(read(weight), weight.spec.dtype) or b"\0"
            data += b"\0" * (-len(data) % 64)
    model = ov.Core().read_model(write_xml(graph, offsets, "test", {}), bytes(data))
    compiled = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    result = compiled([feeds[op.name] for op in graph.parameters])
    return [np.array(result[i]) for i in range(len(graph.results))]


def run_both(before: Graph, after: Graph, feeds: Mapping[str, Array]) -> list[tuple[Array, Array]]:
    """The results of two graphs in pairs; in one run where they share their Parameters."""
    if before.parameters != after.parameters:
        return list(zip(run(before, feeds), run(after, feeds), strict=True))
    ends = tuple(dict.fromkeys((*before.results, *after.results)))
    found = dict(zip(ends, run(Graph(before.parameters, ends), feeds), strict=True))
    return [(found[a], found[b]) for a, b in zip(before.results, after.results, strict=True)]


def feeds(graph: Graph, seed: int = 1) -> dict[str, Array]:
    """Random data for every Parameter; free dimensions become 3."""
    rng = np.random.default_rng(seed)
    return {op.name: rng.normal(size=_sizes(op)).astype(op.outputs[0].dtype.numpy) for op in graph.parameters}


def _sizes(op: Op) -> tuple[int, ...]:
    shape: Shape = op.outputs[0].shape
    return tuple(dim if isinstance(dim, int) else 3 for dim in shape or ())
