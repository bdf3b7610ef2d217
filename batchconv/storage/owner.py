"""Whose half-done upload this is: a mark of this process, by which whoever comes next can tell that it is dead."""

from __future__ import annotations

import os
import zlib


def mark() -> str:
    """`<host>-<pid>-<start>` of this process."""
    pid = os.getpid()
    return f"{_host()}-{pid}-{_started(pid)}"


def is_dead(marked: str) -> bool:
    """True if `marked` is the mark of a process of this host that has ended; of other hosts nobody knows."""
    host, _, process = marked.partition("-")
    pid, _, start = process.partition("-")
    return host == _host() and pid.isdigit() and _started(int(pid)) != start


def _host() -> str:
    """What tells one machine, and one container on it, from another."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{zlib.crc32(f'{os.uname().nodename} {space}'.encode()):08x}"


def _started(pid: int) -> str:
    """When the process started, in the kernel's ticks; empty if it is gone (or a zombie)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return "" if os.path.isdir("/proc/self") else _signalled(pid)
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def _signalled(pid: int) -> str:
    """The same where there is no /proc: only whether it is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "0"
