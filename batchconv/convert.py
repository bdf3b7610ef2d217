"""One model, start to end, with no Dask: read, translate, pass, compress, lay out, write, publish."""

from __future__ import annotations

import gc
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from batchconv import frontends, passes, storage
from batchconv.errors import BadModel, ConversionError
from batchconv.formats import verdict
from batchconv.frontends.translate import Input, translate
from batchconv.graph import Graph
from batchconv.ir import bin as parts
from batchconv.ir.layout import Layout, Part, lay_out, stats_pieces
from batchconv.ir.xml import write_xml
from batchconv.passes.compress import Compressed, candidates, compressed
from batchconv.pool import Crew, cores, keep_freed
from batchconv.quantize import Compression, Layer, sensitivity
from batchconv.version import VERSION

Say = Callable[[str], None]
Keep = tuple[frozenset[str], ...]
"""For each variant: layers that float16 turned out not to hold, and that stay as they are."""

LARGE = 64 << 20
"""Source bytes from which forked processes are worth their start."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One artifact wanted of a model: the URL of its `.xml` (`.bin` and `.json` go beside it) and its format."""

    xml: str
    compression: Compression = field(default_factory=Compression)

    @property
    def bin(self) -> str:
        return self.xml.removesuffix(".xml") + ".bin"

    @property
    def record(self) -> str:
        return self.xml.removesuffix(".xml") + ".json"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: a model's URL, how to read it, where to cut it, and the variants to make of it.

    files: the framework's further files (`proto`); name: of the network in the IR ("" = its own);
    key: what the engine recognises a finished artifact by ("" outside a run).
    """

    model: str
    variants: tuple[Variant, ...]
    framework: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
    outputs: tuple[str, ...] = ()
    name: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model read, translated and simplified; no payload was read. Travels between processes."""

    request: Request
    graph: Graph
    name: str
    framework: str
    sources: Mapping[str, str]
    seconds: float


@dataclass(frozen=True, slots=True)
class Job:
    """Every variant compressed and all of them laid out together; still nothing read or written."""

    loaded: Loaded
    keep: Keep
    made: tuple[Compressed, ...]
    layout: Layout

    @property
    def variants(self) -> tuple[Variant, ...]:
        return self.loaded.request.variants


@dataclass(frozen=True, slots=True)
class Record:
    """What was made: one mapping an artifact, as its `.json` has it, and the seconds it took."""

    model: str
    artifacts: tuple[dict[str, Any], ...]
    seconds: float


def convert(request: Request, threads: int | None = None, say: Say | None = None, alone: bool = False) -> Record:
    """The requested artifacts are at their URLs, whole; or an error is raised and nothing of them is.

    threads: how many read, compute and write at a time (default: the cores this process may use).
    say: told, a line each, what rewrites did and why others did not. alone: the process is ours, without threads of
    its own: for a large model it keeps freed memory, and forks where that is faster.
    """
    start = time.perf_counter()
    try:
        loaded = load(request, say)
        large = alone and is_large(loaded)
        if large:
            keep_freed()
        crew = Crew(threads or cores(), large and from_file_to_file(loaded))
        job: Job | None = prepare(loaded, dict(crew.map(score, sensitivity_layers(loaded))))
        record = None
        while job is not None:
            record, job = attempt(job, crew, start)
    except ConversionError as error:
        raise error.at(model=request.model.rstrip("/").rsplit("/", 1)[-1]) from None
    assert record is not None
    return record


def load(request: Request, say: Say | None = None) -> Loaded:
    """The simplified graph of the requested model; headers alone are read. Raises ConversionError, StorageError."""
    start = time.perf_counter()
    clash(request, (request.model, *request.files.values()))
    with uncollected():
        model, registry = frontends.open_model(request.model, request.framework, request.files)
        clash(request, model.sources)
        graph = passes.run(translate(model, registry, request.inputs, request.outputs), say)
    name = request.name or model.name or model.file.rsplit(".", 1)[0]
    sources = {url: storage.identity(url) for url in dict.fromkeys((model.url, *model.sources))}
    return Loaded(request, graph, name, model.framework, sources, time.perf_counter() - start)


@contextmanager
def uncollected() -> Iterator[None]:
    """Inside, no garbage is looked for: graphs are many small objects that all live on (a third of the time)."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def clash(request: Request, sources: Iterable[str]) -> None:
    """BadModel if an artifact would be written over one of its sources, or its settings contradict themselves."""
    kept = {storage.same_place(url): url for url in sources}
    for variant in request.variants:
        faults = variant.compression.faults()
        for url in (variant.bin, variant.xml, variant.record):
            if storage.same_place(url) in kept:
                faults.append(f"the output {url} would replace its own source")
            if storage.is_folder(url):
                faults.append(f"the output {url} is a directory")
        if faults:
            raise BadModel("; ".join(faults))


def is_large(loaded: Loaded) -> bool:
    """True if there are LARGE bytes to go through."""
    return sum(map(storage.size, loaded.sources)) >= LARGE


def from_file_to_file(loaded: Loaded) -> bool:
    """True if no store is involved, whose client would not survive a fork."""
    return all(map(storage.is_local, [*loaded.sources, *(variant.bin for variant in loaded.request.variants)]))


def prepare(loaded: Loaded, sensitivities: Mapping[str, float] | None = None, keep: Keep = ()) -> Job:
    """Formats chosen and every byte of every `.bin` given its place.

    sensitivities: `score` of the `sensitivity_layers`; keep: from `rejected`, after a first try.
    """
    variants = loaded.request.variants
    keep = keep or (frozenset(),) * len(variants)
    with uncollected():
        made = tuple(
            compressed(loaded.graph, replace(variant.compression, keep=kept), sensitivities)
            for variant, kept in zip(variants, keep, strict=True)
        )
        return Job(loaded, keep, made, lay_out([each.weights for each in made]))


def sensitivity_layers(loaded: Loaded) -> list[Layer]:
    """The layers whose sensitivity a variant's ratio asks for, each once."""
    asked = (layer for variant in loaded.request.variants for layer in candidates(loaded.graph, variant.compression))
    return list({layer.name: layer for layer in asked}.values())


def score(layer: Layer) -> tuple[str, float]:
    """(name, sensitivity) of a layer; its weight is read block by block."""
    return layer.name, sensitivity(layer.weight, layer.axes)


def attempt(job: Job, crew: Crew, start: float) -> tuple[Record | None, Job | None]:
    """The job's record; or, if float16 did not hold some layer, nothing written and the job to try instead."""
    uploads = begin(job)
    try:
        receipts = write(job, uploads, crew)
        keep = rejected(job, receipts)
        if keep is None:
            return publish(job, uploads, receipts, start), None
    except BaseException:
        abandon(uploads)
        raise
    abandon(uploads)
    return None, prepare(job.loaded, None, keep)


def begin(job: Job) -> tuple[storage.Upload, ...]:
    """One upload a variant, nothing visible yet."""
    uploads: list[storage.Upload] = []
    try:
        for variant, nbytes in zip(job.variants, job.layout.sizes, strict=True):
            uploads.append(storage.begin(variant.bin, nbytes))
    except BaseException:
        abandon(uploads)
        raise
    return tuple(uploads)


def abandon(uploads: Iterable[storage.Upload]) -> None:
    """Nothing of these uploads is left."""
    for upload in uploads:
        storage.abort(upload)


def write(job: Job, uploads: Sequence[storage.Upload], crew: Crew) -> list[parts.Receipt]:
    """Every part of every variant is in its upload; receipts in the order of the parts."""
    pieces = stats_pieces(job.layout)
    stats = parts.merged_stats(pieces, crew.map(parts.measure, pieces))

    def one(part: Part) -> parts.Receipt:
        return parts.write_part(part, uploads, stats, last=part is job.layout.parts[-1])

    receipts = crew.map(one, job.layout.parts[:-1])
    return receipts + [one(part) for part in job.layout.parts[-1:]]


def rejected(job: Job, receipts: Sequence[parts.Receipt]) -> Keep | None:
    """What to keep in the next attempt, if layers were written as float16 and do not fit it; else None."""
    sums = tallies(receipts)
    found = [
        verdict({layer: tally for (target, layer), tally in sums.items() if target == index})
        for index in range(len(job.variants))
    ]
    return tuple(old | new for old, new in zip(job.keep, found, strict=True)) if any(found) else None


def tallies(receipts: Iterable[parts.Receipt]) -> parts.Tallies:
    """(variant, layer) -> what its blocks added up to."""
    total: parts.Tallies = {}
    for receipt in receipts:
        for key, sums in receipt.tallies.items():
            mine = total.setdefault(key, {})
            for name, value in sums.items():
                mine[name] = mine.get(name, 0.0) + value
    return total


def publish(job: Job, uploads: Sequence[storage.Upload], receipts: Sequence[parts.Receipt], start: float) -> Record:
    """`.bin`, then `.xml`, then `.json` of every variant are visible, in that order; returns their record.

    start: when the conversion began (time.perf_counter of this process), for the record's seconds.
    """
    sums = tallies(receipts)
    artifacts = []
    for index, upload in enumerate(uploads):
        variant, made = job.variants[index], job.made[index]
        identity = storage.finish(upload, [receipt.parts[index] for receipt in receipts])
        xml = write_xml(made.graph, job.layout.offsets[index], job.loaded.name, rt_info(variant.compression))
        storage.put(variant.xml, xml)
        artifact = describe(job, index, xml, identity, receipts, sums)
        artifact["seconds"] = round(time.perf_counter() - start, 3)
        storage.put(variant.record, json.dumps(artifact, indent=1).encode())
        artifacts.append(artifact)
    return Record(job.loaded.request.model, tuple(artifacts), time.perf_counter() - start)


def rt_info(compression: Compression) -> dict[str, Any]:
    """The remarks of the `.xml`: what was asked for; nothing that differs between hosts or runs."""
    return {"batchconv": {"version": VERSION, "conversion_parameters": options(compression)}}


def options(compression: Compression) -> dict[str, Any]:
    """The settings that differ from the defaults, and the precision."""
    given, default = asdict(replace(compression, keep=frozenset())), asdict(Compression())
    chosen = {key: value for key, value in given.items() if value != default[key] and key != "mode"}
    return {"precision": compression.mode, **chosen}


def describe(job: Job, index: int, xml: bytes, identity: str, receipts: Sequence[parts.Receipt],
             sums: parts.Tallies) -> dict[str, Any]:  # fmt: skip
    """The record of one artifact: what it was made of, by what, what it is, and a row a layer."""
    request, variant, made = job.loaded.request, job.variants[index], job.made[index]
    rows = [row.measured(sums[index, row.layer]) if (index, row.layer) in sums else row for row in made.report]
    written = [receipt.parts[index] for receipt in receipts]
    return {
        "batchconv": VERSION,
        "key": request.key,
        "name": job.loaded.name,
        "framework": job.loaded.framework,
        "precision": variant.compression.mode,
        "options": options(variant.compression),
        "inputs": [asked(each) for each in request.inputs],
        "outputs": list(request.outputs),
        "sources": dict(job.loaded.sources),
        "operations": len(made.graph.ops()),
        "bin": {
            "url": variant.bin,
            "nbytes": job.layout.sizes[index],
            "identity": identity,
            "parts": [{"nbytes": each.nbytes, "sha256": each.sha256, "how": each.how} for each in written],
        },
        "xml": {"url": variant.xml, "nbytes": len(xml), "sha256": hashlib.sha256(xml).hexdigest()},
        "layers": [asdict(row) for row in rows],
    }


def asked(given: Input) -> dict[str, Any]:
    """An `--input` as the record has it."""
    shape = None if given.shape is None else [str(dim) for dim in given.shape]
    value = None if given.value is None else given.value.tolist()
    return {"name": given.name, "type": given.dtype.ir if given.dtype else None, "shape": shape, "value": value}


__all__ = ["Job", "Loaded", "Record", "Request", "Variant", "convert", "load", "prepare", "publish", "write"]
