"""Local and shared file systems: positioned reads over kept descriptors, parts written in place, an atomic rename."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress

from batchconv.errors import StorageError
from batchconv.storage import owner
from batchconv.storage.faults import one_line
from batchconv.storage.paths import has_magic, is_local, local_path
from batchconv.storage.upload import PartReceipt, PartWriter, Stored, Upload, copy_through

HASHED = 16 << 20
"""Files of at most this size are identified by their content."""

_KEPT = 64
_HASH_BLOCK = 1 << 20
_COPY = 8 << 20
_WRITE_BACK = 8 << 20
_RESERVED = 1 << 20
_SECOND = 1_000_000_000
_NO_COPY_RANGE = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ETXTBSY}


class _File:
    """An open descriptor that is closed when the last one who reads through it lets go of it."""

    __slots__ = ("_close", "fd", "inode")

    def __init__(self, path: str) -> None:
        self._close = os.close
        self.fd = -1
        self.fd = os.open(path, os.O_RDONLY)
        found = os.fstat(self.fd)
        self.inode = found.st_dev, found.st_ino
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def __del__(self) -> None:
        if self.fd >= 0:
            self._close(self.fd)


_files: OrderedDict[tuple[str, int], _File] = OrderedDict()
"""By path and thread: the kernel reads ahead for each descriptor on its own."""

_lock = threading.Lock()


def opened(path: str) -> _File:
    """The file at `path`, kept open for the next read unless another one stands there by now."""
    found, key = _stat(path), (path, threading.get_ident())
    with _lock:
        file = _files.get(key)
        if file is not None and file.inode == (found.st_dev, found.st_ino):
            _files.move_to_end(key)
            return file
    file = _File(path)
    with _lock:
        _files[key] = file
        _files.move_to_end(key)
        while len(_files) > _KEPT:
            _files.popitem(last=False)
    return file


def _stat(path: str) -> os.stat_result:
    """What the system knows of the file; a folder is none, and a pipe would be waited for."""
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISBLK(found.st_mode):
        raise OSError(errno.EINVAL, "is not a regular file")
    return found


def size(url: str) -> int:
    with one_line(url):
        return _stat(local_path(url)).st_size


def exists(url: str) -> bool:
    return os.path.exists(local_path(url))


def identity(url: str) -> str:
    found = size(url)
    if found > HASHED:
        return f"stat:{found}-{os.stat(local_path(url)).st_mtime_ns}"
    import hashlib  # 3 ms that a plain conversion need not pay at import

    digest = hashlib.sha256()
    for start in range(0, found, _HASH_BLOCK):
        digest.update(read(url, start, min(_HASH_BLOCK, found - start)))
    return f"sha256:{digest.hexdigest()}"


def read(url: str, offset: int, length: int) -> bytes:
    with one_line(url):
        file = opened(local_path(url))
        data = os.pread(file.fd, length, offset)
        if len(data) == length or offset + len(data) >= os.fstat(file.fd).st_size:
            return data
    rest = bytearray(length - len(data))  # Linux moves at most 2 GiB at once
    return data + rest[: read_into(url, offset + len(data), memoryview(rest))]


def read_into(url: str, offset: int, view: memoryview) -> int:
    done, view = 0, view.cast("B")
    with one_line(url):
        file = opened(local_path(url))
        while done < len(view):
            count = os.preadv(file.fd, [view[done:]], offset + done)
            if not count:
                break
            done += count
    return done


def read_many(url: str, ranges: list[tuple[int, int]]) -> list[bytes]:
    return [read(url, offset, length) for offset, length in ranges]


def expand(url: str) -> list[str]:
    """The files that the pattern names, sorted; a name that is no pattern, or of a file that is there, is itself."""
    path = local_path(url)
    if not has_magic(path) or os.path.exists(path):
        return [url]
    import glob

    scheme = url[: len(url) - len(path)]
    return [scheme + found for found in sorted(glob.glob(path, recursive=True)) if os.path.isfile(found)]


def put(url: str, data: bytes, lasting: bool) -> None:
    path, temp = _sibling(url)
    with one_line(url, len(data), os.path.dirname(path)):
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            try:
                _pwrite(fd, memoryview(data), 0)
                if lasting:
                    os.fsync(fd)
            finally:
                os.close(fd)
            (_rename if lasting else os.rename)(temp, path)
        except BaseException:
            _unlink(temp)
            raise


def delete(url: str) -> None:
    with one_line(url), suppress(FileNotFoundError):
        os.unlink(local_path(url))


def begin(url: str, nbytes: int) -> Upload:
    path, temp = _sibling(url)
    with one_line(url, nbytes, os.path.dirname(path)):
        os.close(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            _reserve(temp, nbytes)
            return Upload("file", url, nbytes, temp, str(int.from_bytes(os.urandom(4), "little") % _SECOND))
        except BaseException:
            _unlink(temp)
            raise


def finish(upload: Upload, receipts: Iterable[PartReceipt]) -> str:
    """The object is visible whole; true at once if a run before this one had got so far."""
    path = os.path.realpath(local_path(upload.url))
    with one_line(upload.url):
        try:
            fd = os.open(upload.place, os.O_RDWR)
        except FileNotFoundError:
            if not _is_ours(path, upload):
                raise StorageError("the temporary file of this upload is gone; begin again", upload.url) from None
        else:
            try:
                os.utime(fd, ns=(now := time.time_ns(), now // _SECOND * _SECOND - _SECOND + int(upload.mark)))
                os.fsync(fd)
            finally:
                os.close(fd)
            _rename(upload.place, path)
    return identity(path)


def _is_ours(path: str, upload: Upload) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return (found.st_size, str(found.st_mtime_ns % _SECOND)) == (upload.nbytes, upload.mark)


def abort(upload: Upload) -> None:
    with one_line(upload.url), suppress(FileNotFoundError):
        os.unlink(upload.place)


class _Dirty:
    """Bytes written and not yet on their way to the disk; sent early, so that the fsync at the end finds little."""

    def __init__(self, fd: int) -> None:
        self._fd, self._start, self._stop, self._count = fd, 0, 0, 0

    def add(self, offset: int, length: int) -> None:
        self._start = min(self._start, offset) if self._count else offset
        self._stop = max(self._stop, offset + length)
        self._count += length
        if self._count >= _WRITE_BACK:
            self.send()

    def send(self) -> None:
        """The kernel has begun to write them. (It also drops clean pages; these are dirty, so they stay cached.)"""
        if self._count and hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(self._fd, self._start, self._stop - self._start, os.POSIX_FADV_DONTNEED)
        self._count = 0


class FilePart(PartWriter):
    """A part written where it will lie in the temporary file, by any number of threads."""

    def __init__(self, upload: Upload, number: int, start: int, nbytes: int, last: bool = False) -> None:
        super().__init__(upload, number, start, nbytes, last)
        with one_line(upload.url):
            self._fd = os.open(upload.place, os.O_RDWR)
        self._dirty = _Dirty(self._fd)

    def _write(self, offset: int, data: memoryview) -> None:
        with one_line(self.upload.url, self.upload.nbytes, os.path.dirname(self.upload.place)):
            _pwrite(self._fd, data, offset)
        if self.start <= offset < self.stop:
            self._dirty.add(offset, len(data))

    def _copy(self, offset: int, stored: Stored) -> str:
        if not is_local(stored.url):
            return copy_through(self, offset, stored)
        with one_line(stored.url):
            source = opened(local_path(stored.url))
        done = self._copy_range(source.fd, stored, offset)
        if done == stored.length:
            return "copy_file_range"
        return copy_through(self, offset, stored, done)

    def _copy_range(self, source: int, stored: Stored, offset: int) -> int:
        """How many of the stored bytes the kernel copied: all, or fewer where it does not do that here."""
        done = 0
        while done < stored.length and hasattr(os, "copy_file_range"):
            count = min(_COPY, stored.length - done)
            try:
                copied = os.copy_file_range(source, self._fd, count, stored.offset + done, offset + done)
            except OSError as error:
                if error.errno in _NO_COPY_RANGE:
                    break
                with one_line(self.upload.url, self.upload.nbytes, os.path.dirname(self.upload.place)):
                    raise
            if not copied:
                break  # some file systems (/proc, FUSE) say 0 where there is more: reading tells
            self._dirty.add(offset + done, copied)
            done += copied
        return done

    def _close(self) -> PartReceipt:
        self._dirty.send()
        self._discard()
        return PartReceipt(self.number, self.nbytes, how="+".join(sorted(self.hows)))

    def _discard(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def open_part(upload: Upload, number: int, start: int, nbytes: int, last: bool) -> PartWriter:
    return FilePart(upload, number, start, nbytes, last)


def _pwrite(fd: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)


def _reserve(path: str, nbytes: int) -> None:
    """The file has `nbytes`, and the disk has room for them: ENOSPC now rather than later."""
    os.truncate(path, nbytes)
    if nbytes < _RESERVED or not hasattr(os, "posix_fallocate"):
        return
    # With O_APPEND glibc refuses (EBADF) to imitate fallocate by writing into every block, which takes for ever.
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.posix_fallocate(fd, 0, nbytes)
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV):
            raise
        room = os.fstatvfs(fd)
        if room.f_blocks and room.f_bavail * room.f_frsize < nbytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
    finally:
        os.close(fd)


def _rename(temp: str, path: str) -> None:
    """The file is at `path`, also after a power cut."""
    os.rename(temp, path)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some file systems cannot sync a folder
            os.fsync(folder)
    finally:
        os.close(folder)


def _unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def _sibling(url: str) -> tuple[str, str]:
    """The real path of `url` and a fresh `.<name>.<owner>.<random>.tmp` beside it; those of dead owners are gone."""
    path = os.path.realpath(local_path(url))
    folder, name = os.path.split(path)
    with one_line(url):
        if os.path.exists(path):
            _stat(path)
        os.makedirs(folder, exist_ok=True)
        _sweep(folder, f".{name}.")
    return path, os.path.join(folder, f".{name}.{owner.mark()}.{os.urandom(4).hex()}.tmp")


def _sweep(folder: str, prefix: str) -> None:
    """No temporary sibling is left whose process is known to be dead."""
    with os.scandir(folder) as entries:
        found = [entry.name for entry in entries if entry.name.startswith(prefix) and entry.name.endswith(".tmp")]
    for name in found:
        if owner.is_dead(name[len(prefix) :].partition(".")[0]):
            _unlink(os.path.join(folder, name))
