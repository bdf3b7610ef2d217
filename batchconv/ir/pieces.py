"""What a layout is made of: outputs, pieces of weights, parts; small and picklable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from batchconv.ir.geometry import out_specs
from batchconv.weight import Encoded, Encoder, Step, Weight


@dataclass(frozen=True, slots=True)
class Out:
    """One tensor that a piece gives: the last steps to it, and where its bytes go in the `.bin` of `target`."""

    target: int
    tail: tuple[Step, ...]
    offset: int
    nbytes: int
    layer: str

    @property
    def encoded(self) -> Encoded | None:
        """The step that ends the tail, if it is one of several outputs of an encoder."""
        last = self.tail[-1] if self.tail else None
        return last if isinstance(last, Encoded) else None

    @property
    def casts(self) -> tuple[Step, ...]:
        """The steps before that."""
        return self.tail[:-1] if self.encoded else self.tail


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows `start` to `stop` of `base`, and all that is made of them."""

    base: Weight
    start: int
    stop: int
    outs: tuple[Out, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One task: consecutive bytes of every target's `.bin` (`spans`: start and size), and the pieces that fill them.

    Scales and zero points lie in the last part's span but come from the part of their codes.
    """

    number: int
    spans: tuple[tuple[int, int], ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """For each variant: where its recipes lie and how large its `.bin` is; and the parts, the same for all."""

    offsets: tuple[dict[Weight, int], ...]
    sizes: tuple[int, ...]
    parts: tuple[Part, ...]


def stats_pieces(layout: Layout) -> list[Piece]:
    """Pieces to be measured before any part is written: of weights cut over several parts whose scales need all rows.

    One encoder each (`outs` are those that wait for its statistics).
    """
    return [
        waiting
        for part in layout.parts
        for piece in part.pieces
        if piece.stop - piece.start < piece.base.spec.rows
        for waiting in _waiting(piece)
    ]


def _waiting(piece: Piece) -> Iterator[Piece]:
    spec = piece.base.spec
    found: dict[tuple[tuple[Step, ...], Encoder], list[Out]] = {}
    for out in piece.outs:
        if out.encoded and out.encoded.encoder.needs_stats(out_specs(spec, out.tail)[0]):
            found.setdefault((out.casts, out.encoded.encoder), []).append(out)
    for outs in found.values():
        yield replace(piece, outs=tuple(outs))
