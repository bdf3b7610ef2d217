"""What `deploy/` tells others to configure is what we configure ourselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from batchconv.engine.dask import SETTINGS

FILE = Path(__file__).parents[1] / "deploy" / "distributed.yaml"


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {k: v for key, sub in tree.items() for k, v in flat(sub, f"{prefix}.{key}" if prefix else key).items()}


def test_the_file_says_what_the_engine_sets() -> None:
    assert flat(yaml.safe_load(FILE.read_text())) == SETTINGS
