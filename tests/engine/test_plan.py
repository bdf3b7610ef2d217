"""Plans: what they say, how little they read, and the memory they foresee."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nets
import onnx
import pytest

from batchconv import manifest
from batchconv.convert import Request, Variant
from batchconv.engine import local, memory, session
from batchconv.engine import plan as planning
from batchconv.engine.header import Header
from batchconv.engine.local import Bounds, Order
from batchconv.quantize import Compression

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


def test_a_plan_says_what_there_is_to_do_and_what_cannot_be_done(tmp_path: Path) -> None:
    nets.zoo(tmp_path / "good", 2)
    nets.chain(tmp_path / "odd.onnx", 3, 8, 9, op="Frobnicate")
    path = nets.manifest(
        tmp_path,
        {"model": "good/*.onnx", "precisions": ["fp32", "int4_sym"]},
        {"model": "odd.onnx"},
        {"model": "odd.onnx", "name": "cut", "outputs": ["m0"]},
    )
    text, code = session.plan(path)
    lines = text.splitlines()
    assert code == 1
    assert lines[0].startswith("net00: onnx, 3.3 kB, 3 weights, fp32, int4_sym; ")
    assert lines[2] == "odd: cannot be converted: odd.onnx: no translator for Frobnicate ('relu0')"
    assert lines[3].startswith("cut: onnx, ")
    assert lines[4].startswith("4 models, 6 artifacts to make, 1 models cannot be converted; ")
    data = json.loads(session.plan(path, as_json=True)[0])
    assert [model["weights"] for model in data] == [3, 3, 3, 3]
    assert [model["error"] is None for model in data] == [True, True, False, True]
    assert not (tmp_path / "out").exists()


def test_a_model_of_500_gb_is_planned_without_touching_its_payload(tmp_path: Path) -> None:
    """250 weights of 2 GB in a sparse external file."""
    weights = []
    for i in range(250):
        tensor = onnx.TensorProto(name=f"w{i}", dims=[500_000, 1000], data_type=onnx.TensorProto.FLOAT)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("offset", i * 2_000_000_000), ("length", 2_000_000_000)):
            tensor.external_data.add(key=key, value=str(value))
        weights.append(tensor)
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], weights))
    model.graph.node.add(op_type="Concat", input=[w.name for w in weights], output=["y"]).attribute.add(
        name="axis", i=0, type=onnx.AttributeProto.INT
    )
    model.graph.output.add(name="y")
    onnx.save(model, str(tmp_path / "huge.onnx"))
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(500_000_000_000)
    (found,) = planning.make(manifest.load(nets.manifest(tmp_path, {"model": "huge.onnx"})), 1, 1).models
    local.close()
    assert found.error is None
    assert found.large
    assert found.header is not None
    assert found.header.stored == 500_000_000_000
    assert found.parts > 10_000


def test_a_model_of_many_weights_is_planned_in_little_memory(tmp_path: Path) -> None:
    """20,000 weights: a fifth of what tests/bench shows."""
    path = nets.chain(tmp_path / "many.onnx", 20_000, 2, 0)
    request = Request(str(path), (Variant(str(tmp_path / "x.xml")),))
    outcome = local.perform(Order("survey", (request,)))
    local.close()
    assert outcome.error is None
    assert outcome.value.weights == 20_000
    assert outcome.peak < 150 << 20


@pytest.mark.parametrize(
    ("model", "modes", "threads"),
    [
        ("light_squeezenet", ["fp32"], 1),
        ("light_densenet121", ["fp32", "fp16"], 1),
        ("light_resnet50", ["int8_asym"], 2),
        ("chain", ["int4_sym"], 2),
        ("chain", ["fp32", "fp16"], 1),
    ],
)
def test_memory_measured_is_foreseen_and_not_twice_as_much(
    model: str, modes: list[str], threads: int, tmp_path: Path
) -> None:
    path = nets.chain(tmp_path / "chain.onnx", 2, 2048, 0) if model == "chain" else LIGHT / f"{model}.onnx"
    variants = tuple(Variant(str(tmp_path / mode / "x.xml"), Compression(mode)) for mode in modes)
    request = Request(str(path), variants)
    header: Header = local.perform(Order("survey", (request,))).value
    local.close()
    outcome = local.perform(Order("convert", (request,), Bounds(threads=threads)))
    local.close()
    assert outcome.error is None
    foreseen = memory.foreseen("convert", header, request, threads)
    assert outcome.peak <= foreseen <= 2 * outcome.peak


def test_less_room_means_fewer_threads_and_then_a_refusal(tmp_path: Path) -> None:
    nets.zoo(tmp_path, 1)
    (model,) = planning.make(manifest.load(nets.manifest(tmp_path, {"model": "*.onnx"})), 4, 1).models
    local.close()
    peaks = [replace(model, threads=threads).peak for threads in (1, 2, 4)]
    assert peaks == sorted(set(peaks))
    assert planning.fitted(model, peaks[2]).threads == 4
    assert planning.fitted(model, peaks[2] - 1).threads == 3
    assert planning.fitted(model, peaks[0]).threads == 1
    assert planning.fitted(model, peaks[0] - 1).error is not None


def test_the_key_knows_every_option(tmp_path: Path) -> None:
    nets.zoo(tmp_path, 2)
    asked = [
        {},
        {"outputs": ["m1"]},
        {"inputs": {"x": [1, 16]}},
        {"inputs": {"x": {"type": "f16"}}},
        {"inputs": {"x": {"value": [1.0]}}},
        {"framework": "onnx"},
        {"name": "other"},
        {"proto": "x.prototxt"},
        {"model": "net01.onnx", "name": "net00"},
    ]
    keys = set()
    for options in asked:
        loaded = manifest.load(nets.manifest(tmp_path, {"model": "net00.onnx", **options}))
        keys.add(planning.request_of(loaded, loaded.entries[0]).key)
    assert len(keys) == len(asked)
