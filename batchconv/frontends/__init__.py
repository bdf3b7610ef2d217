"""The frameworks that batchconv reads: which file belongs to which, and the way in (`open_model`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from batchconv import storage
from batchconv.errors import BadModel, ConversionError, StorageError, Unsupported
from batchconv.frontends.translate import Model, Registry

HEAD = 1024
"""Bytes from the start of a file by which it is recognised."""


@dataclass(frozen=True, slots=True)
class Frontend:
    """One framework: the module that reads it (imported on use; "" while there is none) and what to say of it.

    extensions: how its files are usually called, longest first.
    """

    module: str
    description: str
    extensions: tuple[str, ...]


FRONTENDS: dict[str, Frontend] = {
    "caffe": Frontend(
        "batchconv.frontends.caffe",
        "Caffe .caffemodel with .prototxt, or either alone; nothing to install",
        (".caffemodel", ".prototxt"),
    ),
    "onnx": Frontend("batchconv.frontends.onnx", "ONNX .onnx, external data too; nothing to install", (".onnx",)),
    "tensorflow": Frontend("", "TensorFlow is not supported yet", (".pb", ".pbtxt", ".meta", ".index")),
    "mxnet": Frontend("", "MXNet is not supported yet", (".params", "-symbol.json", ".nd")),
    "kaldi": Frontend("", "Kaldi is not supported yet", (".nnet", ".mdl", ".raw")),
}


def open_model(
    url: str, framework: str | None = None, files: Mapping[str, str] | None = None
) -> tuple[Model, Registry]:
    """The model at `url` and the translators of its framework; only headers are read.

    framework: a name of FRONTENDS, or None to find out. files: what belongs to the model, by role ("proto": url).
    Every error is a ConversionError or StorageError of one line that names the file.
    """
    name = _file(url)
    try:
        _there(url, files or {})
        chosen = _chosen(url, framework, files)
        module = import_module(FRONTENDS[chosen].module)
        return module.read(url, dict(files or {})), module.registry
    except ConversionError as error:
        raise error.at(model=name) from None


def operators(framework: str) -> list[str]:
    """Every operator of a framework that can be translated, sorted; none where there is no frontend yet."""
    module = FRONTENDS[framework].module
    names: list[str] = import_module(module).registry.names() if module else []
    return names


def _there(url: str, files: Mapping[str, str]) -> None:
    """BadModel naming the first file that is not there."""
    for role, place in (("", url), *files.items()):
        if not storage.exists(place):
            silent = ", or its server does not answer" if place.startswith("http") else ""
            raise BadModel((f"there is no {role} file {place}" if role else "there is no such file") + silent)


def _chosen(url: str, framework: str | None, files: Mapping[str, str] | None) -> str:
    """The framework asked for, or else detected; refused if there is no frontend or the content is another's."""
    if framework is not None and framework not in FRONTENDS:
        raise BadModel(f"'{framework}' is not one of {', '.join(FRONTENDS)}")
    head = _head(url)
    if head == b"":
        raise BadModel("the file is empty")
    seen = _by_content(head or b"")
    if framework and seen and framework != seen:
        raise BadModel(f"this is a model of {seen}, not of {framework}")
    name = framework or seen or _by_extension(url)
    if not name:
        raise _unknown()
    if not FRONTENDS[name].module:
        raise Unsupported(FRONTENDS[name].description)
    return name


def detect(url: str, files: Mapping[str, str] | None = None) -> str:
    """The framework of the model at `url`, by its content, else its extension; BadModel if none fits."""
    name = _by_content(_head(url) or b"") or _by_extension(url)
    if not name:
        raise _unknown().at(model=_file(url))
    return name


def _unknown() -> BadModel:
    return BadModel("the framework cannot be told from content or extension, give one of " + ", ".join(FRONTENDS))


def _head(url: str) -> bytes | None:
    """The first bytes of the file; None where there is none to read (a folder)."""
    try:
        return storage.read(url, 0, HEAD)
    except StorageError:
        return None


def _by_extension(url: str) -> str:
    found = (name for name, frontend in FRONTENDS.items() if _file(url).lower().endswith(frontend.extensions))
    return next(found, "")


_PROTOTXT = re.compile(rb"(?:\s|#[^\n]*\n)*(?:name|input|input_dim|input_shape|layers?|state|force_backward)\s*[:{]")


def _by_content(head: bytes) -> str:
    """The framework whose format the first bytes have, "" if they might be anything's.

    ONNX: field 1 of a ModelProto is a number (ir_version), and its graph is field 7. Caffe: field 1 of a NetParameter
    is its name, followed by inputs (3, 4, 8) or layers (2, 100); of a TensorFlow GraphDef it is a message.
    """
    if _PROTOTXT.match(head):
        return "caffe"
    if head[:1] == b"\x08" and _onnx(head):
        return "onnx"
    return "caffe" if _caffe(head) else ""


def _onnx(head: bytes) -> bool:
    """True if what follows ir_version is a field of a ModelProto (2-6 texts or numbers, 7 the graph, 8 opsets)."""
    at = 1
    while at < len(head) and head[at] > 127:
        at += 1
    return at + 1 < len(head) and head[at + 1] in (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)


def _caffe(head: bytes) -> bool:
    if head[:2] == b"\xa2\x06":
        return True
    if head[:1] != b"\x0a" or len(head) < 2 or head[1] > 127:
        return False
    name, rest = head[2 : 2 + head[1]], head[2 + head[1] :]
    return all(byte >= 32 for byte in name) and (rest[:2] == b"\xa2\x06" or rest[:1] in (b"\x12", b"\x1a"))


def _file(url: str) -> str:
    return url.rstrip("/").rsplit("/", 1)[-1]


__all__ = ["FRONTENDS", "Frontend", "detect", "open_model", "operators"]
