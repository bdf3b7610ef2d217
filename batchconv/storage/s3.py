"""S3 and what speaks like it: each part is one part of a multipart upload, and only its completion shows the object.

Beside the target, under `<url>.parts-<owner>-<random>/`, lie until `finish` or `abort`: `upload`, the id of the
multipart upload, by which the next `begin` ends those of dead processes; and one small object for each part that
writes bytes outside itself, which the last part merges.
"""

from __future__ import annotations

import io
import os
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from batchconv.errors import InternalError, StorageError
from batchconv.storage import faults, owner, remote
from batchconv.storage.paths import protocol
from batchconv.storage.upload import PartReceipt, PartWriter, Stored, Upload, copy_through

SMALLEST = 5 << 20
"""Bytes that S3 wants of every part but the last."""

MOST = 10_000
"""Parts that S3 takes of one object."""

_RANGE = struct.Struct("<QQ")
_STAGED = ".parts-"
_NOTE = "upload"


def with_defaults(options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of s3fs: patient where a gateway restarts, few buffers, no checksums that older gateways refuse."""
    from botocore.config import Config  # type: ignore[import-untyped]

    config: dict[str, Any] = {"read_timeout": 60, "connect_timeout": 10}
    if "AWS_MAX_ATTEMPTS" not in os.environ and "AWS_RETRY_MODE" not in os.environ:
        config["retries"] = {"mode": "adaptive", "max_attempts": 10}
    for name in ("request_checksum_calculation", "response_checksum_validation"):
        if f"AWS_{name.upper()}" not in os.environ and name in Config.OPTION_DEFAULTS:
            config[name] = "when_required"  # each of our bodies carries its Content-MD5
    return {"max_concurrency": 2, **options, "config_kwargs": {**config, **options.get("config_kwargs", {})}}


def _call(url: str, method: str, body: io.BytesIO | None = None, **fields: Any) -> dict[str, Any]:
    """The answer of S3 to `method` on the object at `url`."""
    system, bucket, key = _place(url)

    def call() -> dict[str, Any]:
        if body is not None:
            body.seek(0)
            fields["Body"] = body
        answer: dict[str, Any] = system.call_s3(method, Bucket=bucket, Key=key, **fields)
        return answer

    return remote.attempt(url, call)


def _place(url: str) -> tuple[Any, str, str]:
    system, path = remote.filesystem(url)
    bucket, key, _ = system.split_path(path)
    if not bucket or not key:
        raise StorageError("a bucket and a key are needed: s3://bucket/key", url)
    return system, bucket, key


def _md5(data: bytes | memoryview) -> str:
    import base64
    import hashlib

    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def head(url: str) -> dict[str, Any]:
    """size, ETag and LastModified of the object."""
    try:
        found = _call(url, "head_object")
    except faults.NotThere:
        system, bucket, _ = _place(url)
        try:
            remote.attempt(url, lambda: system.call_s3("head_bucket", Bucket=bucket))
        except faults.NotThere:
            raise faults.NotThere("no such bucket", url) from None
        raise
    return {"size": found["ContentLength"], "type": "file", **{k: found.get(k) for k in ("ETag", "LastModified")}}


def put(url: str, data: bytes, lasting: bool) -> None:
    _call(url, "put_object", io.BytesIO(data), ContentMD5=_md5(data))


def delete(url: str) -> None:
    with suppress(faults.NotThere):
        _call(url, "delete_object")


def begin(url: str, nbytes: int) -> Upload:
    """A multipart upload, and beside the target a note of its id and owner, so that it never stays open for ever."""
    _sweep(url)
    upload = Upload("s3", url, nbytes, "", f"{url}{_STAGED}{owner.mark()}-{os.urandom(4).hex()}")
    if not nbytes:
        return upload
    upload = replace(upload, place=str(_call(url, "create_multipart_upload")["UploadId"]))
    try:
        put(f"{upload.mark}/{_NOTE}", upload.place.encode(), True)
    except StorageError:
        abort(upload)
        raise
    return upload


def _sweep(url: str) -> None:
    """No upload to `url` is open whose process is known to be dead (if we may look)."""
    with suppress(StorageError):
        for found, nbytes in _listed(url + _STAGED):
            name, _, file = found.removeprefix(url + _STAGED).partition("/")
            if owner.is_dead(name.rpartition("-")[0]):
                if file == _NOTE:
                    _drop(url, remote.fetch(found, 0, nbytes).decode())
                delete(found)


def _drop(url: str, upload_id: str) -> None:
    """The multipart upload is not open (any more)."""
    try:
        _call(url, "abort_multipart_upload", UploadId=upload_id)
    except StorageError as error:
        if "NoSuchUpload" not in str(error) and not isinstance(error, faults.NotThere):
            raise


class S3Part(PartWriter):
    """A part held in memory until it is closed, then uploaded with its checksum."""

    def __init__(self, upload: Upload, number: int, start: int, nbytes: int, last: bool = False) -> None:
        super().__init__(upload, number, start, nbytes, last)
        if 0 < nbytes < SMALLEST and not last and self.stop < upload.nbytes:
            raise InternalError(
                f"{upload.url}: part {number} has {nbytes} bytes; S3 wants {SMALLEST} of all but the last"
            )
        if number >= MOST:
            raise InternalError(f"{upload.url}: part {number}; S3 takes {MOST} parts of one object")
        self._body = io.BytesIO()
        self._strays: list[tuple[int, bytes]] = []
        self._copied = ""
        self._lock = threading.Lock()

    def _write(self, offset: int, data: memoryview) -> None:
        first = min(max(self.start - offset, 0), len(data))
        stop = min(max(self.stop - offset, first), len(data))
        with self._lock:
            for at, stray in ((offset, data[:first]), (offset + stop, data[stop:])):
                if len(stray):
                    self._strays.append((at, bytes(stray)))
            if first < stop:
                self._fill(offset + first, data[first:stop])

    def _fill(self, offset: int, data: memoryview) -> None:
        if self._copied:
            raise InternalError(f"{self.upload.url}: part {self.number} was copied whole and is written again")
        if not self._body.getbuffer().nbytes:  # the whole part at once: growing would hold it twice
            self._body.seek(self.nbytes - 1)
            self._body.write(b"\0")
        self._body.seek(offset - self.start)
        self._body.write(data)

    def _copy(self, offset: int, stored: Stored) -> str:
        exact = (offset, stored.length) == (self.start, self.nbytes) and stored.length >= SMALLEST
        if exact and not self.last and not self._copied and protocol(stored.url) in ("s3", "s3a"):
            with suppress(StorageError):  # whatever the server does not do, reading and writing does or tells
                self._copied = self._copy_inside(stored)
                return "upload_part_copy"
        return copy_through(self, offset, stored)

    def _copy_inside(self, stored: Stored) -> str:
        _, bucket, key = _place(stored.url)
        answer = _call(
            self.upload.url,
            "upload_part_copy",
            UploadId=self.upload.place,
            PartNumber=self.number + 1,
            CopySource={"Bucket": bucket, "Key": key},
            CopySourceRange=f"bytes={stored.offset}-{stored.offset + stored.length - 1}",
        )
        return str(answer["CopyPartResult"]["ETag"])

    def _close(self) -> PartReceipt:
        if self.last:
            self._merge()
        etag, sha256 = self._copied, None
        if self.nbytes and not etag:
            etag, sha256 = self._send()
        if self._strays:
            put(f"{self.upload.mark}/{self.number:05d}", _bundle(self._strays), True)
            self.hows.add("staged")
        self._discard()
        return PartReceipt(self.number, self.nbytes, etag, sha256, "+".join(sorted(self.hows)))

    def _send(self) -> tuple[str, str]:
        import hashlib

        if self._body.getbuffer().nbytes < self.nbytes:
            self._fill(self.stop - 1, memoryview(b"\0"))
        with self._body.getbuffer() as view:
            md5, sha256 = _md5(view), hashlib.sha256(view).hexdigest()
        place = {"UploadId": self.upload.place, "PartNumber": self.number + 1}
        answer = _call(self.upload.url, "upload_part", self._body, ContentMD5=md5, **place)
        return str(answer["ETag"]), sha256

    def _merge(self) -> None:
        """What other parts staged lies in this one."""
        for offset, data in _staged(self.upload):
            self._write(offset, memoryview(data))
        if self._strays:
            offset = self._strays[0][0]
            raise InternalError(f"{self.upload.url}: bytes at {offset} lie neither in their part nor in the last one")

    def _discard(self) -> None:
        self._body, self._strays = io.BytesIO(), []


def open_part(upload: Upload, number: int, start: int, nbytes: int, last: bool) -> PartWriter:
    return S3Part(upload, number, start, nbytes, last)


def _bundle(strays: list[tuple[int, bytes]]) -> bytes:
    return b"".join(piece for offset, data in strays for piece in (_RANGE.pack(offset, len(data)), data))


def _staged(upload: Upload) -> Iterator[tuple[int, bytes]]:
    """Every (offset, bytes) that a part of the upload staged."""
    found = [(url, 0, nbytes) for url, nbytes in _listed(upload.mark) if not url.endswith(_NOTE)]
    for bundle in remote.fetch_all(found):
        at = 0
        while at < len(bundle):
            offset, length = _RANGE.unpack_from(bundle, at)
            at += _RANGE.size + length
            yield offset, bundle[at - length : at]


def _listed(start: str) -> list[tuple[str, int]]:
    """(url, size) of each object whose URL starts so."""
    system, bucket, prefix = _place(start)
    out: list[tuple[str, int]] = []
    more: dict[str, str] = {}
    while True:
        fields = {"Bucket": bucket, "Prefix": prefix, **more}
        answer = remote.attempt(start, lambda: system.call_s3("list_objects_v2", **fields))  # noqa: B023
        for found in answer.get("Contents", []):
            out.append((f"{start}{found['Key'][len(prefix) :]}", int(found["Size"])))
        if not answer.get("IsTruncated"):
            return out
        more = {"ContinuationToken": answer["NextContinuationToken"]}


def finish(upload: Upload, receipts: Iterable[PartReceipt]) -> str:
    """The upload is completed; true as well if an answer was lost or a run before this one had got so far."""
    parts = [receipt for _, receipt in sorted({r.number: r for r in receipts}.items()) if receipt.nbytes]
    if sum(receipt.nbytes for receipt in parts) != upload.nbytes:
        found = sum(receipt.nbytes for receipt in parts)
        raise InternalError(f"{upload.url}: the parts have {found} bytes, the object {upload.nbytes}")
    if not upload.nbytes:
        put(upload.url, b"", True)
    else:
        _complete(upload, parts)
    there = head(upload.url)
    if there["size"] != upload.nbytes:
        raise StorageError(f"the store has {there['size']} bytes of {upload.nbytes}", upload.url, transient=True)
    _clean(upload)
    return "etag:" + str(there["ETag"]).strip('"')


def _complete(upload: Upload, parts: list[PartReceipt]) -> None:
    named = [{"PartNumber": receipt.number + 1, "ETag": receipt.etag} for receipt in parts]
    try:
        _call(upload.url, "complete_multipart_upload", UploadId=upload.place, MultipartUpload={"Parts": named})
    except StorageError:
        if not _is_ours(upload, parts):
            raise


def _is_ours(upload: Upload, parts: list[PartReceipt]) -> bool:
    """True if the object that is there is the one these parts make."""
    try:
        found = head(upload.url)
        if found["size"] != upload.nbytes:
            return False
        return str(found["ETag"]).strip('"') == _etag(parts) or _same_bytes(upload, parts)
    except StorageError:
        return False


def _etag(parts: list[PartReceipt]) -> str:
    """The ETag of a multipart object: the md5 of its parts' md5s, and how many."""
    import hashlib

    digests = [receipt.etag.strip('"') for receipt in parts]
    try:
        joined = b"".join(bytes.fromhex(digest) for digest in digests)
    except ValueError:
        return ""
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(digests)}"


def _same_bytes(upload: Upload, parts: list[PartReceipt]) -> bool:
    """True if each part, read back, has the sha256 it was written with."""
    import hashlib

    start = 0
    for receipt in parts:
        data = remote.fetch(upload.url, start, receipt.nbytes) if receipt.sha256 else b""
        if hashlib.sha256(data).hexdigest() != receipt.sha256:
            return False
        start += receipt.nbytes
    return True


def _clean(upload: Upload) -> None:
    """Nothing is left beside the target (or, where the store fails now, what does no harm)."""
    with suppress(StorageError):
        for url, _ in _listed(upload.mark):
            delete(url)


def abort(upload: Upload) -> None:
    if upload.place:
        _drop(upload.url, upload.place)
    _clean(upload)
