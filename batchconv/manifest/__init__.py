"""A manifest (YAML or JSON) becomes a `Manifest`; every fault in it is reported at once, each with its line.

What leaves this room are frozen dataclasses with absolute URLs, globs expanded. `forms` is what pydantic validates
and the published JSON Schema; `faults` finds lines; `read` resolves. They are imported on use: pydantic takes a while.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batchconv import storage
from batchconv.frontends.translate import Input
from batchconv.quantize import Compression


@dataclass(frozen=True, slots=True)
class Precision:
    """One artifact of a model: how its weights are compressed, and the folder it lies in."""

    folder: str
    compression: Compression


@dataclass(frozen=True, slots=True)
class Entry:
    """One model to convert; URLs absolute, defaults filled in. line: where the manifest asks for it."""

    name: str
    model: str
    framework: str | None
    files: Mapping[str, str]
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    precisions: tuple[Precision, ...]
    line: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a task may use: bytes of memory, seconds, further tries, threads; and how many workers run (None: free)."""

    memory: int | None = None
    seconds: float | None = None
    retries: int = 2
    workers: int | None = None
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest asks for; artifacts lie at `<output>/<name>/<folder>/<name>.xml|.bin|.json`."""

    path: str
    output: str
    entries: tuple[Entry, ...]
    storage: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    limits: Limits = Limits()

    def xml(self, entry: Entry, precision: Precision) -> str:
        """Where the `.xml` of that artifact lies."""
        return storage.join(self.output, entry.name, precision.folder, entry.name + ".xml")


def load(path: str) -> Manifest:
    """The manifest at `path` (file or URL), its storage options in force; ManifestError with every fault in it."""
    from batchconv.manifest import read

    return read.load(path)


def schema() -> dict[str, Any]:
    """The JSON Schema of manifests."""
    from batchconv.manifest import forms

    return forms.schema()
