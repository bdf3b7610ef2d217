"""What Caffe computes, in plain NumPy, written from the definitions of its layers (not from our translators)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

from batchconv.tensor import Array


def pool(x: Array, mode: str, k: Sequence[int], s: Sequence[int], p: Sequence[int], up: bool = True) -> Array:
    """Pooling: output sizes rounded up, the last window clipped, AVE divided by the window within the padded input."""
    sizes = [_count(x.shape[2 + i], k[i], s[i], p[i], any(p), up) for i in (0, 1)]
    y = np.zeros((*x.shape[:2], *sizes))
    for a, b in product(*map(range, sizes)):
        starts = [a * s[0] - p[0], b * s[1] - p[1]]
        padded = [min(start + k[i], x.shape[2 + i] + p[i]) for i, start in enumerate(starts)]
        rows, cols = (
            slice(max(start, 0), min(end, x.shape[2 + i])) for i, (start, end) in enumerate(zip(starts, padded))
        )
        part = x[:, :, rows, cols].astype(np.float64)
        area = (padded[0] - starts[0]) * (padded[1] - starts[1])
        y[:, :, a, b] = part.max((2, 3)) if mode == "MAX" else part.sum((2, 3)) / area
    return y


def _count(size: int, k: int, s: int, p: int, padded: bool, up: bool) -> int:
    count = (math.ceil if up else math.floor)((size + 2 * p - k) / s) + 1
    return count - 1 if padded and (count - 1) * s >= size + p else count


def pool_mask(x: Array, k: int, s: int) -> Array:
    """The second top of MAX pooling without padding: where in its plane each largest element stands."""
    sizes = [_count(x.shape[2 + i], k, s, 0, False, True) for i in (0, 1)]
    y = np.zeros((*x.shape[:2], *sizes))
    for n, c, a, b in np.ndindex(*y.shape):
        part = x[n, c, a * s : a * s + k, b * s : b * s + k]
        row, col = np.unravel_index(part.argmax(), part.shape)
        y[n, c, a, b] = (a * s + row) * x.shape[3] + b * s + col
    return y


def conv(
    x: Array,
    w: Array,
    b: Array | float = 0.0,
    s: Sequence[int] = (1, 1),
    p: Sequence[int] = (0, 0),
    d: Sequence[int] = (1, 1),
    g: int = 1,
) -> Array:
    """Convolution: cross-correlation, group by group."""
    x = np.pad(x, [(0, 0), (0, 0), *((q, q) for q in p)]).astype(np.float64)
    sizes = [(x.shape[2 + i] - d[i] * (w.shape[2 + i] - 1) - 1) // s[i] + 1 for i in (0, 1)]
    y = np.zeros((len(x), len(w), *sizes))
    into, out = x.shape[1] // g, len(w) // g
    for o, a, c in product(range(len(w)), *map(range, sizes)):
        first = o // out * into
        rows, cols = (
            slice(at * s[i], at * s[i] + d[i] * (w.shape[2 + i] - 1) + 1, d[i]) for i, at in enumerate((a, c))
        )
        y[:, o, a, c] = (x[:, first : first + into, rows, cols] * w[o]).sum((1, 2, 3))
    return y + np.reshape(b, (-1, 1, 1))


def deconv(x: Array, w: Array, b: Array | float = 0.0, s: int = 1, p: int = 0, g: int = 1) -> Array:
    """Deconvolution: every input element spreads the kernel over the output, then `p` is cut from each side."""
    n, channels, height, width = x.shape
    out, k = w.shape[1], w.shape[2]
    y = np.zeros((n, out * g, (height - 1) * s + k, (width - 1) * s + k))
    for c, i, j in product(range(channels), range(height), range(width)):
        first = c // (channels // g) * out
        spread = x[:, c, i, j][:, None, None, None] * w[c].astype(np.float64)
        y[:, first : first + out, i * s : i * s + k, j * s : j * s + k] += spread
    return y[:, :, p : y.shape[2] - p, p : y.shape[3] - p] + np.reshape(b, (-1, 1, 1))


def lrn(x: Array, n: int, alpha: float, beta: float, k: float = 1.0) -> Array:
    """LRN across channels."""
    squares = np.pad(x.astype(np.float64) ** 2, [(0, 0), (n // 2, n // 2), (0, 0), (0, 0)])
    total = sum(squares[:, i : i + x.shape[1]] for i in range(n))
    return x * (k + alpha / n * total) ** -beta


def lrn_within(x: Array, n: int, alpha: float, beta: float) -> Array:
    """LRN within a channel: the mean of squares over an n x n window, padding counted, k being 1."""
    mean = pool(x.astype(np.float64) ** 2, "AVE", (n, n), (1, 1), (n // 2, n // 2))
    return x * (1 + alpha * mean) ** -beta


def batch_norm(x: Array, mean: Array, variance: Array, factor: float, eps: float = 1e-5) -> Array:
    part = 0.0 if factor == 0 else 1 / factor
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return (x - (mean * part).reshape(shape)) / np.sqrt((variance * part).reshape(shape) + eps)


def mvn(x: Array, axes: tuple[int, ...], variance: bool = True, eps: float = 1e-9) -> Array:
    y = x - x.mean(axes, keepdims=True)
    return y / (np.sqrt((y**2).mean(axes, keepdims=True)) + eps) if variance else y


def softmax(x: Array, axis: int = 1) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def normalize(x: Array, scale: Array, across: bool, eps: float = 1e-10) -> Array:
    norm = np.sqrt((x.astype(np.float64) ** 2).sum((1, 2, 3) if across else 1, keepdims=True) + eps)
    return x / norm * np.reshape(scale, (-1, 1, 1))


def interp(x: Array, height: int, width: int) -> Array:
    """Bilinear with the corners of input and output in the same places."""
    rows, cols = (np.linspace(0, old - 1, new) for old, new in zip(x.shape[2:], (height, width)))
    r, c = (np.minimum(np.floor(at).astype(int), max(size - 2, 0)) for at, size in zip((rows, cols), x.shape[2:]))
    fr, fc = (rows - r)[:, None], cols - c
    r1, c1 = np.minimum(r + 1, x.shape[2] - 1), np.minimum(c + 1, x.shape[3] - 1)
    top = x[:, :, r][..., c] * (1 - fc) + x[:, :, r][..., c1] * fc
    low = x[:, :, r1][..., c] * (1 - fc) + x[:, :, r1][..., c1] * fc
    return top * (1 - fr) + low * fr


def prior_box(
    layer: tuple[int, int],
    picture: tuple[int, int],
    smallest: Sequence[float],
    largest: Sequence[float],
    ratios: Sequence[float],
    flip: bool,
    clip: bool,
    variance: Sequence[float],
    step: float,
    offset: float,
) -> Array:
    """PriorBox of SSD: for every cell and min_size a square, one of sqrt(min * max), then each ratio but 1."""
    wanted = [1.0]
    for ratio in ratios:
        for one in (ratio, 1 / ratio) if flip else (ratio,):
            if all(abs(one - old) > 1e-6 for old in wanted):
                wanted.append(one)
    steps = [step or size / cells for size, cells in zip(picture, layer)]
    boxes = []
    for row, col in np.ndindex(*layer):
        cy, cx = (row + offset) * steps[0], (col + offset) * steps[1]
        for i, least in enumerate(smallest):
            sides = [(least, least)]
            if largest:
                sides.append((math.sqrt(least * largest[i]),) * 2)
            sides += [(least * math.sqrt(r), least / math.sqrt(r)) for r in wanted[1:]]
            for w, h in sides:
                box = [(cx - w / 2) / picture[1], (cy - h / 2) / picture[0]]
                boxes.append([*box, (cx + w / 2) / picture[1], (cy + h / 2) / picture[0]])
    made = np.array(boxes).reshape(-1)
    made = made.clip(0, 1) if clip else made
    return np.stack([made, np.resize(variance, made.shape)])[None]
