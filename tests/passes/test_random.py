"""Random small networks, run by OpenVINO before and after the passes."""

from __future__ import annotations

from typing import Any

import networks
import numpy as np
import pytest

from batchconv import ops, passes
from batchconv.graph import Graph, Value
from batchconv.shape import ANY
from batchconv.tensor import DType


class Net:
    """A network in the making: a value of `channels` channels, and how to put one more operation behind it."""

    def __init__(self, seed: int, dtype: DType) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.call = networks.calls()
        self.parameter = ops.parameter("x", dtype, (ANY, 4, 12, 12))
        self.value = self.parameter.value()
        self.channels = 4
        self.results: list[Value] = []

    def weight(self, *shape: int, positive: bool = False) -> Value:
        data = (
            self.rng.uniform(0.5, 1.5, shape) if positive else self.rng.normal(size=shape) / np.prod(shape[1:]) ** 0.5
        )
        return ops.const(data.astype(self.dtype.numpy))

    def grow(self) -> None:
        """One more operation, of any kind."""
        kinds = [self.conv, self.grouped, self.depthwise, self.deconv, self.norm, self.relu, self.pad, self.fork]
        kinds += [self.arithmetic] * 6
        kinds[self.rng.integers(len(kinds))]()

    def conv(self) -> None:
        out, size = int(self.rng.integers(1, 7)), int(self.rng.integers(1, 4))
        pads = (int(self.rng.integers(0, 2)),) * 2
        filters = self.weight(out, self.channels, size, size)
        self.value = self.call["Convolution"](self.value, filters, pads_begin=pads, pads_end=pads)
        self.channels = out

    def grouped(self) -> None:
        groups = 2 if self.channels % 2 == 0 else 1
        filters = self.weight(groups, 3, self.channels // groups, 2, 2)
        self.value = self.call["GroupConvolution"](self.value, filters, pads_begin=(1, 1))
        self.channels = 3 * groups

    def depthwise(self) -> None:
        self.value = self.call["GroupConvolution"](self.value, self.weight(self.channels, 1, 1, 2, 2))

    def deconv(self) -> None:
        self.value = self.call["ConvolutionBackpropData"](self.value, self.weight(self.channels, 3, 2, 2))
        self.channels = 3

    def norm(self) -> None:
        of = [self.weight(self.channels, positive=positive) for positive in (True, False, False, True)]
        self.value = self.call["BatchNormInference"](self.value, *of)

    def relu(self) -> None:
        self.value = ops.relu(self.value)

    def pad(self) -> None:
        self.value = self.call["Pad"](self.value, [0, 0, 1, 0], [0, 0, 0, 1])

    def fork(self) -> None:
        """The value is a result too, or added to itself after a branch."""
        if self.rng.integers(2):
            self.results.append(self.value)
        else:
            self.value = ops.add(self.value, ops.relu(self.value))

    def arithmetic(self) -> None:
        shapes = [(), (1,), (self.channels, 1, 1), (1, self.channels, 1, 1), (1, 1, 1), (1, 1, 1, 1)]
        constant = self.weight(*shapes[self.rng.integers(len(shapes))], positive=True)
        kind = self.rng.choice(["Add", "Subtract", "Multiply", "Divide"])
        pair = (self.value, constant)
        if self.rng.integers(8) == 0 and kind != "Divide":
            pair = (constant, self.value)
        self.value = self.call[kind](*pair)

    def head(self) -> None:
        """Flattened, and two matrix multiplications with scales and shifts."""
        mean = self.call["ReduceMean"](self.value, [2, 3], keep_dims=False)
        hidden = ops.matmul(mean, self.weight(5, self.channels), transpose_b=True)
        hidden = ops.multiply(ops.add(hidden, self.weight(5)), self.weight(1, 5))
        self.value = ops.multiply(ops.matmul(hidden, self.weight(5, 3)), self.weight(3))

    def graph(self) -> Graph:
        return Graph((self.parameter,), tuple(map(ops.result, (self.value, *self.results))))


def network(seed: int, dtype: DType = DType.F32) -> Graph:
    net: Any = Net(seed, dtype)
    for _ in range(10):
        net.grow()
    net.head()
    return net.graph()


@pytest.mark.parametrize("seed", range(24))
def test_computes_the_same(seed: int) -> None:
    graph = network(seed)
    compared(graph, 1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_computes_the_same_in_half_precision(seed: int) -> None:
    compared(network(seed, DType.F16), 1e-2)


def compared(graph: Graph, tolerance: float) -> None:
    after = passes.run(graph)
    assert len(after.ops()) < len(graph.ops())
    for want, got in networks.run_both(graph, after, networks.feeds(graph)):
        assert np.abs(want).max() > 0
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * float(np.abs(want).max()))


def test_a_second_run_changes_nothing() -> None:
    for seed in range(10):
        once = passes.run(network(seed))
        assert str(passes.run(once)) == str(once)
