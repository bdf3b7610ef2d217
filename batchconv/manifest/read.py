"""Reading a manifest: validated, globs expanded, names and folders told apart."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from batchconv import storage
from batchconv.errors import BatchconvError
from batchconv.frontends.translate import Input
from batchconv.manifest import Entry, Limits, Manifest, Precision, forms
from batchconv.manifest.faults import Faults, parse, text_of

FILES = ("proto",)
"""Keys of a model that name further files of its framework."""


def load(path: str) -> Manifest:
    """The manifest at `path` (file or URL), its storage options in force; ManifestError with every fault in it."""
    path = os.path.abspath(storage.local_path(path)) if storage.is_local(path) else path
    data, root = parse(path, text_of(path))
    faults = Faults(path, root)
    file = faults.validate(forms.ManifestForm, data)
    resolved = list(Resolver(path, faults, data).entries())
    faults.end()
    assert file is not None
    limits = Limits(
        None if file.engine.memory is None else int(file.engine.memory),
        file.engine.time,
        file.engine.retries,
        file.engine.workers,
        file.engine.threads,
    )
    return Manifest(path, absolute(path, file.output), tuple(resolved), file.storage, limits)


def absolute(path: str, url: str) -> str:
    """`url` as the manifest at `path` means it: relative to its folder."""
    if "://" in url:
        return storage.local_path(url) if storage.is_local(url) else url
    return url if url.startswith("/") else storage.join(storage.parent(path) or ".", url)


class Resolver:
    """Turns the entries that are sound in themselves into `Entry`s, and adds what only shows in their company."""

    def __init__(self, path: str, faults: Faults, data: Any) -> None:
        self.path = path
        self.faults = faults
        self.data = data if isinstance(data, dict) else {}
        self.defaults = sound(forms.DefaultsForm, self.data.get("defaults", {})) or forms.DefaultsForm()
        self.first: dict[str, int] = {}
        self.configure()

    def configure(self) -> None:
        """The storage options are in force, so that globs can be looked up."""
        options = sound(forms.StorageForm, {"storage": self.data.get("storage", {})})
        if options is not None and options.storage:
            storage.configure(options.storage)

    def entries(self) -> Iterator[Entry]:
        """The entries in order, globs expanded."""
        models = self.data.get("models")
        for index, raw in enumerate(models if isinstance(models, list) else ()):
            entry = sound(forms.ModelForm, raw)
            if entry is not None:
                yield from self.expanded(index, entry)

    def expanded(self, index: int, entry: forms.ModelForm) -> Iterator[Entry]:
        place = ("models", index)
        urls = self.urls(index, entry)
        precisions = tuple(self.precisions(index, entry))
        for url in urls:
            name = entry.name or stem(url)
            if self.named(index, name, url):
                yield Entry(
                    name,
                    url,
                    entry.framework or self.defaults.framework,
                    {key: absolute(self.path, getattr(entry, key)) for key in FILES if getattr(entry, key)},
                    tuple(_inputs(entry.inputs if entry.inputs is not None else self.defaults.inputs)),
                    tuple(entry.outputs if entry.outputs is not None else self.defaults.outputs or ()),
                    precisions,
                    self.faults.line(place),
                )

    def urls(self, index: int, entry: forms.ModelForm) -> list[str]:
        """What the model's URL or glob means; a fault if a glob fits nothing."""
        place = ("models", index, "model")
        try:
            url = storage.packaged(absolute(self.path, entry.model))
            if not re.search(r"[*?\[]", entry.model) or (storage.is_local(url) and storage.exists(url)):
                return [url]
            urls = storage.expand(url)
        except BatchconvError as error:
            self.faults.add(place, str(error))
            return []
        if not urls:
            self.faults.add(place, f"no file fits '{entry.model}'")
        if len(urls) > 1 and entry.name:
            self.faults.add(place, f"{len(urls)} files fit '{entry.model}', but one name is given")
        return urls

    def named(self, index: int, name: str, url: str) -> bool:
        """True if `name` may be used; a fault if another model has it, or it leads out of the output."""
        try:
            forms.named(name)
        except ValueError as error:
            self.faults.add(("models", index, "model"), f"{url}: {error}")
            return False
        line = self.faults.line(("models", index))
        if name in self.first:
            self.faults.add(("models", index), f"the name '{name}' is taken by the model of line {self.first[name]}")
            return False
        self.first[name] = line
        return True

    def precisions(self, index: int, entry: forms.ModelForm) -> Iterator[Precision]:
        own = entry.precisions is not None
        place = ("models", index, "precisions") if own else ("defaults", "precisions")
        folders: set[str] = set()
        for number, item in enumerate((entry.precisions if own else self.defaults.precisions) or ["fp16"]):
            precision = forms.precision(item)
            if precision.folder in folders:
                self.faults.add((*place, number), f"two artifacts would lie in '{precision.folder}': give one a folder")
            folders.add(precision.folder)
            yield precision


def sound(kind: Any, raw: Any) -> Any:
    """`raw` validated alone, or None (its faults are known already)."""
    try:
        return kind.model_validate(raw)
    except ValidationError:
        return None


def _inputs(given: Any) -> Iterator[Input]:
    if isinstance(given, list):
        yield from given
        return
    for name, item in (given or {}).items():
        if not isinstance(item, forms.InputForm):
            yield Input(name, shape=item)
            continue
        shaped = "shape" in item.model_fields_set
        yield Input(name, item.type, item.shape if shaped else None, item.value, shaped)


def stem(url: str) -> str:
    """The name of the file or folder at `url` without its last extension."""
    last = url.rstrip("/").rsplit("/", 1)[-1]
    return last.rpartition(".")[0] or last
