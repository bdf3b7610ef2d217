"""S3 and other remote stores: what goes wrong between machines, and what it is told as."""

from __future__ import annotations

import contextlib
import http.server
import os
import pickle
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from places import MIB, Place, Range, cut, write_all

from batchconv import storage
from batchconv.errors import InternalError, StorageError
from batchconv.storage import faults, remote
from batchconv.storage import s3 as objects

DATA = random.Random(3).randbytes(5 * MIB + 500)
CUTS = cut(len(DATA), 5 * MIB)


class Calls:
    """Every call of S3's interface, recorded, and answered as a test wants."""

    def __init__(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Callable[[Callable[[], Any]], Any]] = {}
        system, _ = remote.filesystem(place.join("x"))
        real = system.call_s3

        def call(method: str, **fields: Any) -> Any:
            self.made.append((method, fields))
            answer = self.answers.get(method, lambda go_on: go_on())
            return answer(lambda: real(method, **fields))

        monkeypatch.setattr(system, "call_s3", call)
        monkeypatch.setattr(remote, "_PAUSES", (0.0, 0.0))

    def named(self, method: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.made if name == method]


@pytest.fixture
def calls(s3: Place, monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(s3, monkeypatch)


def s3_error(code: str, status: int = 400) -> Exception:
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    answer = {"Error": {"Code": code, "Message": "says the server"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error: Exception = translate_boto_error(ClientError(answer, "Test"))
    return error


def lost(go_on: Callable[[], Any]) -> Any:
    """The request arrives; the answer does not."""
    from botocore.exceptions import ConnectionClosedError

    go_on()
    raise ConnectionClosedError(endpoint_url="http://test")


def test_every_body_carries_its_checksum(s3: Place, calls: Calls) -> None:
    import base64
    import hashlib

    upload = storage.begin(s3.join("x"), len(DATA))
    receipts = write_all(upload, DATA, CUTS)
    storage.put(s3.join("y"), b"123")
    bodies = [upload.place.encode(), DATA[: 5 * MIB], DATA[5 * MIB :], b"123"]
    sent = [fields["ContentMD5"] for name, fields in calls.made if name in ("upload_part", "put_object")]
    assert sent == [base64.b64encode(hashlib.md5(body).digest()).decode() for body in bodies]
    assert [receipt.sha256 for receipt in receipts] == [hashlib.sha256(body).hexdigest() for body in bodies[1:3]]


@pytest.mark.rgw
def test_a_body_that_changed_on_the_way_is_refused(
    rgw_environment: dict[str, str], fresh_options: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from places import s3_place

    place = s3_place(rgw_environment, monkeypatch)
    monkeypatch.setattr(remote, "_PAUSES", (0.0,))
    monkeypatch.setattr(objects, "_md5", lambda data: "CY9rzUYh03PK3k6DJie09g==")
    with pytest.raises(StorageError, match=r"BadDigest|InvalidDigest"):
        storage.put(place.join("x"), b"123")
    assert place.names() == []


@pytest.mark.rgw
@pytest.mark.parametrize(("key", "secret"), [("testkey", "wrong"), ("unknown", "wrong")])
def test_a_wrong_key(
    rgw_environment: dict[str, str], fresh_options: None, monkeypatch: pytest.MonkeyPatch, key: str, secret: str
) -> None:
    for name, value in {**rgw_environment, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}.items():
        monkeypatch.setenv(name, value)
    calls = (storage.size, storage.exists, lambda url: storage.read(url, 0, 1), lambda url: storage.put(url, b""))
    for call in (*calls, lambda url: storage.begin(url, 10)):
        with pytest.raises(StorageError, match="access denied") as caught:
            call("s3://bucket/x")
        assert not caught.value.transient
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "text", "transient"),
    [
        ("SignatureDoesNotMatch", "access denied (SignatureDoesNotMatch): check the access key", False),
        ("403", "access denied (403): check the access key", False),
        ("NoSuchBucket", "no such bucket", False),
        ("NoSuchKey", "no such object", False),
        ("SlowDown", "the store is busy or failing (SlowDown)", True),
        ("503", "the store is busy or failing (503)", True),
        ("BadDigest", "the store is busy or failing (BadDigest)", True),
        ("EntityTooSmall", "the store refused: EntityTooSmall says the server", False),
    ],
)
def test_what_a_refusal_is_told_as(s3: Place, calls: Calls, code: str, text: str, transient: bool) -> None:
    def refuse(go_on: Callable[[], Any]) -> Any:
        raise s3_error(code)

    calls.answers["put_object"] = refuse
    with pytest.raises(StorageError) as caught:
        storage.put(s3.join("x"), b"1")
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again).startswith(f"{s3.url}/x: {text}")
    assert "\n" not in str(again)
    assert again.transient == transient


def test_no_bucket(s3: Place) -> None:
    url = "s3://there-is-no-such-bucket/x"
    calls = (storage.size, lambda url: storage.put(url, b""), lambda url: storage.begin(url, 10))
    for call in (*calls, lambda url: storage.read(url, 0, 1)):
        with pytest.raises(StorageError, match=f"^{url}: no such bucket$"):
            call(url)
    with pytest.raises(StorageError, match="a bucket and a key are needed"):
        storage.put("s3://bucket", b"")


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize("url", ["s3://bucket/x", "http:"])
def test_nobody_there(url: str, fresh_options: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint := closed_port())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testkey")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testsecret")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    url = url if url.startswith("s3") else f"{endpoint}/x"
    with pytest.raises(StorageError, match="cannot connect") as caught:
        storage.read(url, 0, 10)
    assert caught.value.transient


def test_options_name_environment_variables(s3: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.put(s3.join("x"), b"1")
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("MY_KEY", "mine")
    monkeypatch.setenv("MY_ENDPOINT", endpoint)
    storage.configure(
        {"s3": {"key": "$MY_KEY", "secret": "${MY_SECRET}", "client_kwargs": {"endpoint_url": "$MY_ENDPOINT"}}}
    )
    with pytest.raises(StorageError, match="the environment variable MY_SECRET of the storage options is not set"):
        storage.size(s3.join("x"))
    monkeypatch.setenv("MY_SECRET", "hidden")
    assert storage.size(s3.join("x")) == 1
    system, _ = remote.filesystem(s3.url)
    assert (system.key, system.secret, system.endpoint_url or system.client_kwargs["endpoint_url"]) == (
        "mine",
        "hidden",
        endpoint,
    )


def test_how_patient_the_client_is(s3: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    storage.configure({"s3": {"config_kwargs": {"read_timeout": 7}}})
    system, _ = remote.filesystem(s3.url)
    config = system.s3.meta.config
    assert config.retries["mode"] == "adaptive"
    assert config.retries["total_max_attempts"] == 11
    assert config.read_timeout == 7
    assert config.request_checksum_calculation == "when_required"
    assert system.retries == 1


def test_no_credentials(fresh_options: None, monkeypatch: pytest.MonkeyPatch, s3: Place) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    storage.configure({})
    with pytest.raises(StorageError, match="no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        storage.size(s3.join("x"))


def test_an_answer_to_the_completion_is_lost(s3: Place, calls: Calls) -> None:
    upload = storage.begin(s3.join("x"), len(DATA))
    receipts = write_all(upload, DATA, CUTS)
    calls.answers["complete_multipart_upload"] = lost
    assert storage.finish(upload, receipts) == storage.identity(s3.join("x"))
    assert s3.names() == ["x"]


def test_an_answer_to_a_part_is_lost(s3: Place, calls: Calls) -> None:
    failing = iter([lost])
    calls.answers["upload_part"] = lambda go_on: next(failing, lambda go_on: go_on())(go_on)
    upload = storage.begin(s3.join("x"), len(DATA))
    storage.finish(upload, write_all(upload, DATA, CUTS))
    assert len(calls.named("upload_part")) == 3
    assert storage.read(s3.join("x"), 0, len(DATA)) == DATA


def test_somebody_elses_object_is_not_ours(s3: Place, calls: Calls) -> None:
    upload = storage.begin(s3.join("x"), len(DATA))
    receipts = write_all(upload, DATA, CUTS)
    storage.abort(upload)
    storage.put(s3.join("x"), bytes(len(DATA)))  # of the same size

    def refuse(go_on: Callable[[], Any]) -> Any:
        raise s3_error("NoSuchUpload", 404)

    calls.answers["complete_multipart_upload"] = refuse
    with pytest.raises(StorageError, match="NoSuchUpload"):
        storage.finish(upload, receipts)


def test_read_back_where_etags_are_no_md5(s3: Place, calls: Calls) -> None:
    upload = storage.begin(s3.join("x"), len(DATA))
    receipts = write_all(upload, DATA, CUTS)
    storage.finish(upload, receipts)
    strange = [type(each)(each.number, each.nbytes, '"kms!"', each.sha256, each.how) for each in receipts]
    assert objects._is_ours(upload, strange)
    wrong = [type(each)(each.number, each.nbytes, '"kms!"', "0" * 64, each.how) for each in receipts]
    assert not objects._is_ours(upload, wrong)


def test_completion_names_no_etag(s3: Place, calls: Calls) -> None:
    """As the Ceph gateway does."""
    calls.answers["complete_multipart_upload"] = lambda go_on: {**go_on(), "ETag": ""}
    upload = storage.begin(s3.join("x"), len(DATA))
    identity = storage.finish(upload, write_all(upload, DATA, CUTS))
    assert identity.startswith("etag:")
    assert identity.endswith("-2")


def test_parts_that_are_missing(s3: Place) -> None:
    upload = storage.begin(s3.join("x"), len(DATA))
    receipts = write_all(upload, DATA, CUTS)
    with pytest.raises(InternalError, match=f"the parts have {5 * MIB} bytes, the object {len(DATA)}"):
        storage.finish(upload, receipts[:1])
    storage.abort(upload)
    assert s3.names() == []


def test_parts_that_s3_would_refuse(s3: Place) -> None:
    upload = storage.begin(s3.join("x"), 20 * MIB)
    with pytest.raises(InternalError, match=f"part 0 has {MIB} bytes; S3 wants {5 * MIB} of all but the last"):
        storage.part(upload, 0, 0, MIB)
    with pytest.raises(InternalError, match="S3 takes 10000 parts"):
        storage.part(upload, 10_000, 0, 5 * MIB)
    with pytest.raises(InternalError, match="bytes at 0 lie neither in their part nor in the last one"):  # noqa: PT012
        with storage.part(upload, 0, 5 * MIB, 5 * MIB) as writer:
            writer.write(0, b"astray")
        with storage.part(upload, 3, 15 * MIB, 5 * MIB, last=True):
            pass
    storage.abort(upload)
    assert s3.names() == []


def test_a_server_that_copies_no_parts(s3: Place, calls: Calls) -> None:
    def refuse(go_on: Callable[[], Any]) -> Any:
        raise s3_error("NotImplemented", 501)

    calls.answers["upload_part_copy"] = refuse
    storage.put(s3.join("source"), DATA)
    upload = storage.begin(s3.join("x"), len(DATA))
    with storage.part(upload, 0, *CUTS[0]) as writer:
        assert writer.copy(0, Range(s3.join("source"), 0, 5 * MIB)) == "write"
    receipts = [writer.close()]
    with storage.part(upload, 1, *CUTS[1], last=True) as writer:
        writer.copy(5 * MIB, Range(s3.join("source"), 5 * MIB, 500))
    storage.finish(upload, [*receipts, writer.close()])
    assert storage.read(s3.join("x"), 0, len(DATA)) == DATA


def test_a_copied_part_never_travels(s3: Place, calls: Calls) -> None:
    storage.put(s3.join("source"), DATA)
    upload = storage.begin(s3.join("x"), 2 * 5 * MIB)
    calls.made.clear()
    for number in (0, 1):
        with storage.part(upload, number, 5 * MIB * number, 5 * MIB) as writer:
            writer.copy(5 * MIB * number, Range(s3.join("source"), 9, 5 * MIB))
        assert writer.close().how == "upload_part_copy"
    assert {name for name, _ in calls.made} == {"upload_part_copy"}
    storage.abort(upload)


def test_the_upload_of_a_dead_process_ends(s3: Place) -> None:
    script = f"from batchconv import storage; print(storage.begin({s3.join('x')!r}, 100).mark)"
    dead = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.strip()
    storage.put(f"{dead}/00000", b"staged")
    mine = storage.begin(s3.join("x"), 3)
    other = storage.begin(s3.join("x.y"), 3)
    again = storage.begin(s3.join("x"), 0)
    assert sorted(name for name in s3.names() if "upload of" in name) == ["upload of x", "upload of x.y"]
    assert not [name for name in s3.names() if s3.join(name).startswith(dead)]
    for upload in (mine, other, again):
        storage.abort(upload)
    assert s3.names() == []


def test_who_may_not_list_may_write(s3: Place, calls: Calls) -> None:
    def refuse(go_on: Callable[[], Any]) -> Any:
        raise s3_error("AccessDenied", 403)

    calls.answers["list_objects_v2"] = refuse
    upload = storage.begin(s3.join("x"), 6 * MIB)
    with storage.part(upload, 0, 0, 6 * MIB) as writer:
        writer.write(0, b"abc")
    storage.finish(upload, [writer.close()])
    assert storage.read(s3.join("x"), 0, 3) == b"abc"


def test_many_staged_objects(s3: Place, calls: Calls) -> None:
    """More than one page of a listing."""

    def paged(go_on: Callable[[], Any]) -> Any:
        fields = calls.made[-1][1]
        fields["MaxKeys"] = 2
        return go_on()

    calls.answers["list_objects_v2"] = paged
    upload = storage.begin(s3.join("x"), 5 * MIB)
    for number in range(5):
        with storage.part(upload, number, 0, 0) as writer:
            writer.write(number, b"%d" % number)
    with storage.part(upload, 5, 0, 5 * MIB, last=True) as writer:
        pass
    storage.finish(upload, [writer.close()])
    assert storage.read(s3.join("x"), 0, 6) == b"01234\0"
    calls.answers.clear()
    storage.abort(upload)
    assert s3.names() == ["x"]


def test_reading_on_takes_fewer_requests_each_time(s3: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.put(s3.join("x"), DATA)
    asked: list[tuple[int, int]] = []
    real = remote.fetch
    monkeypatch.setattr(remote, "fetch", lambda url, at, length: asked.append((at, length)) or real(url, at, length))
    block = 100_000
    found = b"".join(storage.read(s3.join("x"), at, block) for at in range(0, len(DATA), block))
    assert found == DATA
    assert len(asked) < 9
    assert max(length for _, length in asked) <= remote.AHEAD
    assert [start for start, _ in asked] == sorted({start for start, _ in asked}), "nothing twice"


def test_ranges_are_merged() -> None:
    near, far = 200_000, 3_000_000
    ranges = [(far, 10), (0, 10), (near, 100), (far + 5, 20), (7, 0)]
    assert remote.merge(ranges) == [(0, near + 100), (far, far + 25)]
    assert remote.merge([(0, 16 << 20), (16 << 20, 5)]) == [(0, 16 << 20), (16 << 20, (16 << 20) + 5)]


def test_a_broken_answer_is_asked_for_again(s3: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from aiohttp import ClientPayloadError

    storage.put(s3.join("x"), b"12345")
    monkeypatch.setattr(remote, "_PAUSES", (0.0, 0.0))
    system, _ = remote.filesystem(s3.join("x"))
    real, faults_left = system.cat_file, [ClientPayloadError("cut"), ConnectionResetError("reset")]

    def cat(path: str, **kwargs: Any) -> bytes:
        if faults_left:
            raise faults_left.pop()
        data: bytes = real(path, **kwargs)
        return data

    monkeypatch.setattr(system, "cat_file", cat)
    assert storage.read(s3.join("x"), 1, 3) == b"234"
    faults_left += [ClientPayloadError("cut")] * 3
    with pytest.raises(StorageError, match="ClientPayloadError: cut") as caught:
        storage.read(s3.join("x"), 0, 3)
    assert caught.value.transient


def test_our_own_mistakes_are_not_the_stores() -> None:
    with pytest.raises(TypeError, match="mine"), faults.one_line("x"):
        raise TypeError("mine")


@pytest.mark.parametrize(
    ("url", "text"),
    [("zork://x/y", "zork"), ("gs://bucket/x", "gcsfs")],
)
def test_protocols_that_are_not_there(url: str, text: str, fresh_options: None) -> None:
    if text == "gcsfs":
        with contextlib.suppress(ImportError):
            pytest.skip(f"{__import__('gcsfs')} is installed")
    for call in (storage.size, storage.exists, lambda url: storage.begin(url, 10)):
        with pytest.raises(StorageError, match=text):
            call(url)


def test_a_failed_stream_leaves_nothing(memory: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.put(memory.join("x"), b"old")
    upload = storage.begin(memory.join("x"), 3)
    receipts = write_all(upload, b"new", cut(3))
    system, _ = remote.filesystem(memory.url)

    def fail(*paths: str) -> None:
        raise ConnectionResetError("cut")

    with monkeypatch.context() as broken:
        broken.setattr(system, "cp_file", fail)
        broken.setattr(type(system), "mv", fail)
        with pytest.raises(StorageError, match="ConnectionResetError: cut"):
            storage.finish(upload, receipts)
    assert [name for name in memory.names() if not name.startswith("spool")] == ["x"]
    assert storage.read(memory.join("x"), 0, 9) == b"old"
    storage.finish(upload, receipts)
    assert storage.read(memory.join("x"), 0, 9) == b"new"
    assert memory.names() == ["x"]


def test_a_spool_file_of_another_host(memory: Place) -> None:
    upload = storage.begin(memory.join("x"), 3)
    os.unlink(upload.place)
    with pytest.raises(StorageError, match="not on this host"):
        storage.finish(upload, [])


class Web(http.server.BaseHTTPRequestHandler):
    """A web server with one object, with or without ranges."""

    ranges = True

    def do_HEAD(self) -> None:
        self.answer(b"")

    def do_GET(self) -> None:
        self.answer(DATA[:1000])

    def answer(self, body: bytes) -> None:
        if self.path != "/x":
            self.send_error(404)
            return
        wanted = self.headers.get("Range") if self.ranges and body else None
        if wanted:
            start, _, stop = wanted.removeprefix("bytes=").partition("-")
            if int(start) >= 1000:
                self.send_error(416)
                return
            body = body[int(start) : int(stop) + 1]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)) if body else "1000")
        self.send_header("Accept-Ranges", "bytes" if self.ranges else "none")
        self.send_header("ETag", '"abc"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(params=[True, False], ids=["ranges", "no ranges"])
def web(request: pytest.FixtureRequest, fresh_options: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Web, "ranges", request.param)
    monkeypatch.setattr(remote, "_PAUSES", (0.0,))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_web_sources(web: str) -> None:
    url = f"{web}/x"
    assert storage.size(url) == 1000
    assert storage.identity(url) == "etag:abc"
    assert storage.read(url, 10, 20) == DATA[10:30]
    assert storage.read(url, 990, 20) == DATA[990:1000]
    assert storage.read(url, 1000, 5) == b""
    assert storage.read_many([(url, 500, 5), (url, 0, 5)]) == [DATA[500:505], DATA[:5]]
    assert storage.expand(url) == [url]
    assert not storage.exists(f"{web}/y")
    with pytest.raises(StorageError, match="/y: no such"):
        storage.read(f"{web}/y", 0, 1)
