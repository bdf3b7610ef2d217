"""What the stores share: the token of an object being written, what its parts return, how one is open."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from batchconv.errors import InternalError, StorageError

if TYPE_CHECKING:
    import numpy.typing as npt

    Buffer: TypeAlias = bytes | bytearray | memoryview | npt.NDArray[Any]

Writer = TypeVar("Writer", bound="PartWriter")

_NEAR, _FAR = 1 << 20, 8 << 20
"""Bytes of a copy that are in flight: what fits the cache, or what is worth a request."""


class Stored(Protocol):
    """Where stored bytes are (`weight.Extent`)."""

    @property
    def url(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def length(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Upload:
    """An object of `nbytes` at `url` that is being written and cannot be seen yet; travels to every writer.

    kind: file (a temporary sibling), s3 (a multipart upload), spool (a local file that is sent at the end).
    place: the temporary file, or the id of the multipart upload.
    mark: what is ours alone: the nanoseconds that the finished file is dated with, or the prefix of staged objects.
    """

    kind: str
    url: str
    nbytes: int
    place: str
    mark: str


@dataclass(frozen=True, slots=True)
class PartReceipt:
    """What writing a part returns: its number and size, what the store says of it, and how the bytes got there."""

    number: int
    nbytes: int
    etag: str = ""
    sha256: str | None = None
    how: str = ""


class PartWriter:
    """One part of an upload, open for writing; a context manager. An exception inside leaves nothing published."""

    def __init__(self, upload: Upload, number: int, start: int, nbytes: int, last: bool = False) -> None:
        self.upload, self.number, self.start, self.nbytes, self.last = upload, number, start, nbytes, last
        self.stop = start + nbytes
        self.hows: set[str] = set()
        self._receipt: PartReceipt | None = None
        self._check(start, nbytes)

    def write(self, offset: int, buffer: Buffer) -> None:
        """The bytes of `buffer` stand at `offset` of the object once it is finished."""
        data = flat(buffer)
        self._check(offset, len(data))
        self._write(offset, data)
        self.hows.add("write")

    def copy(self, offset: int, stored: Stored) -> str:
        """The stored bytes stand at `offset` of the object; says how: copy_file_range, upload_part_copy or write."""
        self._check(offset, stored.length)
        how = self._copy(offset, stored) if stored.length else "write"
        self.hows.add(how)
        return how

    def close(self) -> PartReceipt:
        """The part is in the store (not visible before `finish`); the same receipt if called again."""
        if self._receipt is None:
            self._receipt = self._close()
        return self._receipt

    def __enter__(self: Writer) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        elif self._receipt is None:
            self._discard()

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or offset + length > self.upload.nbytes:
            place = f"{length} bytes at {offset}"
            raise InternalError(f"{self.upload.url}: {place} do not lie in an object of {self.upload.nbytes} bytes")

    def _write(self, offset: int, data: memoryview) -> None:
        raise NotImplementedError

    def _copy(self, offset: int, stored: Stored) -> str:
        raise NotImplementedError

    def _close(self) -> PartReceipt:
        raise NotImplementedError

    def _discard(self) -> None:
        """What the part holds is let go of; nothing of it was published."""


def flat(buffer: Buffer) -> memoryview:
    """The bytes of `buffer` in C order, copied only where an array does not lie so."""
    if isinstance(buffer, (bytes, bytearray)):
        return memoryview(buffer)
    if isinstance(buffer, memoryview):
        return buffer.cast("B") if buffer.nbytes else memoryview(b"")
    return memoryview(buffer.reshape(-1).view("u1").data)  # numpy: some of its types have no buffer format of their own


def copy_through(writer: PartWriter, offset: int, stored: Stored, done: int = 0) -> str:
    """The stored bytes from `done` on are read here and written."""
    from batchconv import storage

    block = _NEAR if storage.is_local(stored.url) else _FAR
    view = memoryview(bytearray(min(block, stored.length - done)))
    while done < stored.length:
        count = storage.read_into(stored.url, stored.offset + done, view[: stored.length - done])
        if not count:
            missing = f"{stored.length} bytes wanted from {stored.offset}, {done} there"
            raise StorageError(f"the object ends early: {missing}", stored.url)
        writer.write(offset + done, view[:count])
        done += count
    return "write"
