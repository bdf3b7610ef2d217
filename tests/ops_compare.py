"""Comparing what we infer for an operation with what OpenVINO infers when it reads the IR of it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from batchconv import ops
from batchconv.graph import Graph, Op, Value
from batchconv.ir.xml import write_xml
from batchconv.shape import Interval, Shape
from batchconv.tensor import DType
from batchconv.weight import Weight, read

Case = Callable[[], "Value | Op"]


def dims(text: str) -> Shape:
    """`[1,?,8..16]` as a shape; `[...]`: unknown rank."""
    inner = text.strip("[]")
    if inner == "...":
        return None
    return tuple(_dim(part) for part in inner.split(",") if part)


def _dim(text: str) -> int | Interval:
    if text == "?":
        return Interval()
    if ".." not in text:
        return int(text)
    lo, hi = text.split("..")
    return Interval(int(lo or 0), int(hi) if hi else None)


def p(text: str) -> Value:
    """A Parameter: `f32[1,3,?,8..16]`."""
    dtype, shape = re.fullmatch(r"(\w+)(\[.*\])", text).groups()
    return ops.parameter("", DType.named(dtype), dims(shape)).value()


def c(array: Any, dtype: DType | None = None) -> Value:
    return ops.const(array, dtype)


def zeros(*shape: int) -> Value:
    return ops.const(np.zeros(shape, np.float32))


def shape_of(text: str) -> Value:
    """The shape of a Parameter, as an i64 value."""
    return ops.shape_of(p(text))


def op_of(made: Value | Op) -> Op:
    return made.op if isinstance(made, Value) else made


@functools.cache
def core() -> Any:
    import openvino

    return openvino.Core()


def openvino_model(op: Op) -> Any:
    """The network of `op` as OpenVINO reads it: its results are the ports of `op` in order."""
    import openvino

    op = op.named("case")
    results = tuple(ops.result(value, f"out{i}") for i, value in enumerate(op.values()))
    reached = Graph((), results).ops()
    graph = Graph(tuple(o for o in reached if o.type == "Parameter"), results)
    blob, offsets = b"", {}
    weights: list[Weight] = [o.attrs["weight"] for o in reached if o.type == "Constant"]
    for weight in weights:
        offsets[weight] = len(blob)
        blob += read(weight).tobytes() or b"\0"
    data = openvino.Tensor(np.frombuffer(blob or b"\0", np.uint8).copy())
    return core().read_model(write_xml(graph, offsets, "case", {}), data)


def theirs(op: Op) -> list[tuple[str, str]]:
    """(element type, shape) of each port as OpenVINO has it."""
    model = openvino_model(op)
    return [(result.get_element_type().get_type_name(), _text(result.get_partial_shape())) for result in model.outputs]


def _text(shape: Any) -> str:
    if shape.rank.is_dynamic:
        return "[...]"
    return "[" + ",".join(_dim_text(dim) for dim in shape) + "]"


def _dim_text(dim: Any) -> str:
    if dim.is_static:
        return str(dim.get_length())
    lo, hi = dim.get_min_length(), dim.get_max_length()
    return str(Interval(lo, None if hi in (-1, 2**63 - 1) else hi))


def ours(op: Op) -> list[tuple[str, str]]:
    """(element type, shape) of each port as we have it."""
    return [(str(output)[: len(output.dtype.ir)], str(output)[len(output.dtype.ir) :]) for output in op.outputs]
