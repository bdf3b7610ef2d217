"""What the Caffe tests share: a net from text and blobs, translated, and run by OpenVINO at f32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from make_models import caffemodel

from batchconv.frontends.caffe import read, registry
from batchconv.frontends.translate import Input, translate
from batchconv.graph import Graph
from batchconv.ir.layout import weights
from batchconv.ir.xml import write_xml
from batchconv.packing import pack
from batchconv.tensor import Array
from batchconv.weight import Weight
from batchconv.weight import read as read_weight

SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


@cache
def core() -> ov.Core:
    return ov.Core()


def compiled(graph: Graph) -> Any:
    """The graph as OpenVINO runs it."""
    data, offsets = bytearray(), dict[Weight, int]()
    for weight, _ in weights(graph):
        if weight not in offsets:
            offsets[weight] = len(data)
            data += pack(read_weight(weight), weight.spec.dtype)
            data += bytes(-len(data) % 64)
    blob = ov.Tensor(np.frombuffer(bytes(data) or b"\0", np.uint8))
    model = core().read_model(write_xml(graph, offsets, "net", {}), blob)
    return core().compile_model(model, "CPU", SETTINGS)


def run(graph: Graph, *inputs: Array) -> list[Array]:
    """The outputs for these inputs, in order."""
    made = compiled(graph)
    result = made(list(inputs))
    return [np.array(result[output]) for output in made.outputs]


def graph_of(
    folder: Path,
    text: str,
    blobs: Mapping[str, Sequence[Array]] | None = None,
    inputs: Sequence[Input] = (),
    outputs: Sequence[str] = (),
) -> Graph:
    """The graph of a prototxt and the blobs of its layers, through the files a user would have."""
    proto, model = folder / "net.prototxt", folder / "net.caffemodel"
    proto.write_text(text)
    model.write_bytes(caffemodel("net", blobs or {}))
    return translate(read(str(model), {}), registry, inputs, outputs)


def layer(
    kind: str, params: str = "", bottoms: Sequence[str] = ("data",), tops: Sequence[str] = ("y",), name: str = "l"
) -> str:
    """One layer as prototxt."""
    ends = " ".join([*(f'bottom: "{b}"' for b in bottoms), *(f'top: "{t}"' for t in tops)])
    return f'layer {{ name: "{name}" type: "{kind}" {ends} {params} }}\n'


def net(*layers: str, **shapes: Sequence[int]) -> str:
    """A prototxt with an Input layer for each named shape (default: data), then the layers."""
    heads = [
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        + " ".join(f"dim: {dim}" for dim in shape)
        + " } } }\n"
        for name, shape in shapes.items()
    ]
    return "".join([*heads, *layers])
