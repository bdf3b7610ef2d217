"""Random networks: the same layers in the same formats with the same codes as NNCF makes of them (where installed)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from batchconv.convert import Request, Variant, convert
from batchconv.formats import FORMATS
from batchconv.quantize import Compression
from batchconv.tensor import Array

pytestmark = [pytest.mark.nncf, pytest.mark.filterwarnings("ignore")]

MODES = [name for name, row in FORMATS.items() if row.rule is not None and name != "fp8_e5m2"]
MIXED = ("int4_sym", "int4_asym", "nf4", "cb4")
FREE = [name for name in MODES if FORMATS[name].any_group and not name.startswith("int8")]


@dataclass
class Net:
    """A language model that grows block by block: embedding [words, width], then blocks on [1, 4, width]."""

    random: np.random.Generator
    width: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def weight(self, *shape: int) -> str:
        array = self.random.standard_t(4, shape) * self.random.uniform(0.01, 1)
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), f"w{len(self.weights)}"))
        return self.weights[-1].name

    def add(self, op: str, *inputs: str, **attrs: Any) -> str:
        """The output of a new node, whose name says nothing about its place."""
        at = len(self.nodes)
        name = f"{op}_{self.random.integers(99)}_{at}"
        self.nodes.append(helper.make_node(op, inputs, [f"t{at}"], name=name, **attrs))
        return f"t{at}"

    def dense(self, x: str, width: int = 0) -> str:
        return self.add("MatMul", x, self.weight(self.width, width or self.width))

    def residual(self, x: str) -> str:
        return self.add("Add", x, self.dense(self.add("Sigmoid", x)))

    def wide(self, x: str) -> str:
        inner = int(self.random.choice([64, 192, 2 * self.width]))
        return self.add("MatMul", self.add("Relu", self.dense(x, inner)), self.weight(inner, self.width))

    def turned(self, x: str, make: Callable[[str], str]) -> str:
        """`make` of x with the channels in the middle."""
        return self.add("Transpose", make(self.add("Transpose", x, perm=[0, 2, 1])), perm=[0, 2, 1])

    def convolution(self, x: str) -> str:
        return self.turned(x, lambda t: self.add("Conv", t, self.weight(self.width, self.width, 3), pads=[1, 1]))

    def depthwise(self, x: str) -> str:
        w = self.weight(self.width, 1, 3)
        return self.turned(x, lambda t: self.add("Conv", t, w, pads=[1, 1], group=self.width))

    def left(self, x: str) -> str:
        """The weight is the first factor."""
        return self.turned(x, lambda t: self.add("MatMul", self.weight(self.width, self.width), t))

    def attention(self, x: str) -> str:
        q, k, v = (self.dense(x) for _ in range(3))
        scores = self.add("MatMul", q, self.add("Transpose", k, perm=[0, 2, 1]))
        return self.add("MatMul", self.add("Softmax", scores), v)

    def shared(self, x: str) -> str:
        w = self.weight(self.width, self.width)
        return self.add("MatMul", self.add("Relu", self.add("MatMul", x, w)), w)


BLOCKS = (Net.dense, Net.residual, Net.wide, Net.convolution, Net.depthwise, Net.left, Net.attention, Net.shared)


def network(random: np.random.Generator, path: Path) -> Path:
    """A few blocks, perhaps with heads between them, and a last layer that may be the embedding."""
    net = Net(random, int(random.choice([64, 96, 128, 160, 256])))
    table = net.weight(words := int(random.choice([50, 200])), net.width)
    x, heads = net.add("Gather", table, "ids"), list[str]()
    for _ in range(random.integers(2, 6)):
        x = BLOCKS[random.integers(len(BLOCKS))](net, x)
        if random.random() < 0.2:
            heads.append(net.dense(x, int(random.choice([8, 64]))))
    tied = random.random() < 0.4
    heads.append(net.add("MatMul", x, net.add("Transpose", table, perm=[1, 0])) if tied else net.dense(x, words))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in heads]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 4])
    graph = helper.make_graph(net.nodes, "net", [ids], ends, net.weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def settings(random: np.random.Generator, mode: str) -> dict[str, Any]:
    """Options that both take."""
    options: dict[str, Any] = {}
    if not mode.startswith("int8"):
        options["all_layers"] = bool(random.random() < 0.4)
    if mode in FREE:
        options["group_size"] = int(random.choice([32, 64, -1]))
    if mode in MIXED and random.random() < 0.5:
        options["ratio"] = float(random.choice([0.3, 0.6, 0.8]))
    return options


def constants(model: Any) -> dict[str, tuple[str, tuple[int, ...], Array]]:
    """Every Constant that is converted when the model runs: element type, shape, codes."""
    found = {}
    for op in model.get_ops():
        readers = {reader.get_node().get_type_name() for port in op.outputs() for reader in port.get_target_inputs()}
        kind = op.get_element_type().get_type_name() if op.get_output_size() else ""
        if op.get_type_name() == "Constant" and "Convert" in readers and kind not in ("f16", "f32", "i64", "i32"):
            name = op.get_friendly_name().replace("_nncf_codebook_idxs", "")
            found[name] = kind, tuple(op.shape), np.frombuffer(op.data.tobytes(), np.uint8)
    return found


@pytest.mark.parametrize("seed", range(2 * len(MODES)))
def test_random_networks_come_out_as_from_nncf(seed: int, tmp_path: Path) -> None:
    ov = pytest.importorskip("openvino")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nncf = pytest.importorskip("nncf")
    nncf.set_log_level(logging.ERROR)
    random, mode = np.random.default_rng(seed), MODES[seed % len(MODES)]
    model, options = network(random, tmp_path / "net.onnx"), settings(random, mode)
    ours = Compression(mode, scale_search=False, **options)
    variants = (Variant(str(tmp_path / "plain.xml"), Compression()), Variant(str(tmp_path / "ours.xml"), ours))
    convert(Request(str(model), variants))
    plain = ov.Core().read_model(tmp_path / "plain.xml")
    try:
        theirs = nncf.compress_weights(plain, mode=getattr(nncf.CompressWeightsMode, mode.upper()), **options)
    except (nncf.InvalidGroupSizeError, nncf.UnsupportedModelError) as error:  # groups that do not divide a channel
        pytest.skip(f"NNCF refuses it: {str(error).splitlines()[0]}")
    expected, found = constants(theirs), constants(ov.Core().read_model(tmp_path / "ours.xml"))
    assert {name: row[:2] for name, row in found.items()} == {name: row[:2] for name, row in expected.items()}
    for name, (_, _, codes) in expected.items():
        np.testing.assert_array_equal(found[name][2], codes, err_msg=name)
