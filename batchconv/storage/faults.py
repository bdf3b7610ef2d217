"""What stores raise, told as StorageErrors of one line: what is wrong, what to do, and whether waiting may help."""

from __future__ import annotations

import errno
import os
from typing import Any

from batchconv.errors import BatchconvError, StorageError

_PASSING = {
    errno.EIO,
    errno.EAGAIN,
    errno.EBUSY,
    errno.ETIMEDOUT,
    errno.ESTALE,
    errno.EINTR,
    errno.EMFILE,
    errno.ENFILE,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EPIPE,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_BUSY = {"408", "429", "500", "502", "503", "504", "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout"}
_BROKEN = {"IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch"}
_MISSING = {"404", "NoSuchKey"}
_DENIED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}


OURS = (BatchconvError, TypeError, AttributeError, AssertionError, MemoryError)
"""What no store raises: our own faults, which keep their traceback."""


class NotThere(StorageError):
    """There is no such object."""


class one_line:
    """Inside, whatever the system or a store raises is a StorageError that names `url`.

    nbytes: how many bytes the object needs, for the case that the disk of `folder` is full. (A class, for it is
    entered several times a block: a generator takes three times as long.)
    """

    __slots__ = ("about",)

    def __init__(self, url: str, nbytes: int | None = None, folder: str = "") -> None:
        self.about = url, nbytes, folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, OURS):
            raise translated(error, *self.about) from None


def translated(error: Exception, url: str, nbytes: int | None = None, folder: str = "") -> StorageError:
    """The StorageError that says in one line what `error` is."""
    if isinstance(error, StorageError):
        return error
    answer = response(error)
    if answer is not None:
        return _answered(url, *answer)
    if isinstance(error, FileNotFoundError):
        return NotThere(_system(error, "no such file or object"), url)
    if isinstance(error, OSError) and error.errno is not None and not _classes(error) & _UNREACHED:
        text = _system(error) + (_needed(nbytes, folder) if error.errno in _FULL and nbytes is not None else "")
        return StorageError(text, url, transient=error.errno in _PASSING)
    return _named(error, url)


def _system(error: OSError, otherwise: str = "") -> str:
    text = error.strerror or otherwise or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def _needed(nbytes: int, folder: str) -> str:
    try:
        room = os.statvfs(folder or ".")
    except OSError:
        return f": {nbytes} bytes needed"
    return f": {nbytes} bytes needed, {room.f_bavail * room.f_frsize} free in {folder}"


def response(error: BaseException | None) -> tuple[str, str] | None:
    """(code, message) of the answer of an HTTP or S3 server that `error` or its cause holds."""
    while error is not None:
        held: Any = getattr(error, "response", None)
        if isinstance(held, dict) and "Error" in held:
            return str(held["Error"].get("Code", "")), str(held["Error"].get("Message", ""))
        status = getattr(error, "status", None)
        if isinstance(status, int) and status >= 400:
            return str(status), str(getattr(error, "message", ""))
        error = error.__cause__
    return None


def _answered(url: str, code: str, message: str) -> StorageError:
    if code in _MISSING:
        return NotThere("no such object", url)
    if code == "NoSuchBucket":
        return StorageError("no such bucket", url)
    if code in _DENIED:
        return StorageError(f"access denied ({code}): check the access key, its secret and its rights", url)
    if code in _BUSY | _BROKEN:
        return StorageError(f"the store is busy or failing ({code})", url, transient=True)
    return StorageError(f"the store refused: {code} {message}", url)


_KINDS = {
    "NoCredentialsError": "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "PartialCredentialsError": "half of the credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "ParamValidationError": "not a name that this store accepts",
    "EndpointConnectionError": "cannot connect to the store: is its endpoint right and is it running?",
    "ConnectTimeoutError": "the store does not answer: is its endpoint right?",
    "ClientConnectorError": "cannot connect to the server: is its address right and is it running?",
}
"""Faults told by the name of their class, so that no client library is imported to tell them."""

_UNREACHED = {"EndpointConnectionError", "ConnectTimeoutError", "ClientConnectorError", "ClientConnectorDNSError"}
_CUT = {
    "ConnectionClosedError",
    "HTTPClientError",
    "ReadTimeoutError",
    "ResponseStreamingError",
    "IncompleteReadError",
    "ClientPayloadError",
    "ServerDisconnectedError",
    "ServerTimeoutError",
    "ClientOSError",
    "AioResponseParserError",
}


def _classes(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _named(error: Exception, url: str) -> StorageError:
    names = _classes(error)
    for name, text in _KINDS.items():
        if name in names:
            return StorageError(text, url, transient=name in _UNREACHED)
    if isinstance(error, PermissionError):
        return StorageError("access denied: check the credentials and their rights", url)
    if isinstance(error, (ImportError, ValueError)):
        return StorageError(str(error) or type(error).__name__, url)
    if isinstance(error, NotImplementedError):
        return StorageError("this kind of store cannot do that (it may be for reading only)", url)
    passing = bool(names & (_UNREACHED | _CUT)) or isinstance(error, (TimeoutError, ConnectionError))
    return StorageError(f"{type(error).__name__}: {error}".rstrip(": "), url, transient=passing)


def worth_another(error: Exception) -> bool:
    """True if a second try at once may help: a connection broke midway, or a body came out wrong."""
    if _classes(error) & _UNREACHED:
        return False  # the client has tried for long
    answer = response(error)
    if answer and not hasattr(error, "status"):
        return answer[0] in _BROKEN  # S3's client has tried the rest ten times
    return translated(error, "").transient


def past_the_end(error: Exception) -> bool:
    """True if the store says that a range starts where the object has ended."""
    answer = response(error)
    return answer is not None and answer[0] in ("416", "InvalidRange", "Requested Range Not Satisfiable")
