"""Memory foreseen: what a child will hold at most, from the headers alone.

Each constant was measured on Linux with CPython 3.11 and numpy 2.4 (`tests/engine/test_memory.py` does it again):
`measured <= foreseen <= 2 x measured`.
"""

from __future__ import annotations

from batchconv import storage
from batchconv.convert import Request, Variant
from batchconv.engine.header import Header
from batchconv.formats import FORMATS

PROCESS = 48 << 20
"""A child with numpy and our modules, before any model."""

NODE = 2 << 10
"""A node as read, translated and simplified."""

WEIGHT = 4 << 10
"""A recipe in the model, the graph and the layout."""

PLAIN, HALF, SCALED = 0, 4 << 10, 15 << 10
"""What a recipe and its operations take more in each variant: as it is, in 16 bits, with scales and zero points."""

SCRATCH = {PLAIN: 5 << 20, HALF: 8 << 20, SCALED: 25 << 19}
"""Blocks in flight on one thread: what is read, computed on and written."""

AHEAD = 18 << 20
"""What a thread reads ahead from a store."""

SCATTERED = 32 << 20
"""Blocks of a weight that is read across its rows (`ir.layout.SCATTERED`): two of them and half of what follows."""

REMOTE = 44 << 20
"""What reaching a store takes: fsspec, s3fs, botocore and their connections."""

PART = 32 << 20
"""Bytes of the largest artifact in a part; a thread holds them until an object store has them."""

PARTS = 9_000
"""Parts beyond which they grow instead (`ir.cut`)."""


def foreseen(task: str, header: Header, request: Request, threads: int) -> int:
    """Bytes that one task of that kind will hold at most."""
    base = PROCESS + (REMOTE if remote(header, request) else 0)
    if task == "survey":
        return base + header.nodes * NODE + header.weights * NODE
    if task in ("load", "lay"):
        return base + 2 * model(header, request)
    work = threads * scratch(header, request)
    if task in ("sense", "measure"):
        return base + work
    work += threads * held(header, request)
    if task == "write":
        return base + work
    return base + work + model(header, request) * (2 if task == "publish" else 1)


def remote(header: Header, request: Request) -> bool:
    """True if the source or a target lies in a store."""
    urls = [url for url, _ in header.sources] + [variant.xml for variant in request.variants]
    return not all(map(storage.is_local, urls))


def model(header: Header, request: Request) -> int:
    """The graph of every variant, and their layout."""
    each = sum(recipe(variant) for variant in request.variants)
    return header.nodes * NODE + header.weights * (WEIGHT + each)


def recipe(variant: Variant) -> int:
    """What a weight costs in the graph of that variant, beyond the recipe itself."""
    mode = variant.compression.mode
    return PLAIN if mode == "fp32" else HALF if mode in ("fp16", "bf16") else SCALED


def scratch(header: Header, request: Request) -> int:
    """Blocks of one thread; those from a store are larger."""
    kind = max(map(recipe, request.variants), default=PLAIN)
    least = SCRATCH[kind] + (0 if all(storage.is_local(url) for url, _ in header.sources) else AHEAD)
    if not header.scattered:
        return least
    block = min(SCATTERED, header.largest)
    extra = {PLAIN: 0, HALF: block // 2, SCALED: block * 5 // 4}[kind]
    return least + 2 * block + extra


def held(header: Header, request: Request) -> int:
    """What the parts of one thread hold back until a store has them (files hold nothing back)."""
    part = min(max(PART, header.stored // PARTS), header.stored)
    return sum(int(1.1 * part * share(variant)) for variant in request.variants if not storage.is_local(variant.xml))


def share(variant: Variant) -> float:
    """Bytes of the artifact for each byte of a float32 source."""
    mode = variant.compression.mode
    return 1.0 if mode == "fp32" else FORMATS[mode].bits / 32 + 0.05
