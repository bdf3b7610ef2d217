"""The table of operations against OpenVINO's: names, versions, attributes, defaults; and checked construction."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from ops_compare import Case, c, op_of, openvino_model, p

from batchconv import ops
from batchconv.errors import BadModel, InternalError
from batchconv.opset import TABLE, Constructor, ir_type
from batchconv.tensor import DType

REFERENCE = Path(__file__).parents[2] / "shared" / "reference" / "opset.json"
MODULES = ("detection", "elementwise", "movement", "nn", "more")
OUR_OWN = {("Parameter", "shape"), ("Constant", "weight")}


def reference() -> dict[str, dict[str, Any]]:
    if not REFERENCE.exists():
        pytest.skip("no ../shared/reference/opset.json")
    return {row["name"]: row for row in json.loads(REFERENCE.read_text())["ops"]}


@pytest.mark.corpus
def test_versions_are_those_that_brought_the_operation() -> None:
    known = reference()
    for row in TABLE.values():
        assert row.version in {f"opset{first}" for first, _ in known[row.type]["all_versions"].values()} | {
            known[row.type]["ir_version"]
        }, row.type


@pytest.mark.corpus
def test_attributes_are_those_of_openvino() -> None:
    """All of them in the newest version; none that does not exist in an older one."""
    known = reference()
    for row in TABLE.values():
        if row.type == "Constant":
            continue
        theirs = {attr["name"] for attr in known[row.type]["attributes"]}
        assert set(row.attrs) <= theirs, row.type
        if row.version == known[row.type]["ir_version"] and row.type != "ROIPooling":
            assert set(row.attrs) == theirs, row.type


@pytest.mark.corpus
def test_types_are_spelled_as_in_the_ir() -> None:
    assert {t: ir_type(t) for t in TABLE} == {t: reference()[t]["ir_type"] for t in TABLE}


@pytest.mark.corpus
def test_constructors_have_the_names_of_openvinos_factories() -> None:
    known = reference()
    for row in TABLE.values():
        factory = known[row.type].get("python_factory")
        if factory and row.type not in ("Parameter", "Constant", "Result"):
            made = getattr(ops, factory.rsplit(".", 1)[1])
            assert isinstance(made, Constructor)
            assert made.row is row


def every_case() -> list[Case]:
    return [case for name in MODULES for case in importlib.import_module(f"test_ops_{name}").CASES]


def plain(value: Any) -> Any:
    """An attribute as OpenVINO's `get_attributes` and ours can be compared."""
    if isinstance(value, DType):
        return value.ir
    if isinstance(value, str):
        return value.lower()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return round(value, 6 - math.ceil(math.log10(abs(value) or 1))) if isinstance(value, float) else value


NORMALISED = {"strides", "dilations", "pads_begin", "pads_end", "output_padding", "auto_pad", "batch_dims", "axis"}


def test_openvino_reads_every_attribute_as_given() -> None:
    """What we write for each case is what its node has after reading, lists it fills in for itself aside."""
    pytest.importorskip("openvino")
    for case in every_case():
        op = op_of(case())
        node = next(n for n in openvino_model(op).get_ops() if n.get_friendly_name() == "case")
        read = {name: plain(value) for name, value in node.get_attributes().items()}
        for name, value in op.attrs.items():
            if (op.type, name) not in OUR_OWN and name not in NORMALISED and name in read and value != ():
                assert read[name] == plain(value), (op.type, name)


def test_every_row_has_a_case() -> None:
    covered = {op_of(case()).type for case in every_case()}
    assert set(TABLE) - covered == {"Parameter", "Constant", "Result", "Assign"} & set(TABLE)


def test_an_attribute_with_a_hyphen_may_have_an_underscore() -> None:
    pooled = ops.avg_pool(p("f32[1,3,8,8]"), kernel=(2, 2), strides=(2, 2), exclude_pad=False)
    assert pooled.op.attrs["exclude-pad"] is False


def test_trailing_inputs_left_out_are_none() -> None:
    assert len(ops.swish.op(p("f32[2]"), None).inputs) == 1


@pytest.mark.parametrize(
    ("case", "error", "message"),
    [
        (lambda: ops.relu(p("f32[1]"), p("f32[1]")), BadModel, "Relu takes data, 2 given"),
        (lambda: ops.relu(), BadModel, "Relu takes data, 0 given"),
        (lambda: ops.concat(axis=0), BadModel, "Concat takes data*, 0 given"),
        (lambda: ops.relu(p("f32[1]"), alpha=1), InternalError, "Relu has no attribute alpha"),
        (lambda: ops.concat(p("f32[1]")), InternalError, "Concat needs attribute 'axis'"),
        (lambda: ops.swish(None, p("f32[]")), BadModel, "Swish: an input in the middle is missing"),
        (lambda: ops.concat(p("f32[1]"), axis=1.5), BadModel, "attribute 'axis' = 1.5 is not an integer"),
        (lambda: ops.concat(p("f32[1]"), axis="x"), BadModel, "attribute 'axis' = 'x' is not an integer"),
        (lambda: ops.clamp(p("f32[1]"), min="a", max=1), BadModel, "attribute 'min' = 'a' is not a number"),
        (
            lambda: ops.max_pool(p("f32[1,1,4]"), kernel=3, strides=(1,)),
            BadModel,
            "attribute 'kernel' = 3 is not a list of integers",
        ),
        (
            lambda: ops.convert(p("f32[1]"), destination_type="f16"),
            BadModel,
            "attribute 'destination_type' = 'f16' is not an element type",
        ),
        (
            lambda: ops.gelu(p("f32[1]"), approximation_mode="tan"),
            BadModel,
            "attribute 'approximation_mode' = 'tan' is not one of ERF, TANH",
        ),
        (
            lambda: ops.fake_quantize(p("f32[1]"), *[c(0.0)] * 4, levels=1),
            BadModel,
            "attribute 'levels' = 1 is not 2 levels or more",
        ),
    ],
)
def test_wrong_construction_is_one_line(case: Case, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        case()
    assert str(caught.value) == message
