"""Protobuf's wire format, walked: fields as they come, and payloads over 1 KiB as extents that are never read.

    source = Source(url)
    for number, wire, value, at in source.fields():     # wire 0: int; 1, 5: 8 or 4 bytes; 2: bytes or Extent
        for inner in source.within(value, at): ...      # the fields of a nested message

Every fault of the wire format is a BadModel that names the byte. Nothing recurses, and memory is one window
(up to 1 MiB) for each nested message that is larger than one.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator

from batchconv import storage
from batchconv.errors import BadModel
from batchconv.weight import INLINE, Extent

_MARGIN = INLINE + 32
"""A field whose payload is kept fits in this many bytes, key and length included."""
_LOCAL = (1 << 16, 1 << 20)
_REMOTE = (1 << 20, 1 << 22)
"""First and largest window: after a skipped payload little may be wanted, but a remote request costs a round trip."""
_LONGEST_TEXT = 1 << 20

Field = tuple[int, int, "int | bytes | Extent", int]
"""Field number, wire type, value, and the byte where the value starts in the file."""


class Source:
    """The bytes of one object, fetched by range as the walk moves on; nothing is fetched twice in a row."""

    def __init__(self, url: str, size: int | None = None) -> None:
        self.url = url
        self.size = storage.size(url) if size is None else size
        self._data = b""
        self._base = 0
        self._sizes = _LOCAL if storage.is_local(url) else _REMOTE
        self._length = self._sizes[0]

    def window(self, at: int, need: int) -> tuple[bytes, int]:
        """Bytes of the object that hold `need` bytes from `at` on, and where they start; BadModel at its end."""
        end = self._base + len(self._data)
        if not (self._base <= at and at + need <= end):
            first, largest = self._sizes
            self._length = min(self._length * 4, largest) if self._base < at <= end else first
            self._data, self._base = storage.read(self.url, at, max(need, min(self._length, self.size - at))), at
            if len(self._data) < need:
                raise BadModel(f"byte {at}: the file ends early")
        return self._data, self._base

    def fields(self, start: int = 0, stop: int | None = None) -> Iterator[Field]:
        """The fields of the message at bytes `start` to `stop` (default: to the end of the object)."""
        at, stop = start, self.size if stop is None else stop
        while at < stop:
            data, base = self.window(at, min(_MARGIN, stop - at))
            bound = stop - base
            safe = bound if bound <= len(data) else len(data) - _MARGIN + 1
            at = yield from _scan(data, at - base, safe, bound, base, self.url)

    def within(self, value: int | bytes | Extent, at: int) -> Iterator[Field]:
        """The fields of the nested message that `fields` gave as `value`, which starts at byte `at`."""
        if isinstance(value, bytes):
            return _scan(value, 0, len(value), len(value), at, self.url)
        if isinstance(value, Extent):
            return self.fields(value.offset, value.offset + value.length)
        raise BadModel(f"byte {at}: a message was expected, not a number")

    def payload(self, value: int | bytes | Extent, at: int) -> bytes:
        """The payload itself, read now if it was left in the file; BadModel over 1 MiB."""
        if isinstance(value, bytes):
            return value
        if not isinstance(value, Extent):
            raise BadModel(f"byte {at}: bytes were expected, not a number")
        if value.length > _LONGEST_TEXT:
            raise BadModel(f"byte {at}: {value.length} bytes are too many for a name or a list")
        data = storage.read(value.url, value.offset, value.length)
        if len(data) != value.length:
            raise BadModel(f"byte {at}: the file ends early")
        return data

    def text(self, value: int | bytes | Extent, at: int) -> str:
        """The payload as text; BadModel unless it is UTF-8."""
        try:
            return (value if isinstance(value, bytes) else self.payload(value, at)).decode()
        except UnicodeDecodeError as error:
            raise BadModel(f"byte {at + error.start}: a name is not UTF-8") from None


def _scan(data: bytes, i: int, safe: int, bound: int, base: int, url: str) -> Generator[Field, None, int]:
    """The fields that start in data[i:safe], of a message that ends at `bound`; returns the byte after the last.

    One loop, unfolded, since every name of every node passes through it.
    """
    first = i
    try:
        while i < safe:
            first = i
            key = data[i]
            i += 1
            if key > 127:
                key, i = varint(data, first, base)
            if key < 8:
                raise BadModel(f"byte {base + first}: field number 0")
            wire = key & 7
            if wire == 2:
                length = data[i]
                i += 1
                if length > 127:
                    length, i = varint(data, i - 1, base)
                end = i + length
                if end > bound:
                    there = f"{length} bytes, of which {max(bound - i, 0)} are there"
                    raise BadModel(f"byte {base + first}: field {key >> 3} has {there}")
                if length <= INLINE:
                    yield key >> 3, 2, data[i:end], base + i
                else:
                    yield key >> 3, 2, Extent(url, base + i, length), base + i
                i = end
            elif wire == 0:
                start, number = i, data[i]
                i += 1
                if number > 127:
                    number, i = varint(data, start, base)
                yield key >> 3, 0, number, base + start
            elif wire == 5 or wire == 1:
                end = i + (4 if wire == 5 else 8)
                if end > bound:
                    i = end
                    break
                yield key >> 3, wire, data[i:end], base + i
                i = end
            else:
                raise BadModel(f"byte {base + first}: field {key >> 3} {_REFUSED[wire]}")
    except IndexError:
        i = bound + 1
    if i > bound:
        raise BadModel(f"byte {base + first}: the data ends inside a field")
    return base + i


_REFUSED = {
    3: "starts a group, which no model uses",
    4: "ends a group that was not started",
    6: "has wire type 6, which does not exist",
    7: "has wire type 7, which does not exist",
}


def varint(data: bytes, i: int, base: int = 0) -> tuple[int, int]:
    """The variable-length integer at data[i] (unsigned, 64 bits), and where it ends; IndexError if cut off."""
    value, first = 0, i
    for shift in range(0, 70, 7):
        byte = data[i]
        i += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >> 64:
                break
            return value, i
    raise BadModel(f"byte {base + first}: a number is longer than 64 bits")


def signed(value: int) -> int:
    """A varint read as int64 (int32 and enum fields are sign-extended to 64 bits too)."""
    return value - (1 << 64) if value >> 63 else value


def varints(data: bytes, at: int = 0) -> list[int]:
    """The numbers of a packed field whose bytes start at byte `at` of the file, as int64."""
    numbers, i = [], 0
    try:
        while i < len(data):
            number = data[i]
            if number > 127:
                number, i = varint(data, i, at)
            else:
                i += 1
            numbers.append(signed(number))
    except IndexError:
        raise BadModel(f"byte {at + i}: a list of numbers ends inside one") from None
    return numbers


def float32(value: bytes) -> float:
    """The number in four little-endian bytes."""
    return float(struct.unpack("<f", value)[0])
