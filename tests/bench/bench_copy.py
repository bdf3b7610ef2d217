"""A weight that no step touches: copied by the kernel (copy_file_range) against read and written block by block.

    python tests/bench/bench_copy.py [--work /tmp/batchconv-bench] [--mib 1024] [--rounds 3]

Both write the same parts of a new file, which is synced and renamed; medians of interleaved rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from measure import warm

from batchconv import storage
from batchconv.storage import PartWriter
from batchconv.storage.upload import copy_through
from batchconv.weight import Extent

PART = 32 << 20


def by_kernel(writer: PartWriter, offset: int, extent: Extent) -> str:
    return writer.copy(offset, extent)


def by_hand(writer: PartWriter, offset: int, extent: Extent) -> str:
    return copy_through(writer, offset, extent)


def copied(source: Path, target: Path, way: Callable[[PartWriter, int, Extent], str]) -> tuple[float, float, str]:
    """(seconds, processor seconds, how) of a copy of `source`."""
    size = source.stat().st_size
    clock, cpu = time.perf_counter(), time.process_time()
    upload = storage.begin(str(target), size)
    receipts, how = [], ""
    for number, start in enumerate(range(0, size, PART)):
        length = min(PART, size - start)
        with storage.part(upload, number, start, length) as writer:
            how = way(writer, start, Extent(str(source), start, length))
            receipts.append(writer.close())
    storage.finish(upload, receipts)
    took = time.perf_counter() - clock, time.process_time() - cpu, how
    target.unlink()
    return took


def made(path: Path, mib: int) -> Path:
    """A file of random blocks, in the page cache."""
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(block)
        os.fsync(file.fileno())
    warm(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("/tmp/batchconv-bench"))
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    source = made(args.work / "copy.source", args.mib)
    ways = {"by the kernel": by_kernel, "read and written": by_hand}
    runs: dict[str, list[tuple[float, float, str]]] = {label: [] for label in ways}
    for _ in range(args.rounds):
        for label, way in ways.items():
            runs[label].append(copied(source, args.work / "copy.target", way))
    source.unlink()
    print(f"{args.mib} MiB{'':16}{'median s':>10}{'min s':>8}{'cpu s':>8}  how")
    for label, found in runs.items():
        seconds, cpus, hows = zip(*found, strict=True)
        print(
            f"{label:22}{statistics.median(seconds):10.2f}{min(seconds):8.2f}{statistics.median(cpus):8.2f}  {hows[0]}"
        )


if __name__ == "__main__":
    main()
