"""Writes big ONNX models of seeded random matrices without ever holding more than one of them.

    python tests/bench/make_big.py OUT.onnx [--matrices 28] [--size 3072] [--external] [--repeat-block]

Each layer is MatMul with a [size, size] float32 matrix, then Add of a [size] vector. `--external` puts the matrices
into OUT.onnx.data; `--repeat-block` writes one random block over and over (an 8 GB file in seconds). Deterministic.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt


def varint(value: int) -> bytes:
    """`value` as a protobuf varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, payload: bytes | int) -> bytes:
    """One protobuf field: bytes are length-delimited, integers varints."""
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return header(number, len(payload)) + payload


def header(number: int, length: int) -> bytes:
    return varint(number << 3 | 2) + varint(length)


def node(op: str, inputs: list[str], output: str) -> bytes:
    """A NodeProto."""
    return (
        b"".join(field(1, name.encode()) for name in inputs)
        + field(2, output.encode())
        + field(3, output.encode())
        + field(4, op.encode())
    )


def tensor(name: str, dims: tuple[int, ...], *, external: tuple[str, int, int] | None = None) -> bytes:
    """A float32 TensorProto without its raw_data; `external`: (location, offset, length)."""
    out = b"".join(field(1, dim) for dim in dims) + field(2, 1) + field(8, name.encode())
    if external:
        for key, value in zip(("location", "offset", "length"), external, strict=True):
            out += field(13, field(1, key.encode()) + field(2, str(value).encode()))
        out += field(14, 1)
    return out


def value_info(name: str, dims: tuple[int | str, ...]) -> bytes:
    """A ValueInfoProto of float32; a text dimension is symbolic."""
    shape = b"".join(field(1, field(1, d) if isinstance(d, int) else field(2, d.encode())) for d in dims)
    return field(1, name.encode()) + field(2, field(1, field(1, 1) + field(2, shape)))


def matrices(count: int, size: int, repeat: bool) -> Iterator[npt.NDArray[np.float32]]:
    """Matrices scaled so that activations neither die nor explode."""
    rng = np.random.default_rng(2026)
    block = None
    for _ in range(count):
        if block is None or not repeat:
            block = rng.standard_normal((size, size), dtype=np.float32) / np.float32(np.sqrt(size))
        yield block


def write(path: Path, count: int = 28, size: int = 3072, external: bool = False, repeat: bool = False) -> Path:
    """The model is at `path` (and its matrices at `path`.data if `external`)."""
    nbytes = 4 * size * size
    data = path.with_name(path.name + ".data")
    heads = [
        tensor(f"w{i}", (size, size), external=(data.name, i * nbytes, nbytes) if external else None)
        for i in range(count)
    ]
    vectors = [np.linspace(-0.1, 0.1, size, dtype=np.float32) * (i % 3) for i in range(count)]
    nodes, last = b"", "x"
    for i in range(count):
        nodes += field(1, node("MatMul", [last, f"w{i}"], f"m{i}")) + field(1, node("Add", [f"m{i}", f"b{i}"], f"y{i}"))
        last = f"y{i}"
    small = b"".join(field(5, tensor(f"b{i}", (size,)) + field(9, v.tobytes())) for i, v in enumerate(vectors))
    tail = field(2, b"big") + field(11, value_info("x", ("n", size))) + field(12, value_info(last, ("n", size)))
    raw = b"" if external else header(9, nbytes)
    lengths = [len(head) + len(raw) + (0 if external else nbytes) for head in heads]
    graph = len(nodes) + len(small) + len(tail) + sum(len(header(5, n)) + n for n in lengths)
    with path.open("wb") as out, data.open("wb") if external else nullcontext(out) as payload:
        out.write(field(1, 8) + field(8, field(2, 17)) + header(7, graph) + nodes)
        stream(out, payload, heads, lengths, raw, matrices(count, size, repeat))
        out.write(small + tail)
    return path


def stream(out: BinaryIO, payload: BinaryIO, heads: list[bytes], lengths: list[int], raw: bytes,
           blocks: Iterator[npt.NDArray[np.float32]]) -> None:  # fmt: skip
    """Each initializer's header goes to `out`, its matrix to `payload` (the same file if inline)."""
    for head, length, block in zip(heads, lengths, blocks, strict=True):
        out.write(header(5, length) + head + raw)
        payload.write(block.data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--matrices", type=int, default=28)
    parser.add_argument("--size", type=int, default=3072)
    parser.add_argument("--external", action="store_true")
    parser.add_argument("--repeat-block", action="store_true")
    args = parser.parse_args()
    print(write(args.path, args.matrices, args.size, args.external, args.repeat_block))


if __name__ == "__main__":
    main()
