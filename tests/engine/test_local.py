"""Children: killable, bounded, reused, and their ends classified."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchconv.engine import local
from batchconv.engine.local import Bounds, Lost, Order, Outcome, Stopped
from batchconv.errors import BadModel, BatchconvError, InternalError, ResourceError, StorageError


@pytest.fixture(autouse=True)
def misdeeds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(local, "GRACE", 1.0)
    yield
    local.close()


def do(task: str, *args: Any, **more: Any) -> Outcome:
    return local.perform(Order(f"misdeeds:{task}", args, **more))


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int, seconds: float = 5) -> bool:
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pid)


def test_a_child_serves_again_after_success_and_is_replaced_after_a_failure() -> None:
    assert do("double", 21).value == 42
    first = do("pid").value
    assert do("pid").value == first != os.getpid()
    do("refuse")
    assert do("pid").value != first
    assert gone(first)


def test_warm_children_are_the_ones_that_serve() -> None:
    local.warm(Bounds(), 2)
    local.warm(Bounds(), 2)
    ((_, children),) = local._idle.items()
    assert len(children) == 2
    assert do("pid").value in [child.process.pid for child in children]


def test_a_child_keeps_freed_memory_within_an_order_only() -> None:
    """Blocks of a megabyte cost page faults the first time; after the order the memory is the system's again."""
    faults, before, after = do("churn", 30, 1 << 20).value
    assert faults < 3 * 256
    assert do("resident").value < before + (4 << 20) < after


def test_threads_are_told_to_the_child() -> None:
    assert do("thread_limits", bounds=Bounds(threads=3)).value == (3, "3", "1")


def test_peak_memory_is_of_this_order_alone() -> None:
    big = do("hoard", 200 << 20).peak
    small = do("hoard", 1 << 20).peak
    assert big > 200 << 20 > small > 5 << 20


@pytest.mark.parametrize(
    ("task", "kind", "words", "transient"),
    [
        ("refuse", BadModel, "net.onnx: Conv 'conv9': no good (see onnx/nn.py)", False),
        ("stumble", StorageError, "s3://bucket/key: connection reset", True),
        ("blunder", InternalError, "KeyError: 'our own mistake'", False),
        ("crash", ResourceError, "the conversion process crashed (SIGSEGV)", False),
        ("killed", Lost, "killed from outside (SIGKILL", True),
        ("leave", InternalError, "ended with exit code 3: I have had enough", False),
        ("unpicklable", InternalError, "the result does not travel", False),
        ("no_such_task", InternalError, "no_such_task", False),
    ],
)
def test_how_a_task_ended_is_told_by_class_and_words(
    task: str, kind: type[BatchconvError], words: str, transient: bool
) -> None:
    outcome = do(task)
    assert type(outcome.error) is kind
    assert words in str(outcome.error)
    assert "\n" not in str(outcome.error)
    assert outcome.transient is transient
    assert str(pickle.loads(pickle.dumps(outcome)).error) == str(outcome.error)


def test_memory_beyond_the_limit_is_an_error_that_names_it() -> None:
    outcome = do("hoard", 1 << 30, bounds=Bounds(memory=400 << 20))
    assert isinstance(outcome.error, ResourceError)
    assert str(outcome.error) == "out of memory (limit 400 MiB)"
    assert do("hoard", 100 << 20, bounds=Bounds(memory=400 << 20)).error is None


@pytest.mark.parametrize("task", ["sleep", "hang_on_lock"])
def test_time_beyond_the_limit_ends_the_child_whatever_it_does(task: str) -> None:
    started = time.monotonic()
    outcome = do(task, *([60] if task == "sleep" else []), bounds=Bounds(seconds=0.5))
    assert str(outcome.error) == "took longer than the limit of 0.5 s"
    assert time.monotonic() - started < 5


def test_output_of_any_size_neither_blocks_nor_breaks_the_answer() -> None:
    assert len(do("chatter").value) == 1_000_000


def test_stopping_a_run_ends_its_children_with_their_children_and_lets_them_tidy_up(tmp_path: Path) -> None:
    family, half = tmp_path / "pids", tmp_path / "half"
    outcomes: list[Outcome] = []
    orders = [Order("misdeeds:breed", (str(family),), run="r1"), Order("misdeeds:tidy_at_end", (str(half),), run="r1")]
    threads = [threading.Thread(target=lambda o=o: outcomes.append(local.perform(o))) for o in orders]
    for thread in threads:
        thread.start()
    while not (family.exists() and family.read_text().count(" ") and half.exists()):
        time.sleep(0.02)
    local.stop("r1")
    for thread in threads:
        thread.join()
    assert [type(outcome.error) for outcome in outcomes] == [Stopped, Stopped]
    assert not half.exists()
    assert all(gone(int(pid)) for pid in family.read_text().split())
    assert isinstance(do("double", 1, run="r1").error, Stopped)
    assert do("double", 1, run="r2").value == 2


def test_children_die_with_their_parent(tmp_path: Path) -> None:
    family, half = tmp_path / "pids", tmp_path / "half"
    code = (
        "import threading; from batchconv.engine.local import Order, perform\n"
        f"threading.Thread(target=perform, args=(Order('misdeeds:tidy_at_end', ({str(half)!r},)),)).start()\n"
        f"perform(Order('misdeeds:breed', ({str(family)!r},)))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    while not (family.exists() and family.read_text().count(" ") and half.exists()):
        time.sleep(0.02)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert all(gone(int(pid), 8) for pid in family.read_text().split())
    until = time.monotonic() + 8
    while half.exists() and time.monotonic() < until:  # the other child has a process of its own
        time.sleep(0.02)
    assert not half.exists()


def test_inside_runs_here_and_never_raises() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        assert do("pid", inside=True).value == os.getpid()
        assert isinstance(do("blunder", inside=True).error, InternalError)
    finally:
        sys.path.pop(0)
