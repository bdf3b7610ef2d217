"""LSTM, GRU and RNN as OpenVINO's sequences: gates reordered, biases summed, layouts transposed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from batchconv import ops
from batchconv.errors import BadModel, Unsupported
from batchconv.frontends.onnx.forms import i64, joined, like, picked, reshape, shape_of
from batchconv.frontends.onnx.registry import onnx
from batchconv.graph import Value, need_shape

Texts = Sequence[str] | None
Floats = Sequence[float] | None
_ACTIVATIONS = {"Sigmoid": "sigmoid", "Tanh": "tanh", "Relu": "relu"}
_LSTM_GATES = (2, 0, 3, 1)
"""Gates f, i, c, o of OpenVINO among ONNX's i, o, f, c."""


def gates(value: Value, order: Sequence[int]) -> Value:
    """A [directions, gates * hidden, ...] value with its gates in another order."""
    parts = ops.split.op(value, i64(1), num_splits=len(order)).values()
    return ops.concat(*(parts[at] for at in order), axis=1)


def summed(b: Value | None, w: Value, order: Sequence[int]) -> Value:
    """Input and recurrence biases added, gates in `order`; zeros if there are none."""
    directions, rows = need_shape(w)[:2]
    if b is None:
        return ops.broadcast(like(0, w), i64([directions, rows]))
    ours, recurrent = ops.split.op(b, i64(1), num_splits=2).values()
    return gates(ops.add(ours, recurrent), order)


def four_biases(b: Value | None, w: Value) -> Value:
    """Biases of a GRU whose reset gate is applied after the product: z and r summed, h and its recurrence apart."""
    directions, rows = need_shape(w)[:2]
    if b is None:
        return ops.broadcast(like(0, w), i64([directions, rows // 3 * 4]))
    z, r, h, rz, rr, rh = ops.split.op(b, i64(1), num_splits=6).values()
    return ops.concat(ops.add(z, rz), ops.add(r, rr), h, rh, axis=1)


class Batches:
    """The input of a recurrent layer as OpenVINO wants it: batch first, lengths and states given."""

    def __init__(self, x: Value, w: Value, r: Value, lengths: Value | None, layout: int) -> None:
        if any(value.rank not in (None, 3) for value in (x, w, r)):
            raise BadModel(f"data, weights and recurrence of rank {x.rank}, {w.rank}, {r.rank} must have rank 3")
        self.layout = layout
        self.x = x if layout else ops.transpose(x, i64([1, 0, 2]))
        size = shape_of(self.x)
        self.batch, steps = picked(size, [0]), picked(size, [1])
        self.lengths = ops.broadcast(reshape(steps), self.batch) if lengths is None else lengths
        self.directions, self.hidden = need_shape(w)[0], need_shape(r)[-1]

    def state(self, given: Value | None) -> Value:
        """An initial state [batch, directions, hidden]."""
        if given is not None:
            return given if self.layout else ops.transpose(given, i64([1, 0, 2]))
        return ops.broadcast(like(0, self.x), joined(self.batch, i64([self.directions, self.hidden])))

    def outputs(self, values: Sequence[Value]) -> tuple[Value, ...]:
        """Y [batch, directions, steps, hidden] and last states in ONNX's layout."""
        sequence = ops.transpose(values[0], i64([0, 2, 1, 3] if self.layout else [2, 1, 0, 3]))
        states = [v if self.layout else ops.transpose(v, i64([1, 0, 2])) for v in values[1:]]
        return sequence, *states

    def attributes(self, direction: str, names: Texts, alpha: Floats, beta: Floats, clip: float) -> dict[str, Any]:
        if direction not in ("forward", "reverse", "bidirectional"):
            raise BadModel(f"attribute 'direction' = {direction!r} is not one of forward, reverse, bidirectional")
        attrs: dict[str, Any] = {"direction": direction, "hidden_size": self.hidden, "clip": clip}
        if names:
            attrs["activations"] = self.activations(names, alpha, beta)
        return attrs

    def activations(self, names: Sequence[str], alpha: Floats, beta: Floats) -> list[str]:
        per = len(names) // self.directions
        strange = sorted(set(names) - set(_ACTIVATIONS))
        if strange or alpha or beta or list(names) != list(names[:per]) * self.directions:
            raise Unsupported(f"activations {list(names)} with alpha {alpha} and beta {beta} are not supported")
        return [_ACTIVATIONS[name] for name in names[:per]]


@onnx.op("LSTM")
def lstm(
    x: Value,
    w: Value,
    r: Value,
    b: Value | None = None,
    lengths: Value | None = None,
    h: Value | None = None,
    c: Value | None = None,
    p: Value | None = None,
    *,
    activation_alpha: Floats = None,
    activation_beta: Floats = None,
    activations: Texts = None,
    clip: float = 0.0,
    direction: str = "forward",
    hidden_size: int = 0,
    input_forget: int = 0,
    layout: int = 0,
    output_sequence: int = 0,
) -> tuple[Value, ...]:
    if input_forget or (p is not None and (p.array is None or np.any(p.array))):
        raise Unsupported("peepholes and coupled gates are not supported")
    data = Batches(x, w, r, lengths, layout)
    attrs = data.attributes(direction, activations, activation_alpha, activation_beta, clip)
    weights = (gates(w, _LSTM_GATES), gates(r, _LSTM_GATES), summed(b, w, _LSTM_GATES))
    return data.outputs(
        ops.lstm_sequence.op(data.x, data.state(h), data.state(c), data.lengths, *weights, **attrs).values()
    )


@onnx.op("GRU")
def gru(
    x: Value,
    w: Value,
    r: Value,
    b: Value | None = None,
    lengths: Value | None = None,
    h: Value | None = None,
    *,
    activation_alpha: Floats = None,
    activation_beta: Floats = None,
    activations: Texts = None,
    clip: float = 0.0,
    direction: str = "forward",
    hidden_size: int = 0,
    layout: int = 0,
    linear_before_reset: int = 0,
    output_sequence: int = 0,
) -> tuple[Value, ...]:
    data = Batches(x, w, r, lengths, layout)
    attrs = data.attributes(direction, activations, activation_alpha, activation_beta, clip)
    bias = four_biases(b, w) if linear_before_reset else summed(b, w, (0, 1, 2))
    attrs["linear_before_reset"] = bool(linear_before_reset)
    return data.outputs(ops.gru_sequence.op(data.x, data.state(h), data.lengths, w, r, bias, **attrs).values())


@onnx.op("RNN")
def rnn(
    x: Value,
    w: Value,
    r: Value,
    b: Value | None = None,
    lengths: Value | None = None,
    h: Value | None = None,
    *,
    activation_alpha: Floats = None,
    activation_beta: Floats = None,
    activations: Texts = None,
    clip: float = 0.0,
    direction: str = "forward",
    hidden_size: int = 0,
    layout: int = 0,
    output_sequence: int = 0,
) -> tuple[Value, ...]:
    data = Batches(x, w, r, lengths, layout)
    attrs = data.attributes(direction, activations, activation_alpha, activation_beta, clip)
    weights = (w, r, summed(b, w, (0,)))
    return data.outputs(ops.rnn_sequence.op(data.x, data.state(h), data.lengths, *weights, **attrs).values())
