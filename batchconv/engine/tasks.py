"""What children do, by name: each a function of small arguments with a small result; what is large lies in the store.

A small model is one task (`convert`). A large one goes through `load` [`sense`...] `lay` [`measure`...] `write`...
`publish`, and what one of those leaves for the next is a pickle in the output folder, beside the model's artifacts.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from batchconv import convert as conversion
from batchconv import storage
from batchconv.convert import Job, Keep, Loaded, Record, Request
from batchconv.engine import header
from batchconv.errors import StorageError
from batchconv.ir import bin as parts
from batchconv.ir.layout import Part, Piece, stats_pieces
from batchconv.pool import Crew
from batchconv.storage import Upload
from batchconv.tensor import Array
from batchconv.weight import Weight

BUNDLE = 256 << 20
"""Source bytes that one task of a large model goes through at most: half a second of work or more."""

LEAST = 32 << 20
"""Source bytes below which a model is not cut further, however many workers wait."""

T = TypeVar("T")
Uploads = Sequence[Upload]


@dataclass(frozen=True, slots=True)
class Made:
    """What became of a model: (folder, bytes of the `.bin`, bytes of the `.xml`) of each artifact."""

    artifacts: tuple[tuple[str, int, int], ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Bundles:
    """How many tasks of each kind come next; of those that write, the source bytes that each goes through."""

    sense: int = 0
    measure: int = 0
    write: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Again:
    """Layers of some variants did not fit float16: everything is laid out anew with these kept."""

    keep: Keep


class Spool:
    """Objects named `<prefix><name>` that the tasks of one model leave one another."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def put(self, name: str, value: Any) -> None:
        storage.put(self.prefix + name, pickle.dumps(value), lasting=False)

    def get(self, name: str) -> Any:
        url = self.prefix + name
        return pickle.loads(storage.read(url, 0, storage.size(url)))

    def all(self, name: str, count: int) -> list[Any]:
        """What `count` tasks left under `<name>-<number>`, in order."""
        return [self.get(f"{name}-{number}") for number in range(count)]

    def put_all(self, name: str, values: Sequence[Any]) -> None:
        for number, value in enumerate(values):
            self.put(f"{name}-{number}", value)

    def clear(self) -> None:
        """No object of this model is left."""
        folder, _, name = self.prefix.rpartition("/")
        for url in storage.expand(f"{escaped(folder)}/{name}*"):
            storage.delete(url)


def escaped(text: str) -> str:
    """`text` as a pattern that fits itself alone."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in text)


def bundled(items: Sequence[T], weigh: Callable[[T], int], slots: int) -> list[tuple[list[T], int]]:
    """Consecutive items in bundles, each with its weight: at most BUNDLE, at least LEAST, enough for all slots."""
    weights = [weigh(item) for item in items]
    target = min(BUNDLE, max(LEAST, sum(weights) // (4 * max(slots, 1))))
    bundles: list[list[T]] = []
    sums: list[int] = []
    for item, weight in zip(items, weights, strict=True):
        if not sums or sums[-1] + weight > target:
            bundles.append([])
            sums.append(0)
        bundles[-1].append(item)
        sums[-1] += weight
    return list(zip(bundles, sums, strict=True))


def piece_bytes(piece: Piece) -> int:
    """Source bytes that a piece goes through."""
    spec = piece.base.spec
    return spec.nbytes * (piece.stop - piece.start) // max(spec.rows, 1)


def part_bytes(part: Part) -> int:
    return sum(map(piece_bytes, part.pieces))


def outcome(record: Record) -> Made:
    """The small part of a record."""
    rows = tuple(
        (a["xml"]["url"].rstrip("/").split("/")[-2], int(a["bin"]["nbytes"]), int(a["xml"]["nbytes"]))
        for a in record.artifacts
    )
    return Made(rows, record.seconds)


# ---- the tasks


def convert(request: Request, *, threads: int) -> Made:
    """A whole model."""
    return outcome(conversion.convert(request, threads))


def load(request: Request, prefix: str, slots: int, *, threads: int) -> Bundles:
    """The model is read and simplified; what comes next is either its sensitivities or its parts."""
    spool = Spool(prefix)
    spool.clear()
    loaded = conversion.load(request)
    layers = conversion.sensitivity_layers(loaded)
    spool.put("loaded", loaded)
    if not layers:
        return lay(prefix, 0, (), slots, threads=threads)
    bundles = bundled(layers, lambda layer: layer.weight.spec.nbytes, slots)
    spool.put_all("sense", [items for items, _ in bundles])
    return Bundles(sense=len(bundles))


def sense(prefix: str, number: int, *, threads: int) -> None:
    """The sensitivities of one bundle of layers are known."""
    spool = Spool(prefix)
    spool.put(f"sensed-{number}", dict(Crew(threads).map(conversion.score, spool.get(f"sense-{number}"))))


def lay(prefix: str, sensed: int, keep: Keep, slots: int, *, threads: int) -> Bundles:
    """Every byte of every artifact has its place, and uploads are open."""
    spool = Spool(prefix)
    loaded: Loaded = spool.get("loaded")
    scores = {layer: score for found in spool.all("sensed", sensed) for layer, score in found.items()}
    job = conversion.prepare(loaded, scores, keep)
    uploads = conversion.begin(job)
    try:
        return spooled(spool, job, uploads, slots)
    except BaseException:
        conversion.abandon(uploads)
        raise


def spooled(spool: Spool, job: Job, uploads: Uploads, slots: int) -> Bundles:
    """What the following tasks need lies in the spool: each its own part of the job."""
    spool.put("job", (job, uploads))
    measured = bundled(stats_pieces(job.layout), piece_bytes, slots)
    written = bundled(job.layout.parts[:-1], part_bytes, slots)
    spool.put_all("measure", [pieces for pieces, _ in measured])
    places: dict[Weight, set[int]] = {}
    for number, (pieces, _) in enumerate(measured):
        for piece in pieces:
            places.setdefault(piece.base, set()).add(number)
    for number, (bundle, _) in enumerate(written):
        spool.put(f"write-{number}", (bundle, uploads, needs(bundle, places)))
    spool.put("needs", needs(job.layout.parts[-1:], places))
    return Bundles(0, len(measured), tuple(weight for _, weight in written))


def needs(bundle: Sequence[Part], places: Mapping[Weight, set[int]]) -> list[int]:
    """The `measure` tasks whose statistics the parts need."""
    return sorted({number for part in bundle for piece in part.pieces for number in places.get(piece.base, ())})


def measure(prefix: str, number: int, *, threads: int) -> None:
    """The statistics of one bundle of pieces are known."""
    spool = Spool(prefix)
    pieces: list[Piece] = spool.get(f"measure-{number}")
    spool.put(f"measured-{number}", (pieces, Crew(threads).map(parts.measure, pieces)))


def statistics(spool: Spool, numbers: Sequence[int]) -> dict[Weight, Array]:
    """What `write_part` needs of those `measure` tasks."""
    found = [spool.get(f"measured-{number}") for number in numbers]
    return parts.merged_stats(*([item for pair in found for item in pair[half]] for half in (0, 1)))


def write(prefix: str, number: int, *, threads: int) -> None:
    """One bundle of parts is in the uploads, and its receipts in the spool."""
    spool = Spool(prefix)
    bundle, uploads, numbers = spool.get(f"write-{number}")
    stats = statistics(spool, numbers)
    receipts = Crew(threads).map(lambda part: parts.write_part(part, uploads, stats), bundle)
    spool.put(f"written-{number}", receipts)


def publish(prefix: str, written: int, seconds: float, *, threads: int) -> Made | Again:
    """The last part is written and the artifacts are visible; or nothing is, and layers must be kept."""
    start = time.perf_counter() - seconds
    spool = Spool(prefix)
    job, uploads = spool.get("job")
    receipts = [receipt for part in spool.all("written", written) for receipt in part]
    stats = statistics(spool, spool.get("needs"))
    receipts += [parts.write_part(part, uploads, stats, last=True) for part in job.layout.parts[-1:]]
    keep = conversion.rejected(job, receipts)
    if keep is not None:
        conversion.abandon(uploads)
        return Again(keep)
    made = outcome(conversion.publish(job, uploads, receipts, start))
    spool.clear()
    return made


def abandon(prefix: str, *, threads: int) -> None:
    """Nothing of a large model that failed is left."""
    spool = Spool(prefix)
    with suppress(StorageError):
        _, uploads = spool.get("job")
        conversion.abandon(uploads)
    spool.clear()


def survey(request: Request, *, threads: int) -> header.Header:
    """What the headers of a model say."""
    return header.read(request)
