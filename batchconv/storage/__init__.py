"""The only user of fsspec: sizes, identities, ranges read, parts written, objects published.

A URL is a plain path, `file://` or any fsspec URL. Every fault is a StorageError of one line. An object that is
written in parts cannot be seen before `finish`:

    upload = begin(url, nbytes)                          # the token travels to whoever writes
    with part(upload, number, start, nbytes) as writer:  # any order, any process
        writer.write(offset, buffer)
        writer.copy(offset, extent)
    finish(upload, [writer.close()])                     # or abort(upload)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from batchconv.errors import StorageError
from batchconv.storage import local
from batchconv.storage.paths import is_local, join, local_path, parent, protocol
from batchconv.storage.upload import PartReceipt, PartWriter, Stored, Upload

__all__ = [
    "PartReceipt",
    "PartWriter",
    "Upload",
    "abort",
    "begin",
    "configure",
    "copy_through",
    "delete",
    "exists",
    "expand",
    "finish",
    "identity",
    "is_local",
    "join",
    "local_path",
    "parent",
    "part",
    "protocol",
    "put",
    "read",
    "read_into",
    "read_many",
    "size",
]

BLOCK = 1 << 20


def size(url: str) -> int:
    """Bytes of the object."""
    return local.size(url)


def exists(url: str) -> bool:
    """True if the object is there."""
    return local.exists(url)


def identity(url: str) -> str:
    """What changes when the object does: `sha256:` of a small local file, `stat:` of a large one, else `etag:`."""
    return local.identity(url)


def read(url: str, offset: int, length: int) -> bytes:
    """`length` bytes from `offset` (fewer at the end of the object); StorageError if it cannot be read."""
    return local.read(url, offset, length)


def read_into(url: str, offset: int, view: memoryview) -> int:
    """How many bytes of `view` were filled from `offset` (fewer than it has at the end of the object)."""
    return local.read_into(url, offset, view)


def read_many(ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
    """`read` of each (url, offset, length), in few requests."""
    return [read(*each) for each in ranges]


def expand(url: str) -> list[str]:
    """The objects that a pattern names, sorted; a URL that is no pattern is itself."""
    return local.expand(url)


def put(url: str, data: bytes) -> None:
    """The object holds `data`; whoever looks sees what was there before, or all of it."""
    local.put(url, data)


def delete(url: str) -> None:
    """The object is not there (any more)."""
    local.delete(url)


def configure(options: dict[str, dict[str, Any]]) -> None:
    """Storage options by URL protocol are set for this process."""


def begin(url: str, nbytes: int) -> Upload:
    """An object of `nbytes` may be written in parts; it is invisible until `finish`, and leaves nothing on `abort`."""
    return local.begin(url, nbytes)


def part(upload: Upload, number: int, start: int, nbytes: int, last: bool = False) -> PartWriter:
    """Part `number` (from 0) is open: bytes `start` to `start + nbytes`; the last is written after all others."""
    return local.FilePart(upload, number, start, nbytes, last)


def finish(upload: Upload, receipts: Iterable[PartReceipt]) -> str:
    """The object is visible, whole and durable; its identity. May run twice."""
    return local.finish(upload)


def abort(upload: Upload) -> None:
    """Nothing of the upload is left; what stood at its URL before still does. May run twice."""
    local.abort(upload)


def copy_through(writer: PartWriter, offset: int, stored: Stored, done: int = 0) -> str:
    """The stored bytes from `done` on are read here and written."""
    view = memoryview(bytearray(min(BLOCK, stored.length - done)))
    while done < stored.length:
        count = read_into(stored.url, stored.offset + done, view[: stored.length - done])
        if not count:
            missing = f"{stored.length} bytes wanted from {stored.offset}, {done} there"
            raise StorageError(f"the object ends early: {missing}", stored.url)
        writer.write(offset + done, view[:count])
        done += count
    return "write"
