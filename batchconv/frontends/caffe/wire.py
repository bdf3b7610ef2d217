"""A `.caffemodel`, read by the table in `schema`: layers as dicts of what is set, blobs as recipes, payloads unread."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from batchconv.errors import BadModel
from batchconv.frontends import protobuf
from batchconv.frontends.caffe.prototxt import enum_name
from batchconv.frontends.caffe.schema import ENUMS, Field, Message, message
from batchconv.frontends.protobuf import Source
from batchconv.steps import Cast, Reshape
from batchconv.tensor import Array, DType, Region, Spec
from batchconv.weight import Extent, Weight

At = tuple["int | bytes | Extent", int]
"""A field's value and the byte where it starts, as `Source.fields` gives them."""


@dataclass(frozen=True, slots=True)
class Untagged:
    """Numbers that each stand behind a one-byte key (a repeated field that is not packed): the keys taken off."""

    dtype: DType

    def spec(self, spec: Spec) -> Spec:
        return Spec(self.dtype, spec.shape[:1])

    def pull(self, region: Region, spec: Spec) -> Region:
        return Region.rows(spec.shape, region.start[0], region.stop[0])

    def apply(self, block: Array, region: Region, spec: Spec) -> Array:
        return np.ascontiguousarray(block[:, 1:]).view(self.dtype.numpy).reshape(-1)


def layers(source: Source) -> Iterator[tuple[Message, At]]:
    """Every layer of the network in the file, with the message it is (`Layer`, or `V1Layer` of the old format)."""
    kinds = {100: message("Layer"), 2: message("V1Layer")}
    for number, _, value, at in source.fields():
        if number in kinds:
            yield kinds[number], (value, at)


def named_blobs(source: Source) -> dict[str, tuple[Weight, ...]]:
    """Layer name -> its blobs, for every layer that has some (as Caffe does, the last of a name counts)."""
    found: dict[str, tuple[Weight, ...]] = {}
    for kind, place in layers(source):
        name, blobs = _name_and_blobs(source, kind, place)
        if blobs:
            found[name] = tuple(blob(source, place, name) for place in blobs)
    return found


def _name_and_blobs(source: Source, kind: Message, place: At) -> tuple[str, list[At]]:
    name_number, blobs_number = kind.by_name["name"].number, kind.by_name["blobs"].number
    name, blobs = "", []
    for number, _, value, at in source.within(*place):
        if number == name_number:
            name = source.text(value, at)
        elif number == blobs_number:
            blobs.append((value, at))
    return name, blobs


def read_net(source: Source) -> dict[str, Any]:
    """The network's structure as the binary file itself has it, without blobs; the same dict that `read_text` gives."""
    return decode(source, source.fields(), message("Net"))


def decode(source: Source, fields: Iterator[protobuf.Field], shape: Message) -> dict[str, Any]:
    """The fields of a message by the table (blobs and fields that the table lacks are left out)."""
    out: dict[str, Any] = {}
    for number, wire, value, at in fields:
        known = shape.by_number.get(number)
        if known is None or known.type in ("Blob", "Anything"):
            continue
        values = _values(source, known, wire, (value, at))
        if known.repeated:
            out[known.name] = (*out.get(known.name, ()), *values)
        else:
            out[known.name] = values[-1]
    return out


def _values(source: Source, known: Field, wire: int, place: At) -> list[Any]:
    """The value of a field, or the values of a packed one."""
    value, at = place
    if known.type == "s":
        return [source.text(value, at)]
    if known.type not in "ifdb" and known.type not in ENUMS:
        return [decode(source, source.within(value, at), message(known.type))]
    if wire == 2:
        return [_scalar(known, v, at) for v in _packed(known, source.payload(value, at), at)]
    return [_scalar(known, value, at)]


def _packed(known: Field, data: bytes, at: int) -> list[Any]:
    if known.type in "fd":
        size = 4 if known.type == "f" else 8
        return [data[i : i + size] for i in range(0, len(data), size)]
    return list(protobuf.varints(data, at))


def _scalar(known: Field, value: int | bytes | Extent, at: int) -> Any:
    try:
        if isinstance(value, bytes):
            return struct.unpack({4: "<f", 8: "<d"}[len(value)], value)[0]
        if known.type in "fd" or isinstance(value, Extent):
            raise ValueError
        number = protobuf.signed(value)
        if known.type in ENUMS:
            return enum_name(known.type, number)
        return bool(number) if known.type == "b" else number
    except (ValueError, KeyError):
        raise BadModel(f"byte {at}: '{known.name}' has a value that does not fit") from None


@dataclass(slots=True)
class Stored:
    """What a blob's fields say: its dimensions (new and old style) and where its numbers are."""

    dims: tuple[int, ...] | None
    legacy: dict[int, int]
    whole: list[tuple[At, DType]]
    single: list[tuple[int, DType]]


def blob(source: Source, place: At, layer: str) -> Weight:
    """The recipe of one blob, as float32 in its own shape; BadModel if shape and numbers do not agree."""
    stored = _stored(source, place)
    flat = _numbers(source, stored, layer)
    if stored.legacy:
        dims = tuple(stored.legacy.get(number, 0) for number in (1, 2, 3, 4))
    else:
        dims = (flat.spec.size,) if stored.dims is None else stored.dims
    if any(dim < 0 for dim in dims) or math.prod(dims) != flat.spec.size:
        raise BadModel(f"a blob of shape {list(dims)} has {flat.spec.size} numbers", node=layer)
    whole = Weight(Spec(flat.stored.dtype, dims), flat.source) if not flat.steps else flat.then(Reshape(dims))
    return whole if whole.spec.dtype is DType.F32 else whole.then(Cast(DType.F32))


def _stored(source: Source, place: At) -> Stored:
    stored = Stored(None, {}, [], [])
    for number, wire, value, at in source.within(*place):
        if number in (1, 2, 3, 4) and isinstance(value, int):
            stored.legacy[number] = protobuf.signed(value)
        elif number == 7:
            stored.dims = decode(source, source.within(value, at), message("Shape")).get("dim", ())
        elif number in (5, 8):
            dtype = DType.F32 if number == 5 else DType.F64
            if wire == 2:
                stored.whole.append(((value, at), dtype))
            else:
                stored.single.append((at, dtype))
    return stored


def _numbers(source: Source, stored: Stored, layer: str) -> Weight:
    """The numbers of a blob as a flat recipe, wherever they stand."""
    if stored.single and not stored.whole:
        return _singles(source, stored.single, layer)
    if len(stored.whole) != 1 or stored.single:
        if not stored.whole and not stored.single:
            return Weight(Spec(DType.F32, (0,)), b"")
        raise BadModel("a blob is stored in several pieces", node=layer)
    (value, _), dtype = stored.whole[0]
    length = value.length if isinstance(value, Extent) else len(value) if isinstance(value, bytes) else 0
    if isinstance(value, int) or length * 8 % dtype.bits:
        raise BadModel(f"a blob of {length} bytes is no list of {dtype.ir}", node=layer)
    return Weight(Spec(dtype, (length * 8 // dtype.bits,)), value)


def _singles(source: Source, places: list[tuple[int, DType]], layer: str) -> Weight:
    """Numbers with a key each, which must follow one another."""
    first, dtype = places[0]
    stride = 1 + dtype.bits // 8
    if any(at != first + i * stride or kind is not dtype for i, (at, kind) in enumerate(places)):
        raise BadModel("a blob is stored in several pieces", node=layer)
    extent = Extent(source.url, first - 1, len(places) * stride)
    return Weight(Spec(DType.U8, (len(places), stride)), extent, (Untagged(dtype),))
