"""What became of every model: rows, the table at the end, `report.json` in the output, and a bar on the way."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from batchconv import storage
from batchconv.engine.course import Course
from batchconv.version import VERSION

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

FILE = "report.json"
STYLES = {"done": "green", "skipped": "dim", "failed": "bold red", "stopped": "yellow"}


@dataclass(frozen=True, slots=True)
class Row:
    """One artifact of one model. state: done, skipped (it was there already), failed, stopped (the run was).

    memory: the largest resident size of a task of the model, foreseen and measured; tries: of its most stubborn task.
    """

    name: str
    precision: str
    state: str
    seconds: float
    source_bytes: int
    artifact_bytes: int
    error: str
    tries: int
    memory_foreseen: int
    memory_measured: int


def rows(courses: Iterable[Course]) -> list[Row]:
    """A row for each artifact, in the order of the manifest."""
    return [row for course in courses for row in rows_of(course)]


def rows_of(course: Course) -> Iterable[Row]:
    model = course.model
    made = {folder: nbytes + xml for folder, nbytes, xml in course.made.artifacts} if course.made else {}
    state = "stopped" if course.stopped else "failed" if course.error else "done"
    for artifact in model.artifacts:
        if artifact.done:
            yield Row(model.name, artifact.folder, "skipped", 0.0, 0, artifact.nbytes, "", 0, 0, 0)
            continue
        yield Row(
            model.name,
            artifact.folder,
            state,
            round(course.seconds, 3),
            model.source_bytes,
            made.get(artifact.folder, 0),
            str(course.error or ""),
            course.tries if course.started else 0,
            model.peak,
            course.peak,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """A run that has ended."""

    manifest: str
    output: str
    seconds: float
    rows: Sequence[Row]

    @property
    def code(self) -> int:
        """The exit code: 1 if any artifact is missing that was asked for."""
        return int(any(row.state in ("failed", "stopped") for row in self.rows))

    def data(self) -> dict[str, Any]:
        """The report as `report.json` has it."""
        states = Counter(row.state for row in self.rows)
        head = {"version": VERSION, "manifest": self.manifest, "output": self.output, "seconds": round(self.seconds, 3)}
        return {**head, "states": dict(sorted(states.items())), "artifacts": [asdict(row) for row in self.rows]}

    def publish(self) -> None:
        """`report.json` in the output folder is this report."""
        storage.put(storage.join(self.output, FILE), json.dumps(self.data(), indent=1).encode())

    def print(self) -> None:
        """The table and one line of sums stand on standard output."""
        from rich.console import Console
        from rich.table import Table

        console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
        table = Table("model", "precision", "state", box=None, pad_edge=False, header_style="bold")
        for column in ("seconds", "source", "artifact"):
            table.add_column(column, justify="right")
        table.add_column("error", overflow="fold")
        for row in self.rows:
            numbers = (f"{row.seconds:.2f}", megabytes(row.source_bytes), megabytes(row.artifact_bytes))
            table.add_row(plain(row.name), row.precision, state(row), *numbers, plain(row.error))
        console.print(table)
        console.print(self.summary())

    def summary(self) -> str:
        """`12 done, 1 failed, 3 skipped in 4.2 s; 120.3 MB read, 60.1 MB written (28.6 MB/s)`."""
        states = Counter(row.state for row in self.rows)
        counts = ", ".join(f"{states[name]} {name}" for name in STYLES if states[name]) or "nothing to do"
        sources = {row.name: row.source_bytes for row in self.rows if row.state == "done"}
        wrote = sum(row.artifact_bytes for row in self.rows if row.state == "done")
        read = sum(sources.values())
        rate = f" ({megabytes(read / self.seconds)}/s)" if read and self.seconds else ""
        moved = f"{megabytes(read) or 'nothing'} read, {megabytes(wrote) or 'nothing'} written"
        return f"{counts} in {self.seconds:.1f} s; {moved}{rate}"


def megabytes(nbytes: float) -> str:
    """A size for people: `4.7 MB`, nothing for nothing."""
    return f"{nbytes / 1e6:,.1f} MB" if nbytes >= 1e5 else f"{nbytes / 1e3:,.1f} kB" if nbytes else ""


def state(row: Row) -> str:
    return f"[{STYLES[row.state]}]{row.state}[/]"


def plain(text: str) -> str:
    """`text` with nothing in it that the table would take for markup."""
    from rich.markup import escape

    return escape(text)


class Bar:
    """A progress bar on standard error: models, bytes, rate, failures; silent where that is not a terminal."""

    def __init__(self, models: int, nbytes: int) -> None:
        self.models, self.nbytes = models, nbytes
        self.ended_models = self.failures = 0
        self.progress: Progress | None = None
        self.task: TaskID | None = None

    def __enter__(self) -> Bar:
        if sys.stderr.isatty() and self.models:
            self.progress = bar()
            self.progress.start()
            self.task = self.progress.add_task(self.words(), total=self.nbytes)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self.progress:
            self.progress.stop()

    def words(self) -> str:
        failures = f", [red]{self.failures} failed[/]" if self.failures else ""
        return f"{self.ended_models}/{self.models} models{failures}"

    def advance(self, nbytes: int) -> None:
        """So many more source bytes are done."""
        if self.progress and self.task is not None:
            self.progress.update(self.task, advance=nbytes)

    def ended(self, course: Course) -> None:
        """One model more has ended, well or not."""
        self.ended_models += 1
        self.failures += course.error is not None
        if self.progress and self.task is not None:
            self.progress.update(self.task, description=self.words())


def bar() -> Progress:
    """A bar with bytes and rate, not yet started."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
