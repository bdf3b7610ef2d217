"""Items on threads and on forked processes: results in order, errors as they are, nothing left behind."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from make_big import write

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


def script(text: str, *args: object) -> str:
    """What a process of its own prints: one that has threads is not forked, and tests have."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text, *map(str, args)],
        capture_output=True,
        text=True,
        env={"OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin"},
        timeout=30,
    )
    assert done.stderr == ""
    return done.stdout.strip()


def forked(bad: int, fault: str) -> str:
    return script(FORKED.format(bad=bad, fault=fault))


def test_processes_give_results_in_order() -> None:
    assert forked(-1, "pass") == "True"


def test_an_error_of_a_process_is_raised_as_it_is() -> None:
    assert forked(7, "raise BadModel('no good', node='n7')") == "BadModel node 'n7': no good"


def test_a_killed_process_is_one_line() -> None:
    line = "ResourceError a process that wrote a part was killed: was there enough memory?"
    assert forked(7, "os.kill(os.getpid(), 9)") == line


MANY = """
from batchconv.pool import Crew
assert Crew(3, processes=True).map(lambda n: -n, range(20_001)) == [-n for n in range(20_001)]
print(Crew(5, processes=True).map(str, [7, 8]))
"""


def test_more_items_than_a_pipe_holds_and_fewer_than_processes() -> None:
    assert script(MANY) == "['7', '8']"


STOPPED = """
import os, signal, sys, time
from pathlib import Path
from batchconv.errors import BadModel
from batchconv.pool import Crew

fault, slow, folder, parent = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), os.getpid()

def item(number):
    mine, other = folder / str(number), folder / str(slow)
    mine.write_text(str(os.getpid()))
    if number == slow:
        time.sleep(60)
    while not (other.is_file() and other.read_text()):
        time.sleep(0.01)
    if fault == "error":
        raise BadModel("no good")
    os.kill(parent, signal.SIGINT)

before = os.listdir("/proc/self/fd")
try:
    Crew(2, processes=True).map(item, range(2))
except BaseException as error:
    print(type(error).__name__)
assert os.listdir("/proc/self/fd") == before
assert not any(Path(f"/proc/{path.read_text()}").exists() for path in folder.iterdir())
"""


@pytest.mark.parametrize("slow", [0, 1])
@pytest.mark.parametrize(("fault", "name"), [("error", "BadModel"), ("interrupt", "KeyboardInterrupt")])
def test_what_goes_wrong_leaves_no_process_and_no_descriptor(fault: str, name: str, slow: int, tmp_path: Path) -> None:
    """One item fails, or the parent is interrupted, while another item would take a minute."""
    assert script(STOPPED, fault, slow, tmp_path) == name


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
