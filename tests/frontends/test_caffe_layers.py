"""Every Caffe layer: what OpenVINO computes from our graph against NumPy written from Caffe's definitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import caffe_reference as ref
import numpy as np
import pytest
from caffe_run import graph_of, layer, net, run

from batchconv.frontends.translate import Input
from batchconv.shape import ANY
from batchconv.tensor import Array

Shapes = Sequence[tuple[int, ...]]
Reference = Callable[..., "Array | list[Array]"]

PICTURE = ((2, 4, 6, 7),)


def draw(*shape: int, seed: int = 3) -> Array:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


W = draw(6, 4, 3, 3)
WG = draw(6, 2, 3, 2)
WD = draw(4, 3, 4, 4)
B6, B3, C4 = draw(6), draw(3), draw(4)
FC, FCB = draw(5, 4 * 6 * 7), draw(5)


def positive(x: Array) -> Array:
    return np.abs(x) + np.float32(0.3)


def grow(x: Array, *shape: int) -> Array:
    return x.reshape(shape)


MIDDLE = (1, -1, 1, 1)

Case = tuple[str, str, Shapes, Sequence[Array], Reference]
"""Layer type, parameters, shapes of the bottoms, blobs, and what Caffe makes of the bottoms."""
CASES: dict[str, Case] = {
    "conv": (
        "Convolution",
        "convolution_param { num_output: 6 kernel_size: 3 }",
        PICTURE,
        (W, B6),
        lambda x: ref.conv(x, W, B6),
    ),
    "conv_window": (
        "Convolution",
        "convolution_param { num_output: 6 kernel_size: 3 stride: 2 pad: 2 dilation: 2 bias_term: false "
        'weight_filler { type: "xavier" } engine: CAFFE }',
        PICTURE,
        (W,),
        lambda x: ref.conv(x, W, s=(2, 2), p=(2, 2), d=(2, 2)),
    ),
    "conv_hw": (
        "Convolution",
        "convolution_param { num_output: 6 kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 2 pad_w: 1 group: 2 }",
        PICTURE,
        (WG, B6),
        lambda x: ref.conv(x, WG, B6, s=(1, 2), p=(0, 1), g=2),
    ),
    "conv_each_axis": (
        "Convolution",
        "convolution_param { num_output: 6 kernel_size: [3, 2] stride: [2, 1] pad: [1, 0] group: 2 bias_term: false }",
        PICTURE,
        (WG,),
        lambda x: ref.conv(x, WG, s=(2, 1), p=(1, 0), g=2),
    ),
    "depthwise": (
        "ConvolutionDepthwise",
        "convolution_param { num_output: 4 kernel_size: 3 group: 4 bias_term: false }",
        PICTURE,
        (W[:4, :1],),
        lambda x: ref.conv(x, W[:4, :1], g=4),
    ),
    "depthwise_by_type": (
        "ConvolutionDepthwise",
        "convolution_param { num_output: 4 kernel_size: 3 bias_term: false }",
        PICTURE,
        (W[:4, :1],),
        lambda x: ref.conv(x, W[:4, :1], g=4),
    ),
    "deconv": (
        "Deconvolution",
        "convolution_param { num_output: 3 kernel_size: 4 stride: 2 pad: 1 }",
        PICTURE,
        (WD, B3),
        lambda x: ref.deconv(x, WD, B3, s=2, p=1),
    ),
    "deconv_group": (
        "Deconvolution",
        "convolution_param { num_output: 4 kernel_size: 4 stride: 2 pad: 1 group: 4 bias_term: false }",
        PICTURE,
        (WD[:, :1],),
        lambda x: ref.deconv(x, WD[:, :1], s=2, p=1, g=4),
    ),
    "fc": (
        "InnerProduct",
        "inner_product_param { num_output: 5 }",
        PICTURE,
        (FC, FCB),
        lambda x: x.reshape(2, -1) @ FC.T + FCB,
    ),
    "fc_transpose": (
        "InnerProduct",
        "inner_product_param { num_output: 5 transpose: true bias_term: false }",
        PICTURE,
        (FC.reshape(168, 5),),
        lambda x: x.reshape(2, -1) @ FC.reshape(168, 5),
    ),
    "fc_axis": (
        "InnerProduct",
        "inner_product_param { num_output: 5 axis: -2 }",
        PICTURE,
        (FC[:, :42], FCB),
        lambda x: x.reshape(2, 4, 42) @ FC[:, :42].T + FCB,
    ),
    "embed": (
        "Embed",
        "embed_param { num_output: 3 input_dim: 4 }",
        ((2, 5),),
        (draw(4, 3), B3),
        lambda x: draw(4, 3)[x.astype(int)] + B3,
    ),
    "global_ave": (
        "Pooling",
        "pooling_param { pool: AVE global_pooling: true }",
        PICTURE,
        (),
        lambda x: x.mean((2, 3), keepdims=True),
    ),
    "global_max": (
        "Pooling",
        "pooling_param { global_pooling: true }",
        PICTURE,
        (),
        lambda x: x.max((2, 3), keepdims=True),
    ),
    "pool_floor": (
        "Pooling",
        "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR }",
        PICTURE,
        (),
        lambda x: ref.pool(x, "AVE", (3, 3), (2, 2), (1, 1), up=False),
    ),
    "pool_not_ceil": (
        "Pooling",
        "pooling_param { kernel_size: 3 stride: 2 ceil_mode: false }",
        PICTURE,
        (),
        lambda x: ref.pool(x, "MAX", (3, 3), (2, 2), (0, 0), up=False),
    ),
    "relu": ("ReLU", "", PICTURE, (), lambda x: np.maximum(x, 0)),
    "relu_leaky": ("ReLU", "relu_param { negative_slope: 0.2 }", PICTURE, (), lambda x: np.where(x > 0, x, 0.2 * x)),
    "relu6": ("ReLU6", "", PICTURE, (), lambda x: x.clip(0, 6)),
    "clip": ("Clip", "clip_param { min: -0.5 max: 0.25 }", PICTURE, (), lambda x: x.clip(-0.5, 0.25)),
    "prelu": ("PReLU", "", PICTURE, (C4,), lambda x: np.where(x > 0, x, x * C4.reshape(MIDDLE))),
    "prelu_shared": (
        "PReLU",
        "prelu_param { channel_shared: true }",
        PICTURE,
        (C4[:1],),
        lambda x: np.where(x > 0, x, x * C4[0]),
    ),
    "prelu_2d": ("PReLU", "", ((3, 4),), (C4,), lambda x: np.where(x > 0, x, x * C4)),
    "elu": ("ELU", "elu_param { alpha: 0.7 }", PICTURE, (), lambda x: np.where(x > 0, x, 0.7 * np.expm1(x))),
    "swish": ("Swish", "swish_param { beta: 2 }", PICTURE, (), lambda x: x / (1 + np.exp(-2 * x))),
    "sigmoid": ("Sigmoid", "", PICTURE, (), lambda x: 1 / (1 + np.exp(-x))),
    "tanh": ("TanH", "", PICTURE, (), np.tanh),
    "abs": ("AbsVal", "", PICTURE, (), np.abs),
    "bnll": ("BNLL", "", PICTURE, (), lambda x: np.log1p(np.exp(x))),
    "power": (
        "Power",
        "power_param { power: 2 scale: -3 shift: 0.5 }",
        PICTURE,
        (),
        lambda x: (0.5 - 3 * x.astype(np.float64)) ** 2,
    ),
    "exp": ("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }", PICTURE, (), lambda x: 2 ** (1 + 0.5 * x)),
    "exp_e": ("Exp", "", PICTURE, (), np.exp),
    "log": ("Log", "log_param { base: 10 scale: 0.1 shift: 9 }", PICTURE, (), lambda x: np.log10(9 + 0.1 * x)),
    "threshold": (
        "Threshold",
        "threshold_param { threshold: 0.4 }",
        PICTURE,
        (),
        lambda x: (x > 0.4).astype(np.float32),
    ),
    "dropout": ("Dropout", "dropout_param { dropout_ratio: 0.3 }", PICTURE, (), lambda x: x),
    "softmax": ("Softmax", "", PICTURE, (), ref.softmax),
    "softmax_axis": ("Softmax", "softmax_param { axis: -1 }", PICTURE, (), lambda x: ref.softmax(x, -1)),
    "batch_norm": (
        "BatchNorm",
        "batch_norm_param { eps: 0.01 }",
        PICTURE,
        (C4, positive(C4), np.array([3], np.float32)),
        lambda x: ref.batch_norm(x, C4, positive(C4), 3.0, 0.01),
    ),
    "batch_norm_unused": (
        "BatchNorm",
        "",
        PICTURE,
        (C4, positive(C4), np.zeros(1, np.float32)),
        lambda x: ref.batch_norm(x, C4, positive(C4), 0.0),
    ),
    "batch_norm_2d": (
        "BatchNorm",
        "",
        ((3, 4),),
        (C4, positive(C4), np.ones(1, np.float32)),
        lambda x: ref.batch_norm(x, C4, positive(C4), 1.0),
    ),
    "batch_norm_own": (
        "BatchNorm",
        "batch_norm_param { use_global_stats: false }",
        PICTURE,
        (C4, positive(C4), np.ones(1, np.float32)),
        lambda x: ref.batch_norm(x, x.mean((0, 2, 3)), x.var((0, 2, 3)), 1.0),
    ),
    "bn": (
        "BN",
        "bn_param { frozen: true }",
        PICTURE,
        (C4, C4[::-1].copy(), -C4, positive(C4)),
        lambda x: ref.batch_norm(x, -C4, positive(C4), 1.0) * C4.reshape(MIDDLE) + C4[::-1].reshape(MIDDLE),
    ),
    "bn_merged": (
        "BN",
        "",
        PICTURE,
        (C4, positive(C4)),
        lambda x: x * C4.reshape(MIDDLE) + positive(C4).reshape(MIDDLE),
    ),
    "scale": (
        "Scale",
        "scale_param { bias_term: true }",
        PICTURE,
        (C4, positive(C4)),
        lambda x: x * C4.reshape(MIDDLE) + positive(C4).reshape(MIDDLE),
    ),
    "scale_axes": (
        "Scale",
        "scale_param { axis: 2 num_axes: -1 }",
        PICTURE,
        (draw(6, 7),),
        lambda x: x * draw(6, 7),
    ),
    "scale_scalar": ("Scale", "scale_param { num_axes: 0 }", PICTURE, (draw(1).reshape(()),), lambda x: x * draw(1)[0]),
    "scale_input": ("Scale", "scale_param { axis: 0 }", (*PICTURE, (2, 4)), (), lambda x, s: x * s[:, :, None, None]),
    "scale_input_bias": (
        "Scale",
        "scale_param { axis: 1 bias_term: true }",
        (*PICTURE, (4,)),
        (C4,),
        lambda x, s: x * s.reshape(MIDDLE) + C4.reshape(MIDDLE),
    ),
    "bias": ("Bias", "", PICTURE, (C4,), lambda x: x + C4.reshape(MIDDLE)),
    "bias_input": ("Bias", "bias_param { axis: -1 }", (*PICTURE, (7,)), (), lambda x, b: x + b),
    "sum": ("Eltwise", "", PICTURE * 3, (), lambda a, b, c: a + b + c),
    "sum_coeff": (
        "Eltwise",
        "eltwise_param { operation: SUM coeff: 1 coeff: -2.5 }",
        PICTURE * 2,
        (),
        lambda a, b: a - 2.5 * b,
    ),
    "product": ("Eltwise", "eltwise_param { operation: PROD }", PICTURE * 2, (), lambda a, b: a * b),
    "maximum": ("Eltwise", "eltwise_param { operation: 2 }", PICTURE * 2, (), np.maximum),
    "axpy": ("Axpy", "", ((2, 4), *PICTURE * 2), (), lambda a, x, y: a[:, :, None, None] * x + y),
    "concat": ("Concat", "", (*PICTURE, (2, 3, 6, 7)), (), lambda a, b: np.concatenate([a, b], 1)),
    "concat_axis": (
        "Concat",
        "concat_param { axis: -1 }",
        (*PICTURE, (2, 4, 6, 1)),
        (),
        lambda a, b: np.concatenate([a, b], 3),
    ),
    "concat_dim": (
        "Concat",
        "concat_param { concat_dim: 0 }",
        (*PICTURE, (1, 4, 6, 7)),
        (),
        lambda a, b: np.concatenate([a, b]),
    ),
    "reshape": (
        "Reshape",
        "reshape_param { shape { dim: 0 dim: 2 dim: -1 } }",
        PICTURE,
        (),
        lambda x: x.reshape(2, 2, 84),
    ),
    "reshape_part": (
        "Reshape",
        "reshape_param { shape { dim: 2 dim: 2 } axis: 1 num_axes: 1 }",
        PICTURE,
        (),
        lambda x: x.reshape(2, 2, 2, 6, 7),
    ),
    "reshape_insert": (
        "Reshape",
        "reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }",
        PICTURE,
        (),
        lambda x: x[..., None],
    ),
    "flatten": ("Flatten", "", PICTURE, (), lambda x: x.reshape(2, -1)),
    "flatten_middle": ("Flatten", "flatten_param { axis: 1 end_axis: 2 }", PICTURE, (), lambda x: x.reshape(2, 24, 7)),
    "permute": (
        "Permute",
        "permute_param { order: 0 order: 2 order: 3 }",
        PICTURE,
        (),
        lambda x: x.transpose(0, 2, 3, 1),
    ),
    "tile": ("Tile", "tile_param { axis: 2 tiles: 3 }", PICTURE, (), lambda x: np.tile(x, (1, 1, 3, 1))),
    "crop": (
        "Crop",
        "crop_param { offset: 1 offset: 2 }",
        (*PICTURE, (1, 1, 3, 4)),
        (),
        lambda x, _: x[:, :, 1:4, 2:6],
    ),
    "crop_all": (
        "Crop",
        "crop_param { axis: 1 offset: 1 }",
        (*PICTURE, (1, 2, 3, 4)),
        (),
        lambda x, _: x[:, 1:3, 1:4, 1:5],
    ),
    "interp": ("Interp", "interp_param { height: 9 width: 4 }", PICTURE, (), lambda x: ref.interp(x, 9, 4)),
    "interp_zoom": ("Interp", "interp_param { zoom_factor: 3 }", PICTURE, (), lambda x: ref.interp(x, 16, 19)),
    "interp_like": ("Interp", "", (*PICTURE, (1, 1, 3, 11)), (), lambda x, _: ref.interp(x, 3, 11)),
    "upsample": ("Upsample", "upsample_param { scale: 2 }", PICTURE, (), lambda x: x.repeat(2, 2).repeat(2, 3)),
    "shuffle": (
        "ShuffleChannel",
        "shuffle_channel_param { group: 2 }",
        PICTURE,
        (),
        lambda x: x.reshape(2, 2, 2, 6, 7).swapaxes(1, 2).reshape(2, 4, 6, 7),
    ),
    "reindex": ("BatchReindex", "", (*PICTURE, (3,)), (), lambda x, i: x[i.astype(int)]),
    "reduce_sum": (
        "Reduction",
        "reduction_param { axis: 1 coeff: 0.5 }",
        PICTURE,
        (),
        lambda x: 0.5 * x.sum((1, 2, 3)),
    ),
    "reduce_asum": (
        "Reduction",
        "reduction_param { operation: ASUM axis: 2 }",
        PICTURE,
        (),
        lambda x: np.abs(x).sum((2, 3)),
    ),
    "reduce_sumsq": ("Reduction", "reduction_param { operation: SUMSQ }", PICTURE, (), lambda x: (x**2).sum()),
    "reduce_mean": ("Reduction", "reduction_param { operation: MEAN axis: -1 }", PICTURE, (), lambda x: x.mean(3)),
    "argmax": (
        "ArgMax",
        "argmax_param { top_k: 2 }",
        PICTURE,
        (),
        lambda x: np.argsort(-x.reshape(2, 1, -1))[..., :2],
    ),
    "argmax_axis": ("ArgMax", "argmax_param { axis: 1 }", PICTURE, (), lambda x: x.argmax(1)[:, None]),
    "argmax_values": (
        "ArgMax",
        "argmax_param { out_max_val: true }",
        PICTURE,
        (),
        lambda x: np.stack([x.reshape(2, -1).argmax(1), x.reshape(2, -1).max(1)], 1)[..., None],
    ),
    "mvn": ("MVN", "", PICTURE, (), lambda x: ref.mvn(x, (2, 3))),
    "mvn_mean": ("MVN", "mvn_param { normalize_variance: false }", PICTURE, (), lambda x: ref.mvn(x, (2, 3), False)),
    "mvn_across": (
        "MVN",
        "mvn_param { across_channels: true eps: 0.1 }",
        PICTURE,
        (),
        lambda x: ref.mvn(x, (1, 2, 3), True, 0.1),
    ),
    "lrn": (
        "LRN",
        "lrn_param { local_size: 3 alpha: 0.7 beta: 0.6 k: 2 }",
        PICTURE,
        (),
        lambda x: ref.lrn(x, 3, 0.7, 0.6, 2),
    ),
    "lrn_default": ("LRN", "", PICTURE, (), lambda x: ref.lrn(x, 5, 1.0, 0.75)),
    "lrn_within": (
        "LRN",
        "lrn_param { local_size: 3 alpha: 0.7 norm_region: WITHIN_CHANNEL }",
        PICTURE,
        (),
        lambda x: ref.lrn_within(x, 3, 0.7, 0.75),
    ),
    "normalize": (
        "Normalize",
        "norm_param { across_spatial: false channel_shared: false scale_filler { value: 20 } }",
        PICTURE,
        (C4,),
        lambda x: ref.normalize(x, C4, False),
    ),
    "normalize_all": (
        "Normalize",
        "norm_param { eps: 0.5 }",
        PICTURE,
        (C4[:1],),
        lambda x: ref.normalize(x, C4[:1], True, 0.5),
    ),
}


def fed(name: str, shapes: Shapes) -> list[Array]:
    inputs = [draw(*shape, seed=i) for i, shape in enumerate(shapes)]
    if name == "embed":
        inputs[0] = np.arange(10, dtype=np.float32).reshape(2, 5) % 4
    if name == "reindex":
        inputs[1] = np.array([1, 0, 1], np.float32)
    return inputs


def check(got: Array, wanted: Array) -> None:
    assert got.shape == np.shape(wanted)
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)


KNOWN_ONLY = {"interp_zoom"}
"""Layers that say themselves that they take a known height and width."""
FREE = [name for name, case in CASES.items() if len(case[2][0]) == 4 and name not in KNOWN_ONLY]


@pytest.mark.parametrize("name", CASES)
def test_layer(name: str, tmp_path: Path) -> None:
    """The layer computes what Caffe defines."""
    text, blobs, _ = files(name)
    inputs = fed(name, CASES[name][2])
    (got,) = run(graph_of(tmp_path, text, blobs), *inputs)
    check(got, np.asarray(CASES[name][4](*inputs)))


@pytest.mark.parametrize("name", FREE)
def test_layer_of_any_size(name: str, tmp_path: Path) -> None:
    """The same with height and width of the pictures left free."""
    text, blobs, free = files(name)
    inputs = fed(name, CASES[name][2])
    (got,) = run(graph_of(tmp_path, text, blobs, free), *inputs)
    check(got, np.asarray(CASES[name][4](*inputs)))


def files(name: str) -> tuple[str, dict[str, Sequence[Array]], list[Input]]:
    """A network of that one layer, its blobs, and its inputs with free sizes."""
    kind, params, shapes, blobs, _ = CASES[name]
    names = [f"in{i}" for i in range(len(shapes))]
    free = [Input(n, None, (*shape[:2], ANY, ANY)) for n, shape in zip(names, shapes) if len(shape) == 4]
    return net(layer(kind, params, names), **dict(zip(names, shapes))), {"l": blobs}, free


WINDOWS = [
    (size, k, s, p)
    for size in ((6, 7),)
    for k, s in (((2, 2), (2, 2)), ((3, 3), (2, 2)), ((3, 3), (1, 1)), ((3, 2), (2, 3)), ((5, 4), (3, 3)))
    for p in ((0, 0), (1, 1), (0, 1), (2, 1))
    if all(a < b for a, b in zip(p, k)) and (any(p) or all(a <= b for a, b in zip(s, k)))
]


@pytest.mark.parametrize("mode", ["MAX", "AVE"])
@pytest.mark.parametrize("window", WINDOWS, ids=lambda w: "-".join("x".join(map(str, part)) for part in w))
def test_pooling_at_the_borders(mode: str, window: Sequence[tuple[int, int]], tmp_path: Path) -> None:
    """Sizes rounded up, windows clipped, divisors counted as Caffe does; the same with height and width free."""
    size, k, s, p = window
    params = (
        f"pooling_param {{ pool: {mode} kernel_h: {k[0]} kernel_w: {k[1]} stride_h: {s[0]} stride_w: {s[1]} "
        f"pad_h: {p[0]} pad_w: {p[1]} }}"
    )
    text = net(layer("Pooling", params), data=(1, 2, *size))
    x = draw(1, 2, *size) + 1
    wanted = ref.pool(x, mode, k, s, p)
    check(run(graph_of(tmp_path, text), x)[0], wanted)
    refused = mode == "AVE" and any(p) and any(a < b + c for a, b, c in zip(k, p, s) if c > 1)
    if not refused:
        check(run(graph_of(tmp_path, text, inputs=[Input("data", None, (1, 2, ANY, ANY))]), x)[0], wanted)


def test_pooling_mask(tmp_path: Path) -> None:
    text = net(layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", tops=("y", "mask")), data=(2, 3, 5, 6))
    x = draw(2, 3, 5, 6)
    largest, mask = run(graph_of(tmp_path, text), x)
    check(largest, ref.pool(x, "MAX", (2, 2), (2, 2), (0, 0)))
    check(mask, ref.pool_mask(x, 2, 2))


@pytest.mark.parametrize(
    ("params", "parts"),
    [
        ("", [slice(0, 2), slice(2, 4), slice(4, 6)]),
        ("slice_param { slice_point: 1 slice_point: 4 }", [slice(0, 1), slice(1, 4), slice(4, 6)]),
        ("slice_param { axis: -3 slice_point: [2, 3] }", [slice(0, 2), slice(2, 3), slice(3, 6)]),
        ("slice_param { slice_dim: 1 }", [slice(0, 2), slice(2, 4), slice(4, 6)]),
    ],
)
def test_slice(params: str, parts: list[slice], tmp_path: Path) -> None:
    x = draw(2, 6, 2, 2)
    made = run(graph_of(tmp_path, net(layer("Slice", params, tops=("a", "b", "c")), data=x.shape)), x)
    for got, part in zip(made, parts, strict=True):
        check(got, x[:, part])


@pytest.mark.parametrize(
    ("params", "reference"),
    [
        (
            "min_size: 30 max_size: 60 aspect_ratio: 2 aspect_ratio: 3 flip: true clip: false "
            "variance: [0.1, 0.1, 0.2, 0.2] step: 8 offset: 0.5",
            ([30], [60], [2, 3], True, False, [0.1, 0.1, 0.2, 0.2], 8, 0.5),
        ),
        ("min_size: 20 min_size: 40 clip: true", ([20, 40], [], [], True, True, [0.1], 0, 0.5)),
        ("min_size: 9.5 aspect_ratio: 2 flip: false variance: 0.3", ([9.5], [], [2], False, False, [0.3], 0, 0.5)),
    ],
)
def test_prior_box(params: str, reference: tuple[object, ...], tmp_path: Path) -> None:
    """Boxes in Caffe's order and shape; with the sizes of layer and picture free too."""
    text = net(
        layer("PriorBox", f"prior_box_param {{ {params} }}", ("data", "image")), data=(1, 4, 3, 4), image=(1, 3, 50, 60)
    )
    wanted = ref.prior_box((3, 4), (50, 60), *reference)  # type: ignore[arg-type]
    inputs = np.zeros((1, 4, 3, 4), np.float32), np.zeros((1, 3, 50, 60), np.float32)
    check(run(graph_of(tmp_path, text), *inputs)[0], wanted)
    free = [Input("data", None, (1, 4, ANY, ANY)), Input("image", None, (1, 3, ANY, ANY))]
    check(run(graph_of(tmp_path, text, inputs=free), *inputs)[0], wanted)


def test_detection_output(tmp_path: Path) -> None:
    """Two boxes of one class that overlap and one of another: decoded, the weaker of the two suppressed."""
    params = (
        "detection_output_param { num_classes: 3 share_location: true background_label_id: 0 code_type: CENTER_SIZE "
        'nms_param { nms_threshold: 0.45 top_k: 100 } save_output_param { label_map_file: "x" } '
        "keep_top_k: 10 confidence_threshold: 0.25 }"
    )
    text = net(layer("DetectionOutput", params, ("loc", "conf", "prior")), loc=(1, 12), conf=(1, 9), prior=(1, 2, 12))
    boxes = np.array([[0.1, 0.1, 0.3, 0.3], [0.1, 0.1, 0.3, 0.32], [0.6, 0.6, 0.8, 0.9]], np.float32)
    prior = np.stack([boxes.reshape(-1), np.tile(np.array([0.1, 0.1, 0.2, 0.2], np.float32), 3)])[None]
    loc = np.zeros((1, 12), np.float32)
    loc[0, 8] = 0.5
    conf = np.array([[0.1, 0.8, 0.1, 0.2, 0.7, 0.1, 0.1, 0.1, 0.8]], np.float32)
    (rows,) = run(graph_of(tmp_path, text), loc, conf, prior)
    shift = 0.5 * 0.1 * 0.2
    wanted = [[0, 1, 0.8, *boxes[0]], [0, 2, 0.8, 0.6 + shift, 0.6, 0.8 + shift, 0.9]]
    np.testing.assert_allclose(rows[0, 0, :2], wanted, atol=1e-5)
    assert rows[0, 0, 2, 0] == -1


def test_roi_pooling(tmp_path: Path) -> None:
    text = net(
        layer("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.5 }", ("data", "rois")),
        data=(1, 2, 8, 8),
        rois=(1, 5),
    )
    x = draw(1, 2, 8, 8)
    (got,) = run(graph_of(tmp_path, text), x, np.array([[0, 0, 4, 6, 10]], np.float32))
    part = x[0, :, 2:6, 0:4]
    check(got, part.reshape(2, 2, 2, 2, 2).max((2, 4))[None])


def test_convolution_of_several_bottoms(tmp_path: Path) -> None:
    """Convolution does the same to each bottom, with the same weights."""
    text = net(
        layer("Convolution", "convolution_param { num_output: 6 kernel_size: 3 }", ("a", "b"), ("p", "q")),
        a=(1, 4, 5, 5),
        b=(1, 4, 6, 4),
    )
    a, b = draw(1, 4, 5, 5), draw(1, 4, 6, 4)
    got = run(graph_of(tmp_path, text, {"l": (W, B6)}), a, b)
    for y, x in zip(got, (a, b), strict=True):
        check(y, ref.conv(x, W, B6))


def test_the_check_can_fail(tmp_path: Path) -> None:
    """One weight 1 % larger is noticed."""
    text = net(layer("Convolution", "convolution_param { num_output: 6 kernel_size: 3 }"), data=PICTURE[0])
    wrong = W.copy()
    wrong[np.unravel_index(np.abs(W).argmax(), W.shape)] *= np.float32(1.01)
    x = draw(*PICTURE[0])
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(run(graph_of(tmp_path, text, {"l": (wrong, B6)}), x)[0], ref.conv(x, W, B6))
