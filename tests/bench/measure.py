"""Whole processes measured: seconds and peak resident memory. Imports nothing big: a child's peak starts at ours."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Runs:
    """Repeated runs of one command: seconds and peak bytes of each."""

    label: str
    seconds: list[float] = field(default_factory=list)
    peak: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        return min(self.seconds)


def once(command: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[float, int]:
    """(seconds, peak resident bytes of the process) of one run; SystemExit with its output if it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"{' '.join(command)}\n{output.decode(errors='replace')[-2000:]}")
    return seconds, usage.ru_maxrss * 1024


def big(path: Path, *flags: str) -> Path:
    """The model of `make_big.py` with these flags, made once, by another process: its memory would be our peak."""
    if not path.exists():
        once([sys.executable, str(Path(__file__).with_name("make_big.py")), str(path), *flags])
    return path


def interleaved(commands: Mapping[str, Sequence[str]], rounds: int, clean: Callable[[], None]) -> dict[str, Runs]:
    """Each command `rounds` times, A B A B ...; `clean` before each."""
    runs = {label: Runs(label) for label in commands}
    for _ in range(rounds):
        for label, command in commands.items():
            clean()
            seconds, peak = once(command)
            runs[label].seconds.append(seconds)
            runs[label].peak = max(runs[label].peak, peak)
    return runs


def show(title: str, runs: Mapping[str, Runs], against: str) -> None:
    """A table of medians with the ratio to `against` (above 1: that many times faster than it)."""
    print(f"\n{title}\n{'':34}{'median s':>10}{'min s':>9}{'peak MB':>9}{'vs ' + against:>16}")
    for run in runs.values():
        ratio = runs[against].median / run.median
        print(f"{run.label:34}{run.median:10.2f}{run.best:9.2f}{run.peak / 1e6:9.0f}{ratio:15.2f}x")


def warm(path: Path) -> None:
    """`path` is in the page cache (a virtual machine's host may take it away within seconds)."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass
