"""Attention and RotaryEmbedding (opset 23 and later), in products, masks and a softmax that OpenVINO fuses itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchconv import ops
from batchconv.errors import BadModel
from batchconv.frontends.onnx.forms import cast, dims, i64, joined, like, reshape
from batchconv.frontends.onnx.registry import onnx
from batchconv.frontends.onnx.tensors import dtype_of
from batchconv.graph import Value, need_rank
from batchconv.shape import static
from batchconv.tensor import DType

I64 = DType.I64


def heads(x: Value, count: int) -> Value:
    """[batch, heads, steps, size], from that or from [batch, steps, heads * size]."""
    if need_rank(x) == 4:
        return x
    if not count:
        raise BadModel("attributes 'q_num_heads' and 'kv_num_heads' must be given for inputs of rank 3")
    return ops.transpose(ops.reshape(x, i64([0, 0, count, -1]), special_zero=True), i64([0, 2, 1, 3]))


def width(x: Value, axis: int) -> int:
    """A dimension that must be known."""
    return static((x.shape or ())[axis : axis + 1])[0]


def repeated(x: Value, times: int) -> Value:
    """Each head of [batch, heads, steps, size] `times` times, one after another."""
    if times == 1:
        return x
    wide = ops.broadcast(ops.unsqueeze(x, i64([2])), i64([1, 1, times, 1, 1]), mode="bidirectional")
    size = joined(dims(x, 0, 1), i64([width(x, 1) * times]), dims(x, 2, 4))
    return ops.reshape(wide, size, special_zero=False)


@dataclass
class Mask:
    """What is added to the products of queries and keys: 0 where a query may look, -inf where not."""

    like: Value
    steps: Value
    keys: Value
    offset: Value
    value: Value | None = None

    def add(self, more: Value) -> None:
        self.value = more if self.value is None else ops.add(self.value, more)

    def allow(self, allowed: Value) -> None:
        self.add(ops.select(allowed, like(0, self.like), like(-np.inf, self.like)))

    def given(self, mask: Value) -> None:
        """The model's own mask, boolean or added; keys beyond its end are not looked at."""
        gap = ops.subtract(self.keys, dims(mask, need_rank(mask) - 1, need_rank(mask)))
        known = gap.array
        if known is None or known.any():
            boolean = mask.dtype is DType.BOOLEAN
            zeros = i64([0] * (need_rank(mask) - 1))
            filler = ops.const(False) if boolean else like(-np.inf, mask)
            mask = ops.pad(mask, i64([0] * need_rank(mask)), joined(zeros, gap), filler, pad_mode="constant")
        if mask.dtype is DType.BOOLEAN:
            self.allow(mask)
        else:
            self.add(cast(mask, self.like.dtype))

    def distance(self) -> Value:
        """How far each query stands behind each key: [steps, keys], or [batch, 1, steps, keys]."""
        rows, columns = (
            ops.range(i64(0), reshape(count), i64(1), output_type=I64) for count in (self.steps, self.keys)
        )
        return ops.subtract(ops.add(ops.unsqueeze(rows, i64([1])), self.offset), ops.unsqueeze(columns, i64([0])))

    def near(self, left: int, right: int) -> None:
        """Queries look at keys at most `left` before and `right` behind them (-1: any)."""
        if left >= 0:
            self.allow(ops.less_equal(self.distance(), i64(left)))
        if right >= 0:
            self.allow(ops.greater_equal(self.distance(), i64(-right)))

    def filled(self, lengths: Value) -> None:
        """Only the first `lengths` keys of each batch hold anything."""
        columns = ops.range(i64(0), reshape(self.keys), i64(1), output_type=I64)
        self.allow(ops.less(columns, reshape(lengths, -1, 1, 1, 1)))


@onnx.op("Attention", since=23)
def attention(
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None = None,
    past_key: Value | None = None,
    past_value: Value | None = None,
    lengths: Value | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int = 0,
    left_window_size: int = -1,
    q_num_heads: int = 0,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int = 0,
) -> tuple[Value, ...]:
    flat = need_rank(q) == 3
    q, k, v = heads(q, q_num_heads), heads(k, kv_num_heads), heads(v, kv_num_heads)
    offset = i64(0) if past_key is None else dims(past_key, 2, 3)
    if lengths is not None and past_key is None:
        offset = ops.subtract(reshape(cast(lengths, I64), -1, 1, 1, 1), dims(q, 2, 3))
    k = k if past_key is None else ops.concat(past_key, k, axis=2)
    v = v if past_value is None else ops.concat(past_value, v, axis=2)
    bias = Mask(q, dims(q, 2, 3), dims(k, 2, 3), offset)
    if mask is not None:
        bias.given(mask)
    bias.near(left_window_size, 0 if is_causal else right_window_size)
    if lengths is not None:
        bias.filled(cast(lengths, I64))
    times = width(q, 1) // width(k, 1)
    products = _products(q, repeated(k, times), scale)
    if softcap:
        products = ops.multiply(ops.tanh(ops.divide(products, like(softcap, q))), like(softcap, q))
    biased = products if bias.value is None else ops.add(products, bias.value)
    weights = _weights(biased, bias.value, softmax_precision)
    y = ops.matmul(weights, repeated(v, times))
    if flat:
        y = ops.reshape(ops.transpose(y, i64([0, 2, 1, 3])), i64([0, 0, -1]), special_zero=True)
    return y, k, v, {2: biased, 3: weights}.get(qk_matmul_output_mode, products)


def _products(q: Value, k: Value, scale: float | None) -> Value:
    """Scaled products of queries and keys; both are scaled by the root, so that halves do not overflow."""
    root = float(np.sqrt(1 / np.sqrt(width(q, 3)) if scale is None else scale))
    return ops.matmul(ops.multiply(q, like(root, q)), ops.multiply(k, like(root, k)), transpose_b=True)


def _weights(biased: Value, bias: Value | None, precision: int) -> Value:
    """Softmax over the keys; a query that may look at none gets zeros."""
    weights = cast(
        ops.softmax(cast(biased, dtype_of(precision)) if precision else biased, axis=need_rank(biased) - 1),
        biased.dtype,
    )
    if bias is None:
        return weights
    most = ops.reduce_max(bias, i64([-1]), keep_dims=True)  # which stops at the lowest number, short of -inf (2026.4.1)
    lowest = -65504.0 if bias.dtype is DType.F16 else float(np.finfo(np.float32).min)
    return ops.select(ops.less_equal(most, like(lowest, bias)), like(0, weights), weights)


@onnx.op("RotaryEmbedding", since=23)
def rotary_embedding(
    x: Value,
    cosine: Value,
    sine: Value,
    places: Value | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Value:
    data = heads(x, num_heads)
    size = width(data, 3)
    turned = rotary_embedding_dim or size
    if places is not None:
        cosine, sine = (ops.gather(table, places, i64(0)) for table in (cosine, sine))
    cosine, sine = ops.unsqueeze(cosine, i64([1])), ops.unsqueeze(sine, i64([1]))
    half, step = turned // 2, 2 if interleaved else 1
    a = _along(data, 0, turned if interleaved else half, step)
    b = _along(data, 1 if interleaved else half, turned, step)
    real = ops.subtract(ops.multiply(cosine, a), ops.multiply(sine, b))
    imaginary = ops.add(ops.multiply(sine, a), ops.multiply(cosine, b))
    if interleaved:
        pairs = ops.concat(ops.unsqueeze(real, i64([4])), ops.unsqueeze(imaginary, i64([4])), axis=4)
        y = ops.reshape(pairs, i64([0, 0, 0, -1]), special_zero=True)
    else:
        y = ops.concat(real, imaginary, axis=3)
    if turned < size:
        y = ops.concat(y, _along(data, turned, size, 1), axis=3)
    if need_rank(x) == 4:
        return y
    return ops.reshape(ops.transpose(y, i64([0, 2, 1, 3])), i64([0, 0, -1]), special_zero=True)


def _along(x: Value, start: int, stop: int, step: int) -> Value:
    return ops.slice(x, i64([start]), i64([stop]), i64([step]), i64([3]))
