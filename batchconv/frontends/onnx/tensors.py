"""TensorProto -> recipe: raw, typed and external data, none of it read over 1 KiB (onnx.proto, message TensorProto)."""

from __future__ import annotations

import os
import struct
from typing import Any

import numpy as np

from batchconv import packing, storage
from batchconv.errors import BadModel, StorageError, Unsupported
from batchconv.frontends.onnx.decode import decoded, varint_weight
from batchconv.frontends.protobuf import Source, signed, varints
from batchconv.tensor import DType, Spec
from batchconv.weight import INLINE, Extent, Weight

TYPES = {
    1: DType.F32,
    2: DType.U8,
    3: DType.I8,
    4: DType.U16,
    5: DType.I16,
    6: DType.I32,
    7: DType.I64,
    8: DType.STRING,
    9: DType.BOOLEAN,
    10: DType.F16,
    11: DType.F64,
    12: DType.U32,
    13: DType.U64,
    16: DType.BF16,
    17: DType.F8E4M3,
    19: DType.F8E5M2,
    21: DType.U4,
    22: DType.I4,
    23: DType.F4E2M1,
    24: DType.F8E8M0,
    25: DType.U2,
}
"""TensorProto.DataType -> element type."""

_FOREIGN = {14: "complex64", 15: "complex128", 18: "float8e4m3fnuz", 20: "float8e5m2fnuz", 26: "int2"}
_FLOATS, _INT32, _INT64, _RAW, _DOUBLES, _UINT64 = 4, 5, 7, 9, 10, 11
_FIELD = {DType.F32: _FLOATS, DType.F64: _DOUBLES, DType.I64: _INT64, DType.U32: _UINT64, DType.U64: _UINT64}
_PACKED = {4: "float_data", 5: "int32_data", 7: "int64_data", 10: "double_data", 11: "uint64_data"}
_FIXED = {_FLOATS: 5, _DOUBLES: 1}
_LARGEST_RANK = 64
_LOOSE = 1 << 20
"""Bytes of a tensor that may be stored as one field an element (proto2's way before `packed`)."""


def dtype_of(code: int) -> DType:
    """The element type of that number; Unsupported for those OpenVINO lacks, BadModel for none at all."""
    found = TYPES.get(code)
    if found is not None:
        return found
    if code in _FOREIGN:
        raise Unsupported(f"element type {_FOREIGN[code]} is not supported")
    raise BadModel(f"element type {code} does not exist")


def tensor(source: Source, value: Any, at: int, folder: Folder) -> tuple[str, Weight]:
    """(name, recipe) of the TensorProto that starts at byte `at`; errors name the tensor."""
    name, code, where, data, kind, outside = "", 0, 0, None, 0, None
    dims: list[int] = []
    loose: list[Any] = []
    for number, wire, item, start in source.within(value, at):
        if number == 1:
            dims += [signed(item)] if isinstance(item, int) else varints(source.payload(item, start), start)
        elif number == 2 and isinstance(item, int):
            code = item
        elif number == 8:
            name = source.text(item, start)
        elif number == _RAW or number in _PACKED:
            if data is not None or (loose and wire == 2):
                raise Unsupported(f"tensor '{name}' has its data in several pieces")
            kind = number
            if wire == 2:
                data, where = item, start
            else:
                loose.append(item)
        elif number == 13:
            outside = [*(outside or ()), (item, start)]
        elif number == 14 and item == 1:
            outside = outside or []
    try:
        spec = spec_of(code, dims)
        if outside is not None:
            return name, folder.weight(spec, entries(source, outside, folder.entries))
        return name, stored(spec, kind, _joined(loose, kind) if loose else data, where, bool(loose))
    except (BadModel, Unsupported) as error:
        raise type(error)(f"tensor '{name}': {error.message}") from None


def spec_of(code: int, dims: list[int]) -> Spec:
    dtype = dtype_of(code)
    if min(dims, default=0) < 0:
        raise BadModel(f"shape {dims} has a negative dimension")
    if len(dims) > _LARGEST_RANK:
        raise BadModel(f"a shape of {len(dims)} dimensions")
    return Spec(dtype, tuple(dims))


def stored(spec: Spec, kind: int, data: Any, at: int, loose: bool = False) -> Weight:
    """The recipe of a tensor whose bytes `data` (kept or left in the file) lie in field `kind`."""
    if data is None:
        data, kind = b"", _RAW
    if not isinstance(data, (bytes, Extent)):
        raise BadModel(f"byte {at}: bytes were expected, not a number")
    if spec.dtype is DType.STRING:
        return Weight(spec, b"")
    if kind == _RAW or kind in _FIXED:
        if kind != _RAW and _FIELD.get(spec.dtype) != kind:
            raise BadModel(f"{spec} cannot lie in {_PACKED[kind]}")
        return exact(spec, data)
    if kind != _FIELD.get(spec.dtype, _INT32):
        raise BadModel(f"{spec} cannot lie in {_PACKED[kind]}")
    if isinstance(data, Extent):
        return _long(spec, data)
    return exact(spec, packing.pack(decoded(np.array(varints(data, at), np.int64), spec.dtype), spec.dtype))


def _long(spec: Spec, data: Extent) -> Weight:
    """Varints left in the file: at least one byte a number, so an impossible shape is found without reading."""
    numbers = spec.size if spec.dtype.bits >= 8 else spec.nbytes
    if not numbers <= data.length <= 10 * numbers:
        raise BadModel(f"{spec} has {numbers} numbers, which {data.length} bytes cannot hold")
    return varint_weight(data, spec)


def exact(spec: Spec, data: bytes | Extent) -> Weight:
    """The recipe of bytes that are exactly the tensor; BadModel otherwise."""
    there = len(data) if isinstance(data, bytes) else data.length
    if there != spec.nbytes:
        raise BadModel(f"{spec} needs {spec.nbytes} bytes, {there} are there")
    return Weight(spec, data)


def _joined(loose: list[Any], kind: int) -> bytes:
    """Numbers stored one field each, as the packed field has them (in wire form)."""
    if len(loose) > _LOOSE:
        raise Unsupported(f"{len(loose)} numbers are stored one by one")
    if kind in _FIXED:
        return b"".join(item for item in loose if isinstance(item, bytes))
    return b"".join(_wire(item) for item in loose if isinstance(item, int))


def _wire(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def entries(source: Source, items: list[tuple[Any, int]], known: dict[Any, tuple[str, str]]) -> dict[str, str]:
    """The key-value pairs of `external_data`; `known`: those met before, by their bytes (all offsets differ)."""
    pairs = {}
    for value, at in items:
        key, text = known.get(value) or entry(source, value, at)
        if key != "offset":
            known[value] = key, text
        pairs[key] = text
    return pairs


def entry(source: Source, value: Any, at: int) -> tuple[str, str]:
    """One key and its value (StringStringEntryProto)."""
    pair = {number: source.text(item, start) for number, _, item, start in source.within(value, at)}
    return pair.get(1, ""), pair.get(2, "")


class Folder:
    """The folder of a model: external data may lie in it or below, nowhere else."""

    def __init__(self, model_url: str) -> None:
        self.url = model_url.rpartition("/")[0] if "/" in model_url else ""
        self.sizes: dict[str, int] = {}
        self.places: dict[str, str] = {}
        self.entries: dict[Any, tuple[str, str]] = {}

    def weight(self, spec: Spec, entry: dict[str, str]) -> Weight:
        """The recipe of a tensor of `spec` stored where `entry` (location, offset, length) says."""
        location = entry.get("location", "")
        offset = _number(entry, "offset", 0)
        length = _number(entry, "length", spec.nbytes)
        if location not in self.places:
            self.places[location] = self.inside(location)
            self.sizes[self.places[location]] = self.size(self.places[location], location)
        url = self.places[location]
        if length != spec.nbytes:
            raise BadModel(f"{spec} needs {spec.nbytes} bytes, its external data has {length}")
        if offset + length > self.sizes[url]:
            raise BadModel(
                f"its data are bytes {offset} to {offset + length} of '{location}', which has {self.sizes[url]}"
            )
        if spec.dtype is DType.STRING:
            raise BadModel("texts cannot lie in external data")
        return Weight(spec, Extent(url, offset, length))

    def inside(self, location: str) -> str:
        """The URL of the external file `location`; BadModel unless it lies in the folder of the model."""
        parts = location.replace("\\", "/").split("/")
        if not location or location.startswith(("/", "\\")) or ".." in parts or ":" in location or "\0" in location:
            raise BadModel(f"external data '{location}' is not a file in the folder of the model")
        url = f"{self.url}/{location}" if self.url else location
        if storage.is_local(url):
            home = os.path.realpath(storage.local_path(self.url) or ".")
            if os.path.commonpath([home, os.path.realpath(storage.local_path(url))]) != home:
                raise BadModel(f"external data '{location}' is a link that leaves the folder of the model")
        return url

    def size(self, url: str, location: str) -> int:
        try:
            return storage.size(url)
        except (StorageError, OSError):
            raise BadModel(f"external data '{location}' is missing") from None


def _number(entry: dict[str, str], key: str, default: int) -> int:
    try:
        number = int(entry.get(key) or default)
    except ValueError:
        number = -1
    if number < 0:
        raise BadModel(f"external data: {key} '{entry[key]}' is not a number")
    return number


def floats(source: Source, value: Any, at: int) -> list[float]:
    """A packed or single `repeated float` field."""
    data = source.payload(value, at)
    if len(data) % 4:
        raise BadModel(f"byte {at}: a list of floats has {len(data)} bytes")
    return list(struct.unpack(f"<{len(data) // 4}f", data))


__all__ = ["INLINE", "TYPES", "Folder", "dtype_of", "floats", "tensor"]
