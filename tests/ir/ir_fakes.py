"""Encoders, recipes and a store for the tests of `batchconv.ir`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from batchconv import packing, storage
from batchconv.ir import bin as parts
from batchconv.ir import cut, geometry, layout
from batchconv.ir.layout import Layout, lay_out, stats_pieces
from batchconv.storage import PartReceipt
from batchconv.tensor import Array, DType, Spec
from batchconv.weight import Encoded, Encoding, Weight, read


@dataclass(frozen=True)
class Rowwise:
    """int8 codes with a scale a row."""

    def outputs(self, spec: Spec) -> dict[str, Spec]:
        lone = (1,) * (len(spec.shape) - 1)
        return {"codes": Spec(DType.I8, spec.shape), "scale": Spec(DType.F32, (spec.rows, *lone))}

    def grain(self, spec: Spec) -> int:
        return 1

    def needs_stats(self, spec: Spec) -> bool:
        return False

    def stats(self, block: Array) -> Array:
        raise NotImplementedError

    def merge(self, a: Array, b: Array) -> Array:
        raise NotImplementedError

    def of_rows(self) -> None:
        return None

    def encode(self, block: Array, spec: Spec, stats: Array | None = None) -> Encoding:
        assert block.flags.c_contiguous
        x = block.astype(np.float32)
        axes = tuple(range(1, x.ndim))
        scale = np.maximum(np.abs(x).max(axis=axes, keepdims=True), 1e-6) / 127
        codes = np.rint(x / scale).astype(np.int8)
        return Encoding({"codes": codes, "scale": scale.astype(np.float32)}, {"rows": float(len(x)), "one": 1.0})


@dataclass(frozen=True)
class Grouped(Rowwise):
    """4-bit codes; groups of 4 rows share a scale in each column, and a table of one row serves all."""

    def outputs(self, spec: Spec) -> dict[str, Spec]:
        columns = spec.size // spec.rows
        return {
            "codes": Spec(DType.U4, (spec.rows, columns)),
            "scale": Spec(DType.F16, (-(-spec.rows // 4), columns)),
            "table": Spec(DType.U3, (1, 5)),
        }

    def grain(self, spec: Spec) -> int:
        return 4

    def encode(self, block: Array, spec: Spec, stats: Array | None = None) -> Encoding:
        assert len(block) % 4 in (0, spec.rows % 4)  # only the last may end within a group
        x = block.astype(np.float32).reshape(len(block), -1)
        top = np.stack([np.abs(x[i : i + 4]).max(axis=0) for i in range(0, len(x), 4)]) + 1e-6
        codes = np.rint(x / np.repeat(top, 4, axis=0)[: len(x)] * 7 + 8).astype(np.uint8)
        table = np.arange(5, dtype=np.uint8)[None]
        with np.errstate(over="ignore"):
            scale = top.astype(np.float16)
        return Encoding({"codes": codes, "scale": scale, "table": table}, {"rows": float(len(x))})


@dataclass(frozen=True)
class Columnwise(Rowwise):
    """u8 codes with a scale a column, which all rows decide."""

    def outputs(self, spec: Spec) -> dict[str, Spec]:
        return {"codes": Spec(DType.U8, spec.shape), "scale": Spec(DType.F32, (1, *spec.shape[1:]))}

    def needs_stats(self, spec: Spec) -> bool:
        return True

    def stats(self, block: Array) -> Array:
        return np.abs(block).max(axis=0, keepdims=True).astype(np.float32)

    def merge(self, a: Array, b: Array) -> Array:
        return np.maximum(a, b)

    def encode(self, block: Array, spec: Spec, stats: Array | None = None) -> Encoding:
        assert stats is not None
        scale = np.maximum(stats, 1e-6) / 127
        codes = (np.rint(block.astype(np.float32) / scale) + 128).astype(np.uint8)
        return Encoding({"codes": codes, "scale": scale}, {"rows": float(len(block))})


def encoded(weight: Weight, encoder: Any) -> list[Weight]:
    """Every tensor that the encoder makes of `weight`, the scale before the codes as in a decompression subgraph."""
    return [weight.then(Encoded(encoder, part)) for part in reversed(encoder.outputs(weight.spec))]


@contextmanager
def sizes(block: int, small: int) -> Any:
    """Blocks and small weights as small as the tests' weights need."""
    with (
        mock.patch.multiple(geometry, BLOCK=block, SCATTERED=4 * block),
        mock.patch.object(layout, "SMALL", small),
        mock.patch.object(cut, "SMALL", small),
    ):
        yield


class Store:
    """A `.bin` in memory that checks the promises a multipart store relies on."""

    def __init__(self, size: int, tail: int) -> None:
        self.data = bytearray(size)
        self.seen = np.zeros(size, np.uint8)
        self.tail = tail
        self.hows: list[str] = []

    def part(self, number: int, start: int, nbytes: int) -> StorePart:
        return StorePart(self, number, start, nbytes)


class StorePart:
    """Every byte is written once: in the part's own span, or in the last part's."""

    def __init__(self, store: Store, number: int, start: int, nbytes: int) -> None:
        self.store, self.number, self.start, self.stop = store, number, start, start + nbytes

    def __enter__(self) -> StorePart:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, offset: int, buffer: Any) -> None:
        data = bytes(buffer) if isinstance(buffer, bytes) else np.ascontiguousarray(buffer).tobytes()
        self.mark(offset, len(data))
        self.store.data[offset : offset + len(data)] = data
        self.store.hows.append("write")

    def copy(self, offset: int, extent: Any) -> str:
        self.write(offset, storage.read(extent.url, extent.offset, extent.length))
        self.store.hows[-1] = "copy"
        return "copy"

    def mark(self, offset: int, length: int) -> None:
        own = self.start <= offset and offset + length <= self.stop
        assert own or offset >= self.store.tail, f"{offset}+{length} outside {self.start}..{self.stop}"
        assert not self.store.seen[offset : offset + length].any()
        self.store.seen[offset : offset + length] = 1

    def close(self) -> PartReceipt:
        return PartReceipt(self.number, self.stop - self.start)


Variants = Sequence[Sequence[tuple[Weight, str]]]


def written(
    variants: Variants, part_bytes: int, order: Iterable[int] | None = None
) -> tuple[Layout, list[Store], list[parts.Receipt]]:
    """The variants laid out and written part by part into memory, the parts but the last in the given order."""
    plan = lay_out(variants, part_bytes)
    stores = [Store(size, plan.parts[-1].spans[i][0]) for i, size in enumerate(plan.sizes)]
    waiting = stats_pieces(plan)
    stats = parts.merged_stats(waiting, [parts.measure(piece) for piece in waiting])
    numbers = list(order or range(len(plan.parts)))
    early = [number for number in numbers if number < len(plan.parts) - 1]

    def open_part(store: Any, number: int, start: int, nbytes: int, last: bool) -> StorePart:
        return store.part(number, start, nbytes)

    with mock.patch.object(storage, "part", open_part):
        receipts = [
            parts.write_part(plan.parts[number], stores, stats, last=number == len(plan.parts) - 1)  # type: ignore[arg-type]
            for number in dict.fromkeys((*early, *range(len(plan.parts))))
        ]
    return plan, stores, receipts


def expected(weight: Weight) -> bytes:
    """The bytes of a recipe from one read of the whole."""
    if not weight.spec.size:
        return b"\0"
    return packing.pack(read(weight), weight.spec.dtype)


def check(variants: Variants, plan: Layout, stores: Sequence[Store]) -> None:
    """Every recipe's bytes stand at its offset, zeros between, and the parts cover each object exactly."""
    for target, recipes in enumerate(variants):
        data, covered = stores[target].data, np.zeros(plan.sizes[target], bool)
        for weight, layer in recipes:
            offset, want = plan.offsets[target][weight], expected(weight)
            assert offset % cut.ALIGN == 0
            assert data[offset : offset + len(want)] == want, (layer, str(weight.spec))
            covered[offset : offset + len(want)] = True
        assert not np.frombuffer(data, np.uint8)[~covered].any()
        at = 0
        for part in plan.parts:
            start, nbytes = part.spans[target]
            assert start == at
            at += nbytes
        assert at == plan.sizes[target]
