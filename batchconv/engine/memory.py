"""Memory foreseen: what a child will hold at most, from the headers alone.

Each constant was measured (tests/engine/test_memory.py compares): `measured <= foreseen <= 2 x measured`.
"""

from __future__ import annotations

import os

from batchconv import storage
from batchconv.convert import Request
from batchconv.engine.header import Header

PROCESS = 64 << 20
"""A child with numpy and our modules, before any model."""

NODE = 8 << 10
"""A node as read, translated and simplified."""

WEIGHT = 6 << 10
"""A recipe in the model, the graph and the layout."""

SCRATCH = 12 << 20
"""Blocks in flight on one thread: what is read, computed on and written."""

PART = 64 << 20
"""A part that a thread holds until an object store has it."""


def foreseen(task: str, header: Header, request: Request, threads: int) -> int:
    """Bytes that one task of that kind will hold at most."""
    model = header.nodes * NODE + header.weights * WEIGHT
    remote = PART if any(not storage.is_local(v.bin) for v in request.variants) else 0
    if task in ("load", "lay", "survey"):
        return PROCESS + model
    work = threads * (SCRATCH + remote)
    return PROCESS + work + (model if task in ("convert", "publish") else 0)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
