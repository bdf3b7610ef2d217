"""Small ONNX networks with numbers of their own, and manifests of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def chain(path: Path, layers: int, size: int, seed: int, loud: bool = False, op: str = "MatMul") -> Path:
    """`layers` square MatMuls with a Relu after each (`op`: what stands in place of the first Relu).

    loud: the last matrix is beyond what float16 holds.
    """
    random = np.random.default_rng(seed)
    nodes, weights, at = [], [], "x"
    for i in range(layers):
        matrix = random.standard_normal((size, size), np.float32) * np.float32(size**-0.5)
        if loud and i == layers - 1:
            matrix += np.sign(matrix) * np.float32(1e5)
        weights.append(numpy_helper.from_array(matrix, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [at, f"w{i}"], [f"m{i}"], name=f"matmul{i}"))
        nodes.append(helper.make_node("Relu" if i or op == "MatMul" else op, [f"m{i}"], [f"r{i}"], name=f"relu{i}"))
        at = f"r{i}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name in ("x", at)]
    graph = helper.make_graph(nodes, path.stem, ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def hole(path: Path, size: int, data: str) -> Path:
    """One MatMul of a [size, size] matrix of zeros, which lies in the file `data` without a block on the disk."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[size, size], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=data)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name in "xy"]
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")
    graph = helper.make_graph([node], path.stem, ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    with path.with_name(data).open("wb") as file:
        file.truncate(4 * size * size)
    return path


def zoo(folder: Path, count: int) -> list[Path]:
    """`count` networks of a few kilobytes, each with other weights."""
    return [chain(folder / f"net{i:02}.onnx", 3, 16 + i % 5, i) for i in range(count)]


def manifest(folder: Path, *models: dict[str, Any], **more: Any) -> str:
    """A manifest in `folder` with its output in `out`; its path."""
    path = folder / "manifest.json"
    path.write_text(json.dumps({"output": "out", "models": list(models), **more}))
    return str(path)


def leftovers(folder: Path) -> list[str]:
    """Everything hidden or temporary below `folder`: what a run must not leave."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.name.startswith(".") or ".tmp" in p.name)


def artifacts(folder: Path) -> dict[str, bytes]:
    """Every `.xml` and `.bin` below `folder`."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.suffix in (".xml", ".bin")
    }
