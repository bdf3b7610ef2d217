"""ONNX models through batchconv's pieces and OpenVINO, for the tests of the ONNX frontend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
from onnx import helper, numpy_helper

from batchconv import packing, passes
from batchconv.frontends.onnx import read, registry
from batchconv.frontends.translate import Input, translate
from batchconv.graph import Graph
from batchconv.ir.xml import write_xml
from batchconv.weight import Weight
from batchconv.weight import read as read_weight

CORE = ov.Core()
F32 = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY", "INFERENCE_NUM_THREADS": 1}


def graph_of(path: Path, inputs: Sequence[Input] = (), outputs: Sequence[str] = ()) -> Graph:
    """The translated graph of an ONNX file, after the passes."""
    return passes.run(translate(read(str(path)), registry, inputs, outputs))


def compiled(graph: Graph) -> Any:
    """The graph as OpenVINO compiles it from our IR."""
    data, offsets = bytearray(), {}
    for op in graph.ops():
        weight = op.attrs.get("weight")
        if isinstance(weight, Weight):
            offsets[weight] = len(data)
            data += packing.pack(read_weight(weight), weight.spec.dtype) or b"\0"
    xml = write_xml(graph, offsets, graph.name or "net", {})
    tensor = ov.Tensor(np.frombuffer(bytes(data) or b"\0", np.uint8).copy())
    return CORE.compile_model(CORE.read_model(model=xml, weights=tensor), "CPU", F32)


def run(graph: Graph, feeds: Mapping[str, Any]) -> list[Any]:
    """What OpenVINO computes: one array an output, in order."""
    model = compiled(graph)
    return list(
        model({name: value for name, value in feeds.items() if any(name in i.names for i in model.inputs)}).values()
    )


def onnx_model(
    nodes: Sequence[Any],
    inputs: Mapping[str, Any],
    outputs: int | Sequence[str] = ("y",),
    weights: Mapping[str, Any] | None = None,
    opset: int = 17,
    shapes: Mapping[str, Sequence[Any]] | None = None,
) -> Any:
    """A model of `nodes`; inputs: name -> example array; shapes: other declared shapes than theirs (None: free)."""
    declared = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), (shapes or {}).get(name, value.shape)
        )
        for name, value in inputs.items()
    ]
    made = [helper.make_value_info(name, onnx.TypeProto()) for name in outputs]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "g", declared, made, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
