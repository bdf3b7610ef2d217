"""Which module serves a URL: what each must offer, and the choice; none but `local` is loaded before it is needed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from batchconv.storage.paths import is_local, protocol
from batchconv.storage.upload import PartReceipt, PartWriter, Upload


class Reader(Protocol):
    """A module that reads objects."""

    def size(self, url: str) -> int: ...
    def exists(self, url: str) -> bool: ...
    def identity(self, url: str) -> str: ...
    def expand(self, url: str) -> list[str]: ...
    def read(self, url: str, offset: int, length: int) -> bytes: ...
    def read_into(self, url: str, offset: int, view: memoryview) -> int: ...
    def read_many(self, url: str, ranges: list[tuple[int, int]]) -> list[bytes]: ...


class Store(Protocol):
    """A module that writes objects."""

    def put(self, url: str, data: bytes, lasting: bool) -> None: ...
    def delete(self, url: str) -> None: ...
    def begin(self, url: str, nbytes: int) -> Upload: ...
    def open_part(self, upload: Upload, number: int, start: int, nbytes: int, last: bool) -> PartWriter: ...
    def finish(self, upload: Upload, receipts: Iterable[PartReceipt]) -> str: ...
    def abort(self, upload: Upload) -> None: ...


def reader(url: str) -> Reader:
    """What reads the object at `url`."""
    if is_local(url):
        from batchconv.storage import local

        return local
    from batchconv.storage import remote

    return remote


def store(kind: str) -> Store:
    """What writes uploads of `kind`."""
    if kind == "file":
        from batchconv.storage import local

        return local
    if kind == "s3":
        from batchconv.storage import s3

        return s3
    from batchconv.storage import spool

    return spool


def kind(url: str) -> str:
    """The kind of an upload to `url`."""
    return "file" if is_local(url) else "s3" if protocol(url) in ("s3", "s3a") else "spool"
