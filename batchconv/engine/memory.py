"""Memory foreseen: what a child will hold at most, from the headers alone.

Each constant was measured on Linux with CPython 3.11 and numpy 2.4 (`tests/engine/test_memory.py` does it again):
`measured <= foreseen <= 2 x measured`.
"""

from __future__ import annotations

import os

from batchconv import storage
from batchconv.convert import Request, Variant
from batchconv.engine.header import Header

PROCESS = 42 << 20
"""A child with numpy and our modules, before any model."""

NODE = 2 << 10
"""A node as read, translated and simplified."""

WEIGHT = 4 << 10
"""A recipe in the model, the graph and the layout."""

PLAIN, HALF, SCALED = 0, 4 << 10, 15 << 10
"""What a recipe and its operations take more in each variant: as it is, in 16 bits, with scales and zero points."""

SCRATCH = 6 << 20
"""Blocks in flight on one thread: what is read, computed on and written."""

SCATTERED = 32 << 20
"""Blocks of a weight that is read across its rows (`ir.layout.SCATTERED`): two of them and half of what follows."""

PART = 64 << 20
"""A part that a thread holds until an object store has it."""


def foreseen(task: str, header: Header, request: Request, threads: int) -> int:
    """Bytes that one task of that kind will hold at most."""
    work = threads * (scratch(header, request) + held(request))
    if task == "survey":
        return PROCESS + header.nodes * NODE + header.weights * NODE
    if task in ("load", "lay"):
        return PROCESS + 2 * model(header, request)
    if task in ("sense", "measure", "write"):
        return PROCESS + work
    return PROCESS + work + model(header, request) * (2 if task == "publish" else 1)


def model(header: Header, request: Request) -> int:
    """The graph of every variant, and their layout."""
    each = sum(recipe(variant) for variant in request.variants)
    return header.nodes * NODE + header.weights * (WEIGHT + each)


def recipe(variant: Variant) -> int:
    """What a weight costs in the graph of that variant, beyond the recipe itself."""
    mode = variant.compression.mode
    return PLAIN if mode == "fp32" else HALF if mode in ("fp16", "bf16") else SCALED


def scratch(header: Header, request: Request) -> int:
    """Blocks of one thread."""
    if not header.scattered:
        return SCRATCH
    block = min(SCATTERED, header.largest)
    extra = {PLAIN: 0, HALF: block // 2, SCALED: block * 5 // 4}[max(map(recipe, request.variants), default=0)]
    return SCRATCH + 2 * block + extra


def held(request: Request) -> int:
    """What the parts of one thread hold back until a store has them (files hold nothing back)."""
    return PART if any(not storage.is_local(variant.bin) for variant in request.variants) else 0


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
