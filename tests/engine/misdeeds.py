"""What a task may do wrong, run in a child (`tests/engine/test_local.py`)."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from batchconv.errors import BadModel, StorageError


def double(value: int, *, threads: int) -> int:
    return 2 * value


def pid(*, threads: int) -> int:
    return os.getpid()


def thread_limits(*, threads: int) -> tuple[int, str, str]:
    return threads, os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"]


def churn(count: int, nbytes: int, *, threads: int) -> tuple[int, int, int]:
    """(page faults of `count` blocks after the first, resident bytes before, resident bytes after 20 more)."""
    before = resident(threads=threads)
    block = bytearray(nbytes)
    del block
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        block = bytearray(nbytes)
        del block
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    blocks = [bytearray(nbytes) for _ in range(20)]
    del blocks
    return faults, before, resident(threads=threads)


def resident(*, threads: int) -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def refuse(*, threads: int) -> None:
    raise BadModel("no good", "net.onnx", "conv9", "Conv", "onnx/nn.py")


def stumble(*, threads: int) -> None:
    raise StorageError("connection reset", "s3://bucket/key", transient=True)


def blunder(*, threads: int) -> None:
    raise KeyError("our own mistake")


def crash(*, threads: int) -> None:
    ctypes.string_at(0)


def killed(*, threads: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(*, threads: int) -> None:
    print("I have had enough", file=sys.stderr)
    os._exit(3)


def hoard(nbytes: int, *, threads: int) -> int:
    return len(bytearray(nbytes))


def hang_on_lock(*, threads: int) -> None:
    re.match(r"(a+)+$", "a" * 64 + "b")


def sleep(seconds: float, *, threads: int) -> None:
    time.sleep(seconds)


def chatter(*, threads: int) -> str:
    sys.stderr.write("x" * 1_000_000)
    print("y" * 1_000_000)
    return "z" * 1_000_000


def breed(path: str, *, threads: int) -> None:
    """A grandchild in the same group; its pid goes to `path`."""
    grandchild = subprocess.Popen(["sleep", "60"])
    Path(path).write_text(f"{os.getpid()} {grandchild.pid}")
    time.sleep(60)


def tidy_at_end(path: str, *, threads: int) -> None:
    """A half-written file that is removed when the task is stopped."""
    Path(path).write_text("half")
    try:
        time.sleep(60)
    finally:
        os.unlink(path)


def unpicklable(*, threads: int) -> Any:
    return lambda: None
