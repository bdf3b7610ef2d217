"""The script that makes the project's own models makes the same bytes each time, and those that are committed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import make_models

COMMITTED = Path(__file__).parent.parent / "manifests" / "models"


def test_the_committed_network_is_what_the_script_makes(tmp_path: Path) -> None:
    made = make_models.caffe(tmp_path)
    assert [path.name for path in made] == ["quickstart.prototxt", "quickstart.caffemodel"]
    for path in made:
        assert path.read_bytes() == (COMMITTED / path.name).read_bytes()


def test_the_script_writes_all_models(tmp_path: Path) -> None:
    """As a user runs it; a second time gives the same bytes."""
    script = str(Path(make_models.__file__))
    out = subprocess.run(
        [sys.executable, script, str(tmp_path / "a")], capture_output=True, text=True, check=True
    ).stdout
    paths = [Path(line) for line in out.splitlines()]
    assert len(paths) == 6
    for path, again in zip(paths, make_models.main(tmp_path / "b"), strict=True):
        assert path.name == again.name
        assert path.read_bytes() == again.read_bytes()
