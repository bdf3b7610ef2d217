"""Artifacts run by the real OpenVINO at f32, and models by onnxruntime: what the end-to-end tests compare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

Array = npt.NDArray[Any]
F32 = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY"}


def run_ir(xml: Path, feeds: Mapping[str, Array]) -> list[Array]:
    """Every output of the IR at `xml`, computed on the CPU at f32; inputs by tensor name."""
    core = ov.Core()
    compiled = core.compile_model(core.read_model(str(xml)), "CPU", F32)
    results = compiled(dict(feeds))
    return [np.array(results[port]) for port in compiled.outputs]


def run_onnx(model: Path, feeds: Mapping[str, Array]) -> list[Array]:
    """Every output of the ONNX file by onnxruntime."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return [np.asarray(each) for each in session.run(None, dict(feeds))]


def onnx_feeds(model: Path, seed: int = 3) -> dict[str, Array]:
    """Seeded inputs for every input of an ONNX model (free dimensions are 1)."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(seed)
    return {
        each.name: draw.standard_normal([d if isinstance(d, int) else 1 for d in each.shape]).astype(np.float32)
        for each in session.get_inputs()
    }


def close(got: Array, wanted: Array, tolerance: float = 1e-4) -> bool:
    """The judge's rule: |a - b| <= tolerance * max(1, max |b|) + tolerance * |b|, shapes equal."""
    if got.shape != wanted.shape:
        return False
    limit = tolerance * max(1.0, float(np.abs(wanted).max(initial=0))) + tolerance * np.abs(wanted)
    return bool((np.abs(got.astype(np.float64) - wanted) <= limit).all())
