"""The `.xml`: text as OpenVINO's own writer has it, read by OpenVINO to the same network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from growth import is_linear
from ir_fakes import written

from batchconv import ops, packing
from batchconv.errors import InternalError
from batchconv.graph import Graph, Op, Value
from batchconv.ir.layout import weights
from batchconv.ir.reader import Layer, Net, read_ir
from batchconv.ir.xml import attribute, escape, shape_text, write_xml
from batchconv.opset import rebuilt
from batchconv.shape import Interval
from batchconv.tensor import DType, Spec
from batchconv.weight import Weight


def save(graph: Graph, name: str = "net", rt_info: dict[str, Any] | None = None) -> tuple[bytes, bytes]:
    """Both files of a graph."""
    plan, (store,), _ = written([weights(graph)], 1 << 20)
    return write_xml(graph, plan.offsets[0], name, rt_info or {}), bytes(store.data)


def marked(value: Value) -> Value:
    """The value made by an operation that carries the decompression mark."""
    return Value(replace(value.op, attrs={**value.op.attrs, "rt_info": ("decompression",)}), value.port)


def small_net() -> Graph:
    x = ops.parameter("x", DType.F32, (Interval(), 2, Interval(4, 8), 4)).with_names(0, ["a,b"])
    filters = ops.const(np.arange(4, dtype=np.float16).reshape(2, 2, 1, 1), name="w_compressed")
    w = marked(ops.convert(filters, destination_type=DType.F32, name="w"))
    y = ops.convolution(x.value(), w, strides=(1, 1), pads_begin=(0, 0), pads_end=(0, 0), dilations=(1, 1), name="conv")
    y = ops.clamp(y, min=0.0, max=6.5)
    y = Value(y.op.with_names(0, ["y"]), 0)
    return Graph((x,), (ops.result(y, "out"),))


GOLDEN = """<?xml version="1.0"?>
<net name="small &amp; net" version="11">
	<layers>
		<layer id="0" name="x" type="Parameter" version="opset1">
			<data shape="?,2,4..8,4" element_type="f32" />
			<output>
				<port id="0" precision="FP32" names="a\\,b,x">
					<dim>-1</dim>
					<dim>2</dim>
					<dim>-1</dim>
					<dim>4</dim>
				</port>
			</output>
		</layer>
		<layer id="1" name="w_compressed" type="Const" version="opset1">
			<data element_type="f16" shape="2, 2, 1, 1" offset="0" size="8" />
			<output>
				<port id="0" precision="FP16">
					<dim>2</dim>
					<dim>2</dim>
					<dim>1</dim>
					<dim>1</dim>
				</port>
			</output>
		</layer>
		<layer id="2" name="w" type="Convert" version="opset1">
			<data destination_type="f32" />
			<rt_info>
				<attribute name="decompression" version="0" />
			</rt_info>
			<input>
				<port id="0" precision="FP16">
					<dim>2</dim>
					<dim>2</dim>
					<dim>1</dim>
					<dim>1</dim>
				</port>
			</input>
			<output>
				<port id="1" precision="FP32">
					<dim>2</dim>
					<dim>2</dim>
					<dim>1</dim>
					<dim>1</dim>
				</port>
			</output>
		</layer>
		<layer id="3" name="conv" type="Convolution" version="opset1">
			<data strides="1, 1" dilations="1, 1" pads_begin="0, 0" pads_end="0, 0" auto_pad="explicit" />
			<input>
				<port id="0" precision="FP32">
					<dim>-1</dim>
					<dim>2</dim>
					<dim>-1</dim>
					<dim>4</dim>
				</port>
				<port id="1" precision="FP32">
					<dim>2</dim>
					<dim>2</dim>
					<dim>1</dim>
					<dim>1</dim>
				</port>
			</input>
			<output>
				<port id="2" precision="FP32">
					<dim>-1</dim>
					<dim>2</dim>
					<dim>-1</dim>
					<dim>4</dim>
				</port>
			</output>
		</layer>
		<layer id="4" name="Clamp_4" type="Clamp" version="opset1">
			<data min="0" max="6.5" />
			<input>
				<port id="0" precision="FP32">
					<dim>-1</dim>
					<dim>2</dim>
					<dim>-1</dim>
					<dim>4</dim>
				</port>
			</input>
			<output>
				<port id="1" precision="FP32" names="y">
					<dim>-1</dim>
					<dim>2</dim>
					<dim>-1</dim>
					<dim>4</dim>
				</port>
			</output>
		</layer>
		<layer id="5" name="out" type="Result" version="opset1" output_names="y">
			<input>
				<port id="0" precision="FP32">
					<dim>-1</dim>
					<dim>2</dim>
					<dim>-1</dim>
					<dim>4</dim>
				</port>
			</input>
		</layer>
	</layers>
	<edges>
		<edge from-layer="0" from-port="0" to-layer="3" to-port="0" />
		<edge from-layer="1" from-port="0" to-layer="2" to-port="0" />
		<edge from-layer="2" from-port="1" to-layer="3" to-port="1" />
		<edge from-layer="3" from-port="2" to-layer="4" to-port="0" />
		<edge from-layer="4" from-port="1" to-layer="5" to-port="0" />
	</edges>
	<rt_info>
		<converter version="1.0" />
		<options>
			<flag value="YES" />
			<info name="group size" value="1 2" />
		</options>
		<nothing />
	</rt_info>
</net>
"""


def test_the_text_of_a_small_net() -> None:
    rt_info = {"converter": {}, "options": {"flag": True, "group size": [1, 2]}, "nothing": {}}
    text = save(small_net(), "small & net", rt_info)[0].decode()
    assert text.replace("<converter />", '<converter version="1.0" />') == GOLDEN


def test_the_same_graph_gives_the_same_bytes() -> None:
    assert save(small_net()) == save(small_net())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (-3, "-3"),
        (1.0, "1"),
        (0.1, "0.1"),
        (1e-05, "1e-05"),
        (float(np.float32(1e-5)), "9.999999747378752e-06"),
        (float("-inf"), "-inf"),
        ('a<b&"c"\n', "a&lt;b&amp;&quot;c&quot;&#10;"),
        ((1, 2), "1, 2"),
        ((), ""),
        ((0.5, 1.0), "0.5, 1"),
        (("a", "b"), "a, b"),
        ((True, False), "true, false"),
        (DType.BOOLEAN, "boolean"),
        (DType.F8E4M3, "f8e4m3"),
        ((Interval(), Interval(2, None), Interval(0, 9), Interval(1, 4), 3), "?,2..,..9,1..4,3"),
    ],
)
def test_attributes(value: Any, text: str) -> None:
    assert attribute(value) == text


def test_shapes_and_control_characters() -> None:
    assert (shape_text(None), shape_text(()), shape_text((1, Interval()))) == ("...", "", "1,?")
    assert escape("a\tb\x01c>'\0") == "a&#09;b&#01;c>'\ufffd"
    with pytest.raises(InternalError, match="type object cannot be written"):
        attribute(object())


def test_an_operation_of_no_opset_is_our_fault() -> None:
    op = Op("Frobnicate", (), {}, (), "f")
    with pytest.raises(InternalError, match="Frobnicate 'f': this operation is in no opset"):
        write_xml(Graph((), (op,)), {}, "n", {})


def test_marks_outlive_a_rebuild() -> None:
    w = marked(ops.convert(ops.const(np.ones(2, np.float16)), destination_type=DType.F32))
    again = rebuilt(w.op, (ops.const(np.ones(3, np.float16)),))
    assert again.outputs[0].shape == (3,)
    xml, bin = save(Graph((), (ops.result(again.value()),)))
    assert read_ir(xml, bin).of_type("Convert")[0].rt_info == ("decompression",)


def test_names_are_made_unique_and_given_ones_stay() -> None:
    x = ops.parameter("x", DType.F32, (1,))
    a = ops.relu(x.value())
    b = ops.relu(a, name="Relu_1")
    c = ops.relu(b, name="x")
    d = ops.relu(c, name="x")
    xml = write_xml(Graph((x,), (ops.result(d, "x"),)), {}, "n", {})
    assert [layer.name for layer in read_ir(xml).layers] == ["x", "Relu_1_1", "Relu_1", "x_1", "x_2", "x_3"]


def result_names(*names: str, shared: int = 1, own: tuple[str, ...] = (), label: str = "r") -> list[tuple[str, ...]]:
    x = ops.parameter("x", DType.F32, (1,))
    y = Value(ops.relu(x.value()).op.with_names(0, names), 0)
    results = tuple(ops.result(y, label if i == 0 else names[i]).with_names(0, own) for i in range(shared))
    return [layer.output_names for layer in read_ir(write_xml(Graph((x,), results), {}, "n", {})).of_type("Result")]


def test_output_names_of_results() -> None:
    assert result_names("a", "b") == [("a", "b")]
    assert result_names() == [("r",)]
    assert result_names(label="") == [()]
    assert result_names("a", "b", shared=2, label="a") == [("a",), ("b",)]
    assert result_names("a", own=("z", "q")) == [("q", "z")]


def test_sinks_stand_before_results() -> None:
    x = ops.parameter("x", DType.F32, (1, 2))
    state = ops.read_value(x.value(), variable_id="v", variable_type=DType.F32, variable_shape=(1, 2))
    y = ops.add(state, x.value())
    graph = Graph((x,), (ops.result(y, "out"), ops.assign(y, variable_id="v").op))
    xml, bin = save(graph)
    assert [layer.type for layer in read_ir(xml).layers] == ["Parameter", "ReadValue", "Add", "Assign", "Result"]
    assert b'variable_shape="1,2"' in xml
    ov = pytest.importorskip("openvino")
    assert len(ov.Core().read_model(xml, bin).get_sinks()) == 1


# OpenVINO


def test_nasty_names_reach_openvino_and_come_back() -> None:
    ov = pytest.importorskip("openvino")
    names = ["a,b", "tab\there", "line\nbreak", "<&>\"'", "\x01\x1f", "ünï→", "\\", " "]
    params = tuple(ops.parameter(name, DType.F32, (1,)) for name in names)
    graph = Graph(params, tuple(ops.result(ops.relu(p.value()), f"r{i}") for i, p in enumerate(params)))
    xml, bin = save(graph, "<n>")
    model = ov.Core().read_model(xml, bin)
    assert [list(each.get_names()) for each in model.inputs] == [[name] for name in names]
    assert [each.node.get_friendly_name() for each in model.inputs] == names
    assert [layer.outputs[0].names for layer in read_ir(xml).layers[: len(names)]] == [(name,) for name in names]
    assert read_ir(xml).name == "<n>"


def kinds(dtype: DType) -> np.ndarray[Any, Any]:
    values = np.array([0, 1, 2, 3, 1, 2, 3], dtype.numpy if dtype.bits < 8 else np.uint8)
    if dtype in (DType.U1, DType.BOOLEAN):
        values = np.array([0, 1, 1, 0, 1, 0, 0, 0, 1], np.uint8)
    return values.astype(dtype.numpy)


def test_every_element_type_reaches_openvino() -> None:
    ov = pytest.importorskip("openvino")
    types = [dtype for dtype in DType if dtype not in (DType.STRING, DType.DYNAMIC)]
    constants = [ops.const(kinds(dtype), dtype, f"c_{dtype.ir}") for dtype in types]
    scalar, empty = ops.const(np.float32(2.5), name="scalar"), ops.const(np.zeros((0, 3), np.float32), name="empty")
    graph = Graph((), tuple(ops.result(value, f"r_{value.op.name}") for value in (*constants, scalar, empty)))
    xml, bin = save(graph)
    model, net = ov.Core().read_model(xml, bin), read_ir(xml, bin)
    found = {op.get_friendly_name(): op for op in model.get_ops() if op.get_type_name() == "Constant"}
    for dtype in types:
        name = f"c_{dtype.ir}"
        assert found[name].get_element_type().get_type_name() == dtype.ir
        assert str(net.layer(name).array.tolist()) == str(kinds(dtype).tolist())
        packed = np.ascontiguousarray(found[name].data).tobytes()
        assert packed[: Spec(dtype, kinds(dtype).shape).nbytes] == packing.pack(kinds(dtype), dtype), dtype
    assert found["scalar"].get_vector().tolist() == [2.5]
    assert list(found["empty"].shape) == [0, 3]
    assert net.layer("scalar").array.shape == ()


def comparable(net: Net) -> dict[str, Any]:
    """What two writers of one network must agree on."""

    def layer(each: Layer) -> Any:
        data = {key: value for key, value in each.data.items() if key != "offset"}
        return each.type, each.version, data, each.inputs, each.outputs, each.rt_info, each.output_names

    by_id = {each.id: each.name for each in net.layers}
    edges = sorted((by_id[e.source[0]], e.source[1], by_id[e.target[0]], e.target[1]) for e in net.edges)
    return {"edges": edges, "layers": {each.name: layer(each) for each in net.layers}}


def test_openvino_writes_the_same_network(tmp_path: Path) -> None:
    ov = pytest.importorskip("openvino")
    x = ops.parameter("x", DType.F32, (1, 2, Interval(4, 8), 4))
    y = small_net().results[0].inputs[0].op.inputs[0]
    w = y.op.inputs[1]
    y = ops.convolution(x.value(), w, strides=(2, 1), pads_begin=(0, 1), pads_end=(1, 0), dilations=(1, 1), name="conv")
    parts = ops.split(
        ops.elu(y, alpha=0.5, name="elu"), ops.const(1, name="axis"), num_splits=2, name="split"
    ).op.values()
    z = ops.concat(*parts, axis=1, name="cat")
    z = ops.max_pool(
        z, strides=(1, 1), pads_begin=(0, 0), pads_end=(0, 0), kernel=(1, 1), dilations=(1, 1), name="pool"
    )
    z = ops.softmax(ops.prelu(z, ops.const([0.5], name="slope"), name="prelu"), axis=1, name="soft")
    z = Value(z.op.with_names(0, ["prob", "prob:0"]), 0)
    graph = Graph((x,), (ops.result(z, "prob/sink"), ops.result(Value(z.op.inputs[0].op, 0), "second")))
    xml, bin = save(graph)
    model = ov.Core().read_model(xml, bin)
    ov.save_model(model, tmp_path / "theirs.xml", compress_to_fp16=False)
    ours, theirs = comparable(read_ir(xml, bin)), comparable(read_ir(str(tmp_path / "theirs.xml")))
    for name, layer in theirs["layers"].items():
        assert ours["layers"][name] == layer, name
    assert ours == theirs
    compiled = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    out = compiled(np.random.default_rng(0).standard_normal((1, 2, 4, 4)).astype(np.float32))
    assert out["prob"].sum(axis=1) == pytest.approx(1, abs=1e-5)


def long_chain(size: int) -> Callable[[], bytes]:
    """What writes a chain of three times `size` operations."""
    x = ops.parameter("x", DType.F32, (1, 3, 8, 8))
    value = x.value()
    for _ in range(size):
        value = ops.relu(ops.add(value, ops.const([0.5])))
    graph = Graph((x,), (ops.result(value, "out"),))
    offsets: dict[Weight, int] = dict.fromkeys((weight for weight, _ in weights(graph)), 0)
    return lambda: write_xml(graph, offsets, "n", {})


def test_writing_is_linear() -> None:
    assert is_linear(long_chain, 500)
    assert len(long_chain(1000)()) > 1_000_000
