"""One function over many items: on threads, or on forked processes where the interpreter's lock would be in the way."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from batchconv.errors import ResourceError

T = TypeVar("T")
R = TypeVar("R")

_work: tuple[Callable[[Any], Any], Sequence[Any]] = (repr, ())
"""What forked processes inherit: the function and its items; only indices and results travel."""


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Crew:
    """How many items are worked on at a time, and whether each worker may be a process.

    Short numpy calls of two threads wait for each other's lock up to half of the time, and more on a busy machine.
    """

    workers: int = 1
    processes: bool = False

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """`function` of each item, in order; the first error raised.

        Processes are forked only on Linux, where they end with their parent, and only where this one has a single
        thread: a fork of others' locks could hang.
        """
        if self.workers == 1 or len(items) < 2:
            return [function(item) for item in items]
        if self.processes and sys.platform == "linux" and threading.active_count() == 1:
            return _forked(function, items, self.workers)
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(self.workers) as pool:
            try:
                return list(pool.map(function, items))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _forked(function: Callable[[T], R], items: Sequence[T], workers: int) -> list[R]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    global _work
    _work = function, items
    try:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _settle) as pool:
            try:
                return list(pool.map(_one, range(len(items))))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    except BrokenProcessPool:
        raise ResourceError("a process that wrote a part was killed: was there enough memory?") from None
    finally:
        _work = (repr, ())


def _one(index: int) -> Any:
    function, items = _work
    return function(items[index])


_PDEATHSIG, _TRIM_THRESHOLD, _MMAP_THRESHOLD = 1, -1, -3
"""Numbers of <sys/prctl.h> and <malloc.h>."""

_KEPT = 32 << 20
"""Bytes of freed memory that a process keeps for its next block."""


def keep_freed() -> None:
    """This process, and what it forks, keeps the memory of its blocks, if the C library can be told to.

    Half of the time went into faulting pages in again.
    """
    for threshold in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
        _tell("mallopt", threshold, _KEPT)


def give_back() -> None:
    """What `keep_freed` kept is the system's again."""
    _tell("malloc_trim", 0)


def _tell(function: str, *numbers: int) -> None:
    """A function of the C library has been called, if there is one of that name."""
    import ctypes

    with suppress(AttributeError, OSError):
        getattr(ctypes.CDLL(None), function)(*numbers)


def _settle() -> None:
    """A forked process leaves Ctrl-C to its parent, and ends when that does."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _tell("prctl", _PDEATHSIG, signal.SIGKILL)
