"""Outputs that are one value: every one keeps its name, before and after compiling."""

from __future__ import annotations

import openvino as ov

from batchconv import ops
from batchconv.graph import Graph
from batchconv.ir.xml import write_xml
from batchconv.passes import run
from batchconv.tensor import DType

F32 = {"INFERENCE_PRECISION_HINT": "f32"}


def test_outputs_that_are_one_value_keep_their_names() -> None:
    """A port that two Results show has the name of one when compiled; of an input, its own would be lost."""
    x = ops.parameter("x", DType.F32, (2, 3)).with_names(0, ["first", "second"])
    y = ops.relu(x.value()).op.with_names(0, ["y", "also"]).value()
    shown = [(x.value(), "first"), (x.value(), "second"), (y, "also"), (y, "y"), (y, "y")]
    graph = run(Graph((x,), tuple(ops.result(value, name) for value, name in shown)))
    model = ov.Core().read_model(write_xml(graph, {}, "net", {}), b"")
    for each in (model, ov.compile_model(model, "CPU", F32)):
        assert each.inputs[0].names == {"x", "first"}
        assert [port.names for port in each.outputs] == [{"x", "first"}, {"second"}, {"also"}, {"y"}, {"y"}]
    assert [op.type for op in graph.ops()].count("Identity") == 2


def test_a_graph_with_nothing_to_part_stays() -> None:
    x = ops.parameter("x", DType.F32, (2, 3))
    graph = Graph((x,), (ops.result(x.value(), "a"), ops.result(ops.relu(x.value()), "b")))
    assert run(graph) is graph
