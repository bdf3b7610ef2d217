"""The process that carries out orders (`python -m batchconv.engine.child RESULT_FD MEMORY`).

Orders come over standard input, each a length and a pickle; answers leave the same way over RESULT_FD. The end of
standard input is the end of the parent, and of this process: uploads are aborted, then the group is killed.
"""

from __future__ import annotations

import gc
import os
import pickle
import queue
import resource
import signal
import struct
import sys
import threading
import time
import traceback
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

from batchconv.engine import local
from batchconv.errors import BatchconvError, InternalError, ResourceError
from batchconv.pool import give_back, keep_freed

LAST_WORDS = 3.0
"""Seconds that a child whose parent is gone has for aborting its uploads."""

OVERTIME = 30.0
"""Seconds after which a child that its supervisor should have ended is ended by the kernel."""

YOUNG = 500_000
"""Objects made between two looks for garbage: a model is many objects and few cycles; the default costs a third."""


def main() -> None:
    """Orders are carried out until standard input ends."""
    results, memory = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if memory:
        limit_memory(memory)
    keep_freed()
    import_module("batchconv.engine.tasks")
    gc.freeze()
    gc.set_threshold(YOUNG)
    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(orders,), daemon=True).start()
    try:
        while True:
            answer = packed(carry_out(pickle.loads(orders.get())))
            send(results, struct.pack("<Q", len(answer)) + answer)
    except SystemExit:  # every `with` and `finally` of the order is behind us
        os.killpg(0, signal.SIGKILL)


def _leave(*_: Any) -> NoReturn:
    raise SystemExit


def packed(answer: tuple[BatchconvError | None, Any, int]) -> bytes:
    """The answer as bytes; where that cannot be, an InternalError in its place."""
    try:
        return pickle.dumps(answer)
    except Exception as error:
        return pickle.dumps((InternalError(f"the result does not travel: {error}"), None, answer[2]))


def limit_memory(nbytes: int) -> None:
    """Allocations beyond `nbytes` raise MemoryError.

    RLIMIT_DATA counts what is private and writable: RLIMIT_AS would count libraries and reserved arenas as well,
    hundreds of megabytes that are never resident.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (nbytes, nbytes))


def listen(orders: queue.SimpleQueue[bytes]) -> None:
    """Orders go to the queue; when standard input ends, this process does, and its group with it."""
    while head := exactly(8):
        orders.put(exactly(struct.unpack("<Q", head)[0]))
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)  # wakes it from whatever it waits for
    time.sleep(LAST_WORDS)
    os.killpg(0, signal.SIGKILL)


def exactly(count: int) -> bytes:
    """The next `count` bytes of standard input; nothing if it ends before."""
    data = b""
    while len(data) < count:
        if not (more := os.read(0, count - len(data))):
            return b""
        data += more
    return data


def carry_out(order: local.Order) -> tuple[BatchconvError | None, Any, int]:
    """(error, value, peak memory in bytes) of an order."""
    if order.bounds.seconds:  # the kernel's own limit: it ends us even while something holds the interpreter's lock
        signal.setitimer(signal.ITIMER_REAL, order.bounds.seconds + OVERTIME)
    reset_peak()
    try:
        value, _ = local.inside(order)
        return None, value, peak()
    except ResourceError as error:
        limit = order.bounds.memory
        return error.at() if limit is None else ResourceError(f"{error} (limit {limit >> 20} MiB)"), None, peak()
    except BatchconvError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        return error.with_traceback(None), None, peak()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        give_back()


def reset_peak() -> None:
    """The kernel's mark of the largest resident size starts anew (Linux; elsewhere it is that of all orders)."""
    with suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak() -> int:
    """Largest resident size since `reset_peak` in bytes."""
    with suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def send(fd: int, message: bytes) -> None:
    view = memoryview(message)
    while view:
        view = view[os.write(fd, view) :]


if __name__ == "__main__":
    main()
