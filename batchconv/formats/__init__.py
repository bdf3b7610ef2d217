"""Every compression format: its formula (`FORMATS[name].formula`) and the encoder that computes it.

An encoder takes blocks of rows and gives codes, scales and zero points of each block, whatever the blocks are.
Without the scale search every format that NNCF 3.4 has gives NNCF's own bits (tests/test_nncf.py); it has no fp8_e5m2.
"""

from __future__ import annotations

from batchconv.formats.blocks import TILE
from batchconv.formats.encoder import Quantised
from batchconv.formats.half import Half, fits_f16, verdict
from batchconv.formats.rules import CB4
from batchconv.formats.table import FORMATS, Format
from batchconv.tensor import DType, Spec

__all__ = ["CB4", "FORMATS", "Format", "Half", "Quantised", "fits_f16", "memory", "verdict"]

_SCRATCH = 28
"""Bytes of scratch for each element of a tile, at most: float32 copies, counts, numpy's own index buffers."""


def memory(encoder: Half | Quantised, spec: Spec, rows: int) -> int:
    """Bytes that encoding `rows` rows of a weight of `spec` takes beside the block itself: results and scratch."""
    width = spec.size // max(spec.rows, 1)
    elements = width * min(rows, spec.rows)
    if isinstance(encoder, Half):
        return 2 * elements + _SCRATCH * min(TILE, elements)
    groups = encoder.groups
    outputs = encoder.outputs(spec)
    scales = outputs["scale"].size * (1 if groups.across_rows else elements / max(spec.size, 1))
    reduced = groups.size if groups.size > 0 else max(1, spec.size // max(outputs["scale"].size, 1))
    tile = TILE if groups.across_rows else max(TILE, 64 * reduced)
    copies = 0 if spec.dtype is DType.F32 and groups.order(len(spec.shape)) is None else 8
    return int(
        elements * (1 + (copies if groups.order(len(spec.shape)) else 0)) + 16 * scales + _SCRATCH * min(tile, elements)
    )
