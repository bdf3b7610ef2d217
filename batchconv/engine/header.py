"""What a model's headers tell of the work it will be: nothing is translated, no payload is read."""

from __future__ import annotations

from dataclasses import dataclass, replace

from batchconv import frontends, storage
from batchconv.convert import Request
from batchconv.errors import ConversionError
from batchconv.frontends.translate import Model, Node, Registry, Walk, unsupported, unsupported_text
from batchconv.weight import Extent


@dataclass(frozen=True, slots=True)
class Header:
    """One model as its headers have it.

    sources: its files with their identities; largest, stored: bytes of its largest weight, and of all of them;
    scattered: some weight is read across its rows; missing: `no translator for ...`, or "" where there is one for all.
    """

    framework: str
    sources: tuple[tuple[str, str], ...]
    source_bytes: int
    nodes: int
    weights: int
    largest: int
    stored: int
    scattered: bool
    missing: str


def read(request: Request) -> Header:
    """The header of the requested model; BadModel, Unsupported or StorageError if it cannot be read."""
    model, registry = frontends.open_model(request.model, request.framework, request.files)
    try:
        missing = wanting(model, registry, request)
    except ConversionError as error:
        raise error.at(model=model.file) from None
    urls = tuple(dict.fromkeys((model.url, *model.sources)))
    sizes = [weight.stored.nbytes for weight in model.weights.values()]
    return Header(
        model.framework,
        tuple((url, storage.identity(url)) for url in urls),
        sum(map(storage.size, urls)),
        len(model.nodes),
        len(model.weights),
        max(sizes, default=0),
        sum(w.source.length if isinstance(w.source, Extent) else 0 for w in model.weights.values()),
        any(is_scattered(node, model) for node in model.nodes),
        missing,
    )


def is_scattered(node: Node, model: Model) -> bool:
    """True if the node transposes a weight as it is stored."""
    return "transpose" in node.op.lower() and any(name in model.weights for name in node.inputs[:1])


def wanting(model: Model, registry: Registry, request: Request) -> str:
    """Every operator without a translator that the wanted outputs need, as one line."""
    if not (request.inputs or request.outputs or unsupported(model, registry)):
        return ""
    walk = Walk(model, registry)
    outputs = walk.begin(request.inputs, request.outputs, {})
    missing = unsupported(replace(model, nodes=walk.needed(outputs)), registry)
    return unsupported_text(missing) if missing else ""
