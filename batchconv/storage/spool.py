"""Stores that take an object only from start to end: parts go to a local file, which is sent when it is whole."""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Iterable
from contextlib import suppress

from batchconv.errors import StorageError
from batchconv.storage import faults, local, remote
from batchconv.storage.remote import delete, put
from batchconv.storage.upload import PartReceipt, PartWriter, Upload

__all__ = ["abort", "begin", "delete", "finish", "open_part", "put"]

_BLOCK = 8 << 20


def begin(url: str, nbytes: int) -> Upload:
    """A spool file in $BATCHCONV_SPOOL or the folder for temporary files; all parts must be written on this host."""
    remote.filesystem(url)  # an unknown protocol or a missing library is told now, not when all is written
    folder = os.environ.get("BATCHCONV_SPOOL") or tempfile.gettempdir()
    file = local.begin(os.path.join(folder, f"batchconv-{zlib.crc32(url.encode()):08x}"), nbytes)
    return Upload("spool", url, nbytes, file.place, "")


def open_part(upload: Upload, number: int, start: int, nbytes: int, last: bool) -> PartWriter:
    return local.FilePart(upload, number, start, nbytes, last)


def finish(upload: Upload, receipts: Iterable[PartReceipt]) -> str:
    """The spool file was sent in order, in blocks, and is gone; true as well if a run before this one did that."""
    if os.path.exists(upload.place):
        with open(upload.place, "rb") as file, remote.staged(upload.url) as (system, temp):
            target = system.open(temp, "wb")
            try:
                while block := file.read(_BLOCK):
                    target.write(block)
            finally:
                target.close()  # also after a fault: `staged` removes what it wrote
        abort(upload)
    elif not (remote.exists(upload.url) and remote.size(upload.url) == upload.nbytes):
        raise StorageError("the spool file of this upload is not on this host (any more); begin again", upload.url)
    return remote.identity(upload.url)


def abort(upload: Upload) -> None:
    with faults.one_line(upload.url), suppress(FileNotFoundError):
        os.unlink(upload.place)
