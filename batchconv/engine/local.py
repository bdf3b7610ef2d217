"""Tasks run in child processes that can be killed: the worker's thread only supervises.

A child serves one task after another, so that small models do not pay for imports each; it is thrown away after the
first that goes wrong, and it dies with its parent (`child.py`). What ends a child is classified here.
"""

from __future__ import annotations

import os
import pickle
import pkgutil
import selectors
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchconv.errors import BatchconvError, InternalError, ResourceError, StorageError

GRACE = 5.0
"""Seconds between asking a child to stop, so that it aborts its uploads, and killing its process group."""

TICK = 0.1
"""Seconds after which a waiting supervisor looks whether its run was stopped."""

TAIL = 4096
"""Bytes of a child's standard error that are kept."""

STARVED = (b"MemoryError", b"bad_alloc", b"OpenBLAS error: Memory", b"failed to map segment", b"Cannot allocate memory")
"""What a process says that dies of the memory limit where Python cannot raise MemoryError."""

RESERVED, STACK = 32 << 20, 10 << 20
"""Bytes that a child has reserved but never touches: OpenBLAS's buffer, and each thread's stack and arena."""

SERVED = 100
"""Tasks after which a child is replaced, whatever it has piled up."""


class Lost(ResourceError):
    """A child was killed from outside: another try may succeed."""


class Late(ResourceError):
    """The time of an order was over before it ended."""


class Stopped(BatchconvError):
    """The run was stopped before the task ended."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a child may use: bytes of memory, seconds a task, threads (None: free)."""

    memory: int | None = None
    seconds: float | None = None
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Order:
    """One task for a child: a function of `batchconv.engine.tasks` by name (or `module:name`), arguments, bounds.

    run: which run it belongs to (`stop(run)` ends them all); storage: options to configure first;
    pause: seconds to wait before, after a failure; inside: run it in this process (`memory://` lives in one only);
    leaves: objects that a child which dies may leave unfinished.
    """

    task: str
    args: tuple[Any, ...]
    bounds: Bounds = Bounds()
    run: str = ""
    storage: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    pause: float = 0.0
    inside: bool = False
    leaves: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an order ended: its value, or the error and whether another try may succeed. Small, for it travels."""

    value: Any = None
    error: BatchconvError | None = None
    transient: bool = False
    seconds: float = 0.0
    peak: int = 0
    pid: int = 0


def perform(order: Order) -> Outcome:
    """The order carried out in a child; never raises (an exception would be Dask's to interpret)."""
    started = time.monotonic()
    try:
        if _stopped[order.run].wait(order.pause):
            raise Stopped("the run was stopped")
        value, peak = inside(order) if order.inside else _in_child(order)
        return Outcome(value, None, False, time.monotonic() - started, peak, os.getpid())
    except BatchconvError as error:
        return Outcome(None, error, transient(error), time.monotonic() - started, 0, os.getpid())


def transient(error: BatchconvError) -> bool:
    """True if the same order may succeed when it is given again."""
    return isinstance(error, Lost) or (isinstance(error, StorageError) and error.transient)


def inside(order: Order) -> tuple[Any, int]:
    """(value, peak memory) of the order carried out in this very process; only our errors come out."""
    task = order.task if ":" in order.task else f"batchconv.engine.tasks:{order.task}"
    try:
        configure(order.storage)
        return pkgutil.resolve_name(task)(*order.args, threads=order.bounds.threads), 0
    except BatchconvError:
        raise
    except MemoryError:
        raise ResourceError("out of memory") from None
    except Exception as error:
        raise InternalError(f"{type(error).__name__}: {error}", where=origin_of(error)) from error


_configured: Mapping[str, Mapping[str, str]] = {}


def configure(options: Mapping[str, Mapping[str, str]]) -> None:
    """The storage options are in force; connections made with the same ones are kept."""
    global _configured
    if options != _configured:
        from batchconv import storage

        storage.configure(options)
        _configured = options


def origin_of(error: BaseException) -> str:
    """`module.py:line` of our own frame in which `error` was raised."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if "batchconv" in file.parts:
            place = f"{file.parent.name}/{file.name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


# ---- stopping

_stopped: dict[str, threading.Event] = defaultdict(threading.Event)


def stop(run: str) -> None:
    """Every order of `run` that this process supervises ends soon, those still to come at once."""
    _stopped[run].set()


# ---- children

_idle: dict[tuple[int | None, int], list[Child]] = {}
_lock = threading.Lock()


def _in_child(order: Order) -> tuple[Any, int]:
    try:
        with _lent(order.bounds) as child:
            return child.ask(order, _stopped[order.run])
    except (ResourceError, InternalError, Stopped):
        sweep(order)
        raise


def sweep(order: Order) -> None:
    """No upload is left half-written by a child that died: opening another one removes those of dead processes."""
    from batchconv import storage

    with suppress(BatchconvError):
        configure(order.storage)
        for url in order.leaves:
            storage.abort(storage.begin(url, 0))


@contextmanager
def _lent(bounds: Bounds) -> Iterator[Child]:
    """A child with that memory and those threads, kept for the next order if this one ends well, dead otherwise."""
    with _lock:
        waiting = _idle.setdefault((bounds.memory, bounds.threads), [])
        child = waiting.pop() if waiting else None
    if child is None or child.process.poll() is not None:
        child = Child(bounds)
    try:
        yield child
    except BaseException:
        child.end()
        raise
    if child.served >= SERVED:
        child.end()
        return
    with _lock:
        _idle[bounds.memory, bounds.threads].append(child)


def warm(bounds: Bounds, count: int) -> None:
    """`count` children with these bounds have started, or are about to have, before the first order comes."""
    with _lock:
        waiting = _idle.setdefault((bounds.memory, bounds.threads), [])
        waiting.extend(Child(bounds) for _ in range(count - len(waiting)))


def close() -> None:
    """No idle child is left in this process."""
    with _lock:
        children = [child for waiting in _idle.values() for child in waiting]
        _idle.clear()
    for child in children:
        child.end()


class Child:
    """A process in its own group that carries out orders one by one."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.served = 0
        self.tail = b""
        self.results, write = os.pipe()
        memory = bounds.memory + RESERVED + bounds.threads * STACK if bounds.memory else 0
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "batchconv.engine.child", str(write), str(memory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(write,),
                start_new_session=True,
                env=environment(bounds.threads),
            )
        except OSError as error:
            os.close(self.results)
            raise Lost(f"no child process can be started: {error}") from None
        finally:
            os.close(write)

    def ask(self, order: Order, stopped: threading.Event) -> tuple[Any, int]:
        """(value, peak memory) of `order`; its error raised, or a ResourceError that says how the child ended."""
        self.served += 1
        self.send(pickle.dumps(order))
        limit = time.monotonic() + order.bounds.seconds if order.bounds.seconds else float("inf")
        error, value, peak = pickle.loads(self.receive(limit, order.bounds.seconds or 0, stopped))
        if error is not None:
            raise error
        return value, peak

    def send(self, message: bytes) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(struct.pack("<Q", len(message)) + message)
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self.verdict() from None

    def receive(self, limit: float, seconds: float, stopped: threading.Event) -> bytes:
        """The next whole message; an error of ours if the child ends, the limit passes or the run is stopped."""
        message = b""
        for source, data in self.arriving():
            if source == "result":
                if not data:
                    raise self.verdict()
                message += data
                if len(message) >= 8 and len(message) - 8 >= struct.unpack("<Q", message[:8])[0]:
                    return message[8:]
            elif source == "stderr":
                self.tail = (self.tail + data)[-TAIL:]
            elif stopped.is_set():
                raise Stopped("the run was stopped")
            if time.monotonic() > limit:
                raise Late(f"took longer than the limit of {seconds:g} s")
        raise InternalError("the child's pipes ended")

    def arriving(self) -> Iterator[tuple[str, bytes]]:
        """What the child writes, as (channel, bytes), and ("tick", b"") when it writes nothing for a while."""
        assert self.process.stderr is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.results, selectors.EVENT_READ, "result")
            selector.register(self.process.stderr, selectors.EVENT_READ, "stderr")
            while True:
                ready = selector.select(TICK)
                for key, _ in ready:
                    data = os.read(key.fd, 1 << 16)
                    if not data and key.data == "stderr":
                        selector.unregister(key.fileobj)
                    yield key.data, data
                yield "tick", b""

    def verdict(self) -> ResourceError | InternalError:
        """What the death of the child means."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE)
        code = self.process.poll()
        self.drain()
        last = self.tail.decode(errors="replace").strip().rpartition("\n")[2]
        if any(words in self.tail for words in STARVED):
            return ResourceError(f"out of memory{_limit(self.bounds)}")
        if code is None or code >= 0:
            return InternalError(f"the conversion process ended with exit code {code}: {last}")
        name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
        if name in ("SIGKILL", "SIGTERM"):
            return Lost(f"the conversion process was killed from outside ({name}; out of memory?)")
        return ResourceError(f"the conversion process crashed ({name}){': ' + last if last else ''}")

    def drain(self) -> None:
        """What is left in the pipe of a dead child goes to the tail."""
        assert self.process.stderr is not None
        os.set_blocking(self.process.stderr.fileno(), False)
        with suppress(OSError):
            while data := os.read(self.process.stderr.fileno(), 1 << 16):
                self.tail = (self.tail + data)[-TAIL:]

    def end(self) -> None:
        """The process group is gone: asked first, so that it aborts its uploads, killed after GRACE."""
        for signum in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signum)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE)
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stderr.close()
        os.close(self.results)


def _limit(bounds: Bounds) -> str:
    return f" (limit {bounds.memory / 2**20:,.0f} MiB)" if bounds.memory else ""


def environment(threads: int) -> dict[str, str]:
    """The environment of a child: our package found, numeric libraries held to their threads.

    Dask's nanny pins OMP_NUM_THREADS=1 for itself; BLAS gets too little at a time to use
    threads, which would cost address space.
    """
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    fixed = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    return {**os.environ, **fixed, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
