"""Known abuses, each a runnable case with the one line it must give; nothing may be left in the output folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from make_models import caffe as make_caffe
from make_models import onnx as make_onnx
from onnx import TensorProto, helper

from batchconv.cli import main

Case = tuple[Callable[[Path], Path], str]


def model(nodes: list[onnx.NodeProto], tensors: list[TensorProto] | None = None) -> onnx.ModelProto:
    """x -> nodes -> y, float32 [1, 4]."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "hostile", ends[:1], ends[1:], tensors or [])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    return made


def saved(folder: Path, made: onnx.ModelProto) -> Path:
    (folder / "m.onnx").write_bytes(made.SerializeToString())
    return folder / "m.onnx"


def add(name: str = "w") -> onnx.NodeProto:
    return helper.make_node("Add", ["x", name], ["y"], "add")


def external(folder: Path, location: str, offset: int = 0, length: int = 16) -> Path:
    """A model whose one weight lies at `location`."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return saved(folder, model([add()], [tensor]))


def truncated(folder: Path) -> Path:
    good = make_onnx(folder)[0].read_bytes()
    (folder / "m.onnx").write_bytes(good[: len(good) // 2])
    return folder / "m.onnx"


def empty(folder: Path) -> Path:
    (folder / "m.onnx").write_bytes(b"")
    return folder / "m.onnx"


def text(folder: Path) -> Path:
    (folder / "m.onnx").write_bytes(b"<html>404 not found</html>\n" * 50)
    return folder / "m.onnx"


def cyclic(folder: Path) -> Path:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"], "one"), helper.make_node("Relu", ["a"], ["b"], "two")]
    return saved(folder, model([*nodes, helper.make_node("Relu", ["b"], ["y"], "three")]))


def huge(folder: Path) -> Path:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 60], raw_data=b"1234")
    return saved(folder, model([add()], [tensor]))


def negative(folder: Path) -> Path:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[-4], raw_data=b"\0" * 16)
    return saved(folder, model([add()], [tensor]))


def not_utf8(folder: Path) -> Path:
    made = model([helper.make_node("Relu", ["x"], ["y"], "NAME")]).SerializeToString()
    (folder / "m.onnx").write_bytes(made.replace(b"NAME", b"\xff\xfe\xfd\xfc"))
    return folder / "m.onnx"


def linked(folder: Path) -> Path:
    """External data through a symbolic link that leads out of the model's folder."""
    (folder / "in").mkdir()
    (folder / "secret").write_bytes(b"\0" * 16)
    os.symlink("../secret", folder / "in" / "w.bin")
    return external(folder / "in", "w.bin")


def past_the_end(folder: Path) -> Path:
    (folder / "w.bin").write_bytes(b"\0" * 8)
    return external(folder, "w.bin", offset=4)


def missing_tensor(folder: Path) -> Path:
    return saved(folder, model([add("ghost")]))


def caffe_cut(folder: Path) -> Path:
    weights = next(path for path in make_caffe(folder) if path.suffix == ".caffemodel")
    weights.write_bytes(weights.read_bytes()[:-700])
    return weights


def caffe_as_onnx(folder: Path) -> Path:
    weights = next(path for path in make_caffe(folder) if path.suffix == ".caffemodel")
    return weights.rename(folder / "m.onnx")


CASES: dict[str, Case] = {
    "truncated": (truncated, "m.onnx: damaged or cut short: byte 13: field 7 has 2736 bytes, of which 1363 are there"),
    "empty": (empty, "m.onnx: the file is empty"),
    "not a model": (text, "m.onnx: not an ONNX model: byte 0: field 7 ends a group that was not started"),
    "cyclic graph": (cyclic, "m.onnx: Relu 'two': the graph has a cycle through tensor 'b'"),
    "2^60 elements": (
        huge,
        "m.onnx: tensor 'w': f32[1152921504606846976] needs 4611686018427387904 bytes, 4 are there",
    ),
    "negative dimension": (negative, "m.onnx: tensor 'w': shape [-4] has a negative dimension"),
    "invalid UTF-8": (not_utf8, "m.onnx: byte 14: a name is not UTF-8"),
    "external data above": (
        lambda folder: external(folder, "../secret"),
        "m.onnx: tensor 'w': external data '../secret' is not a file in the folder of the model",
    ),
    "external data absolute": (
        lambda folder: external(folder, "/etc/passwd"),
        "m.onnx: tensor 'w': external data '/etc/passwd' is not a file in the folder of the model",
    ),
    "external data by URL": (
        lambda folder: external(folder, "http://127.0.0.1/w"),
        "m.onnx: tensor 'w': external data 'http://127.0.0.1/w' is not a file in the folder of the model",
    ),
    "external data by link": (
        linked,
        "m.onnx: tensor 'w': external data 'w.bin' is a link that leaves the folder of the model",
    ),
    "external data missing": (
        lambda folder: external(folder, "none.bin"),
        "m.onnx: tensor 'w': external data 'none.bin' is missing",
    ),
    "external data past the end": (
        past_the_end,
        "m.onnx: tensor 'w': its data are bytes 4 to 20 of 'w.bin', which has 8",
    ),
    "tensor of nobody": (missing_tensor, "m.onnx: node 'add': tensor 'ghost' is not made by any node"),
    "caffemodel cut off": (
        caffe_cut,
        "quickstart.caffemodel: byte 2907: field 100 has 2205 bytes, of which 1505 are there",
    ),
    "wrong framework": (caffe_as_onnx, "m.onnx: this is a model of caffe, not of onnx"),
    "no such file": (lambda folder: folder / "none.onnx", "none.onnx: there is no such file"),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line_and_nothing_left(name: str, tmp_path: Path) -> None:
    make, line = CASES[name]
    path = make(tmp_path)
    args = ["convert", str(path), "--output", str(tmp_path / "out" / "m.xml"), "--precision", "fp32"]
    done = CliRunner().invoke(main, args + (["--framework", "onnx"] if name == "wrong framework" else []))
    assert done.exit_code == 1, done.output
    assert done.stderr == f"batchconv: error: {line}\n"
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
