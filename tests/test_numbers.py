"""Converted networks compute what their framework computes; and the comparison can fail."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino")

from make_models import caffe as make_caffe
from make_models import onnx as make_onnx
from openvino_run import close, onnx_feeds, run_ir, run_onnx

import batchconv

SPEC = importlib.util.find_spec("onnx")
LIGHT = sorted(Path(str(SPEC and SPEC.origin)).parent.glob("backend/test/data/light/*.onnx"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {path.name: path for path in (*make_caffe(folder), *make_onnx(folder))}


def onnx_models(models: dict[str, Path]) -> list[Path]:
    return [path for name, path in models.items() if name.endswith(".onnx")]


def test_there_are_nine_light_networks() -> None:
    assert len(LIGHT) == 9


@pytest.mark.parametrize("model", LIGHT, ids=lambda path: path.stem)
def test_light_networks_equal_onnxruntime(model: Path, tmp_path: Path) -> None:
    """Their weights are constant fills: this proves structure, not numbers.

    Fills let logits grow to 1e9, where one unit in the last place of a sum decides a softmax (OpenVINO differs from
    onnxruntime there for most inputs, on ovc's IR just as on ours); for ones it does not.
    """
    feeds = {name: np.ones_like(value) for name, value in onnx_feeds(model).items()}
    batchconv.convert_model(model, output_model=tmp_path / "m.xml", compress_to_fp16=False)
    for got, wanted in zip(run_ir(tmp_path / "m.xml", feeds), run_onnx(model, feeds), strict=True):
        assert close(got, wanted)


def test_small_networks_equal_onnxruntime(models: dict[str, Path], tmp_path: Path) -> None:
    for model in onnx_models(models):
        tolerance = 3e-3 if "fp16" in model.name else 1e-4
        feeds = onnx_feeds(model)
        if "fp16" in model.name:
            feeds = {name: value.astype(np.float16) for name, value in feeds.items()} if needs_half(model) else feeds
        batchconv.convert_model(model, output_model=tmp_path / "m.xml", compress_to_fp16=False)
        got, wanted = run_ir(tmp_path / "m.xml", feeds), run_onnx(model, feeds)
        assert all(close(a, b, tolerance) for a, b in zip(got, wanted, strict=True)), model.name
        moved = run_onnx(model, {name: value * 2 for name, value in feeds.items()})
        assert not close(moved[0], wanted[0], tolerance), "the output must move with the input"


def needs_half(model: Path) -> bool:
    import onnx

    return onnx.load(str(model)).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16


def test_one_weight_scaled_by_one_percent_is_seen(models: dict[str, Path], tmp_path: Path) -> None:
    """The negative control: the comparison above fails on a fault of 1 % in one weight tensor."""
    import onnx
    from onnx import numpy_helper

    model = models["small.onnx"]
    wrong = onnx.load(str(model))
    weight = max(wrong.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    onnx.save(wrong, str(tmp_path / "wrong.onnx"))
    feeds = onnx_feeds(model)
    batchconv.convert_model(tmp_path / "wrong.onnx", output_model=tmp_path / "w.xml", compress_to_fp16=False)
    assert not close(run_ir(tmp_path / "w.xml", feeds)[0], run_onnx(model, feeds)[0])


def test_caffe_network_moves_with_its_input(models: dict[str, Path], tmp_path: Path) -> None:
    """Its numbers are compared in tests/frontends; here: it runs, a distribution that depends on x."""
    record = batchconv.convert_model(models["quickstart.caffemodel"], output_model=tmp_path / "q.xml", precision="fp32")
    assert record.artifacts[0]["framework"] == "caffe"
    name, shape = input_of(tmp_path / "q.xml")
    draw = np.random.default_rng(1)
    first, second = (run_ir(tmp_path / "q.xml", {name: draw.standard_normal(shape).astype("f4")})[0] for _ in range(2))
    assert np.allclose(first.sum(axis=1), 1, atol=1e-5)
    assert not np.allclose(first, second, atol=1e-3)


def input_of(xml: Path) -> tuple[str, list[int]]:
    import openvino as ov

    port = ov.Core().read_model(str(xml)).inputs[0]
    return port.get_any_name(), list(port.shape)


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("fp16", 5e-3), ("bf16", 3e-2), ("int8_sym", 3e-2), ("int8_asym", 3e-2), ("int4_sym", 0.5), ("nf4", 0.5)],
)
def test_every_precision_stays_near_the_network(
    models: dict[str, Path], tmp_path: Path, precision: str, tolerance: float
) -> None:
    model = models["small.onnx"]
    feeds = onnx_feeds(model)
    batchconv.convert_model(model, output_model=tmp_path / "m.xml", precision=precision)
    got, wanted = run_ir(tmp_path / "m.xml", feeds)[0], run_onnx(model, feeds)[0]
    assert np.abs(got - wanted).max() <= tolerance * np.abs(wanted).max()


def test_same_bytes_for_any_number_of_threads_and_folder(models: dict[str, Path], tmp_path: Path) -> None:
    made = []
    for threads, folder in ((1, "a"), (2, "b"), (3, "c")):
        xml = tmp_path / folder / "m.xml"
        batchconv.convert_model(models["small.onnx"], output_model=xml, precision="int8_asym", threads=threads)
        made.append((xml.read_bytes(), xml.with_suffix(".bin").read_bytes()))
    assert made[0] == made[1] == made[2]
