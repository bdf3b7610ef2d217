"""Milliseconds a MiB of float32 that each format takes, by layout; `python tests/bench/bench_formats.py` or -m bench.

One thread, blocks of about 1 MiB, both layouts of a [3072, 3072] weight; beside it 1 GiB on two threads.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from batchconv.formats import FORMATS, Half, Quantised
from batchconv.tensor import Array, DType, Spec
from batchconv.weight import Encoder

SIDE = 3072
BUDGET = {"fp16": 1.9, "int8_asym": 1.9, "int4_sym": 2.3}
"""Milliseconds a MiB and thread that issue 3's times leave (1 GiB on two threads within 1 s, 1.2 s)."""


def encoder(name: str, axis: int, search: bool) -> Encoder:
    row = FORMATS[name]
    if row.rule is None:
        return Half(DType.F16 if name == "fp16" else DType.BF16)
    return Quantised(name, (axis,), row.group, search)


def seconds(encoder: Encoder, w: Array, repeat: int = 3) -> tuple[float, float]:
    """(best time over the weight, relative error); statistics are part of it."""
    spec = Spec(DType.F32, w.shape)
    grain = encoder.grain(spec)
    rows = max(grain, (1 << 20) // (w.shape[1] * 4) // grain * grain)
    best, error, square = float("inf"), 0.0, 1.0
    for _ in range(repeat):
        start = time.thread_time()  # other work on the machine counts less than on the clock
        blocks = [w[row : row + rows] for row in range(0, len(w), rows)]
        stats = None
        for block in blocks if encoder.needs_stats(spec) else []:
            found = encoder.stats(block)
            stats = found if stats is None else encoder.merge(stats, found)
        tallies = [encoder.encode(block, spec, stats).tally for block in blocks]
        best = min(best, time.thread_time() - start)
        error, square = sum(t["error"] for t in tallies), sum(t["square"] for t in tallies)
    return best, (error / square) ** 0.5


def weight() -> Array:
    w: Array = np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32) * np.float32(0.02)
    return w


@pytest.mark.bench
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", sorted(BUDGET))
def test_speed(name: str, axis: int) -> None:
    took, _ = seconds(encoder(name, axis, search=True), weight())
    assert took * 1e3 / (SIDE * SIDE * 4 / 2**20) < BUDGET[name]


def main() -> None:
    w, size = weight(), SIDE * SIDE * 4 / 2**20
    print(f"{'format':12}{'reduced':>8}{'search':>8}{'ms/MiB':>8}{'1 GiB, 2 threads':>18}{'relative error':>16}")
    for name, row in FORMATS.items():
        for axis in (0, 1):
            for search in (False, True) if row.rule is not None and row.rule.shrink else (False,):
                took, error = seconds(encoder(name, axis, search), w)
                each = took * 1e3 / size
                print(f"{name:12}{axis:8}{search!s:>8}{each:8.2f}{each * 0.512:17.2f}s{error:16.5f}")


if __name__ == "__main__":
    main()
