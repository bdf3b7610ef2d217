"""What follows what: the tasks of one model, as outcomes arrive; knows nothing of who runs them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from batchconv.engine.local import Bounds, Late, Order, Outcome, Stopped
from batchconv.engine.plan import ModelPlan, Plan
from batchconv.engine.tasks import Again, Bundles, Made
from batchconv.errors import BatchconvError, ConversionError, ResourceError

PRIORITY = {"publish": 4, "abandon": 4, "convert": 3, "load": 2, "lay": 2, "sense": 1, "measure": 1, "write": 1}
"""Higher first: what ends a model, then small models, then what opens a large one up, then its parts."""

BACKOFF = 0.5
"""Seconds before the second try; doubled for each further one."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """One task that may be submitted: of which model, the order, source bytes it accounts for, memory, which try."""

    course: Course
    order: Order
    nbytes: int = 0
    memory: int = 0
    tries: int = 0

    @property
    def priority(self) -> int:
        return PRIORITY[self.order.task]


class Course:
    """One model on its way: feed it outcomes, submit the tickets it returns, until `ended`."""

    def __init__(self, number: int, model: ModelPlan, plan: Plan, slots: int, run: str) -> None:
        self.number, self.model, self.plan, self.slots, self.run = number, model, plan, slots, run
        self.error: BatchconvError | None = model.error
        self.made: Made | None = None
        self.ended = model.error is not None or not model.request.variants
        self.started = 0.0
        self.worked = 0.0
        self.seconds = 0.0
        self.peak = 0
        self.tries = 1
        self.stopped = False
        self.flying = 0
        self.sensed = 0
        self.bundles = Bundles()

    def start(self) -> list[Ticket]:
        """The first task."""
        if self.ended:
            return []
        if not self.model.large:
            return self.send(self.ticket("convert", self.model.request, nbytes=self.model.source_bytes))
        return self.send(self.ticket("load", self.model.request, self.model.spool, self.slots))

    @property
    def bounds(self) -> Bounds:
        """What a child may use for a task of this model."""
        return Bounds(self.plan.limits.memory, None, self.model.threads)

    def ticket(self, task: str, *args: object, nbytes: int = 0) -> Ticket:
        order = Order(task, args, self.bounds, self.run, self.plan.storage, inside=self.plan.inside)
        order = replace(order, leaves=self.model.leaves if task in ("convert", "load", "lay") else ())
        return Ticket(self, order, nbytes, self.model.memory(task))

    def send(self, *tickets: Ticket) -> list[Ticket]:
        self.flying += len(tickets)
        return list(tickets)

    def begin(self, ticket: Ticket) -> Order:
        """What to submit for the ticket: the order, with what is left of the model's working time (to tidy up: any)."""
        self.started = self.started or time.monotonic()
        limit = self.plan.limits.seconds
        left = None if limit is None or ticket.order.task == "abandon" else max(limit - self.worked, 0.01)
        return replace(ticket.order, bounds=replace(ticket.order.bounds, seconds=left))

    def after(self, ticket: Ticket, outcome: Outcome) -> list[Ticket]:
        """The tasks that follow, now that this one ended so."""
        self.flying -= 1
        self.peak = max(self.peak, outcome.peak)
        self.worked += outcome.seconds
        if ticket.order.task == "abandon":
            return self.end()
        if outcome.error is not None:
            return self.failed(ticket, outcome)
        if self.error is not None:
            return self.retreat()
        return self.follow(ticket.order.task, outcome.value)

    def follow(self, task: str, value: object) -> list[Ticket]:
        """The next stage, once the last task of this one has ended well."""
        if isinstance(value, Made):
            self.made = value
            return self.end()
        if isinstance(value, Again):
            return self.send(self.ticket("lay", self.model.spool, self.sensed, value.keep, self.slots))
        if isinstance(value, Bundles):
            self.bundles = value
            self.sensed = value.sense or self.sensed
        return self.send(*self.stage(task)) if not self.flying else []

    def stage(self, task: str) -> Iterator[Ticket]:
        """The tasks after the last one of `task`."""
        spool, bundles = self.model.spool, self.bundles
        if bundles.sense and task == "load":
            yield from (self.ticket("sense", spool, number) for number in range(bundles.sense))
        elif task == "sense":
            yield self.ticket("lay", spool, self.sensed, (), self.slots)
        elif bundles.measure and task in ("load", "lay"):
            yield from (self.ticket("measure", spool, number) for number in range(bundles.measure))
        elif bundles.write and task != "write":
            for number, nbytes in enumerate(bundles.write):
                yield self.ticket("write", spool, number, nbytes=nbytes)
        else:
            yield self.ticket("publish", spool, len(bundles.write), time.monotonic() - self.started)

    def failed(self, ticket: Ticket, outcome: Outcome) -> list[Ticket]:
        """Another try if one may help, else the end of the model."""
        if outcome.transient and ticket.tries < self.plan.limits.retries and self.error is None:
            self.tries = max(self.tries, ticket.tries + 2)
            order = replace(ticket.order, pause=BACKOFF * 2**ticket.tries)
            return self.send(replace(ticket, order=order, tries=ticket.tries + 1))
        if self.error is None:
            error = self.worded(outcome.error)
            file = self.model.request.model.rstrip("/").rsplit("/", 1)[-1]
            self.error = error.at(model=file) if isinstance(error, ConversionError) else error
        return self.retreat()

    def worded(self, error: BatchconvError | None) -> BatchconvError | None:
        """The error; where time ran out, that of the whole model."""
        limit = self.plan.limits.seconds
        return ResourceError(f"took longer than the limit of {limit:g} s") if isinstance(error, Late) else error

    def retreat(self) -> list[Ticket]:
        """Once no task of a failed model runs any more, what it left is removed."""
        if self.flying:
            return []
        return self.send(self.ticket("abandon", self.model.spool)) if self.model.large else self.end()

    def end(self) -> list[Ticket]:
        self.ended = True
        self.seconds = time.monotonic() - self.started if self.started else 0.0
        return []

    def stop(self) -> None:
        """The run was stopped before this model had ended."""
        self.stopped, self.error = True, Stopped("the run was stopped")
        self.end()

    def cleanup(self) -> Order:
        """What removes the leavings of a large model that was stopped; it belongs to no run, for that has ended."""
        return replace(self.ticket("abandon", self.model.spool).order, run="")
