"""The two things that the command line asks of the engine, start to end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from batchconv import manifest as manifests
from batchconv.engine import local
from batchconv.engine import plan as planning
from batchconv.engine.plan import ModelPlan, Plan
from batchconv.engine.report import Bar, Report, megabytes, rows
from batchconv.interrupts import terminable
from batchconv.pool import cores


def run(path: str, workers: int | None, scheduler: str | None, fail_fast: bool) -> int:
    """The manifest is carried out and reported; 1 if any artifact is missing that was asked for."""
    report = carry_out(path, workers, scheduler, fail_fast)
    report.print()
    return report.code


def carry_out(path: str, workers: int | None = None, scheduler: str | None = None, fail_fast: bool = False) -> Report:
    """The report of the manifest, carried out; it lies in the output folder as well."""
    started = time.monotonic()
    manifest = manifests.load(path)
    workers = workers or manifest.limits.workers or cores()
    with terminable(), children():
        plan = planned(manifest, workers)
        with Bar(planning.waiting(plan.models), sum(model.source_bytes for model in plan.models)) as bar:
            from batchconv.engine import dask

            courses = dask.run(plan, workers, scheduler, fail_fast, bar)
    report = Report(path, plan.output, time.monotonic() - started, rows(courses))
    report.publish()
    return report


def plan(path: str, as_json: bool = False) -> tuple[str, int]:
    """What a run would do, as text or JSON, and 1 if it foresees a failure."""
    manifest = manifests.load(path)
    with terminable(), children():
        made = planned(manifest, manifest.limits.workers or cores())
    made = planning.admit(made, manifest.limits.memory)
    text = json.dumps([as_data(model) for model in made.models], indent=1) if as_json else as_text(made)
    return text, int(any(model.error for model in made.models))


def planned(manifest: manifests.Manifest, workers: int) -> Plan:
    threads = manifest.limits.threads or max(1, cores() // workers)
    return planning.make(manifest, threads, min(workers, cores()))


@contextmanager
def children() -> Iterator[None]:
    """Children that read headers for this process end with the block."""
    try:
        yield
    finally:
        local.close()


def as_data(model: ModelPlan) -> dict[str, Any]:
    """One model of a plan, for JSON."""
    header = model.header
    return {
        "name": model.name,
        "model": model.request.model,
        "framework": header.framework if header else model.request.framework,
        "artifacts": [{"precision": a.folder, "xml": a.variant.xml, "done": a.done} for a in model.artifacts],
        "source_bytes": model.source_bytes,
        "nodes": header.nodes if header else None,
        "weights": header.weights if header else None,
        "weight_bytes": header.stored if header else None,
        "parts": model.parts,
        "memory_bytes": model.peak,
        "error": str(model.error) if model.error else None,
    }


def as_text(made: Plan) -> str:
    """A line a model, then the sums."""
    lines = [line(model) for model in made.models]
    todo = sum(not artifact.done for model in made.models for artifact in model.artifacts)
    read = sum(model.source_bytes for model in made.models if not model.error)
    peak = max((model.peak for model in made.models), default=0)
    failing = sum(model.error is not None for model in made.models)
    lines.append(
        f"{len(made.models)} models, {todo} artifacts to make, {failing} models cannot be converted; "
        f"{megabytes(read) or '0 MB'} to read; at most {peak / 2**20:,.0f} MiB a task"
    )
    return "\n".join(lines)


def line(model: ModelPlan) -> str:
    """`resnet50: onnx, 97.8 MB, 318 weights, fp16 (done), int8_sym; 4 parts, 110 MiB`, or why not."""
    formats = ", ".join(a.folder.lower() + (" (done)" if a.done else "") for a in model.artifacts)
    if model.error:
        return f"{model.name}: cannot be converted: {model.error}"
    if model.header is None:
        return f"{model.name}: {formats}"
    head = f"{model.name}: {model.header.framework}, {megabytes(model.source_bytes)}, {model.header.weights} weights"
    return f"{head}, {formats}; {model.parts} parts, {model.peak / 2**20:,.0f} MiB a task"
