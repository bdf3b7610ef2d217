"""The only user of fsspec: sizes, identities, ranges read, parts written, objects published."""

from __future__ import annotations

import os

from batchconv.errors import StorageError


def is_local(url: str) -> bool:
    """True for a plain path or `file://` URL."""
    return "://" not in url or url.startswith("file://")


def local_path(url: str) -> str:
    return url.removeprefix("file://")


def read(url: str, offset: int, length: int) -> bytes:
    """`length` bytes from `offset` (fewer at the end of the object); StorageError if it cannot be read."""
    try:
        fd = os.open(local_path(url), os.O_RDONLY)
        try:
            return os.pread(fd, length, offset)
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageError(error.strerror or str(error), url) from None
