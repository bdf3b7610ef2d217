"""Which layers get which format: the settings, the choice by NNCF's conventions, sensitivity, and the report."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import reduce

import numpy as np

from batchconv.formats import FORMATS, Quantised
from batchconv.formats.blocks import dots, single
from batchconv.steps import Reshape, row
from batchconv.tensor import Array, DType, Region, Spec
from batchconv.weight import BLOCK, LONG, Weight, read

PLAIN = ("fp32", "fp16", "bf16")
"""Modes without scales."""

BACKUPS = ("int8_asym", "int8_sym", "mxfp8_e4m3", "fp8_e4m3", "none")

LEAST_GROUP = 32
"""The least group that a group size is lowered to (NNCF's min_adjusted_group_size)."""

FLOATS = (DType.F32, DType.F64, DType.F16, DType.BF16)
"""Element types of the weights that are compressed."""


@dataclass(frozen=True, slots=True)
class Compression:
    """What one artifact's weights become; the same names on the command line and in a manifest.

    mode: fp32 (as they are) or a key of FORMATS. group_size: elements along a channel with one scale, -1 a channel,
    None the format's own. ratio: share of the MatMul weights in `mode`, the rest in `backup`. all_layers: the last
    MatMul and embeddings in `mode` too. ignore, only: patterns on layer and weight names (shell wildcards, or `re:` and
    a regular expression). backup: one of BACKUPS, None as NNCF chooses. scale_search: the data-free search of scales
    instead of NNCF's. keep: layers that stay as they are (what `verdict` found for fp16).
    """

    mode: str = "fp32"
    group_size: int | None = None
    ratio: float = 1.0
    all_layers: bool = False
    ignore: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    backup: str | None = None
    scale_search: bool = True
    keep: frozenset[str] = frozenset()

    def faults(self) -> list[str]:
        """Everything that is wrong with these settings, a line each."""
        if self.mode != "fp32" and self.mode not in FORMATS:
            return [f"precision '{self.mode}' is not one of fp32, {', '.join(FORMATS)}"]
        faults = []
        if not 0 <= self.ratio <= 1:
            faults.append(f"ratio {self.ratio} is not between 0 and 1")
        if self.backup is not None and self.backup not in BACKUPS:
            faults.append(f"backup '{self.backup}' is not one of {', '.join(BACKUPS)}")
        if self.group_size is not None and not (self.group_size == -1 or self.group_size > 0):
            faults.append(f"group size {self.group_size} is neither positive nor -1")
        elif self.mode != "fp32" and self.group != self.own_group and not FORMATS[self.mode].any_group:
            faults.append(f"{self.mode} has no group size but its own ({self.own_group})")
        if self.ratio != 1 and not self.primary:
            faults.append(f"a ratio is for formats of less than 8 bits or with groups, not for {self.mode}")
        return faults + [f"pattern '{p}' is no regular expression" for p in (*self.ignore, *self.only) if not _valid(p)]

    @property
    def scaled(self) -> bool:
        """True for formats with scales."""
        return self.mode not in PLAIN

    @property
    def primary(self) -> bool:
        """True if `mode` is for the MatMuls and others get `backup`."""
        return self.scaled and not self.mode.startswith("int8")

    @property
    def group(self) -> int:
        """The group size that is asked for."""
        return self.own_group if self.group_size is None else self.group_size

    @property
    def own_group(self) -> int:
        """The group size of the format unless told otherwise."""
        return FORMATS[self.mode].group if self.scaled else -1

    @property
    def second(self) -> str:
        """The backup format; NNCF's choice for the mode if none is given."""
        if self.backup is not None:
            return self.backup
        if self.mode.startswith("mx"):
            return "mxfp8_e4m3"
        return "fp8_e4m3" if self.mode in ("fp4", "fp8_e4m3", "fp8_e5m2") else "int8_asym"

    def takes(self, *names: str) -> str:
        """Why a layer with these names is left out by pattern; empty if it is not."""
        if any(matches(pattern, name) for pattern in self.ignore for name in names):
            return "ignored"
        if self.only and not any(matches(pattern, name) for pattern in self.only for name in names):
            return "not in `only`"
        return ""


def matches(pattern: str, name: str) -> bool:
    """True if `name` fits the pattern: shell wildcards, or a regular expression after `re:` that matches all of it."""
    if pattern.startswith("re:"):
        return re.fullmatch(pattern[3:], name) is not None
    return fnmatchcase(name, pattern)


def _valid(pattern: str) -> bool:
    try:
        re.compile(pattern[3:] if pattern.startswith("re:") else "")
    except re.error:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Layer:
    """A weight that may be compressed: its name, the type of the operation that reads it, at which port, and how.

    axes: what is reduced for a scale. taken: empty, or why the layer is left as it is.
    """

    name: str
    op_type: str
    port: int
    weight: Weight
    spec: Spec
    axes: tuple[int, ...]
    taken: str = ""

    @property
    def size(self) -> int:
        return self.spec.size


@dataclass(frozen=True, slots=True)
class LayerReport:
    """A line of the report: what a layer's weight became and why; `error` is relative, filled in from the tallies."""

    layer: str
    op_type: str
    format: str
    group: int
    before: int
    after: int
    reason: str
    error: float | None = None

    def measured(self, tally: Mapping[str, float]) -> LayerReport:
        """The line with the relative error sqrt(|w' - w|^2 / |w|^2) of a finished tally."""
        square = tally.get("square", 0.0)
        return replace(self, error=float(np.sqrt(tally["error"] / square)) if square > 0 else 0.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a layer becomes: `format` "" leaves it as it is."""

    layer: Layer
    format: str
    group: int
    reason: str

    @property
    def seen(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(shape, axes) that the encoder sees."""
        return folded(self.layer.spec, self.layer.axes, self.group)

    def encoder(self, search: bool) -> Quantised:
        """What computes it, from the weight in the shape of `seen`."""
        rule = FORMATS[self.format].rule
        assert rule is not None
        return Quantised(self.format, self.seen[1], self.group, search and bool(rule.shrink))

    @property
    def outputs(self) -> dict[str, Spec]:
        """part -> element type and shape of what the layer becomes."""
        plain = Quantised(self.format, self.layer.axes, self.group)
        return plain.outputs(self.layer.spec) if self.format else {"codes": self.layer.spec}

    @property
    def line(self) -> LayerReport:
        """The layer's line in the report."""
        layer, after = self.layer, sum(spec.nbytes for spec in self.outputs.values())
        kind = self.format or layer.spec.dtype.ir
        return LayerReport(layer.name, layer.op_type, kind, self.group, layer.spec.nbytes, after, self.reason)


def choose(
    layers: Sequence[Layer], settings: Compression, sensitivities: Mapping[str, float] | None = None
) -> list[Choice]:
    """The format of each layer, by NNCF's conventions.

    int8 takes every layer. Other formats take MatMuls but the last (embeddings and the last with `all_layers`), of
    which `ratio` below 1 takes the least sensitive; all others get the backup format, convolutions always.
    sensitivities: layer name -> score of `candidates`; missing ones are measured here.
    """
    if not settings.primary:
        return [_simple(layer, settings.mode) for layer in layers]
    first = primaries(layers, settings)
    groups = {layer.name: fitting(layer, settings) for layer in first}
    able = [layer for layer in first if groups[layer.name]]
    kept = {layer.name for layer in (selected(able, settings.ratio, sensitivities) if settings.ratio < 1 else able)}
    names = {layer.name for layer in first}
    choices = []
    for layer in layers:
        if layer.taken:
            choices.append(Choice(layer, "", -1, layer.taken))
        elif layer.name in kept:
            group = groups[layer.name]
            reason = "asked for" if group == settings.group else f"groups of {settings.group} do not divide it"
            choices.append(Choice(layer, settings.mode, group, reason))
        else:
            choices.append(backup(layer, settings, _why(layer, layer.name in names, bool(groups.get(layer.name)))))
    return choices


def _simple(layer: Layer, mode: str) -> Choice:
    return Choice(layer, "", -1, layer.taken) if layer.taken else Choice(layer, mode, -1, "asked for")


def _why(layer: Layer, primary: bool, divides: bool) -> str:
    if primary:
        return "sensitive: beyond the ratio" if divides else "no group of at least 32 divides it"
    return {"MatMul": "last layer", "Gather": "embedding"}.get(layer.op_type, "a convolution takes the backup")


def primaries(layers: Sequence[Layer], settings: Compression) -> list[Layer]:
    """The layers that the ratio is a share of."""
    live = [layer for layer in layers if not layer.taken]
    matmuls = [layer for layer in live if layer.op_type == "MatMul"]
    if settings.all_layers:
        return matmuls + [layer for layer in live if layer.op_type == "Gather" and len(layer.axes) == 1]
    return matmuls if layers and layers[-1].taken else matmuls[:-1]


def fitting(layer: Layer, settings: Compression) -> int:
    """The group size for a layer: the one asked for, else the greatest power of two that divides it, 0 if under 32."""
    if settings.group == -1:
        return -1
    size = layer.spec.shape[layer.axes[0]]
    if size % settings.group == 0:
        return settings.group
    power = size & -size
    return power if power >= LEAST_GROUP and FORMATS[settings.mode].any_group else 0


def backup(layer: Layer, settings: Compression, reason: str) -> Choice:
    """The layer in the backup format; int8_asym where that needs groups which the layer cannot have."""
    format = settings.second
    if format == "none":
        return Choice(layer, "", -1, reason)
    if format.startswith("int8"):
        return Choice(layer, format, -1, reason)
    group = FORMATS[format].group if format.startswith("mx") else settings.group
    if group == -1 or (len(layer.axes) == 1 and layer.spec.shape[layer.axes[0]] % group == 0):
        return Choice(layer, format, group, reason)
    return Choice(layer, "int8_asym", -1, f"{reason}; {format} does not fit it")


def selected(layers: Sequence[Layer], ratio: float, sensitivities: Mapping[str, float] | None) -> list[Layer]:
    """The least sensitive layers, as long as they stay under `ratio` of all elements (NNCF MixedPrecisionCriterion)."""
    scores = {
        layer.name: sensitivities[layer.name]
        if sensitivities is not None and layer.name in sensitivities
        else sensitivity(layer.weight, layer.axes)
        for layer in layers
    }
    total, taken = sum(layer.size for layer in layers), 0
    kept = []
    for layer in sorted(layers, key=lambda layer: scores[layer.name]):
        if (taken + layer.size) / total >= ratio:
            break
        taken += layer.size
        kept.append(layer)
    return kept


def folded(spec: Spec, axes: tuple[int, ...], group: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(shape, axes) in which a weight is encoded to the same bytes by short rows; its own if its rows are not LONG.

    A scale for each channel of several matrices [n, k, m], reduced along k, has no other shape; there each matrix is
    a weight by itself (`steps.row`).
    """
    shape, first, last = spec.shape, min(axes), max(axes)
    if spec.nbytes <= LONG * spec.rows or last - first + 1 > len(axes):
        return shape, axes
    outer, reduced, inner = (math.prod(part) for part in (shape[:first], shape[first : last + 1], shape[last + 1 :]))
    if inner == 1 and outer > 1 and reduced * spec.dtype.bits // 8 <= LONG:
        return (outer, reduced), (1,)
    if group > 0 or outer == 1:
        return ((outer * reduced, inner) if inner > 1 else (outer * reduced,)), (0,)
    return (outer, reduced, inner), (1,)


def shortened(spec: Spec) -> tuple[int, ...]:
    """The shape in which a weight whose elements are encoded one by one has no LONG rows."""
    shape = spec.shape
    for axis in range(1, len(shape)):
        if math.prod(shape[axis:]) * spec.dtype.bits // 8 <= LONG:
            return (math.prod(shape[:axis]), *shape[axis:])
    return (spec.size,)


def sensitivity(weight: Weight, axes: tuple[int, ...]) -> float:
    """NNCF's data-free score: 1 / (e + 2^-23), e the greatest mean squared error of a channel as int8_asym.

    The weight is read in blocks of its own, whatever the parts are, so that the score is the same wherever it is
    computed; twice where a channel goes through all rows.
    """
    shape, axes = folded(weight.spec, axes, -1)
    weight = weight.then(Reshape(shape)) if shape != weight.spec.shape else weight
    parts, encoder = [weight], Quantised("int8_asym", axes)
    by_row = encoder.of_rows()
    if by_row and weight.spec.nbytes > LONG * shape[0]:
        parts, encoder = [row(weight, index) for index in range(shape[0])], by_row
    worst = max(_worst(part, encoder) for part in parts)
    eps = np.finfo(np.float32).eps
    return float(np.float32(1) / (np.float32(worst) + eps))


def _worst(weight: Weight, encoder: Quantised) -> float:
    """The greatest mean squared error of a group."""
    spec = weight.spec
    step = max(1, BLOCK * spec.rows // max(spec.size * 4, 1))
    blocks = [Region.rows(spec.shape, at, min(at + step, spec.rows)) for at in range(0, spec.rows, step)]
    count = spec.size // max(encoder.outputs(spec)["scale"].size, 1)
    if not encoder.needs_stats(spec):
        return max(float(squares(encoder, read(weight, block), None).max()) for block in blocks) / count
    stats = reduce(encoder.merge, (encoder.stats(read(weight, block)) for block in blocks))
    sums = reduce(np.add, (squares(encoder, read(weight, block), stats) for block in blocks))
    return float(sums.max()) / count


def squares(encoder: Quantised, block: Array, stats: Array | None) -> Array:
    """Sums of squared errors of each group in a block, for scales in float32 (as NNCF measures), in float64."""
    x = single(encoder.groups.view(block), "whole")
    low, high = (stats[0], stats[1]) if stats is not None else (x.min(1, keepdims=True), x.max(1, keepdims=True))
    scale, zero = encoder.rule.fit(low, high, False)
    levels = np.empty(x.shape, np.float32)
    with np.errstate(all="ignore"):
        encoder.rule.round(x, scale, zero, levels, None)
        np.multiply(levels, scale, out=levels)
        np.subtract(levels, x, out=levels)
    summed: Array = dots(levels, levels).astype(np.float64)
    return summed


__all__ = [
    "BACKUPS",
    "Choice",
    "Compression",
    "Layer",
    "LayerReport",
    "choose",
    "matches",
    "sensitivity",
    "squares",
]
