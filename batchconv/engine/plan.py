"""A manifest becomes a plan: what is done already, what each model's headers say, and what its tasks will need.

No Dask and no payload. `Memory` is the one place that foresees memory; the bench compares it with what is measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from batchconv import storage
from batchconv.convert import Request, Variant
from batchconv.convert import options as recorded_options
from batchconv.engine import local, memory
from batchconv.engine.header import Header
from batchconv.errors import BatchconvError, ConversionError, ResourceError, StorageError, Unsupported
from batchconv.shape import text
from batchconv.version import VERSION

if TYPE_CHECKING:
    from batchconv.manifest import Entry, Limits, Manifest

LARGE = 64 << 20
"""Source bytes from which a model is cut into tasks."""

READING = 512 << 20
"""Memory that reading headers may use, however little a task may: what is too large is refused by its numbers."""

PART = 32 << 20
"""Source bytes in a part, about."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One artifact of a model: its folder, whether it is there already, and its bytes if so (`.bin` and `.xml`)."""

    folder: str
    variant: Variant
    done: bool = False
    nbytes: int = 0


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """One model of a run. request: with the variants still to be made; header: None where `error` says why,
    or where nothing is left to make. large: cut into tasks, which leave each other objects named `spool...`."""

    name: str
    request: Request
    artifacts: tuple[Artifact, ...]
    spool: str
    header: Header | None = None
    error: BatchconvError | None = None
    large: bool = False
    threads: int = 1

    @property
    def source_bytes(self) -> int:
        return self.header.source_bytes if self.header else 0

    @property
    def leaves(self) -> tuple[str, ...]:
        """Every object that a conversion writes."""
        return tuple(url for v in self.request.variants for url in (v.bin, v.xml, v.record))

    @property
    def parts(self) -> int:
        """About how many parts its artifacts are written in, all formats together in each."""
        return -(-self.header.stored // PART) if self.header else 0

    def memory(self, task: str) -> int:
        """The most bytes that one of its tasks of that kind will hold."""
        return memory.foreseen(task, self.header, self.request, self.threads) if self.header else 0

    @property
    def peak(self) -> int:
        """The most bytes that any of its tasks will hold."""
        tasks = ("load", "lay", "write", "publish") if self.large else ("convert",)
        return max(map(self.memory, tasks))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do. inside: in this very process, since `memory://` lives in one process only."""

    models: tuple[ModelPlan, ...]
    output: str
    limits: Limits
    storage: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    inside: bool = False
    threads: int = 1


def make(manifest: Manifest, threads: int, at_once: int) -> Plan:
    """The plan of `manifest`, `at_once` models' headers read at a time, in processes of their own."""
    urls = [manifest.output, *(entry.model for entry in manifest.entries)]
    inside = any(url.startswith("memory://") for url in urls)
    limit = manifest.limits.memory and max(manifest.limits.memory, READING)
    bounds = local.Bounds(limit, manifest.limits.seconds, threads)
    ask = partial(local.Order, bounds=bounds, storage=manifest.storage, inside=inside)
    with ThreadPoolExecutor(at_once) as pool:
        models = tuple(pool.map(lambda entry: plan_model(manifest, entry, ask, inside, threads), manifest.entries))
    return Plan(models, manifest.output, manifest.limits, manifest.storage, inside, threads)


def plan_model(
    manifest: Manifest, entry: Entry, ask: Callable[..., local.Order], inside: bool, threads: int
) -> ModelPlan:
    """The plan of one model; its faults go into `error`."""
    request = request_of(manifest, entry)
    artifacts = tuple(
        look(request, precision.folder, variant)
        for precision, variant in zip(entry.precisions, request.variants, strict=True)
    )
    request = replace(request, variants=tuple(a.variant for a in artifacts if not a.done))
    spool = storage.join(manifest.output, entry.name, f".job-{request.key[:16]}-")
    planned = ModelPlan(entry.name, request, artifacts, spool, threads=threads)
    if not request.variants:
        return planned
    outcome = local.perform(ask("survey", (request,)))
    if outcome.error is not None:
        return replace(planned, error=located(outcome.error, request))
    header: Header = outcome.value
    error = Unsupported(header.missing, request.model.rsplit("/", 1)[-1]) if header.missing else None
    return replace(planned, header=header, error=error, large=header.source_bytes > LARGE and not inside)


def located(error: BatchconvError, request: Request) -> BatchconvError:
    """The error, with the model's file in it."""
    return error.at(model=request.model.rstrip("/").rsplit("/", 1)[-1]) if isinstance(error, ConversionError) else error


def request_of(manifest: Manifest, entry: Entry) -> Request:
    """What the manifest asks of one model, with its key."""
    variants = tuple(Variant(manifest.xml(entry, p), p.compression) for p in entry.precisions)
    asked: list[Any] = [VERSION, entry.model, entry.framework, dict(entry.files), entry.outputs, entry.name]
    asked.append([(i.name, str(i.dtype), text(i.shape), i.shaped, str(i.value)) for i in entry.inputs])
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return Request(entry.model, variants, entry.framework, entry.files, entry.inputs, entry.outputs, entry.name, key)


def look(request: Request, folder: str, variant: Variant) -> Artifact:
    """The artifact, done if it is there whole, made from these sources with these options by this version."""
    record = recorded(variant)
    if record is None or record.get("key") != request.key or record.get("options") != options(variant):
        return Artifact(folder, variant)
    try:
        sizes = [storage.size(url) for url in (variant.bin, variant.xml)]
        same = all(storage.identity(url) == was for url, was in record["sources"].items())
        whole = sizes == [record["bin"]["nbytes"], record["xml"]["nbytes"]]
    except (StorageError, KeyError, TypeError, AttributeError):
        return Artifact(folder, variant)
    return Artifact(folder, variant, same and whole, sum(sizes))


def recorded(variant: Variant) -> dict[str, Any] | None:
    """The record beside the artifact, if there is one that can be read."""
    try:
        if not storage.exists(variant.record):
            return None
        record = json.loads(storage.read(variant.record, 0, storage.size(variant.record)))
    except (StorageError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def options(variant: Variant) -> dict[str, Any]:
    """The compression as a record has it."""
    kept: dict[str, Any] = json.loads(json.dumps(recorded_options(variant.compression)))
    return kept


def admit(plan: Plan, room: int | None) -> Plan:
    """The plan for workers with `room` bytes a task: models that do not fit get fewer threads, or are refused."""
    return plan if not room else replace(plan, models=tuple(fitted(model, room) for model in plan.models))


def fitted(model: ModelPlan, room: int) -> ModelPlan:
    """The model with as many threads as fit in `room`; with an error if not even one does."""
    if model.header is None or model.error:
        return model
    tiers = (replace(model, threads=threads) for threads in range(model.threads, 0, -1))
    found = next((tier for tier in tiers if tier.peak <= room), None)
    if found:
        return found
    need, have = replace(model, threads=1).peak / 2**20, room / 2**20
    error = ResourceError(f"needs about {need:,.0f} MiB a task, but a worker has {have:,.0f} MiB")
    return replace(model, error=located(error, model.request))


def waiting(models: Iterable[ModelPlan]) -> int:
    """How many models are to be converted."""
    return sum(bool(model.request.variants) and model.error is None for model in models)
