"""The wire-format walk: what it yields, what it never reads, and the one line it gives for each damage."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchconv import storage
from batchconv.errors import BadModel
from batchconv.frontends import protobuf
from batchconv.frontends.protobuf import Source, signed, varint, varints
from batchconv.weight import INLINE, Extent


def number(value: int) -> bytes:
    """A varint."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(key: int, value: int | bytes | float, wire: int | None = None) -> bytes:
    """One field; int: varint, float: 4 bytes, bytes: length-delimited."""
    if isinstance(value, float):
        return number(key << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return number(key << 3) + number(value)
    return number(key << 3 | 2) + number(len(value)) + value


@pytest.fixture
def source(tmp_path: Path) -> Callable[[bytes], Source]:
    def make(data: bytes) -> Source:
        (tmp_path / "m.pb").write_bytes(data)
        return Source(str(tmp_path / "m.pb"))

    return make


def plain(source: Source, fields: Any) -> list[tuple[int, int, Any]]:
    """(number, wire type, value) with extents read."""
    return [(n, w, source.payload(v, at) if w == 2 else v) for n, w, v, at in fields]


def test_every_wire_type(source: Callable[[bytes], Source]) -> None:
    read = source(field(1, 300) + field(2, b"ab") + field(3, 1.5) + number(4 << 3 | 1) + bytes(8))
    assert list(read.fields()) == [
        (1, 0, 300, 1),
        (2, 2, b"ab", 5),
        (3, 5, struct.pack("<f", 1.5), 8),
        (4, 1, bytes(8), 13),
    ]


@pytest.mark.parametrize(("size", "kept"), [(INLINE, True), (INLINE + 1, False)])
def test_payloads_over_the_limit_stay_in_the_file(source: Callable[[bytes], Source], size: int, kept: bool) -> None:
    read = source(field(1, 7) + field(5, b"x" * size))
    value = list(read.fields())[1][2]
    assert value == (b"x" * size if kept else Extent(read.url, 5, size))
    assert read.payload(value, 5) == b"x" * size


def test_nested_messages_either_way(source: Callable[[bytes], Source]) -> None:
    small, large = field(1, 5) + field(2, b"n"), field(1, 6) + field(2, b"y" * 5000)
    read = source(field(7, small) + field(7, large))
    (_, _, a, at), (_, _, b, bt) = read.fields()
    assert list(read.within(a, at)) == [(1, 0, 5, 3), (2, 2, b"n", 6)]
    assert list(read.within(b, bt)) == [(1, 0, 6, bt + 1), (2, 2, Extent(read.url, bt + 5, 5000), bt + 5)]


def test_nothing_large_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, huge = tmp_path / "sparse.pb", 3 << 30
    head = number(9 << 3 | 2) + number(huge)
    with path.open("wb") as file:
        for at in range(3):
            file.seek(at * (huge + len(head)))
            file.write(head)
        file.truncate(3 * (huge + len(head)))
    seen: list[int] = []
    read = storage.read
    monkeypatch.setattr(storage, "read", lambda url, offset, length: seen.append(length) or read(url, offset, length))
    assert [value.length for _, _, value, _ in Source(str(path)).fields()] == [huge] * 3
    assert sum(seen) < 1 << 20


@given(st.lists(st.one_of(st.integers(0, 2**64 - 1), st.binary(max_size=3000)), max_size=30), st.integers(1, 400))
def test_windows_of_any_size_give_the_same(values: list[int | bytes], window: int) -> None:
    data = b"".join(field(i + 1, value) for i, value in enumerate(values))
    patch = pytest.MonkeyPatch()
    patch.setattr(storage, "size", lambda url: len(data))
    patch.setattr(storage, "read", lambda url, offset, length: data[offset : offset + length])
    patch.setattr(protobuf, "_LOCAL", (window, window * 2))
    try:
        read = Source("m.pb")
        assert plain(read, read.fields()) == [(i + 1, 0 if isinstance(v, int) else 2, v) for i, v in enumerate(values)]
    finally:
        patch.undo()


@given(st.binary(max_size=60))
def test_any_bytes_give_fields_or_one_line(data: bytes) -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(storage, "size", lambda url: len(data))
    patch.setattr(storage, "read", lambda url, offset, length: data[offset : offset + length])
    try:
        list(Source("m.pb").fields())
    except BadModel as error:
        fault = str(error)
    else:
        fault = "byte 0"
    finally:
        patch.undo()
    assert fault.startswith("byte ")


FAULTS = [
    ("length past the end", field(1, 1) + number(2 << 3 | 2) + number(50) + b"abc",
     "byte 2: field 2 has 50 bytes, of which 3 are there"),
    ("length of 2^63", number(2 << 3 | 2) + number(1 << 63),
     "byte 0: field 2 has 9223372036854775808 bytes, of which 0 are there"),
    ("endless varint", b"\x08" + b"\xff" * 11, "byte 1: a number is longer than 64 bits"),
    ("varint of 70 bits", b"\x08" + b"\xff" * 9 + b"\x7f", "byte 1: a number is longer than 64 bits"),
    ("varint cut off", field(1, 1) + b"\x10\x80", "byte 2: the data ends inside a field"),
    ("fixed cut off", field(1, 1) + b"\x1d\x00", "byte 2: the data ends inside a field"),
    ("group", b"\x0b\x0c", "byte 0: field 1 starts a group, which no model uses"),
    ("end of a group", b"\x0c", "byte 0: field 1 ends a group that was not started"),
    ("wire type 7", b"\x0f", "byte 0: field 1 has wire type 7, which does not exist"),
    ("field number 0", b"\x02\x00", "byte 0: field number 0"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), [case[1:] for case in FAULTS], ids=[case[0] for case in FAULTS])
def test_faults(source: Callable[[bytes], Source], data: bytes, message: str) -> None:
    with pytest.raises(BadModel) as caught:
        list(source(data).fields())
    assert str(caught.value) == message


def test_a_fault_inside_names_the_byte_of_the_file(source: Callable[[bytes], Source]) -> None:
    read = source(field(1, 9) + field(7, b"\x08\x01" + b"\x12\x09a"))
    _, (_, _, value, at) = read.fields()
    with pytest.raises(BadModel, match="byte 6: field 2 has 9 bytes, of which 1 are there"):
        list(read.within(value, at))


def test_text(source: Callable[[bytes], Source]) -> None:
    read = source(field(1, "née".encode()) + field(2, b"ok\xff"))
    (_, _, good, at), (_, _, bad, bt) = read.fields()
    assert read.text(good, at) == "née"
    with pytest.raises(BadModel, match="byte 10: a name is not UTF-8"):
        read.text(bad, bt)
    with pytest.raises(BadModel, match="byte 3: bytes were expected, not a number"):
        read.text(5, 3)
    with pytest.raises(BadModel, match="byte 3: a message was expected, not a number"):
        read.within(5, 3)


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_packed_numbers(values: list[int]) -> None:
    assert varints(b"".join(number(value % 2**64) for value in values)) == values


def test_numbers() -> None:
    assert varint(number(1 << 63), 0) == (1 << 63, 10)
    assert signed((1 << 64) - 5) == -5
    with pytest.raises(BadModel, match="byte 41: a list of numbers ends inside one"):
        varints(b"\x01\x80", 40)
