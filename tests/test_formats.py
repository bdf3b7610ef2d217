"""Every format against its formula written out plainly, and the same bytes whatever the blocks are."""

from __future__ import annotations

import itertools
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchconv import formats
from batchconv.errors import BadModel
from batchconv.formats import FORMATS, Half, Quantised, blocks, fits_f16, half, verdict
from batchconv.formats.rules import CB4, NF4, Float8
from batchconv.tensor import Array, DType, Region, Spec
from batchconv.weight import BLOCK, Encoded, Encoding, Weight, read

SCALED = [name for name, row in FORMATS.items() if row.rule is not None]
SEARCHED = [name for name in SCALED if FORMATS[name].rule.shrink]  # type: ignore[union-attr]
EPS = np.float32(2.0**-23)


def weights(shape: tuple[int, ...], seed: int = 0, tails: float = 5) -> Array:
    """Weights like those of networks, with a few outliers and a column and a row of zeros."""
    made = np.random.default_rng(seed).standard_t(tails, size=shape).astype(np.float32) * np.float32(0.02)
    made[..., 1] = 0
    made[1] = 0
    return made


# ---- the formulas, plainly: groups along the last axis, [n, g] -> codes, scale, zero


def plain_sym(x: Array, bits: int) -> tuple[Array, Array, None]:
    low, high, half = np.abs(x.min(1)), x.max(1), 2 ** (bits - 1)
    scale = np.where(low >= high, low, -high) / np.float32(half)
    scale = np.where(np.abs(scale) < EPS, EPS, scale)
    return np.clip(np.round(x / scale[:, None]), -half, half - 1), scale, None


def plain_asym(x: Array, bits: int) -> tuple[Array, Array, Array]:
    low, high, top = np.minimum(x.min(1), 0), np.maximum(x.max(1), 0), 2**bits - 1
    scale = (high - low) / np.float32(top)
    scale = np.where(np.abs(scale) < EPS, EPS, scale)
    zero = np.clip(-np.round(low / scale), 0, top).astype(np.float32)
    return np.clip(np.round(x / scale[:, None] + zero[:, None]), 0, top), scale, zero


def plain_greatest(x: Array, top: float) -> Array:
    return np.maximum(np.abs(x).max(1), EPS) / np.float32(top)


def plain_table(x: Array, values: Array, scale: Array) -> Array:
    bounds = (values[1:] + values[:-1]) * np.float32(0.5)
    return np.searchsorted(bounds, x / scale[:, None])


def plain_f8(x: Array, dtype: DType) -> Array:
    return x.astype(np.float16).astype(np.float32).astype(dtype.numpy).view(np.uint8)


def power_of_two(scale: Array) -> Array:
    return np.float32(2) ** np.ceil(np.log2(scale.astype(np.float64))).astype(np.float32)


def plain(name: str, x: Array) -> tuple[Array, Array, Array | None]:
    """Codes, float32 scales and zero points of groups [n, g]."""
    if name.startswith("int"):
        bits = int(name[3])
        codes, scale, zero = (plain_sym if name.endswith("_sym") else plain_asym)(x, bits)
        return codes + (2 ** (bits - 1) if bits < 4 else 0), scale, zero
    if name == "nf4":
        scale = plain_greatest(x, 1)
        return plain_table(x, NF4, scale), scale, None
    if name == "cb4":
        scale = np.maximum(np.abs(x).max(1) / np.float32(3.5), EPS)
        return plain_table(x, CB4, scale), scale, None
    top = {"fp8_e5m2": 57344, "fp4": 6, "mxfp4": 6, "nvfp4": 6}.get(name, 448)
    scale = plain_greatest(x, top)
    scale = power_of_two(scale) if name.startswith("mx") else scale
    ratio = x / scale[:, None]
    if top == 6:
        return ratio.astype(ml_dtypes.float4_e2m1fn).view(np.uint8), scale, None
    return plain_f8(ratio, FORMATS[name].rule.codes), scale, None  # type: ignore[union-attr]


def stored_scale(name: str, scale: Array) -> Array:
    """The scales as bytes of their own type."""
    if name == "nvfp4":
        second = scale.max() / np.float32(448)
        return plain_f8(scale / second, DType.F8E4M3)
    if name.startswith("mx"):
        return (np.log2(scale) + 127).astype(np.uint8)
    return scale.astype(np.float16).view(np.uint16)


def bits_of(array: Array) -> Array:
    return np.ascontiguousarray(array).view({1: np.uint8, 2: np.uint16, 4: np.uint32}[array.dtype.itemsize])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", SCALED)
def test_codes_and_scales_are_those_of_the_formula(name: str, axis: int) -> None:
    w = weights((256, 192))
    group = FORMATS[name].group if FORMATS[name].group in (-1, 16, 32) else 64
    encoder = Quantised(name, (axis,), group)
    spec = Spec(DType.F32, w.shape)
    made = encoder.encode(w, spec).parts
    lying = w.T if axis == 0 else w
    size = lying.shape[1] if group < 0 else group
    codes, scale, zero = plain(name, np.ascontiguousarray(lying).reshape(-1, size))
    back = [codes.reshape(lying.shape[0], -1), stored_scale(name, scale).reshape(lying.shape[0], -1)]
    back = [part.T if axis == 0 else part for part in back]
    kept = made["codes"] if made["codes"].dtype.kind in "iu" else bits_of(made["codes"])
    np.testing.assert_array_equal(kept.reshape(w.shape), back[0])
    np.testing.assert_array_equal(bits_of(made["scale"]).reshape(back[1].shape), back[1])
    if zero is not None:
        zeros = zero.reshape(lying.shape[0], -1)
        np.testing.assert_array_equal(made["zero_point"].reshape(back[1].shape), zeros.T if axis == 0 else zeros)
    assert {part: array.shape for part, array in made.items()} == {
        part: spec.shape for part, spec in encoder.outputs(spec).items()
    }


def dequantised(name: str, made: Encoding, shape: tuple[int, ...]) -> Array:
    """What the decompression subgraph computes, in float32."""
    parts = made.parts
    codes, scale = parts["codes"], parts["scale"].astype(np.float32)
    if name in ("nf4", "cb4"):
        levels = (NF4 if name == "nf4" else CB4)[codes]
    elif name in ("fp4", "mxfp4", "nvfp4"):
        levels = codes.view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    else:
        levels = codes.astype(np.float32) - {"int3_sym": 4, "int2_sym": 2}.get(name, 0)
    if "zero_point" in parts:
        levels = levels - parts["zero_point"].astype(np.float32)
    if "second_order_scale" in parts:
        scale = (scale * parts["second_order_scale"]).astype(np.float16).astype(np.float32)
    return (levels * scale).reshape(shape)


@pytest.mark.parametrize("search", [False, True])
@pytest.mark.parametrize("name", SCALED)
def test_the_tally_is_the_error_of_the_dequantised_weight(name: str, search: bool) -> None:
    w = weights((128, 256))
    made = Quantised(name, (1,), FORMATS[name].group, search).encode(w, Spec(DType.F32, w.shape))
    error = np.sum((dequantised(name, made, w.shape).astype(np.float64) - w) ** 2)
    assert made.tally["error"] == pytest.approx(error, rel=1e-4)
    assert made.tally["square"] == pytest.approx(np.sum(w.astype(np.float64) ** 2), rel=1e-5)
    assert made.tally["count"] == w.size


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", SEARCHED)
def test_the_search_lowers_the_error_of_every_group(name: str, axis: int) -> None:
    w = weights((256, 256), tails=8)
    group = 64
    spec = Spec(DType.F32, w.shape)
    without, with_ = (Quantised(name, (axis,), group, search).encode(w, spec) for search in (False, True))
    split = (4, 64, 256) if axis == 0 else (256, 4, 64)
    errors = [
        np.sum((dequantised(name, made, w.shape).astype(np.float64) - w).reshape(split) ** 2, axis=axis + 1)
        for made in (without, with_)
    ]
    assert np.all(errors[1] <= errors[0] * 1.0005 + 1e-12)
    assert with_.tally["error"] < 0.95 * without.tally["error"]
    assert {part: array.nbytes for part, array in with_.parts.items()} == {
        part: array.nbytes for part, array in without.parts.items()
    }


# ---- blocks


def in_blocks(encoder: Quantised | Half, w: Array, cuts: list[int]) -> dict[str, Array]:
    """The parts of a weight encoded block by block, rows put together again."""
    spec = Spec(DType.of(w.dtype), w.shape)
    grain = encoder.grain(spec)
    edges = [0, *sorted({min(cut * grain, len(w)) for cut in cuts} - {0, len(w)}), len(w)]
    blocks = [w[a:b] for a, b in itertools.pairwise(edges)]
    stats = None
    for block in blocks if encoder.needs_stats(spec) else []:
        found = encoder.stats(block)
        stats = found if stats is None else encoder.merge(found, stats)
    made = [encoder.encode(block, spec, stats).parts for block in blocks]
    outputs = encoder.outputs(spec)
    return {
        part: bits_of(made[0][part] if outputs[part].rows == 1 else np.concatenate([m[part] for m in made]))
        for part in outputs
    }


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", list(FORMATS))
def test_tiles_of_any_size_give_the_same_bytes_and_sums(name: str, axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block wider than a tile is swept in tiles whose rows are apart in memory."""
    w = np.random.default_rng(11).standard_t(4, (256, 640)).astype(np.float32)
    dtype = DType.BF16 if name == "bf16" else DType.F16
    encoder = Half(dtype) if FORMATS[name].rule is None else Quantised(name, (axis,), FORMATS[name].group, True)
    made = []
    for tile in (1 << 19, 1 << 12):
        monkeypatch.setattr(blocks, "TILE", tile)
        monkeypatch.setattr(half, "TILE", tile)
        made.append(encoder.encode(w, Spec(DType.F32, w.shape)))
    for part, array in made[0].parts.items():
        np.testing.assert_array_equal(bits_of(made[1].parts[part]), bits_of(array), err_msg=part)
    assert made[1].tally == pytest.approx(made[0].tally, rel=1e-5)


@pytest.mark.parametrize("axes", [(0,), (1,)])
@pytest.mark.parametrize("name", list(FORMATS))
@settings(max_examples=4, deadline=None)
@given(cuts=st.lists(st.integers(1, 9), max_size=3), seed=st.integers(0, 99))
def test_any_blocks_give_the_same_bytes(name: str, axes: tuple[int, ...], cuts: list[int], seed: int) -> None:
    w = weights((320, 96), seed)
    encoder: Quantised | Half
    if FORMATS[name].rule is None:
        encoder = Half(DType.F16 if name == "fp16" else DType.BF16)
    else:
        group = FORMATS[name].group if not FORMATS[name].any_group or name == "cb4" else 32
        encoder = Quantised(name, axes, group, True)
    whole, cut = in_blocks(encoder, w, []), in_blocks(encoder, w, cuts)
    for part in whole:
        np.testing.assert_array_equal(whole[part], cut[part], err_msg=part)


@pytest.mark.parametrize(
    ("shape", "axes", "group"),
    [
        ((3, 64, 40), (1,), 32),
        ((3, 40, 64), (2,), 16),
        ((6, 5, 3, 3), (1, 2, 3), -1),
        ((6, 5, 3, 3), (0, 2, 3), -1),
        ((2, 4, 3, 5), (1, 3), -1),
        ((4, 2, 3, 3, 3), (2, 3, 4), -1),
        ((70,), (0,), -1),
        ((64,), (0,), 32),
    ],
)
def test_the_step_alone_reads_what_the_encoder_writes(
    shape: tuple[int, ...], axes: tuple[int, ...], group: int
) -> None:
    w = weights(shape) if len(shape) > 1 else weights((2, *shape))[0]
    encoder = Quantised("int4_asym", axes, group)
    weight = Weight(Spec(DType.F32, shape), w.tobytes())
    made = encoder.encode(w, weight.spec)
    order = [a for a in range(len(shape)) if a not in axes] + list(axes)
    for part, array in made.parts.items():
        step = weight.then(Encoded(encoder, part))
        np.testing.assert_array_equal(read(step), array)
        rows = array.shape[0]
        for start, stop in [(0, rows), (rows // 2, rows), (0, (rows + 1) // 2)]:
            np.testing.assert_array_equal(read(step, Region.rows(array.shape, start, stop)), array[start:stop])
    size = group if group > 0 else int(np.prod([shape[a] for a in axes]))
    if group < 0:
        codes, _, _ = plain_asym(w.transpose(order).reshape(-1, size), 4)
        np.testing.assert_array_equal(made.parts["codes"].transpose(order).reshape(-1, size), codes)


@pytest.mark.parametrize("dtype", [DType.F16, DType.F64, DType.BF16])
def test_other_float_types_are_computed_in_float32(dtype: DType) -> None:
    w = weights((64, 64)).astype(dtype.numpy)
    made = Quantised("int8_asym", (1,)).encode(w, Spec(dtype, w.shape)).parts
    expected = Quantised("int8_asym", (1,)).encode(w.astype(np.float32), Spec(DType.F32, w.shape)).parts
    for part in expected:
        np.testing.assert_array_equal(made[part], expected[part])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["int8_asym", "int4_sym", "nf4", "fp4", "fp8_e4m3", "nvfp4", "cb4"])
def test_what_a_format_cannot_hold_is_one_clear_error(name: str, axis: int, value: float) -> None:
    w = weights((128, 128))
    w[5, 7] = value
    with pytest.raises(BadModel, match=rf"{name} cannot hold.*--ignore"):
        Quantised(name, (axis,), FORMATS[name].group, True).encode(w, Spec(DType.F32, w.shape))


@pytest.mark.parametrize(("dtype", "top"), [(DType.F8E4M3, 448.0), (DType.F8E5M2, 57344.0)])
def test_eight_bit_floats_are_ml_dtypes_by_way_of_f16(dtype: DType, top: float) -> None:
    random = np.random.default_rng(0)
    sizes = np.exp2(random.uniform(-30, np.log2(top), 100_000))
    x = np.concatenate([sizes, -sizes, random.uniform(-top, top, 100_000), [0.0, -0.0, top, -top]]).astype(np.float32)
    x = x[None, :, None]
    levels, codes = np.empty_like(x), np.empty(x.shape, np.uint8)
    Float8(dtype).round(x, np.ones((1, 1, 1), np.float32), None, levels, codes)
    expected = x.astype(np.float16).astype(np.float32).clip(-top, top).astype(dtype.numpy)
    np.testing.assert_array_equal(codes, expected.view(np.uint8))
    np.testing.assert_array_equal(levels, expected.astype(np.float32))


@pytest.mark.parametrize("clipped", [False, True])
def test_levels_beyond_the_last_are_clipped_where_there_are_any(clipped: bool) -> None:
    """-1.5 and 253.5 make the scale 1 and the zero point 2 (even): the greatest falls on 255.5, and that on 256."""
    w = np.random.default_rng(0).uniform(-1, 250, (300, 40)).astype(np.float32)
    w[0], w[1] = 0, 255
    if clipped:
        w[0, 7], w[1, 7] = -1.5, 253.5
    made = Quantised("int8_asym", (0,)).encode(w, Spec(DType.F32, w.shape)).parts
    low, high = w.min(0, keepdims=True), w.max(0, keepdims=True)
    scale = (high - np.minimum(low, 0)) / np.float32(255)
    levels = np.rint(w / scale - np.rint(np.minimum(low, 0) / scale))
    assert (levels.max() > 255) == clipped
    np.testing.assert_array_equal(made["codes"], np.clip(levels, 0, 255).astype(np.uint8))


def test_groups_that_do_not_fit_are_refused() -> None:
    for encoder in (Quantised("int4_sym", (0,), 48), Quantised("int8_sym", (2,)), Quantised("int4_sym", (0, 1), 32)):
        with pytest.raises(BadModel, match="shape"):
            encoder.outputs(Spec(DType.F32, (64, 64)))


# ---- fp16 and bf16

HARD = np.concatenate(
    [
        [
            0.0,
            -0.0,
            np.inf,
            -np.inf,
            np.nan,
            65504,
            65505,
            65519.9,
            65520,
            7e4,
            -7e4,
            2.0**-14,
            2.0**-24,
            2.0**-25,
            1e-45,
        ],
        np.random.default_rng(0).normal(size=4000),
        np.exp2(np.random.default_rng(1).uniform(-40, 20, 4000)),
        -np.exp2(np.random.default_rng(2).uniform(-40, 20, 4000)),
        np.arange(0x38000000, 0x47800000, 0x11000, dtype=np.uint32).view(np.float32),  # ties between two halves
    ]
).astype(np.float32)


def plainly_bad(w: Array) -> int:
    """How many elements are bad, by the rule of ir.md section 5 alone."""
    count = 0
    for value in w.astype(np.float64).reshape(-1):
        near = np.float64(np.float32(np.float16(np.clip(value, -65504, 65504))))
        count += bool(not abs(value) <= 65504 or (value != 0 and abs(near - value) / abs(value) > 1e-3))
    return count


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_f16_is_the_nearest_clamped_and_counts_what_is_bad() -> None:
    made = Half().encode(HARD, Spec(DType.F32, HARD.shape))
    expected = np.nan_to_num(HARD.astype(np.float16), nan=65504, posinf=65504, neginf=-65504)
    np.testing.assert_array_equal(made.parts["codes"].view(np.uint16), expected.view(np.uint16))
    assert made.tally["bad"] == plainly_bad(HARD)
    double = Half().encode(HARD.astype(np.float64), Spec(DType.F64, HARD.shape))
    np.testing.assert_array_equal(double.parts["codes"].view(np.uint16), expected.view(np.uint16))


def test_f16_of_a_block_that_is_known_to_fit_is_numpys_cast() -> None:
    fitting = HARD[np.abs(HARD) < 30]
    for w in (fitting, -fitting, *HARD[np.abs(HARD) <= 65504].reshape(-1, 1)[::50], np.float32([65503.9]), HARD[:0]):
        made = Half().encode(w, Spec(DType.F32, w.shape))
        np.testing.assert_array_equal(made.parts["codes"].view(np.uint16), w.astype(np.float16).view(np.uint16))
        assert made.tally["bad"] == plainly_bad(w)
        error = np.square(w.astype(np.float16).astype(np.float64) - w).sum()
        assert made.tally["error"] == pytest.approx(error, rel=1e-5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bf16_is_the_nearest_even() -> None:
    made = Half(DType.BF16).encode(HARD, Spec(DType.F32, HARD.shape)).parts["codes"]
    np.testing.assert_array_equal(made.view(np.uint16), HARD.astype(ml_dtypes.bfloat16).view(np.uint16))


def test_a_layer_is_kept_from_three_quarters_bad_on() -> None:
    def tally(share: float) -> dict[str, float]:
        w = np.ones(10_000, np.float32)
        w[: int(share * w.size)] = 1e-7
        return Half().encode(w, Spec(DType.F32, w.shape)).tally

    assert verdict({"most": tally(0.75), "fewer": tally(0.7499), "none": {}}) == {"most"}


@pytest.mark.parametrize(
    ("values", "fits"),
    [
        ([0.1], False),
        ([0.3333], False),
        ([1e-05], False),
        ([3.1415927], False),
        ([4097.0], False),
        ([70000.0], False),
        ([0.5], True),
        ([2.0], True),
        ([0.0], True),
        ([], True),
        ([0.1] * 16, True),
        ([1e-07] * 12 + [1.0] * 4, False),
        ([1e-07] * 11 + [1.0] * 5, True),
    ],
)
def test_small_constants_follow_the_rules_of_ovc(values: list[float], fits: bool) -> None:
    assert fits_f16(np.array(values, np.float32)) is fits


# ---- memory


@pytest.mark.parametrize("name", ["fp16", "int8_asym", "int4_sym", "nf4", "fp8_e4m3"])
@pytest.mark.parametrize("axis", [0, 1])
def test_memory_is_foreseen(name: str, axis: int) -> None:
    w = weights((512, 2048))
    spec = Spec(DType.F32, w.shape)
    encoder = Half() if name == "fp16" else Quantised(name, (axis,), FORMATS[name].group, True)
    rows = BLOCK // (2048 * 4)
    stats = encoder.stats(w) if encoder.needs_stats(spec) else None
    tracemalloc.start()
    try:
        made = encoder.encode(w[:rows], spec, stats)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert made.tally["count"] == rows * 2048
    assert peak <= formats.memory(encoder, spec, rows) <= 12 * BLOCK


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["int4_sym", "int4_asym", "nf4"])
def test_where_a_block_lies_in_memory_does_not_matter(name: str, axis: int) -> None:
    w = weights((256, 1280), 5)
    spec = Spec(DType.F32, w.shape)
    encoder = Quantised(name, (axis,), 64, True)
    expected = encoder.encode(w, spec).parts
    for skip in (4, 12, 20):
        room = np.empty(w.nbytes + 64, np.uint8)
        moved = room[skip : skip + w.nbytes].view(np.float32).reshape(w.shape)
        moved[:] = w
        for start in range(0, 256, 64):
            made = encoder.encode(moved[start : start + 64], spec).parts
            for part, array in made.items():
                rows = len(array)
                np.testing.assert_array_equal(array, expected[part][start // 64 * rows : (start // 64 + 1) * rows])
