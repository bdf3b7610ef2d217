"""The arrows of the house (DESIGN section 3): who may import whom, and what costs too much at import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "batchconv"
EVERYBODY = {"errors", "tensor", "shape", "packing", "version"}
OWN = {"pool", "interrupts"}
CORE = {"ops", "graph", "weight", "steps", "opset"}
ARROWS = {
    "errors": set(),
    "tensor": set(),
    "shape": set(),
    "packing": set(),
    "version": set(),
    "storage": set(),
    "weight": {"storage"},
    "steps": {"weight"},
    "graph": {"weight"},
    "opset": {"graph"},
    "ops": {"graph", "weight", "opset"},
    "rewrite": {"graph", "opset"},
    "formats": {"weight", "steps"},
    "quantize": {"weight", "steps", "formats"},
    "frontends": {*CORE, "storage", "rewrite"},
    "inputs": {"frontends"},
    "passes": {*CORE, "rewrite", "formats", "quantize"},
    "ir": {"graph", "weight", "steps", "opset", "storage"},
    "pool": set(),
    "interrupts": set(),
    "convert": {"pool", "frontends", "inputs", "passes", "ir", "storage", "graph", "weight", "quantize", "formats"},
    "manifest": {"inputs", "frontends", "storage", "quantize", "formats"},
    "engine": {
        "pool",
        "interrupts",
        "convert",
        "manifest",
        "frontends",
        "passes",
        "ir",
        "storage",
        "weight",
        "quantize",
        "formats",
    },
    "cli": {"interrupts", "engine", "convert", "inputs", "frontends", "manifest", "quantize", "formats", "storage"},
    "__main__": {"cli"},
    "api": {"convert", "inputs", "quantize", "frontends"},
    "__init__": {"api"},
}


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imported(path: Path) -> set[tuple[str, str]]:
    """(room, whole module) of every import of the package in a file, those inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= whole if node.module == "batchconv" else {node.module}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
    return {(name.split(".")[1], name) for name in names if name.startswith("batchconv.")}


def files() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows(path: Path) -> None:
    here = room(path)
    assert here in ARROWS, f"{here} has no place in the house"
    wrong = {name for name, _ in imported(path)} - ARROWS[here] - EVERYBODY - {here}
    assert not wrong, f"{here} must not import {sorted(wrong)}"


def test_frontends_do_not_know_each_other() -> None:
    for path in (PACKAGE / "frontends").rglob("*.py"):
        inside = path.relative_to(PACKAGE / "frontends").parts
        if len(inside) == 1:
            continue
        others = {m.split(".")[2] for _, m in imported(path) if m.startswith("batchconv.frontends.")}
        known = {inside[0], "translate", "binding", "protobuf"}
        assert others <= known, f"{path} imports {sorted(others - known)}"


def test_fsspec_only_in_storage_and_dask_only_in_engine() -> None:
    for path in files():
        text = path.read_text(encoding="utf-8")
        tree = ast.walk(ast.parse(text))
        tops = {n.split(".")[0] for node in tree for n in _modules(node)}
        assert "fsspec" not in tops or room(path) == "storage", path
        assert not tops & {"dask", "distributed"} or path.name == "dask.py", path
        assert "pickle" not in tops or room(path) in ("engine", "pool"), path


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


HEAVY = {"fsspec", "dask", "distributed", "pydantic", "onnx", "rich", "ml_dtypes", "google.protobuf"}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("batchconv", HEAVY | {"numpy", "click"}),
        ("batchconv.cli", HEAVY | {"numpy"}),
        ("batchconv.convert", HEAVY),
    ],
)
def test_heavy_imports_happen_on_use(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*(m for m in {sorted(heavy)!r} if m in sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not out.strip(), f"{module} imports {out.strip()}"
