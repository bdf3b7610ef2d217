"""Many models on many machines: a manifest becomes a plan, the plan becomes tasks, the tasks become a report.

manifest.load -> plan.survey -> dask.run (course: what follows what; local, child, tasks: where it runs) -> report
"""

from __future__ import annotations


def run_manifest(path: str, workers: int | None = None, scheduler: str | None = None, fail_fast: bool = False) -> int:
    """Every model of the manifest is converted, or has a line in the report that says why not: exit code 0 or 1."""
    from batchconv.engine import session

    return session.run(path, workers, scheduler, fail_fast)


def plan_manifest(path: str, as_json: bool = False) -> tuple[str, int]:
    """What `run_manifest` would do, as text or JSON, and 1 if it foresees a failure; headers alone are read."""
    from batchconv.engine import session

    return session.plan(path, as_json)
