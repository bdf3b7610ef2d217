"""AttributeProto -> Python values: numbers, texts, tuples of them, recipes for tensors (onnx.proto, AttributeProto)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from batchconv.errors import BadModel
from batchconv.frontends.onnx.tensors import Folder, floats, tensor
from batchconv.frontends.protobuf import Source, float32, signed, varints

Piece = tuple[Any, int]
"""A nested message as the walk gave it: its value and the byte where it starts."""


@dataclass(frozen=True, slots=True)
class Unread:
    """An attribute that is a graph, a sparse tensor or a type: no translator takes one yet."""

    kind: str
    piece: Piece


def attributes(source: Source, pieces: list[Piece], folder: Folder) -> dict[str, Any]:
    """name -> value of the attributes of one node; tensors become recipes, nothing over 1 KiB is read."""
    return dict(attribute(source, value, at, folder) for value, at in pieces)


def attribute(source: Source, value: Any, at: int, folder: Folder) -> tuple[str, Any]:
    """(name, value) of the AttributeProto at byte `at`. Its `type` decides; old files leave it out."""
    name, kind = "", 0
    found: dict[int, list[Piece]] = {}
    for number, _, item, start in source.within(value, at):
        if number == 1:
            name = source.text(item, start)
        elif number == 20:
            kind = item if isinstance(item, int) else 0
        elif number != 13:
            found.setdefault(number, []).append((item, start))
    field = _FIELD_OF_TYPE.get(kind) or next(iter(found), 8)
    if field not in _PARSE:
        raise BadModel(f"attribute '{name}' has a type that does not exist")
    try:
        return name, _PARSE[field](source, found.get(field, []), folder)
    except BadModel as error:
        raise BadModel(f"attribute '{name}': {error.message}") from None


def _float(source: Source, pieces: list[Piece], folder: Folder) -> float:
    return float32(source.payload(*pieces[-1])) if pieces else 0.0


def _int(source: Source, pieces: list[Piece], folder: Folder) -> int:
    return _ints(source, pieces[-1:], folder)[0] if pieces else 0


def _text(source: Source, pieces: list[Piece], folder: Folder) -> str:
    return source.text(*pieces[-1]) if pieces else ""


def _tensor(source: Source, pieces: list[Piece], folder: Folder) -> Any:
    if not pieces:
        raise BadModel("the tensor is missing")
    return tensor(source, *pieces[-1], folder)[1]


def _floats(source: Source, pieces: list[Piece], folder: Folder) -> tuple[float, ...]:
    return tuple(number for piece in pieces for number in floats(source, *piece))


def _ints(source: Source, pieces: list[Piece], folder: Folder) -> tuple[int, ...]:
    numbers: list[int] = []
    for item, at in pieces:
        numbers += [signed(item)] if isinstance(item, int) else varints(source.payload(item, at), at)
    return tuple(numbers)


def _texts(source: Source, pieces: list[Piece], folder: Folder) -> tuple[str, ...]:
    return tuple(source.text(*piece) for piece in pieces)


def _tensors(source: Source, pieces: list[Piece], folder: Folder) -> tuple[Any, ...]:
    return tuple(tensor(source, *piece, folder)[1] for piece in pieces)


def _unread(kind: str) -> Callable[[Source, list[Piece], Folder], Any]:
    return lambda source, pieces, folder: tuple(Unread(kind, piece) for piece in pieces)


_PARSE: dict[int, Callable[[Source, list[Piece], Folder], Any]] = {
    2: _float,
    3: _int,
    4: _text,
    5: _tensor,
    6: _unread("graph"),
    7: _floats,
    8: _ints,
    9: _texts,
    10: _tensors,
    11: _unread("graph"),
    14: _unread("type"),
    15: _unread("type"),
    21: _unread("reference to a function's attribute"),
    22: _unread("sparse tensor"),
    23: _unread("sparse tensor"),
}
_FIELD_OF_TYPE = {1: 2, 2: 3, 3: 4, 4: 5, 5: 6, 6: 7, 7: 8, 8: 9, 9: 10, 10: 11, 11: 22, 12: 23, 13: 14, 14: 15}
