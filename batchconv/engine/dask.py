"""The only module that knows Dask: one driver submits as many tasks as there are threads and follows what completes.

Settings and their reasons: shared/ENGINE_FACTS.md as of 2026-11; each was an experiment. What passes through scheduler
and client is orders and outcomes, a few KiB each; bytes go from store to child to store.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import dask
from distributed import Client, Future, LocalCluster, WorkerPlugin, as_completed
from distributed.scheduler import KilledWorker

from batchconv.engine import local
from batchconv.engine import plan as planning
from batchconv.engine.course import Course, Ticket
from batchconv.engine.local import Bounds, Lost, Outcome
from batchconv.engine.plan import Plan
from batchconv.errors import BatchconvError, InternalError, ResourceError

SETTINGS = {
    "distributed.deploy.lost-worker-timeout": "10m",
    "distributed.scheduler.no-workers-timeout": "5m",
    "distributed.scheduler.allowed-failures": 1,
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": 0.85,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.admin.large-graph-warning-threshold": "1MB",
}

CONNECT = 30.0
"""Seconds in which a scheduler must answer; its workers have twice as long to appear."""

PATIENCE = 15.0
"""Seconds that a stopped run waits for its children to abort their uploads."""

REFRESH = 2.0
"""Seconds after which the number of threads in the cluster is asked for again."""


class Watcher(Protocol):
    """Whoever shows how the run gets on."""

    def advance(self, nbytes: int) -> None: ...
    def ended(self, course: Course) -> None: ...


@contextmanager
def cluster(workers: int, scheduler: str | None, inside: bool) -> Iterator[Client]:
    """A client of the scheduler at that address, or of a cluster on this machine that ends with the block."""
    with dask.config.set(SETTINGS):
        if scheduler:
            with _connected(scheduler) as client:
                yield client
            return
        with (
            LocalCluster(
                n_workers=1 if inside else workers,
                threads_per_worker=workers if inside else 1,
                processes=not inside,
                dashboard_address="127.0.0.1:0",  # None is a warning where port 8787 is taken
                scheduler_kwargs={"dashboard": False},
                silence_logs=logging.CRITICAL,
            ) as made,
            Client(made) as client,
        ):
            if not inside:
                client.register_plugin(Undisturbed())
            yield client


class Undisturbed(WorkerPlugin):
    """Workers on this machine leave Ctrl-C, which the terminal sends to them too, to the driver."""

    name = "undisturbed"

    def setup(self, worker: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _connected(scheduler: str) -> Client:
    try:
        client = Client(scheduler, timeout=CONNECT)
        client.wait_for_workers(1, timeout=2 * CONNECT)
    except (OSError, TimeoutError) as error:
        raise ResourceError(f"no Dask scheduler with workers answers at {scheduler}: {error}") from None
    return client


def run(
    plan: Plan, workers: int, scheduler: str | None = None, fail_fast: bool = False, watcher: Watcher | None = None
) -> list[Course]:
    """Every model of the plan has ended: converted, or with the error that says why not. One course a model."""
    if not planning.waiting(plan.models):
        return [Course(number, model, plan, 1, "") for number, model in enumerate(plan.models)]
    with cluster(workers, scheduler, plan.inside) as client:
        driver = Driver(client, plan, fail_fast, watcher)
        try:
            driver.follow()
        except BaseException:
            driver.halt()
            raise
        return driver.courses


class Driver:
    """One run under way: tickets that wait, by priority, and the futures in flight."""

    def __init__(self, client: Client, plan: Plan, fail_fast: bool, watcher: Watcher | None) -> None:
        self.client, self.fail_fast, self.watcher = client, fail_fast, watcher
        self.run = uuid.uuid4().hex
        self.asked = 0.0
        self.slots = 1
        self.refresh()
        self.room = self.smallest_room()
        plan = planning.admit(plan, plan.limits.memory or self.room)
        self.courses = [Course(number, model, plan, self.slots, self.run) for number, model in enumerate(plan.models)]
        if not plan.inside:
            self.warm()
        self.halted = False
        self.waiting: list[tuple[int, int, int, Ticket]] = []
        self.order = itertools.count()
        self.flying: dict[Future[Any], Ticket] = {}
        self.completed = as_completed()
        for course in self.courses:
            self.add(course.start())

    def refresh(self) -> None:
        """`slots` is how many tasks the cluster can run at a time."""
        if time.monotonic() - self.asked > REFRESH:
            self.slots = max(1, sum(self.client.nthreads().values()))
            self.asked = time.monotonic()

    def smallest_room(self) -> int | None:
        """Bytes that a task may use on the smallest worker; None if none has a limit."""
        rooms = [room for room in self.client.run(_room).values() if room]
        return min(rooms) if rooms else None

    def warm(self) -> None:
        """Where a large model is to keep every thread busy, the children are started before its parts arrive."""
        bounds = [course.bounds for course in self.courses if course.model.large and not course.ended]
        if bounds:
            self.client.run(_warm, min(bounds, key=lambda each: each.threads))

    def add(self, tickets: list[Ticket]) -> None:
        """Tickets wait: by priority, then in the order of the manifest, then of their making."""
        for ticket in tickets:
            heapq.heappush(self.waiting, (-ticket.priority, ticket.course.number, next(self.order), ticket))

    def fill(self) -> None:
        """Tasks are in flight on every thread, as far as there are any; never more, so that priorities are ours."""
        self.refresh()
        while self.waiting and len(self.flying) < self.slots:
            ticket = heapq.heappop(self.waiting)[-1]
            key = f"{ticket.order.task}-{uuid.uuid4().hex}"
            future = self.client.submit(
                local.perform, ticket.course.begin(ticket), key=key, priority=ticket.priority, pure=False, retries=0
            )
            self.flying[future] = ticket
            self.completed.add(future)

    def follow(self) -> None:
        """Outcomes are handed to their courses until every course has ended."""
        self.fill()
        for future in self.completed:
            ticket = self.flying.pop(future)
            self.settle(ticket, outcome_of(future))
            future.release()
            if self.halted:
                return
            self.fill()

    def settle(self, ticket: Ticket, outcome: Outcome) -> None:
        course = ticket.course
        self.add(course.after(ticket, outcome))
        if self.watcher:
            self.watcher.advance(ticket.nbytes if outcome.error is None else 0)
            if course.ended:
                self.watcher.ended(course)
        if course.ended and course.error is not None and self.fail_fast:
            self.halt()

    def halt(self) -> None:
        """No child of this run lives, and nothing half-written is left; what had not ended is `Stopped`."""
        self.halted = True
        self.waiting.clear()
        until = time.monotonic() + PATIENCE
        spread = threading.Thread(target=self.client.run, args=(local.stop, self.run), daemon=True)
        spread.start()
        spread.join(PATIENCE)
        while self.flying and time.monotonic() < until:
            for future in [future for future in self.flying if future.done()]:
                del self.flying[future]
            time.sleep(local.TICK)
        for course in self.courses:
            if not course.ended:
                course.stop()
        self.tidy()

    def tidy(self) -> None:
        """What large models that were stopped left in the store is removed, by orders of a run of their own."""
        orders = [course.cleanup() for course in self.courses if course.model.large and course.stopped]
        futures = [self.client.submit(local.perform, order, pure=False) for order in orders]
        with suppress(BatchconvError, OSError, TimeoutError):
            self.client.gather(futures, errors="skip")


def _room(dask_worker: Any) -> int:
    """Bytes that one thread of a worker may use (0: no limit)."""
    limit: int = dask_worker.memory_manager.memory_limit or 0
    threads: int = dask_worker.state.nthreads
    return limit // max(1, threads)


def _warm(bounds: Bounds, dask_worker: Any) -> None:
    with suppress(BatchconvError):
        local.warm(bounds, dask_worker.state.nthreads)


def outcome_of(future: Future[Any]) -> Outcome:
    """What a future that is done came to, the death of its worker included."""
    if future.status == "finished":
        outcome: Outcome = future.result()
        return outcome
    error = future.exception() if future.status == "error" else None
    if error is None or isinstance(error, KilledWorker):
        return Outcome(None, Lost("the worker that ran it died"), transient=True)
    if isinstance(error, ImportError):
        return Outcome(None, ResourceError(f"the workers lack something: {error}"))
    return Outcome(None, InternalError(f"{type(error).__name__}: {error}"))
