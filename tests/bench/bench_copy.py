"""A weight that no step touches: copied by the kernel or the store against read and written block by block.

    python tests/bench/bench_copy.py [--at /tmp/batchconv-bench] [--mib 1024] [--rounds 3]
    eval "$(shared/tools/rgw-s3.sh start)"; python tests/bench/bench_copy.py --at s3://BUCKET --mib 512

--at is a folder or an s3:// prefix (AWS_ENDPOINT_URL and keys from the environment; a bucket that is not there is
made). Both ways write the same parts of a new object; medians of interleaved rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from batchconv import storage
from batchconv.storage import PartWriter
from batchconv.storage.upload import copy_through
from batchconv.weight import Extent

PART = 32 << 20

Way = Callable[[PartWriter, int, Extent], str]


def by_store(writer: PartWriter, offset: int, extent: Extent) -> str:
    return writer.copy(offset, extent)


def by_hand(writer: PartWriter, offset: int, extent: Extent) -> str:
    return copy_through(writer, offset, extent)


def copied(source: str, target: str, way: Way) -> tuple[float, float, str]:
    """(seconds, processor seconds of this process, how) of a copy of `source`."""
    size = storage.size(source)
    clock, cpu = time.perf_counter(), time.process_time()
    upload = storage.begin(target, size)
    receipts, hows = [], set()
    for number, start in enumerate(range(0, size, PART)):
        length = min(PART, size - start)
        with storage.part(upload, number, start, length, last=start + length == size) as writer:
            hows.add(way(writer, start, Extent(source, start, length)))
            receipts.append(writer.close())
    storage.finish(upload, receipts)
    took = time.perf_counter() - clock, time.process_time() - cpu, "+".join(sorted(hows))
    storage.delete(target)
    return took


def made(url: str, mib: int) -> str:
    """An object of random blocks; a local one is in the page cache."""
    block = os.urandom(1 << 20)
    upload = storage.begin(url, mib << 20)
    receipts = []
    for number, start in enumerate(range(0, mib << 20, PART)):
        length = min(PART, (mib << 20) - start)
        with storage.part(upload, number, start, length, last=start + length == mib << 20) as writer:
            for at in range(start, start + length, len(block)):
                writer.write(at, block)
            receipts.append(writer.close())
    storage.finish(upload, receipts)
    return url


def prepare(place: str) -> None:
    """The folder or bucket is there."""
    if place.startswith("s3://"):
        import s3fs

        s3fs.S3FileSystem().makedirs(place, exist_ok=True)
    else:
        Path(place).mkdir(parents=True, exist_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at", default="/tmp/batchconv-bench", help="folder or s3:// prefix")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    prepare(args.at)
    source = made(storage.join(args.at, "copy.source"), args.mib)
    ways: dict[str, Way] = {"by the store": by_store, "read and written": by_hand}
    runs: dict[str, list[tuple[float, float, str]]] = {label: [] for label in ways}
    for _ in range(args.rounds):
        for label, way in ways.items():
            runs[label].append(copied(source, storage.join(args.at, "copy.target"), way))
    storage.delete(source)
    print(f"{args.mib} MiB{'':16}{'median s':>10}{'min s':>8}{'cpu s':>8}  how")
    for label, found in runs.items():
        seconds, cpus, hows = zip(*found, strict=True)
        print(
            f"{label:22}{statistics.median(seconds):10.2f}{min(seconds):8.2f}{statistics.median(cpus):8.2f}  {hows[0]}"
        )


if __name__ == "__main__":
    main()
