"""The text of a manifest as data and as a tree with line numbers, and the faults found in it."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from batchconv import storage
from batchconv.errors import ManifestError
from batchconv.manifest import forms

LIMIT = 64 << 20
"""Bytes of a manifest beyond which it is not read."""


def text_of(path: str) -> str:
    size = storage.size(path)
    if size > LIMIT:
        raise ManifestError(path, (f"{size} bytes are too many for a manifest",))
    try:
        return storage.read(path, 0, size).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(path, (f"not UTF-8 text (byte {error.start})",)) from None


def parse(path: str, text: str) -> tuple[Any, yaml.Node | None]:
    """The data and the tree with line numbers; JSON is read as JSON, and walked as the YAML it nearly is."""
    try:
        if text.lstrip().startswith(("{", "[")):
            data = json.loads(text)
            return data, yaml.compose(text.replace("\t", " "), Loader=yaml.SafeLoader)
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        return (loader.construct_document(root) if root else None), root
    except json.JSONDecodeError as error:
        raise ManifestError(path, (f"line {error.lineno}: not JSON: {error.msg}",)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise ManifestError(path, (f"{where}not YAML: {error.problem or error.context}",)) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ManifestError(path, (" ".join(f"not YAML: {error}".split()),)) from None


class Faults:
    """The faults found so far, by line, in the manifest at `path` with the tree `root`."""

    def __init__(self, path: str, root: yaml.Node | None) -> None:
        self.path = path
        self.root = root
        self.found: dict[tuple[int, str], None] = {}
        for key, line in _doubled(root, set()):
            self.found[line, f"key '{key}' is given twice"] = None

    def add(self, place: tuple[Hashable, ...], message: str) -> None:
        """A fault at `place` (keys and indices from the root)."""
        words = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place).lstrip(".")
        self.found[self.line(place), f"{words}: {message}" if words else message] = None

    def line(self, place: tuple[Hashable, ...]) -> int:
        return _line(self.root, place)

    def validate(self, kind: type[forms.ManifestForm], data: Any) -> forms.ManifestForm | None:
        """`data` as pydantic validates it, or None with all its faults added."""
        try:
            return kind.model_validate(data)
        except ValidationError as error:
            for fault in error.errors(include_url=False):
                place = tuple(key for key in fault["loc"] if key not in ("mapping", "plain"))
                self.add(place, _message(fault, data))
            return None

    def end(self) -> None:
        """ManifestError if there is any."""
        if self.found:
            lines = sorted(self.found)
            raise ManifestError(self.path, tuple(f"line {line}: {text}" if line else text for line, text in lines))


def _message(fault: Any, data: Any) -> str:
    """Pydantic's message in our words."""
    match fault["type"]:
        case "extra_forbidden":
            known = _known(fault["loc"])
            return f"unknown key{forms.guess(str(fault['loc'][-1]), known)}"
        case "missing":
            return "is missing"
        case "model_type":
            return "a mapping is wanted" if fault["input"] is not None else "the manifest is empty"
    return str(fault["msg"]).removeprefix("Value error, ").replace("Input should be", "should be")


def _known(loc: tuple[Any, ...]) -> list[str]:
    """The keys that the mapping at `loc` may have."""
    kinds: dict[str, type[BaseModel]] = {
        "defaults": forms.DefaultsForm,
        "engine": forms.EngineForm,
        "models": forms.ModelForm,
    }
    kinds |= {"precisions": forms.PrecisionForm, "inputs": forms.InputForm}
    named = [kinds[key] for key in loc[:-1] if key in kinds]
    return list((named[-1] if named else forms.ManifestForm).model_fields)


def _line(node: yaml.Node | None, place: tuple[Hashable, ...]) -> int:
    """The line of what stands at `place`, or of the nearest thing around it; 0 without a tree."""
    line = node.start_mark.line + 1 if node else 0
    for step in place:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value == str(step):
                    node, line = value, key.start_mark.line + 1
    return line


def _doubled(node: yaml.Node | None, seen: set[int]) -> Iterator[tuple[str, int]]:
    """Every key that a mapping has twice, with the line of the second (PyYAML lets the last one win)."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    yield key.value, key.start_mark.line + 1
                keys.add(key.value)
            yield from _doubled(value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _doubled(child, seen)
