"""Files: what a local or shared file system does beyond what every store does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from places import MIB, Place, Range, cut, write_all

from batchconv import storage
from batchconv.errors import StorageError
from batchconv.storage import local as files

DATA = os.urandom(2 * MIB + 77)


def begin_elsewhere(url: str, then: str = "") -> subprocess.Popen[str]:
    """A process that has begun an upload to `url` and says so."""
    script = f"from batchconv import storage\nprint(storage.begin({url!r}, 100).place, flush=True)\n{then}"
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


def test_a_local_conversion_never_loads_fsspec(tmp_path: Path) -> None:
    script = f"""
import sys
from batchconv import storage
url = {str(tmp_path / "x")!r}
storage.put(url, b"1")
upload = storage.begin(url, 3)
with storage.part(upload, 0, 0, 3, last=True) as writer:
    writer.write(0, b"abc")
storage.finish(upload, [writer.close()])
assert storage.read_many([(url, 0, 9)]) == [b"abc"]
storage.expand(url), storage.size(url), storage.exists(url), storage.delete(url)
print([name for name in sys.modules if name.split(".")[0] in ("fsspec", "s3fs", "botocore", "asyncio", "numpy")])
"""
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


def test_file_urls(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/a b.bin"
    storage.put(url, b"123")
    assert (tmp_path / "a b.bin").read_bytes() == b"123"
    assert storage.is_local(url)
    assert not storage.is_local("s3://bucket/x")
    assert storage.expand(f"file://{tmp_path}/*.bin") == [url]
    assert storage.identity(url) == storage.identity(storage.local_path(url))


def test_a_name_with_brackets_is_a_name_where_it_exists(tmp_path: Path) -> None:
    url = str(tmp_path / "net[1].onnx")
    storage.put(url, b"")
    assert storage.expand(url) == [url]


def test_identity_is_the_content_of_small_files_only(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"abc")
    assert storage.identity(str(small)) == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with large.open("wb") as file:
        file.truncate(files.HASHED + 1)
    os.utime(large, ns=(1, 2))
    assert storage.identity(str(large)) == f"stat:{files.HASHED + 1}-2"


def test_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    url = str(tmp_path / "x")
    storage.put(url, b"old!")
    assert storage.read(url, 0, 4) == b"old!"
    storage.put(url, b"new!")
    assert storage.read(url, 0, 4) == b"new!"
    os.unlink(url)
    with pytest.raises(StorageError, match="no such file"):
        storage.read(url, 0, 4)


def test_descriptors_are_bounded_and_closed_only_after_use(tmp_path: Path) -> None:
    urls = []
    for index in range(150):
        (tmp_path / str(index)).write_bytes(b"%03d" % index * 1000)
        urls.append(str(tmp_path / str(index)))
    before = len(os.listdir("/proc/self/fd"))
    wrong: list[str] = []

    def read(shift: int) -> None:
        for index in range(600):
            at = (index * 7 + shift) % 150
            if storage.read(urls[at], 3 * shift, 3) != b"%03d" % at:
                wrong.append(urls[at])

    threads = [threading.Thread(target=read, args=(shift,)) for shift in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(os.listdir("/proc/self/fd")) <= before + files._KEPT + 1


def test_a_linked_target_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.bin").write_bytes(b"old")
    (tmp_path / "link.bin").symlink_to(tmp_path / "real" / "x.bin")
    upload = storage.begin(str(tmp_path / "link.bin"), len(DATA))
    assert Path(upload.place).parent == tmp_path / "real"
    storage.finish(upload, write_all(upload, DATA, cut(len(DATA))))
    assert (tmp_path / "link.bin").is_symlink()
    assert (tmp_path / "real" / "x.bin").read_bytes() == DATA


def test_the_temporary_file_of_a_dead_process_goes(local: Place) -> None:
    url = local.join("model.bin")
    process = begin_elsewhere(url, "import time; time.sleep(60)")
    assert process.stdout is not None
    with process:
        theirs = process.stdout.readline().strip()
        mine = storage.begin(url, 10)
        assert os.path.exists(theirs), "its process lives"
        process.send_signal(signal.SIGKILL)
        process.wait()
    other = storage.begin(local.join("other.bin"), 10)
    again = storage.begin(url, 10)
    assert not os.path.exists(theirs)
    assert os.path.exists(mine.place), "this process lives"
    for upload in (mine, other, again):
        storage.abort(upload)
    assert local.names() == []


def test_finish_after_the_temporary_file_was_lost(tmp_path: Path) -> None:
    upload = storage.begin(str(tmp_path / "x"), 3)
    receipts = write_all(upload, b"abc", cut(3))
    os.unlink(upload.place)
    (tmp_path / "x").write_bytes(b"xyz")  # of the same size, but not ours
    with pytest.raises(StorageError, match="temporary file of this upload is gone; begin again"):
        storage.finish(upload, receipts)


@pytest.mark.parametrize("fault", ["EXDEV", "ENOSYS", "EINVAL", "EOPNOTSUPP", "nothing"])
def test_a_kernel_that_does_not_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    import errno

    real = os.copy_file_range

    def copy(source: int, target: int, count: int, start: int, at: int) -> int:
        if start < MIB // 2:
            return real(source, target, MIB // 2, start, at)
        if fault == "nothing":
            return 0
        raise OSError(getattr(errno, fault), "not here")

    monkeypatch.setattr(os, "copy_file_range", copy)
    (tmp_path / "source").write_bytes(DATA)
    upload = storage.begin(str(tmp_path / "x"), len(DATA))
    with storage.part(upload, 0, 0, len(DATA), last=True) as writer:
        assert writer.copy(0, Range(str(tmp_path / "source"), 0, len(DATA))) == "write"
    storage.finish(upload, [writer.close()])
    assert (tmp_path / "x").read_bytes() == DATA


def test_a_copy_to_another_file_system(tmp_path: Path) -> None:
    if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("no second file system")
    source = Path(f"/dev/shm/batchconv-test-{os.getpid()}")
    source.write_bytes(DATA)
    try:
        upload = storage.begin(str(tmp_path / "x"), len(DATA))
        with storage.part(upload, 0, 0, len(DATA), last=True) as writer:
            writer.copy(0, Range(str(source), 0, len(DATA)))
        storage.finish(upload, [writer.close()])
    finally:
        source.unlink()
    assert (tmp_path / "x").read_bytes() == DATA


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    with pytest.raises(StorageError) as caught:
        storage.begin(str(small_disk / "deep" / "x"), 3 * MIB)
    text = f"no space left on device: {3 * MIB} bytes needed, {MIB} free in {small_disk}/deep"
    assert str(caught.value) == f"{small_disk}/deep/x: {text}"
    assert os.listdir(small_disk / "deep") == []
    with pytest.raises(StorageError, match=f"no space left on device: {2 * MIB} bytes needed"):
        storage.put(str(small_disk / "y"), bytes(2 * MIB))
    assert os.listdir(small_disk) == ["deep"]


def test_a_disk_that_fills_up_meanwhile(small_disk: Path) -> None:
    upload = storage.begin(str(small_disk / "x"), MIB // 2)
    (small_disk / "other").write_bytes(bytes(MIB - 8192))
    with pytest.raises(StorageError, match=f"no space left on device: {MIB // 2} bytes needed"):
        write_all(upload, bytes(MIB // 2), cut(MIB // 2))
    storage.abort(upload)
    assert os.listdir(small_disk) == ["other"]


def test_no_room_and_no_fallocate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def refuse(fd: int, start: int, nbytes: int) -> None:
        raise OSError(errno.EBADF, "glibc will not imitate it")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    storage.abort(storage.begin(str(tmp_path / "x"), 2 * MIB))
    with pytest.raises(StorageError, match=r"no space left on device|file too large"):
        storage.begin(str(tmp_path / "x"), 1 << 43)
    assert os.listdir(tmp_path) == []


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    script = f"""
import resource, signal
from batchconv import storage
from batchconv.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
url = {str(tmp_path / "x")!r}
for call in (lambda: storage.begin(url, 5000), lambda: storage.put(url, bytes(5000))):
    try:
        call()
    except StorageError as error:
        print(error)
"""
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert found.stdout.splitlines() == [f"{tmp_path}/x: file too large"] * 2
    assert os.listdir(tmp_path) == []


def test_no_permission(tmp_path: Path) -> None:
    """As nobody, since root may do everything."""
    if os.getuid():
        pytest.skip("root only: it can become somebody else")
    folder = Path("/tmp") / f"batchconv-test-{os.getpid()}"
    folder.mkdir(mode=0o755)
    (folder / "secret").write_bytes(b"x")
    (folder / "secret").chmod(0o600)
    calls: list[Callable[[], object]] = [
        lambda: storage.read(str(folder / "secret"), 0, 1),
        lambda: storage.begin(str(folder / "x"), 1),
        lambda: storage.put(str(folder / "new" / "x"), b""),
    ]
    os.seteuid(65534)
    try:
        for call in calls:
            with pytest.raises(StorageError, match=rf"^{folder}/\S+: permission denied$"):
                call()
    finally:
        os.seteuid(0)
        shutil.rmtree(folder)


@pytest.mark.parametrize("call", [storage.size, lambda url: storage.read(url, 0, 1), lambda url: storage.put(url, b"")])
def test_a_folder_is_no_object(tmp_path: Path, call: Callable[[str], object]) -> None:
    with pytest.raises(StorageError, match=f"^{tmp_path}: is a directory$"):
        call(str(tmp_path))
    with pytest.raises(StorageError, match="is a directory"):
        storage.begin(str(tmp_path), 10)


@pytest.mark.parametrize("call", [lambda url: storage.read(url, 0, 1), storage.identity])
def test_a_pipe_is_not_waited_for(tmp_path: Path, call: Callable[[str], object]) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="pipe: is not a regular file"):
        call(str(tmp_path / "pipe"))


def test_write_back_starts_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are sent to the disk while more are written, each once; scales far away do not widen what is sent."""
    upload = storage.begin(str(tmp_path / "x"), 24 * MIB)
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, start, length, advice: sent.append((start, length)))
    with storage.part(upload, 0, 0, 20 * MIB) as writer:
        for at in range(0, 20 * MIB, MIB):
            writer.write(at, bytes(MIB))
            writer.write(23 * MIB, b"scale")
    storage.abort(upload)
    assert sent == [(0, 8 * MIB), (8 * MIB, 8 * MIB), (16 * MIB, 4 * MIB)]


def test_a_reader_never_sees_half_an_object(tmp_path: Path) -> None:
    url = str(tmp_path / "x")
    contents = [bytes([number]) * 300_000 for number in (1, 2)]
    storage.put(url, contents[0])
    stop = time.monotonic() + 0.5
    seen: list[bytes] = []

    def look() -> None:
        while time.monotonic() < stop:
            seen.append(storage.read(url, 0, 400_000))

    looking = threading.Thread(target=look)
    looking.start()
    while time.monotonic() < stop:
        storage.put(url, contents[len(seen) % 2])
    looking.join()
    assert seen
    assert all(found in contents for found in seen)
