"""Objects of any fsspec store: which file system, ranges read, small objects put, and faults told in one line."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from batchconv.errors import StorageError
from batchconv.storage import faults
from batchconv.storage.paths import has_magic, parent, protocol

T = TypeVar("T")

AHEAD = 8 << 20
"""Who reads on where the last read stopped gets at most this much in one request."""

_GAP = 256 << 10
_MERGED = 16 << 20
_PAUSES = (0.3, 1.5)

_options: dict[str, Mapping[str, Any]] = {}
_systems: dict[tuple[int, str, str], Any] = {}
_lock = threading.Lock()
_last = threading.local()


def configure(options: Mapping[str, Mapping[str, Any]]) -> None:
    """Storage options by protocol hold from now on; a value `$NAME` is taken from the environment when it is used."""
    with _lock:
        _options.clear()
        _options.update(options)
        _systems.clear()


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of `url` (one a process, kept) and the path it knows the object by."""
    import fsspec

    scheme = protocol(url)
    with faults.one_line(url):
        if "::" in url:
            system, path = fsspec.core.url_to_fs(url)
            return system, str(path)
        kind = fsspec.get_filesystem_class(scheme)
        where = kind._get_kwargs_from_urls(url)
        key = (os.getpid(), scheme, repr(sorted(where.items())))
        with _lock:
            if key not in _systems:
                _systems[key] = _open(kind, scheme, {**where, **_resolved(_given(scheme), url)})
            return _systems[key], str(kind._strip_protocol(url))


def _given(scheme: str) -> Mapping[str, Any]:
    return _options.get(scheme, _options.get("s3", {}) if scheme == "s3a" else {})


def _open(kind: Any, scheme: str, options: dict[str, Any]) -> Any:
    """A file system that keeps no listings and is shared with nobody (both show yesterday's store)."""
    options = {"use_listings_cache": False, "skip_instance_cache": True, **options}
    if scheme not in ("s3", "s3a"):
        return kind(**options)
    from batchconv.storage import s3

    system = kind(**s3.with_defaults(options))
    system.retries = 1  # botocore retries below it, `attempt` above
    return system


def _resolved(value: Any, url: str) -> Any:
    """`value` with every `$NAME` in it replaced by what the environment says."""
    if isinstance(value, Mapping):
        return {key: _resolved(each, url) for key, each in value.items()}
    if not (isinstance(value, str) and value.startswith("$")):
        return value
    name = value[1:].strip("{}")
    if name not in os.environ:
        raise StorageError(f"the environment variable {name} of the storage options is not set", url)
    return os.environ[name]


def attempt(url: str, call: Callable[[], T]) -> T:
    """What `call` returns, tried again after a pause where a connection broke; StorageError when that does not help."""
    for pause in (*_PAUSES, None):
        try:
            return call()
        except faults.OURS:
            raise
        except Exception as error:
            if pause is None or not faults.worth_another(error):
                raise faults.translated(error, url) from None
        time.sleep(pause)
    raise AssertionError("unreachable")


def info(url: str) -> dict[str, Any]:
    """size, type and whatever else the store tells of the object."""
    system, path = filesystem(url)
    if protocol(url) in ("s3", "s3a"):
        from batchconv.storage import s3

        return s3.head(url)
    found: dict[str, Any] = attempt(url, lambda: system.info(path))
    return found


def size(url: str) -> int:
    found = info(url).get("size")
    if found is None:
        raise StorageError("the server does not say how large the object is", url)
    return int(found)


def exists(url: str) -> bool:
    try:
        return bool(info(url).get("type", "file") == "file")
    except StorageError as error:
        if isinstance(error, faults.NotThere):
            return False
        raise


def identity(url: str) -> str:
    found = info(url)
    etag = found.get("ETag") or found.get("etag") or found.get("md5Hash") or ""
    if etag:
        return "etag:" + str(etag).strip('"')
    if (found.get("size") or 0) <= AHEAD:
        import hashlib

        return f"sha256:{hashlib.sha256(read(url, 0, AHEAD)).hexdigest()}"
    moment = found.get("mtime") or found.get("LastModified") or found.get("created") or ""
    return f"stat:{found.get('size')}-{moment}"


def read(url: str, offset: int, length: int) -> bytes:
    return bytes(_view(url, offset, length))


def read_into(url: str, offset: int, view: memoryview) -> int:
    found = _view(url, offset, view.nbytes)
    view.cast("B")[: len(found)] = found
    return len(found)


def _view(url: str, offset: int, length: int) -> memoryview:
    """The range; one that goes on where this thread's last read stopped is read ahead, twice as far each time."""
    window: dict[str, tuple[int, memoryview, int]] = getattr(_last, "window", {})
    at, data, reach = window.pop(url, (-1, memoryview(b""), 0))
    if at != offset:
        data, reach = memoryview(b""), 0
    if len(data) < length:
        reach = min(2 * reach, AHEAD)
        more = fetch(url, offset + len(data), max(length, reach) - len(data))
        data = memoryview(bytes(data) + more if data else more)
    _last.window = {url: (offset + length, data[length:], max(length, reach))}
    return data[:length]


def fetch(url: str, offset: int, length: int) -> bytes:
    """The bytes of one range request: fewer than `length` at the end of the object."""
    if length <= 0:
        return b""
    system, path = filesystem(url)

    def get() -> bytes:
        try:
            data: bytes = system.cat_file(path, start=offset, end=offset + length)
        except Exception as error:
            if faults.past_the_end(error):
                return b""
            raise
        # a web server that knows no ranges sends everything
        return data if len(data) <= length else data[offset : offset + length]

    return attempt(url, get)


def read_many(url: str, ranges: list[tuple[int, int]]) -> list[bytes]:
    """The (offset, length) ranges of one object; those that lie close together in one request."""
    merged = merge(ranges)
    blocks = fetch_all([(url, start, stop - start) for start, stop in merged])
    return [_within(merged, blocks, *each) for each in ranges]


def fetch_all(ranges: list[tuple[str, int, int]]) -> list[bytes]:
    """`fetch` of every (url, offset, length) of one store, several at a time."""
    if not ranges:
        return []
    system, _ = filesystem(ranges[0][0])
    paths = [filesystem(url)[1] for url, _, _ in ranges]
    starts, stops = [at for _, at, _ in ranges], [at + length for _, at, length in ranges]
    try:
        blocks = system.cat_ranges(paths, starts, stops, on_error="return")
    except Exception:  # each range is asked for again below, where faults are told apart
        blocks = [None] * len(ranges)
    good = [isinstance(block, bytes) and len(block) <= each[2] for block, each in zip(blocks, ranges, strict=True)]
    return [block if fine else fetch(*each) for block, fine, each in zip(blocks, good, ranges, strict=True)]


def merge(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(start, stop) of requests that cover all (offset, length) ranges, close ones together."""
    out: list[tuple[int, int]] = []
    for offset, length in sorted(ranges):
        stop = offset + length
        if out and offset - out[-1][1] <= _GAP and max(stop, out[-1][1]) - out[-1][0] <= _MERGED:
            out[-1] = out[-1][0], max(stop, out[-1][1])
        elif length:
            out.append((offset, stop))
    return out


def _within(merged: list[tuple[int, int]], blocks: list[bytes], offset: int, length: int) -> bytes:
    for (start, stop), block in zip(merged, blocks, strict=True):
        if start <= offset and offset + length <= stop:
            return block[offset - start : offset - start + length]
    return b""


def expand(url: str) -> list[str]:
    if not has_magic(url) or protocol(url) in ("http", "https"):
        return [url]
    system, path = filesystem(url)
    found = attempt(url, lambda: system.glob(path, detail=True))
    head = url[: len(url) - len(path)] if url.endswith(path) else ""
    names = sorted(name for name, entry in found.items() if entry.get("type") != "directory")
    return [head + name if head else system.unstrip_protocol(name) for name in names]


def put(url: str, data: bytes, lasting: bool) -> None:
    """The object holds `data`, by way of a temporary neighbour."""
    with staged(url) as (system, temp):
        attempt(url, lambda: system.pipe_file(temp, data))


def delete(url: str) -> None:
    system, path = filesystem(url)
    with suppress(faults.NotThere):
        attempt(url, lambda: system.rm_file(path))


@contextmanager
def staged(url: str) -> Iterator[tuple[Any, str]]:
    """Inside, a file system and a temporary path to write; then that is moved to `url`, or removed if it failed."""
    system, path = filesystem(url)
    name = path.rstrip("/").rpartition("/")[2]
    temp = f"{path[: len(path) - len(name)]}.{name}.{os.urandom(4).hex()}.tmp"
    try:
        with faults.one_line(url):
            _make_parent(system, url)
            yield system, temp
            _move(system, temp, path)
    except BaseException:
        with suppress(Exception):
            system.rm_file(temp)
        raise


def _make_parent(system: Any, url: str) -> None:
    """The folder is there, in stores that have folders (in others the name of the object makes it)."""
    folder = system._strip_protocol(parent(url))
    with suppress(Exception):
        if folder and not system.exists(folder):
            system.makedirs(folder, exist_ok=True)


def _move(system: Any, temp: str, path: str) -> None:
    """One step where the store can rename; else a copy inside the store, which shows when it is whole."""
    import fsspec

    if type(system).mv is not fsspec.AbstractFileSystem.mv:
        system.mv(temp, path)
        return
    system.cp_file(temp, path)
    system.rm_file(temp)
