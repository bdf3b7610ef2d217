"""The Caffe networks of the shared corpus, where it is there: outputs equal those its authors recorded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caffe_run import compiled

from batchconv.errors import BadModel
from batchconv.frontends import open_model
from batchconv.frontends.translate import Input, translate
from batchconv.shape import ANY

FOLDER = Path(__file__).parents[3] / "shared" / "corpus" / "caffe"
CASES = sorted(FOLDER.glob("*/case*.json"))

pytestmark = [pytest.mark.corpus, pytest.mark.skipif(not CASES, reason="needs ../shared/corpus")]


def opened(file: Path, case: dict[str, Any]) -> Any:
    options = case["options"]
    model, registry = open_model(
        str(file.parent / case["model"]), "caffe", {"proto": str(file.parent / options["proto"])}
    )
    inputs = [
        Input(name, None, tuple(ANY if dim < 0 else dim for dim in shape))
        for name, shape in options.get("inputs", {}).items()
    ]
    return translate(model, registry, inputs, options.get("outputs", ()))


@pytest.mark.parametrize("file", CASES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_case(file: Path) -> None:
    case = json.loads(file.read_text())
    if case["expect"] == "error":
        with pytest.raises(BadModel, match=re.escape(case["model"])):
            opened(file, case)
        return
    network, arrays = compiled(opened(file, case)), np.load(file.parent / case["io"])
    for number in {re.sub(r"^\D*(\d*):.*", r"\1", key) for key in arrays.files}:
        feeds = {key.partition(":")[2]: arrays[key] for key in arrays.files if key.startswith(f"in{number}:")}
        result = network(feeds)
        for key in (key for key in arrays.files if key.startswith(f"out{number}:")):
            compare(np.array(result[key.partition(":")[2]]), arrays[key], case)


def compare(got: Any, wanted: Any, case: dict[str, Any]) -> None:
    """Equal within the case's tolerance; detections as rows without the order (scores that tie)."""
    if case.get("compare"):
        got, wanted = rows(got), rows(wanted)
        count = min(len(got), len(wanted))
        assert count >= 0.98 * max(len(got), len(wanted))
        got, wanted = np.sort(got[:, 2])[::-1][:count], np.sort(wanted[:, 2])[::-1][:count]
    limit = case["atol"] * max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(got.reshape(wanted.shape), wanted, rtol=case["rtol"], atol=limit)


def rows(detections: Any) -> Any:
    flat = detections.reshape(-1, 7)
    ends = np.flatnonzero(flat[:, 0] < 0)
    flat = flat[: ends[0]] if len(ends) else flat
    return flat[flat[:, 2] > 0]
