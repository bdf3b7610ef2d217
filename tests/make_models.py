"""Makes the project's own small models, the same bytes each time: `python tests/make_models.py DIR`.

Caffe: `quickstart` (convolution, batch norm, scale, ReLU, pooling, inner product, softmax; text and weights).
ONNX: a small convolutional network with its weights inside, as float16, and outside.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

QUICKSTART = """name: "quickstart"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 16 dim: 16 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 stride: 1 bias_term: false } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" batch_norm_param { use_global_stats: true } }
layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param { num_output: 12 kernel_size: 3 group: 2 } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" relu_param { negative_slope: 0.1 } }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2"
  pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool2" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


def quickstart_blobs(seed: int = 7) -> dict[str, list[Array]]:
    """Seeded random weights of the quickstart network, by layer."""
    draw = np.random.default_rng(seed)

    def normal(*shape: int, scale: float = 0.3) -> Array:
        return (draw.standard_normal(shape) * scale).astype(np.float32)

    return {
        "conv1": [normal(8, 3, 3, 3)],
        "bn1": [normal(8), np.abs(normal(8)) + np.float32(0.5), np.array([2.0], np.float32)],
        "scale1": [normal(8) + np.float32(1), normal(8)],
        "conv2": [normal(12, 4, 3, 3), normal(12)],
        "fc": [normal(5, 12 * 3 * 3), normal(5)],
    }


def varint(number: int) -> bytes:
    """A number as protobuf's wire format has it (negative ones in ten bytes)."""
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: int | float | str | bytes) -> bytes:
    """One field: numbers as varints, floats as four bytes, text and messages with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def blob(array: Array, legacy: bool = False) -> bytes:
    """A BlobProto: float32 as `data`, float64 as `double_data`; with the old four dimensions if `legacy`."""
    if legacy:
        dims = (1,) * (4 - array.ndim) + array.shape
        shape = b"".join(field(i, dim) for i, dim in enumerate(dims, 1))
    else:
        shape = field(7, field(1, b"".join(varint(dim) for dim in array.shape)))
    return shape + field(8 if array.dtype == np.float64 else 5, np.ascontiguousarray(array).tobytes())


def caffemodel(name: str, blobs: Mapping[str, Sequence[Array]], v1: bool = False, legacy: bool = False) -> bytes:
    """A NetParameter that holds these layers' blobs and nothing else."""
    out = [field(1, name)]
    for layer, arrays in blobs.items():
        parts = [field(4 if v1 else 1, layer), *(field(6 if v1 else 7, blob(a, legacy)) for a in arrays)]
        out.append(field(2 if v1 else 100, b"".join(parts)))
    return b"".join(out)


def caffe(folder: Path) -> list[Path]:
    """The quickstart network: `.prototxt` and `.caffemodel`."""
    text, weights = folder / "quickstart.prototxt", folder / "quickstart.caffemodel"
    text.write_text(QUICKSTART)
    weights.write_bytes(caffemodel("quickstart", quickstart_blobs()))
    return [text, weights]


def onnx(folder: Path) -> list[Path]:
    """A small convolutional network as `small.onnx`, with float16 weights, and with its weights outside."""
    import onnx as format
    from onnx import TensorProto, helper, numpy_helper

    def model(kind: int, dtype: type[np.generic]) -> Any:
        draw = np.random.default_rng(11)
        arrays = {"w": (16, 3, 3, 3), "b": (16,), "fc": (16, 10)}
        weights = [
            numpy_helper.from_array((draw.standard_normal(shape) * 0.3).astype(dtype), name)
            for name, shape in arrays.items()
        ]
        nodes = [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1], strides=[2, 2]),
            helper.make_node("Relu", ["c"], ["r"], "relu"),
            helper.make_node("GlobalAveragePool", ["r"], ["g"], "pool"),
            helper.make_node("Flatten", ["g"], ["f"], "flat"),
            helper.make_node("MatMul", ["f", "fc"], ["m"], "fc"),
            helper.make_node("Softmax", ["m"], ["y"], "prob", axis=1),
        ]
        graph = helper.make_graph(
            nodes,
            "small",
            [helper.make_tensor_value_info("x", kind, ["n", 3, 16, 16])],
            [helper.make_tensor_value_info("y", kind, ["n", 10])],
            weights,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="batchconv")
        made.ir_version = 8
        return made

    inline, half, outside = (folder / name for name in ("small.onnx", "small_fp16.onnx", "small_external.onnx"))
    format.save(model(TensorProto.FLOAT, np.float32), str(inline))
    format.save(model(TensorProto.FLOAT16, np.float16), str(half))
    (folder / "small_external.bin").unlink(missing_ok=True)
    format.save(
        model(TensorProto.FLOAT, np.float32),
        str(outside),
        save_as_external_data=True,
        location="small_external.bin",
        size_threshold=0,
    )
    return [inline, half, outside, folder / "small_external.bin"]


def main(folder: Path) -> list[Path]:
    """Every model, written into `folder`; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [*caffe(folder), *onnx(folder)]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/make_models.py DIR")
    for path in main(Path(sys.argv[1])):
        print(path)
