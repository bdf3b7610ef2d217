"""Runs on a real cluster: real models, workers that die, runs that are stopped, and what passes over the network."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import distributed
import nets
import psutil
import pytest

from batchconv import convert, manifest
from batchconv.engine import dask as engine
from batchconv.engine import local, report, session
from batchconv.engine import plan as planning
from batchconv.engine.course import Course, Ticket
from batchconv.engine.local import Outcome

BIG = 3328
"""Rows of the matrices of the large model: 42 MiB each, two parts."""


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of two worker processes."""
    with (
        dask.config.set({**engine.SETTINGS, "distributed.admin.large-graph-warning-threshold": "16kB"}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=60
        ) as made,
    ):
        yield made.scheduler_address


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two weights, of which one does not fit float16."""
    return nets.chain(tmp_path_factory.mktemp("large") / "large.onnx", 2, BIG, 1, loud=True)


class Watch:
    """Does something when the first models have ended."""

    def __init__(self, after: int = 1, action: Any = lambda: None) -> None:
        self.left, self.action = after, action
        self.nbytes = 0

    def advance(self, nbytes: int) -> None:
        self.nbytes += nbytes

    def ended(self, course: Course) -> None:
        self.left -= 1
        if self.left == 0:
            self.action()


def states(found: report.Report) -> dict[tuple[str, str], str]:
    return {(row.name, row.precision): row.state for row in found.rows}


def carried_out(path: str, scheduler: str | None, **more: Any) -> list[Course]:
    """The courses of the manifest's models after a run."""
    loaded = manifest.load(path)
    with session.children():
        return engine.run(planning.make(loaded, 1, 2), 2, scheduler, **more)


def workers() -> list[psutil.Process]:
    """Dask's worker processes below this one."""
    found = [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]
    return [p for p in found if p.children() or p.num_threads() > 5]


def test_forty_models_with_a_worker_killed_in_the_middle(tmp_path: Path) -> None:
    nets.zoo(tmp_path, 40)
    path = nets.manifest(tmp_path, {"model": "*.onnx", "precisions": ["fp32"]})
    killed: list[int] = []

    def kill() -> None:
        victim = workers()[-1]
        killed.append(victim.pid)
        victim.send_signal(signal.SIGKILL)

    courses = carried_out(path, None, watcher=Watch(10, kill))
    assert killed
    assert [str(course.error) for course in courses if course.error] == []
    assert len(nets.artifacts(tmp_path / "out")) == 80
    assert len(list((tmp_path / "out").rglob("*.json"))) == 40
    assert nets.leftovers(tmp_path) == []
    again = session.carry_out(path)
    assert set(states(again).values()) == {"skipped"}


def test_a_model_that_fails_does_not_stop_the_others(tmp_path: Path, scheduler: str) -> None:
    nets.zoo(tmp_path / "good", 4)
    nets.chain(tmp_path / "odd.onnx", 2, 8, 9, op="Frobnicate")
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "good/net00.onnx").read_bytes()[:900])
    models = [{"model": name} for name in ("good/*.onnx", "odd.onnx", "cut.onnx", "gone.onnx")]
    found = session.carry_out(nets.manifest(tmp_path, *models), scheduler=scheduler)
    assert found.code == 1
    errors = {row.name: row.error for row in found.rows if row.state == "failed"}
    assert errors.pop("odd") == "odd.onnx: no translator for Frobnicate ('relu0')"
    assert errors.pop("gone") == "gone.onnx: there is no such file"
    assert errors.pop("cut").startswith("cut.onnx: ")
    assert not errors
    assert sum(row.state == "done" for row in found.rows) == 4
    assert nets.leftovers(tmp_path) == []
    published = json.loads((tmp_path / "out" / "report.json").read_text())
    assert published["states"] == {"done": 4, "failed": 3}


def test_a_large_model_is_cut_into_tasks_and_gives_the_same_bytes(
    tmp_path: Path, scheduler: str, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statistics, sensitivities and a second attempt included; nothing large crosses the network."""
    precisions = ["fp32", "fp16", "int8_asym", {"precision": "int4_sym", "group_size": 128, "ratio": 0.5}]
    nets.zoo(tmp_path / "small", 3)
    path = nets.manifest(tmp_path, {"model": str(large), "precisions": precisions}, {"model": "small/*.onnx"})
    sent: list[tuple[str, int, int]] = []
    held: list[tuple[str, int, int]] = []
    settle = engine.Driver.settle

    def recording(self: engine.Driver, ticket: Ticket, outcome: Outcome) -> None:
        sent.append((ticket.order.task, len(pickle.dumps(ticket.order)), len(pickle.dumps(outcome))))
        held.append((ticket.order.task, outcome.peak, ticket.memory))
        settle(self, ticket, outcome)

    monkeypatch.setattr(engine.Driver, "settle", recording)
    courses = carried_out(path, scheduler, watcher=(watch := Watch()))
    assert [str(course.error) for course in courses if course.error] == []
    tasks = [task for task, _, _ in sent]
    assert {"load", "sense", "lay", "measure", "write", "publish"} <= set(tasks)
    assert tasks.count("write") >= 4
    assert max(order for _, order, _ in sent) < 4096
    assert max(outcome for _, _, outcome in sent) < 2048
    assert [each for each in held if not each[1] <= each[2] <= 2 * each[1]] == []
    assert watch.nbytes >= large.stat().st_size
    assert nets.leftovers(tmp_path) == []

    made = nets.artifacts(tmp_path / "out/large")
    request = courses[0].model.request
    alone = tuple(replace(v, xml=v.xml.replace("/out/", "/alone/")) for v in request.variants)
    convert.convert(replace(request, variants=alone), 2)
    assert nets.artifacts(tmp_path / "alone/large") == made
    assert len(made) == 8
    shutil.rmtree(tmp_path / "alone")


def test_small_models_do_not_wait_behind_a_large_one(
    tmp_path: Path, scheduler: str, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nets.zoo(tmp_path / "small", 6)
    path = nets.manifest(tmp_path, {"model": str(large), "precisions": ["fp32"]}, {"model": "small/*.onnx"})
    begun: list[str] = []
    begin = Course.begin
    monkeypatch.setattr(Course, "begin", lambda self, t: begun.append(self.model.name) or begin(self, t))
    courses = carried_out(path, scheduler)
    assert all(course.error is None for course in courses)
    assert set(begun[:6]) == {f"net{i:02}" for i in range(6)}
    assert set(begun[6:]) == {"large"}


def test_parts_of_a_worker_that_dies_are_written_by_another(tmp_path: Path, scheduler: str, large: Path) -> None:
    path = nets.manifest(tmp_path, {"model": str(large), "precisions": ["fp32", "fp16"]})
    watch = Watch()
    watch.advance = lambda nbytes: workers()[0].send_signal(signal.SIGKILL) if nbytes and not seen else seen.append(1)  # type: ignore[method-assign]
    seen: list[int] = []
    (course,) = carried_out(path, scheduler, watcher=watch)
    assert course.error is None
    assert len(nets.artifacts(tmp_path / "out")) == 4
    assert nets.leftovers(tmp_path) == []


def test_a_second_run_makes_what_is_missing_or_no_longer_true(tmp_path: Path, scheduler: str) -> None:
    nets.zoo(tmp_path, 4)
    spelled = {"model": "*.onnx", "precisions": ["fp32", "int8_sym"]}
    path = nets.manifest(tmp_path, spelled)

    def second(**changed: Any) -> dict[str, set[str]]:
        found = session.carry_out(nets.manifest(tmp_path, {**spelled, **changed}), scheduler=scheduler)
        made = {name for (name, _), state in states(found).items() if state == "done"}
        return {"made": made, "states": set(states(found).values())}

    assert second()["states"] == {"done"}
    assert second() == {"made": set(), "states": {"skipped"}}
    (tmp_path / "out/net00/FP32/net00.bin").unlink()
    with (tmp_path / "out/net01/FP32/net01.xml").open("a") as file:
        file.write(" ")
    (tmp_path / "out/net02/INT8_SYM/net02.json").write_text("{")
    nets.chain(tmp_path / "net03.onnx", 3, 16, 77)
    assert second()["made"] == {"net00", "net01", "net02", "net03"}
    assert second() == {"made": set(), "states": {"skipped"}}
    assert second(precisions=[{"precision": "int8_sym", "ignore": ["matmul*"]}])["states"] == {"done"}
    assert second(outputs=["m1"])["states"] == {"done"}
    assert Path(path).exists()


def test_fail_fast_stops_the_others_and_leaves_nothing_half_written(
    tmp_path: Path, scheduler: str, large: Path
) -> None:
    bad = nets.chain(tmp_path / "bad.onnx", 2, 8, 1)
    models = [{"model": str(bad), "outputs": ["m1"], "inputs": {"x": [3, 3]}}, {"model": str(large)}]
    found = session.carry_out(nets.manifest(tmp_path, *models), scheduler=scheduler, fail_fast=True)
    assert states(found) == {("bad", "FP16"): "failed", ("large", "FP16"): "stopped"}
    assert nets.leftovers(tmp_path) == []
    assert not nets.artifacts(tmp_path / "out")


def test_what_does_not_fit_in_memory_is_refused_before_it_runs(tmp_path: Path, scheduler: str) -> None:
    nets.zoo(tmp_path, 1)
    path = nets.manifest(tmp_path, {"model": "*.onnx"}, engine={"memory": "20 MiB"})
    (row,) = session.carry_out(path, scheduler=scheduler).rows
    assert re.fullmatch(r"net00.onnx: needs about \d+ MiB a task, but a worker has 20 MiB", row.error)
    text, code = session.plan(path)
    assert row.error in text
    assert code == 1


def test_a_model_that_takes_too_long_ends_alone(tmp_path: Path, scheduler: str) -> None:
    """A gigabyte in ten formats within 0.7 s, and a model of some kilobytes."""
    nets.zoo(tmp_path, 1)
    nets.hole(tmp_path / "huge/huge.onnx", 16384, "w.bin")
    many = ["nf4", "int4_sym", "int4_asym", "fp4", "mxfp4", "nvfp4", "fp8_e4m3", "fp8_e5m2", "mxfp8_e4m3", "cb4"]
    models = [{"model": "huge/huge.onnx", "precisions": many}, {"model": "*.onnx"}]
    path = nets.manifest(tmp_path, *models, engine={"time": 0.7})
    slow, *_, fast = session.carry_out(path, scheduler=scheduler).rows
    assert slow.error == "huge.onnx: took longer than the limit of 0.7 s"
    assert fast.state == "done"
    assert nets.leftovers(tmp_path) == []


def test_a_failure_that_may_pass_is_tried_again(
    tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nets.zoo(tmp_path, 2)
    settle = engine.Driver.settle
    tries: list[tuple[str, float]] = []

    def failing(self: engine.Driver, ticket: Ticket, outcome: Outcome) -> None:
        name = ticket.course.model.name
        tries.append((name, ticket.order.pause))
        if name == "net00" and len([n for n, _ in tries if n == name]) < 3:
            outcome = Outcome(None, local.Lost("killed from outside"), transient=True)
        settle(self, ticket, outcome)

    monkeypatch.setattr(engine.Driver, "settle", failing)
    courses = carried_out(nets.manifest(tmp_path, {"model": "*.onnx"}), scheduler)
    assert [course.error for course in courses] == [None, None]
    assert [pause for name, pause in tries if name == "net00"] == [0.0, 0.5, 1.0]
    assert [course.tries for course in courses] == [3, 1]
    assert set(states(session.carry_out(nets.manifest(tmp_path, {"model": "*.onnx"}))).values()) == {"skipped"}


def test_memory_as_a_target_is_served_in_this_process(tmp_path: Path) -> None:
    import fsspec

    nets.zoo(tmp_path, 3)
    path = nets.manifest(tmp_path, {"model": "*.onnx"}, output="memory://batchconv-engine")
    found = session.carry_out(path)
    assert set(states(found).values()) == {"done"}
    store = fsspec.filesystem("memory")
    made = store.find("batchconv-engine")
    assert len(made) == 10
    assert store.cat("batchconv-engine/net00/FP16/net00.xml").startswith(b"<?xml")
    store.rm("batchconv-engine", recursive=True)


def test_a_store_is_reached_from_every_worker(
    tmp_path: Path, large: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 by the names of environment variables: a large model in parts, a small one whole, and nothing left open."""
    from batchconv.storage import remote

    nets.zoo(tmp_path, 1)
    options = {"s3": {"key": "BC_KEY", "secret": "BC_SECRET", "endpoint_url": "BC_URL"}}
    models = [{"model": str(large), "precisions": ["fp32", "int8_asym"]}, {"model": "net00.onnx"}]
    path = nets.manifest(tmp_path, *models, storage=options, output=f"s3://{s3}/zoo")
    courses = carried_out(path, None)
    assert [str(course.error) for course in courses if course.error] == []
    system, _ = remote.filesystem(f"s3://{s3}/x")
    stored = sorted(key.removeprefix(f"{s3}/zoo/") for key in system.find(f"{s3}/zoo", withdirs=False))
    names = [
        f"{stem}.{end}" for stem in ("large/FP32/large", "large/INT8_ASYM/large") for end in ("bin", "json", "xml")
    ]
    assert stored == [*names, *(f"net00/FP16/net00.{end}" for end in ("bin", "json", "xml"))]
    assert not system.call_s3("list_multipart_uploads", Bucket=s3).get("Uploads", [])
    request = courses[0].model.request
    alone = tuple(replace(v, xml=str(tmp_path / v.compression.mode / "large.xml")) for v in request.variants)
    convert.convert(replace(request, variants=alone), 2)
    for here, there in zip(alone, request.variants):
        assert Path(here.bin).read_bytes() == system.cat(there.bin)
    assert set(states(session.carry_out(path)).values()) == {"skipped"}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of an S3 server in this process, reached by the environment variables BC_*."""
    server = pytest.importorskip("moto.server")
    from batchconv import storage
    from batchconv.storage import remote

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in (("BC_KEY", "k"), ("BC_SECRET", "s"), ("BC_URL", f"http://{host}:{port}")):
        monkeypatch.setenv(name, value)
    storage.configure({"s3": {"key": "$BC_KEY", "secret": "$BC_SECRET", "endpoint_url": "$BC_URL"}})
    remote.filesystem("s3://engine/x")[0].call_s3("create_bucket", Bucket="engine")
    yield "engine"
    storage.configure({})
    local.configure({})
    running.stop()


def test_no_scheduler_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nets.zoo(tmp_path, 1)
    monkeypatch.setattr(engine, "CONNECT", 0.3)
    with pytest.raises(engine.ResourceError) as caught:
        carried_out(nets.manifest(tmp_path, {"model": "*.onnx"}), "tcp://127.0.0.1:9")
    assert str(caught.value).startswith("no Dask scheduler with workers answers at tcp://127.0.0.1:9")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_half_written_and_no_process(
    tmp_path: Path, large: Path, signum: signal.Signals
) -> None:
    nets.zoo(tmp_path / "small", 2)
    path = nets.manifest(
        tmp_path, {"model": "small/*.onnx"}, {"model": str(large), "precisions": ["fp32", "nf4", "int4_sym"]}
    )
    command = [sys.executable, "-m", "batchconv", "run", path, "--workers", "2"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    until = time.monotonic() + 30
    while not list((tmp_path / "out").rglob("large/*/.*")) and time.monotonic() < until:
        time.sleep(0.05)
    family = psutil.Process(running.pid).children(recursive=True)
    if signum == signal.SIGINT:
        os.killpg(running.pid, signum)
    else:
        running.send_signal(signum)
    _, err = running.communicate(timeout=40)
    assert running.returncode == 130, err
    assert err.decode().strip() == "batchconv: error: interrupted; nothing half-written was left"
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
    assert nets.leftovers(tmp_path) == []
