"""Settings, patterns, sensitivity and the choice of layers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from batchconv import quantize
from batchconv.formats import FORMATS, Half, Quantised
from batchconv.quantize import (
    LONG,
    Compression,
    Layer,
    choose,
    fitting,
    folded,
    matches,
    selected,
    sensitivity,
    shortened,
)
from batchconv.tensor import DType, Spec
from batchconv.weight import Weight


def layer(name: str, shape: tuple[int, ...] = (128, 128), type: str = "MatMul", taken: str = "") -> Layer:
    spec = Spec(DType.F32, shape)
    return Layer(name, type, 1, Weight(spec, b"\0" * spec.nbytes), spec, (0,) if type == "MatMul" else (1,), taken)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("layers.*.up", "layers.3.up", True),
        ("layers.*.up", "layers.3.up.weight", False),
        (r"re:layers\.\d+\.up", "layers.12.up", True),
        (r"re:layers\.\d+", "layers.12.up", False),
        ("Layers*", "layers.1", False),
    ],
)
def test_patterns(pattern: str, name: str, fits: bool) -> None:
    assert matches(pattern, name) is fits


@pytest.mark.parametrize("mode", ["fp32", *FORMATS])
def test_default_settings_of_every_mode_are_sound(mode: str) -> None:
    assert Compression(mode).faults() == []


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (Compression("mxfp4", group_size=64), "no group size but its own (32)"),
        (Compression("int4_sym", group_size=0), "neither positive nor -1"),
        (Compression("int4_sym", ratio=1.5), "not between 0 and 1"),
        (Compression("fp16", ratio=0.5), "not for fp16"),
        (Compression("int4_sym", backup="fp32"), "backup 'fp32'"),
        (Compression("w4"), "precision 'w4'"),
        (Compression("int8_sym", group_size=7), "no group size but its own (-1)"),
        (Compression("fp16", group_size=128), "no group size but its own (-1)"),
    ],
)
def test_faults(settings: Compression, fault: str) -> None:
    assert any(fault in text for text in settings.faults())


def test_encoders_travel_and_compare() -> None:
    for encoder in (Half(), Quantised("nf4", (0,), 64, True)):
        again = pickle.loads(pickle.dumps(encoder))
        assert again == encoder
        assert hash(again) == hash(encoder)
        assert len(pickle.dumps(encoder)) < 200


@pytest.mark.parametrize("axis", [0, 1])
def test_sensitivity_is_that_of_the_greatest_channel_error(axis: int) -> None:
    rng = np.random.default_rng(3)
    w = (rng.standard_t(4, size=(1500, 700)) * 0.05).astype(np.float32)  # several blocks
    low, high = (np.minimum(w.min(axis, keepdims=True), 0), np.maximum(w.max(axis, keepdims=True), 0))
    scale = (high - low) / np.float32(255)
    zero = np.clip(-np.round(low / scale), 0, 255)
    back = (np.clip(np.round(w / scale + zero), 0, 255) - zero) * scale
    error = np.mean((back.astype(np.float64) - w) ** 2, axis=axis).max()
    weight = Weight(Spec(DType.F32, w.shape), w.tobytes())
    assert sensitivity(weight, (axis,)) == pytest.approx(1 / (error + 2.0**-23), rel=1e-5)


def test_sensitivity_of_a_stack_is_that_of_its_worst_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    w = np.random.default_rng(4).standard_normal((3, 200, 40)).astype(np.float32)
    w[1] *= 7
    stack = Weight(Spec(DType.F32, w.shape), w.tobytes())
    whole = sensitivity(stack, (1,))
    monkeypatch.setattr(quantize, "LONG", 1 << 10)
    assert sensitivity(stack, (1,)) == pytest.approx(whole, rel=1e-5)
    assert sensitivity(stack, (1,)) == sensitivity(Weight(Spec(DType.F32, w[1].shape), w[1].tobytes()), (0,))


def test_the_ratio_stops_before_it_is_reached() -> None:
    layers = [layer(name) for name in "abcd"]
    scores = {"a": 3.0, "b": 1.0, "c": 2.0, "d": 4.0}
    names = {ratio: [found.name for found in selected(layers, ratio, scores)] for ratio in (0, 0.25, 0.3, 0.8, 1)}
    assert names == {0: [], 0.25: [], 0.3: ["b"], 0.8: ["b", "c", "a"], 1: ["b", "c", "a"]}


def test_a_last_layer_that_is_left_out_does_not_shield_the_one_before() -> None:
    layers = [layer("a"), layer("b", taken="ignored")]
    assert [choice.format for choice in choose(layers, Compression("int4_sym"))] == ["int4_sym", ""]


@pytest.mark.parametrize(("size", "group"), [(256, 128), (192, 64), (96, 32), (48, 0), (100, 0)])
def test_group_fallback(size: int, group: int) -> None:
    assert fitting(layer("a", (size, 8)), Compression("int4_sym")) == group


def test_the_report_counts_every_part() -> None:
    (line,) = [choice.line for choice in choose([layer("a")], Compression("int4_asym", all_layers=True))]
    assert (line.before, line.after) == (128 * 128 * 4, 128 * 128 // 2 + 128 // 2 + 128 * 2)
    assert line.measured({"error": 1.0, "square": 4.0}).error == 0.5
    assert line.measured({"error": 0.0, "square": 0.0}).error == 0.0


@pytest.mark.parametrize(
    ("shape", "axes", "group", "seen"),
    [
        ((4096, 4096), (0,), 128, ((4096, 4096), (0,))),
        ((1, 4096, 4096), (1,), 128, ((4096, 4096), (0,))),
        ((1, 4096, 4096), (1,), -1, ((4096, 4096), (0,))),
        ((8, 4096, 4096), (1,), 128, ((32768, 4096), (0,))),
        ((8, 4096, 4096), (2,), 128, ((32768, 4096), (1,))),
        ((8, 4096, 4096), (2,), -1, ((32768, 4096), (1,))),
        ((8, 4096, 4096), (1,), -1, ((8, 4096, 4096), (1,))),
        ((2, 4, 4096, 4096), (2,), -1, ((8, 4096, 4096), (1,))),
        ((1, 1 << 24), (1,), 128, ((1 << 24,), (0,))),
        ((1, 1 << 24), (1,), -1, ((1 << 24,), (0,))),
        ((8, 64, 3, 1 << 20), (1, 3), -1, ((8, 64, 3, 1 << 20), (1, 3))),
    ],
)
def test_long_rows_are_seen_as_shorter_ones(
    shape: tuple[int, ...], axes: tuple[int, ...], group: int, seen: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    assert folded(Spec(DType.F32, shape), axes, group) == seen
    assert int(np.prod(shortened(Spec(DType.F32, shape))[1:])) * 4 <= LONG
