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

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from batchconv.storage import stores
from batchconv.storage.paths import is_folder, is_local, join, local_path, packaged, parent, protocol, same_place
from batchconv.storage.upload import PartReceipt, PartWriter, Upload

__all__ = [
    "PartReceipt",
    "PartWriter",
    "Upload",
    "abort",
    "begin",
    "configure",
    "delete",
    "exists",
    "expand",
    "finish",
    "identity",
    "is_folder",
    "is_local",
    "join",
    "local_path",
    "packaged",
    "parent",
    "part",
    "protocol",
    "put",
    "read",
    "read_into",
    "read_many",
    "same_place",
    "size",
]


def size(url: str) -> int:
    """Bytes of the object."""
    return stores.reader(url).size(url)


def exists(url: str) -> bool:
    """True if the object is there; a store that does not answer is a StorageError, not False."""
    return stores.reader(url).exists(url)


def identity(url: str) -> str:
    """What changes when the object does: `sha256:` of a small local file, `stat:` of a large one, else `etag:`."""
    return stores.reader(url).identity(url)


def read(url: str, offset: int, length: int) -> bytes:
    """`length` bytes from `offset` (fewer at the end of the object); StorageError if it cannot be read."""
    return stores.reader(url).read(url, offset, length)


def read_into(url: str, offset: int, view: memoryview) -> int:
    """How many bytes of `view` were filled from `offset` (fewer than it has at the end of the object)."""
    return stores.reader(url).read_into(url, offset, view)


def read_many(ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
    """`read` of each (url, offset, length); ranges of a remote object that lie close come in one request."""
    grouped: dict[str, list[int]] = {}
    for index, (url, _, _) in enumerate(ranges):
        grouped.setdefault(url, []).append(index)
    out = [b""] * len(ranges)
    for url, indices in grouped.items():
        found = stores.reader(url).read_many(url, [ranges[index][1:] for index in indices])
        for index, data in zip(indices, found, strict=True):
            out[index] = data
    return out


def expand(url: str) -> list[str]:
    """The objects that a pattern names, sorted; a URL that is no pattern is itself."""
    return stores.reader(url).expand(url)


def configure(options: Mapping[str, Mapping[str, Any]]) -> None:
    """fsspec's options by URL protocol hold in this process from now on, e.g. `{"s3": {"key": "$MY_KEY"}}`.

    A text `$NAME` stands for the environment variable, which is looked up when the store is first used.
    """
    from batchconv.storage import remote

    remote.configure(options)


def put(url: str, data: bytes, lasting: bool = True) -> None:
    """The object holds `data`; whoever looks sees what was there before, or all of it.

    lasting: also after a power cut, for which a disk is waited for.
    """
    stores.store(stores.kind(url)).put(url, data, lasting)


def delete(url: str) -> None:
    """The object is not there (any more)."""
    stores.store(stores.kind(url)).delete(url)


def begin(url: str, nbytes: int) -> Upload:
    """An object of `nbytes` may be written in parts; it is invisible until `finish`, and leaves nothing on `abort`."""
    return stores.store(stores.kind(url)).begin(url, nbytes)


def part(upload: Upload, number: int, start: int, nbytes: int, last: bool = False) -> PartWriter:
    """Part `number` (from 0) is open: bytes `start` to `start + nbytes` of the object.

    It may write outside of these what lies in the last part, which is to be written after all others. On S3 every
    part but the last has at least 5 MiB, or none.
    """
    return stores.store(upload.kind).open_part(upload, number, start, nbytes, last)


def finish(upload: Upload, receipts: Iterable[PartReceipt]) -> str:
    """The object is visible, whole and durable; its identity. May run twice."""
    return stores.store(upload.kind).finish(upload, receipts)


def abort(upload: Upload) -> None:
    """Nothing of the upload is left; what stood at its URL before still does. May run twice, and after `finish`."""
    stores.store(upload.kind).abort(upload)
