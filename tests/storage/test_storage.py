"""What every store must do, whichever it is."""

from __future__ import annotations

import pickle
import random
import threading

import numpy as np
import pytest
from places import MIB, Place, Range, cut, write_all

from batchconv import storage
from batchconv.errors import InternalError, StorageError

DATA = random.Random(7).randbytes(10 * MIB + 1000)
CUTS = cut(len(DATA), 5 * MIB, 10 * MIB)


def content(url: str) -> bytes:
    return storage.read(url, 0, storage.size(url) + 10)


def test_ranges(place: Place) -> None:
    url = place.join("folder/some name.bin")
    storage.put(url, DATA[:3000])
    assert storage.size(url) == 3000
    for offset, length in [(0, 3000), (0, 0), (5, 10), (10, 2990), (2999, 1), (2990, 100), (3000, 10), (9999, 1)]:
        assert storage.read(url, offset, length) == DATA[:3000][offset : offset + length]
        view = memoryview(bytearray(length))
        count = storage.read_into(url, offset, view)
        assert view[:count] == DATA[:3000][offset : offset + length]


def test_many_ranges(place: Place) -> None:
    storage.put(place.join("a"), DATA[: MIB + 10])
    storage.put(place.join("b"), b"bbb")
    wanted = [("a", 5, 10), ("b", 1, 5), ("a", MIB, 99), ("a", 0, 12), ("a", 5, 0), ("a", 5, 10), ("b", 0, 1)]
    found = storage.read_many([(place.join(name), offset, length) for name, offset, length in wanted])
    whole = {"a": DATA[: MIB + 10], "b": b"bbb"}
    assert found == [whole[name][offset : offset + length] for name, offset, length in wanted]
    assert storage.read_many([]) == []


def test_sequential_blocks_equal_the_whole(place: Place) -> None:
    url = place.join("a")
    storage.put(url, DATA[: 3 * MIB])
    steps = [1000, 1000, 5000, 1, 300_000, 900_000, 2 * MIB, MIB]
    found, at = b"", 0
    for step in steps:
        found += storage.read(url, at, step)
        at += step
    assert found == DATA[: 3 * MIB]
    assert storage.read(url, 0, 10) == DATA[:10]


def test_put_replaces(place: Place) -> None:
    url = place.join("x.json")
    storage.put(url, b"one")
    first = storage.identity(url)
    assert storage.identity(url) == first
    storage.put(url, b"")
    assert content(url) == b""
    storage.put(url, b"three")
    assert content(url) == b"three"
    assert storage.identity(url) != first
    assert place.names() == ["x.json"]


def test_missing_and_deleted(place: Place) -> None:
    url = place.join("x")
    assert not storage.exists(url)
    for call in (storage.size, storage.identity, content):
        with pytest.raises(StorageError, match="no such") as caught:
            call(url)
        assert str(caught.value).startswith(f"{url}: ")
        assert "\n" not in str(caught.value)
        assert not caught.value.transient
    storage.put(url, b"1")
    assert storage.exists(url)
    storage.delete(url)
    storage.delete(url)
    assert not storage.exists(url)
    assert place.names() == []


def test_expand(place: Place) -> None:
    for name in ("b.onnx", "a.onnx", "sub/c.onnx", "d.txt"):
        storage.put(place.join(name), b"")
    assert storage.expand(place.join("*.onnx")) == [place.join("a.onnx"), place.join("b.onnx")]
    assert storage.expand(place.join("**/c.onnx")) == [place.join("sub/c.onnx")]
    assert storage.expand(place.join("*.caffemodel")) == []
    assert storage.expand(place.join("absent.onnx")) == [place.join("absent.onnx")]


def test_parts_in_any_order(place: Place) -> None:
    url = place.join("net/model.bin")
    upload = pickle.loads(pickle.dumps(storage.begin(url, len(DATA))))
    receipts = []
    for number in (1, 0, 2):
        start, nbytes = CUTS[number]
        with storage.part(upload, number, start, nbytes, last=number == 2) as writer:
            half = nbytes // 2
            writer.write(start + half, memoryview(DATA)[start + half : start + nbytes])
            writer.write(start, np.frombuffer(DATA[start : start + half], np.uint8))
        receipts.append(pickle.loads(pickle.dumps(writer.close())))
        assert not storage.exists(url)
    assert [(receipt.number, receipt.nbytes) for receipt in receipts] == [(1, 5 * MIB), (0, 5 * MIB), (2, 1000)]
    identity = storage.finish(upload, receipts)
    assert content(url) == DATA
    assert identity == storage.identity(url)
    assert place.names() == ["net/model.bin"]


def test_old_object_stays_until_the_new_is_whole(place: Place) -> None:
    url = place.join("model.bin")
    storage.put(url, b"old")
    upload = storage.begin(url, len(DATA))
    receipts = write_all(upload, DATA, CUTS)
    assert content(url) == b"old"
    storage.finish(upload, receipts)
    assert content(url) == DATA


def test_bytes_outside_the_part(place: Place) -> None:
    """Scales: known to the parts before, lying in the last one."""
    upload = storage.begin(place.join("model.bin"), len(DATA))
    tail = 10 * MIB
    receipts = []
    for number, (start, nbytes) in enumerate(CUTS[:2]):
        with storage.part(upload, number, start, nbytes) as writer:
            writer.write(start, DATA[start : start + nbytes])
            writer.write(tail + 100 * number, DATA[tail + 100 * number : tail + 100 * number + 50])
            writer.write(tail + 100 * number + 50, DATA[tail + 100 * number + 50 : tail + 100 * number + 100])
        receipts.append(writer.close())
    assert "model.bin" not in place.names()
    with storage.part(upload, 2, tail, 1000, last=True) as writer:
        writer.write(tail + 200, DATA[tail + 200 :])
    storage.finish(upload, [*receipts, writer.close()])
    assert content(upload.url) == DATA
    assert place.names() == ["model.bin"]


def test_what_nobody_writes_is_zero(place: Place) -> None:
    upload = storage.begin(place.join("x"), 100)
    with storage.part(upload, 0, 0, 100, last=True) as writer:
        writer.write(10, b"abc")
    storage.finish(upload, [writer.close()])
    assert content(upload.url) == bytes(10) + b"abc" + bytes(87)


def test_empty_object_and_empty_parts(place: Place) -> None:
    upload = storage.begin(place.join("x"), 0)
    storage.finish(upload, write_all(upload, b"", [(0, 0)]))
    assert content(upload.url) == b""
    upload = storage.begin(place.join("y"), 10)
    storage.finish(upload, write_all(upload, DATA[:10], [(0, 0), (0, 10), (10, 0)]))
    assert content(upload.url) == DATA[:10]


def test_abort_leaves_nothing(place: Place) -> None:
    url = place.join("model.bin")
    storage.put(url, b"old")
    upload = storage.begin(url, len(DATA))
    with storage.part(upload, 0, 0, 5 * MIB) as writer:
        writer.write(0, DATA[: 5 * MIB])
        writer.write(10 * MIB, b"scales")
    storage.abort(upload)
    storage.abort(upload)
    assert place.names() == ["model.bin"]
    assert content(url) == b"old"


def test_exception_inside_a_part(place: Place) -> None:
    upload = storage.begin(place.join("model.bin"), len(DATA))
    receipts = write_all(upload, DATA, CUTS[:1])

    def fail() -> None:
        with storage.part(upload, 1, *CUTS[1]) as writer:
            writer.write(CUTS[1][0], b"rubbish")
            writer.write(10 * MIB, b"rubbish")
            raise RuntimeError("kernel")

    with pytest.raises(RuntimeError, match="kernel"):
        fail()
    assert "model.bin" not in place.names()
    assert not [name for name in place.names() if ".parts-" in name and not name.endswith("/upload")]
    for number in (1, 2):  # the same part again
        start, nbytes = CUTS[number]
        with storage.part(upload, number, start, nbytes, last=number == 2) as writer:
            writer.write(start, DATA[start : start + nbytes])
        receipts.append(writer.close())
    storage.finish(upload, receipts)
    assert content(upload.url) == DATA


def test_everything_may_run_twice(place: Place) -> None:
    upload = storage.begin(place.join("model.bin"), len(DATA))
    receipts = write_all(upload, DATA, CUTS) + write_all(upload, DATA, CUTS)
    assert storage.finish(upload, receipts) == storage.finish(upload, receipts)
    storage.abort(upload)
    assert content(upload.url) == DATA
    assert place.names() == ["model.bin"]


def test_writers_at_once(place: Place) -> None:
    upload = storage.begin(place.join("model.bin"), len(DATA))
    receipts = []

    def write(number: int) -> None:
        start, nbytes = CUTS[number]
        with storage.part(upload, number, start, nbytes) as writer:
            for at in range(start, start + nbytes, MIB):
                writer.write(at, DATA[at : min(at + MIB, start + nbytes)])
        receipts.append(writer.close())

    threads = [threading.Thread(target=write, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with storage.part(upload, 2, *CUTS[2], last=True) as writer:
        writer.write(CUTS[2][0], DATA[CUTS[2][0] :])
    storage.finish(upload, [*receipts, writer.close()])
    assert content(upload.url) == DATA


@pytest.mark.parametrize("source", ["local", "memory", "s3"])
def test_copies(place: Place, source: str, request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("rgw") and source == "s3":
        other = place
    else:
        other = place if (place.kind, source) == ("s3", "s3") else request.getfixturevalue(source)
    url = other.join("source")
    storage.put(url, b"12345" + DATA + b"67890")
    upload = storage.begin(place.join("model.bin"), len(DATA))
    receipts = []
    for number, (start, nbytes) in enumerate(CUTS):
        with storage.part(upload, number, start, nbytes, last=number == 2) as writer:
            half = 0 if number == 0 else nbytes // 2
            for at, length in ((start, half), (start + half, nbytes - half)):
                how = writer.copy(at, Range(url, 5 + at, length))
                assert how == "write" or length
        receipts.append(writer.close())
    storage.finish(upload, receipts)
    assert content(upload.url) == DATA
    best = {
        ("file", "local"): "copy_file_range",
        ("s3", "s3"): "upload_part_copy",
        ("spool", "local"): "copy_file_range",
    }
    assert best.get((place.kind, source), "write") in receipts[0].how


def test_source_that_ends_early(place: Place) -> None:
    storage.put(place.join("source"), b"123")
    upload = storage.begin(place.join("x"), 10)
    writer = storage.part(upload, 0, 0, 10, last=True)
    with pytest.raises(StorageError, match=r"source: the object ends early: 8 bytes wanted from 1, 2 there"), writer:
        writer.copy(0, Range(place.join("source"), 1, 8))
    storage.abort(upload)
    assert place.names() == ["source"]


def test_bytes_outside_the_object_are_our_own_fault(place: Place) -> None:
    upload = storage.begin(place.join("x"), 10)
    writer = storage.part(upload, 0, 0, 10, last=True)
    with pytest.raises(InternalError, match="4 bytes at 8 do not lie in an object of 10 bytes"), writer:
        writer.write(8, b"1234")
    with pytest.raises(InternalError, match="11 bytes at 0"):
        storage.part(upload, 0, 0, 11)
    storage.abort(upload)
    assert place.names() == []


@pytest.mark.parametrize(
    ("url", "parts", "joined", "parent"),
    [
        ("a/b", ("c", "d.bin"), "a/b/c/d.bin", "a/b/c"),
        ("/", ("c",), "/c", "/"),
        ("", ("c",), "c", "."),
        ("/a/", ("/b/", ""), "/a/b", "/a"),
        ("s3://bucket", ("x",), "s3://bucket/x", "s3://bucket"),
        ("s3://bucket/", (), "s3://bucket/", "s3://bucket/"),
        ("memory://a/b", ("c/d",), "memory://a/b/c/d", "memory://a/b/c"),
        ("file:///a", ("b",), "file:///a/b", "file:///a"),
        ("file:///", ("b",), "file:///b", "file:///"),
    ],
)
def test_names(url: str, parts: tuple[str, ...], joined: str, parent: str) -> None:
    assert storage.join(url, *parts) == joined
    assert storage.parent(joined) == parent
