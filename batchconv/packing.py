"""How elements narrower than a byte lie in the `.bin` (IR v11: sub-byte packing, measured in ir.md section 3)."""

from __future__ import annotations

import numpy as np

from batchconv.tensor import Array, DType

_HIGH_FIRST = {DType.U1}


def pack(block: Array, dtype: DType) -> bytes:
    """The bytes of `block` (one code per element, any shape) as the `.bin` holds them, element 0 first.

    4-bit types low nibble first, u2 low bits first, u1 high bit first, u3 and u6 in groups with the high bits
    apart; an odd tail is padded with zeros. Whole-byte types are their little-endian bytes.
    """
    if dtype.bits >= 8:
        return np.ascontiguousarray(block).tobytes()
    codes = np.ascontiguousarray(block).reshape(-1).view(np.uint8)
    if dtype.bits == 4:
        return _pack4(codes)
    if dtype is DType.U1:
        return np.packbits(codes).tobytes()
    if dtype.bits == 2:
        return _pack2(codes)
    return _pack_split(codes, *_SPLIT[dtype])


def unpack(data: bytes | bytearray | memoryview, dtype: DType, count: int) -> Array:
    """`count` codes, one per element in the numpy type of `dtype`, from packed bytes; the inverse of `pack`."""
    raw = np.frombuffer(data, np.uint8)
    if dtype.bits == 4:
        codes = np.stack([raw & 15, raw >> 4], axis=-1).reshape(-1)[:count]
        return ((codes ^ 8).view(np.int8) - 8 if dtype is DType.I4 else codes).astype(dtype.numpy)
    if dtype is DType.U1:
        return np.unpackbits(raw)[:count]
    if dtype.bits == 2:
        return (raw[:, None] >> np.array([0, 2, 4, 6], np.uint8) & 3).reshape(-1)[:count]
    return _unpack_split(raw, *_SPLIT[dtype])[:count]


def _padded(codes: Array, multiple: int) -> Array:
    rest = -len(codes) % multiple
    return np.concatenate([codes, np.zeros(rest, np.uint8)]) if rest else codes


def _pack4(codes: Array) -> bytes:
    pairs = _padded(codes, 2).view("<u2")
    return ((pairs & 15) | (pairs >> 4 & 0xF0)).astype(np.uint8).tobytes()


def _pack2(codes: Array) -> bytes:
    c = _padded(codes, 4).reshape(-1, 4) & 3
    return (c[:, 0] | c[:, 1] << 2 | c[:, 2] << 4 | c[:, 3] << 6).tobytes()


_SPLIT = {DType.U3: (8, 2), DType.U6: (4, 4)}
"""dtype -> (values per 3 bytes, low bits of each); the low bits fill two bytes, the high bits the third."""


def _pack_split(codes: Array, count: int, low: int) -> bytes:
    """count values in 3 bytes: low bits of the first half, of the second half, then all high bits; v0 on top."""
    values = _padded(codes, count).reshape(-1, count)
    out = np.zeros((len(values), 3), np.uint8)
    for i in range(count):
        half, place = divmod(i, count // 2)
        out[:, half] |= (values[:, i] & (1 << low) - 1) << (8 - low * (place + 1))
        out[:, 2] |= values[:, i] >> low << (8 - 8 // count * (i + 1))
    return out.tobytes()


def _unpack_split(raw: Array, count: int, low: int) -> Array:
    bytes3 = raw.reshape(-1, 3)
    out = np.zeros((len(bytes3), count), np.uint8)
    high = 8 // count
    for i in range(count):
        half, place = divmod(i, count // 2)
        out[:, i] = bytes3[:, half] >> (8 - low * (place + 1)) & (1 << low) - 1
        out[:, i] |= (bytes3[:, 2] >> (8 - high * (i + 1)) & (1 << high) - 1) << low
    return out.reshape(-1)
