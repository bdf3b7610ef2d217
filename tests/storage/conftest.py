"""Stores to test against: a folder, fsspec's memory, an S3 server in this process, a Ceph gateway if asked for."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import Place, s3_environment, s3_place

from batchconv import storage
from batchconv.storage import remote

RGW = Path(__file__).parents[3] / "shared" / "tools" / "rgw-s3.sh"


@pytest.fixture(scope="session")
def moto_environment() -> Iterator[dict[str, str]]:
    server = pytest.importorskip("moto.server")
    logger = logging.getLogger("werkzeug")
    before = logger.level
    logger.setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield s3_environment(f"http://{host}:{port}", "testkey", "testsecret")
    running.stop()
    logger.setLevel(before)


@pytest.fixture(scope="session")
def rgw_environment() -> Iterator[dict[str, str]]:
    if os.environ.get("BATCHCONV_RGW") != "1":
        pytest.skip("set BATCHCONV_RGW=1 for the Ceph gateway")
    subprocess.run([RGW, "install"], check=True, stdout=subprocess.DEVNULL)
    folder = {**os.environ, "S3_DATA": tempfile.mkdtemp(prefix="rgw-")}
    started = subprocess.run([RGW, "start"], check=True, stdout=subprocess.PIPE, text=True, env=folder).stdout
    lines = [line.removeprefix("export ").partition("=") for line in started.splitlines()]
    found = {name: value for name, _, value in lines}
    yield s3_environment(found["AWS_ENDPOINT_URL"], found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"])
    subprocess.run([RGW, "stop"], check=True, env=folder)
    shutil.rmtree(folder["S3_DATA"])


@pytest.fixture
def fresh_options() -> Iterator[None]:
    """No options and no connections of another test, nor left for one."""
    storage.configure({})
    yield
    storage.configure({})


@pytest.fixture
def s3(moto_environment: dict[str, str], fresh_options: None, monkeypatch: pytest.MonkeyPatch) -> Place:
    return s3_place(moto_environment, monkeypatch)


@pytest.fixture
def local(tmp_path: Path) -> Place:
    def names() -> list[str]:
        return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())

    return Place("file", str(tmp_path), names)


@pytest.fixture
def memory(fresh_options: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("BATCHCONV_SPOOL", str(tmp_path))
    root = f"memory://{uuid.uuid4().hex}"
    system, path = remote.filesystem(root)

    def names() -> list[str]:
        spooled = [f"spool {each.name}" for each in tmp_path.iterdir()]
        found = system.find(path) if system.exists(path) else []
        return sorted([each[len(path) + 1 :] for each in found] + spooled)

    yield Place("spool", root, names)
    if system.exists(path):
        system.rm(path, recursive=True)


@pytest.fixture(params=["local", "memory", "s3", pytest.param("rgw", marks=pytest.mark.rgw)])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Each store in turn."""
    if request.param != "rgw":
        found: Place = request.getfixturevalue(request.param)
        return found
    request.getfixturevalue("fresh_options")
    return s3_place(request.getfixturevalue("rgw_environment"), monkeypatch)
