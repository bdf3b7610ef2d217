"""One function over many items: on threads, or on forked processes where the interpreter's lock would be in the way."""

from __future__ import annotations

import os
import pickle
import select
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from batchconv.errors import ResourceError

T = TypeVar("T")
R = TypeVar("R")


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
        """`function` of each item, in order; or the error of one, and no other is begun.

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


# ---- forked processes: concurrent.futures has them too, but its import, queues and threads take 20 ms

_TICKET = struct.Struct("<II")
"""A run of items that a process takes: the first, and the one after the last."""


def _forked(function: Callable[[T], R], items: Sequence[T], workers: int) -> list[R]:
    """What forked processes make of the items; each takes the next one's number from a pipe until that is empty."""
    tickets = _tickets(len(items))
    children: list[tuple[int, int]] = []
    made: dict[int, R] = {}
    try:
        for _ in range(min(workers, len(items))):
            children.append(_fork(function, items, tickets))
        waiting = [results for _, results in children]
        while waiting:
            for results in select.select(waiting, (), ())[0]:
                made.update(_received(results))
                waiting.remove(results)
    except BaseException:
        for child, _ in children:
            os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(tickets)
        for child, results in children:
            os.close(results)
            os.waitpid(child, 0)
    return [made[index] for index in range(len(items))]


def _tickets(count: int) -> int:
    """A pipe that holds the numbers below `count` in runs, and then ends; it takes 64 KiB at once."""
    tickets, feed = os.pipe()
    run = -(-count // 4096)
    os.write(feed, b"".join(_TICKET.pack(at, min(at + run, count)) for at in range(0, count, run)))
    os.close(feed)
    return tickets


def _fork(function: Callable[[T], R], items: Sequence[T], tickets: int) -> tuple[int, int]:
    """(process, pipe) of a process that works while there are tickets and then sends what it made."""
    results, sink = os.pipe()
    child = os.fork()
    if child:
        os.close(sink)
        return child, results
    try:
        _settle()
        message = memoryview(_served(function, items, tickets))
        while message:
            message = message[os.write(sink, message) :]
    finally:
        os._exit(0)  # what is not sent tells


def _served(function: Callable[[T], R], items: Sequence[T], tickets: int) -> bytes:
    """The results of this process by number, or the error that ended them all, to be sent."""
    made: dict[int, R] = {}
    try:
        while ticket := os.read(tickets, _TICKET.size):
            for index in range(*_TICKET.unpack(ticket)):
                made[index] = function(items[index])
        return pickle.dumps((made, None))
    except BaseException as error:
        while os.read(tickets, 1 << 16):
            pass
        if os.environ.get("BATCHCONV_DEBUG"):
            traceback.print_exc()
        return pickle.dumps((None, error))


def _received(results: int) -> dict[int, Any]:
    """What a process sends, once it ends; its error raised."""
    data = bytearray()
    while more := os.read(results, 1 << 16):
        data += more
    if not data:
        raise ResourceError("a process that wrote a part was killed: was there enough memory?")
    made: dict[int, Any]
    made, error = pickle.loads(data)
    if error is not None:
        raise error
    return made


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _tell("prctl", _PDEATHSIG, signal.SIGKILL)
