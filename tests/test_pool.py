"""Items on threads and on forked processes: results in order, errors as they are, nothing left behind."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from make_big import write

from batchconv.errors import BadModel
from batchconv.pool import Crew

FORKED = """
import os, sys
from batchconv.errors import BadModel
from batchconv.pool import Crew

def item(number):
    if number == {bad}:
        {fault}
    return number * number, os.getpid()

try:
    made = Crew(2, processes=True).map(item, range(40))
    assert [value for value, _ in made] == [n * n for n in range(40)]
    print(len({{pid for _, pid in made}} - {{os.getpid()}}) > 0)
except Exception as error:
    print(type(error).__name__, error)
"""


def forked(bad: int, fault: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKED.format(bad=bad, fault=fault)],
        capture_output=True,
        text=True,
        env={"OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin"},
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_processes_give_results_in_order() -> None:
    assert forked(-1, "pass") == "True"


def test_an_error_of_a_process_is_raised_as_it_is() -> None:
    assert forked(7, "raise BadModel('no good', node='n7')") == "BadModel node 'n7': no good"


def test_a_killed_process_is_one_line() -> None:
    line = "ResourceError a process that wrote a part was killed: was there enough memory?"
    assert forked(7, "os.kill(os.getpid(), 9)") == line


def test_more_items_than_a_pipe_holds_and_fewer_than_processes() -> None:
    made = Crew(3, processes=True).map(lambda n: -n, range(20_001))
    assert made == [-n for n in range(20_001)]
    assert Crew(5, processes=True).map(str, [7, 8]) == ["7", "8"]


@pytest.mark.parametrize("slow", [0, 1])
@pytest.mark.parametrize("fault", ["error", "interrupt"])
def test_what_goes_wrong_leaves_no_process_and_no_descriptor(fault: str, slow: int, tmp_path: Path) -> None:
    """One item fails, or this process is interrupted, while another item would take a minute."""

    def item(number: int) -> None:
        (tmp_path / str(number)).write_text(str(os.getpid()))
        if number == slow:
            time.sleep(60)
        other = tmp_path / str(slow)
        until(lambda: other.is_file() and other.read_text() != "")
        if fault == "error":
            raise BadModel("no good")
        os.kill(os.getppid(), signal.SIGUSR1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before, handler = os.listdir("/proc/self/fd"), signal.signal(signal.SIGUSR1, interrupt)
    start = time.monotonic()
    try:
        with pytest.raises(BadModel if fault == "error" else KeyboardInterrupt):
            Crew(2, processes=True).map(item, range(2))
    finally:
        signal.signal(signal.SIGUSR1, handler)
    assert time.monotonic() - start < 20
    assert os.listdir("/proc/self/fd") == before
    assert not any(Path(f"/proc/{path.read_text()}").exists() for path in tmp_path.iterdir())


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_give_results_in_order(workers: int) -> None:
    assert Crew(workers).map(lambda n: n * n, range(20)) == [n * n for n in range(20)]


def test_a_process_with_threads_is_not_forked() -> None:
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    try:
        pids = set(Crew(2, processes=True).map(lambda _: threading.get_native_id() > 0, range(4)))
    finally:
        stop.set()
        other.join()
    assert pids == {True}


def test_processes_write_the_same_bytes_as_one_thread(tmp_path: Path) -> None:
    model = write(tmp_path / "two.onnx", count=2, size=3072)
    sums = set()
    for threads in ("1", "2"):
        xml = tmp_path / threads / "m.xml"
        command = [sys.executable, "-m", "batchconv", "convert", str(model), "-o", str(xml), "--threads", threads]
        subprocess.run([*command, "--precision", "int8_asym"], check=True, capture_output=True)
        sums.add(hashlib.sha256(xml.with_suffix(".bin").read_bytes()).hexdigest())
    assert len(sums) == 1
