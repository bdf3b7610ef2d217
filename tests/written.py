"""Small networks compressed and written as IR, for the tests that run them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from batchconv import ops, storage
from batchconv.graph import Graph, Value
from batchconv.ir import bin as parts
from batchconv.ir.layout import lay_out, stats_pieces
from batchconv.ir.xml import write_xml
from batchconv.passes.compress import compressed
from batchconv.quantize import Compression, LayerReport
from batchconv.tensor import Array, DType, Spec
from batchconv.weight import Extent, Weight


class Source:
    """A file that weights are added to, as a framework's file would hold them."""

    def __init__(self, path: Path) -> None:
        self.path, self.arrays = path, dict[str, Array]()
        path.write_bytes(b"")

    def constant(self, name: str, array: Array) -> Value:
        self.arrays[name] = array
        offset = self.path.stat().st_size
        with self.path.open("ab") as file:
            file.write(array.tobytes())
        stored = Spec(DType.of(array.dtype), array.shape)
        return ops.constant(Weight(stored, Extent(str(self.path), offset, array.nbytes)), name)


def normal(*shape: int, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).standard_t(6, size=shape) * 0.05).astype(np.float32)


def written(graph: Graph, settings: Compression, folder: Path, part_bytes: int = 1 << 24) -> tuple[LayerReport, ...]:
    """`folder/model.xml` and `.bin` are the compressed graph; the report, with errors."""
    made = compressed(graph, settings)
    layout = lay_out([made.weights], part_bytes)
    upload = storage.begin(str(folder / "model.bin"), layout.sizes[0])
    pieces = stats_pieces(layout)
    stats = parts.merged_stats(pieces, [parts.measure(piece) for piece in pieces])
    receipts = [parts.write_part(part, [upload], stats, last=part is layout.parts[-1]) for part in layout.parts]
    storage.finish(upload, [receipt.parts[0] for receipt in receipts])
    (folder / "model.xml").write_bytes(write_xml(made.graph, layout.offsets[0], "model", {}))
    sums: dict[str, dict[str, float]] = {}
    for receipt in receipts:
        for (_, layer), tally in receipt.tallies.items():
            mine = sums.setdefault(layer, {})
            for key, value in tally.items():
                mine[key] = mine.get(key, 0.0) + value
    return tuple(line.measured(sums[line.layer]) if line.layer in sums else line for line in made.report)


def decoder(source: Source, vocabulary: int = 256, width: int = 128, depth: int = 4, turned: bool = False) -> Graph:
    """Embedding, `depth` layers of two MatMuls with a residual, head: weights [in, out], or [out, in] if `turned`."""
    ids = ops.parameter("ids", DType.I64, (1, 8))
    table = source.constant("embedding", normal(vocabulary, width, seed=1))
    hidden = ops.gather(table, ids.value(), ops.const(0, DType.I64), name="embed")

    def linear(x: Value, name: str, a: int, b: int, seed: int) -> Value:
        w = normal(a, b, seed=seed) * np.float32(0.3 + (seed % 5))
        w = np.ascontiguousarray(w.T) if turned else w
        return ops.matmul(x, source.constant(f"{name}.weight", w), transpose_b=turned, name=name)

    for layer in range(depth):
        up = ops.tanh(linear(hidden, f"layers.{layer}.up", width, 2 * width, 10 + layer))
        hidden = ops.add(hidden, ops.tanh(linear(up, f"layers.{layer}.down", 2 * width, width, 20 + layer)))
    logits = linear(hidden, "head", width, vocabulary, 3)
    return Graph((ids,), (ops.result(logits, "logits"),), "decoder")


def run(path: Path, *inputs: Array) -> Sequence[Array]:
    """Outputs of the IR on CPU, computed in f32 (the plugin would quantise activations of int4 and int8 layers too)."""
    import openvino as ov

    exact = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    model = ov.Core().compile_model(str(path), "CPU", exact)
    return list(model(list(inputs)).values())
