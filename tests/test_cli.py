"""The command line as a user meets it: a real process, its exit code, its last line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from make_models import caffe as make_caffe
from make_models import onnx as make_onnx
from nets import hole

from batchconv import cli
from batchconv.api import inputs_of
from batchconv.errors import BadModel
from batchconv.formats import FORMATS
from batchconv.inputs import parse_input
from batchconv.quantize import BACKUPS
from batchconv.shape import ANY, Interval
from batchconv.tensor import DType


def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "batchconv", *map(str, args)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {path.name: path for path in (*make_caffe(folder), *make_onnx(folder))}


def test_help_and_version() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("convert", "run", "plan", "inspect", "ops", "schema"))
    assert run("--version").stdout.startswith("batchconv, version 0.")


def test_names_of_formats_are_those_of_the_formats() -> None:
    assert ["fp32", *FORMATS] == cli.FORMATS
    assert set(cli.BACKUPS) == set(BACKUPS)


def test_convert_writes_three_files_and_says_so(models: dict[str, Path], tmp_path: Path) -> None:
    done = run(
        "convert", models["small.onnx"], "--output", tmp_path / "deep" / "m.xml", "--precision", "fp16", "--report"
    )
    assert done.returncode == 0, done.stderr
    assert "fp16" in done.stdout
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["m.bin", "m.json", "m.xml"]
    record = json.loads((tmp_path / "deep" / "m.json").read_text())
    assert record["precision"] == "fp16"
    assert record["bin"]["nbytes"] == (tmp_path / "deep" / "m.bin").stat().st_size
    assert list(record["sources"]) == [str(models["small.onnx"])]


def test_convert_with_shape_and_cut(models: dict[str, Path], tmp_path: Path) -> None:
    xml = tmp_path / "m.xml"
    done = run("convert", models["small.onnx"], "-o", xml, "--input", "x[2,3,8..16,?]", "--output-node", "conv")
    assert done.returncode == 0, done.stderr
    assert 'shape="2,3,8..16,?"' in xml.read_text()
    assert 'output_names="c,conv"' in xml.read_text()


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["-o", "{out}/m.onnx"], "--output '{out}/m.onnx' must end in .xml"),
        (["-o", "{out}/m.xml", "--input", "x[1,a]"], "dimension 'a' is not a number, '?', or a range like '1..8'"),
        (["-o", "{out}/m.xml", "--output-node", "nope"], "small.onnx: the model has no tensor or node 'nope'"),
        (["-o", "{out}/m.xml", "--precision", "int8_sym", "--group-size", "7"],
         "small.onnx: int8_sym has no group size but its own (-1)"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_one_line(models: dict[str, Path], tmp_path: Path, args: list[str], line: str) -> None:
    done = run("convert", models["small.onnx"], *(arg.format(out=tmp_path) for arg in args))
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["batchconv: error: " + line.format(out=tmp_path)]
    assert not list(tmp_path.iterdir())


def test_the_source_is_never_written_over(models: dict[str, Path], tmp_path: Path) -> None:
    before = models["small.onnx"].read_bytes()
    source = tmp_path / "m.bin"
    source.write_bytes(before)
    done = run("convert", source, "--framework", "onnx", "-o", tmp_path / "m.xml")
    assert done.returncode == 1
    assert "would replace its own source" in done.stderr
    assert source.read_bytes() == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_in_the_middle_it_leaves_what_was_there(tmp_path: Path, number: int, code: int) -> None:
    """The old artifact whole, no temporary file, one line."""
    old = tmp_path / "out" / "m.xml"
    old.parent.mkdir()
    old.write_text("old")
    wide = hole(tmp_path / "m.onnx", 12000, "w.bin")
    command = [sys.executable, "-m", "batchconv", "convert", str(wide), "-o", str(old), "--precision", "int8_sym"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: any(path.suffix == ".tmp" for path in old.parent.iterdir()) or process.poll() is not None)
        process.send_signal(number)
        _, line = process.communicate(timeout=30)
    assert (process.returncode, line) == (code, "batchconv: error: interrupted; nothing half-written was left\n")
    assert [path.name for path in old.parent.iterdir()] == ["m.xml"]
    assert old.read_text() == "old"


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


def test_nor_is_external_data_whatever_it_is_called(tmp_path: Path) -> None:
    model = hole(tmp_path / "w.onnx", 4, "w.bin")  # its numbers lie in w.bin
    (tmp_path / "link").symlink_to(tmp_path)
    done = run("convert", model, "-o", tmp_path / "link" / "w.xml")
    assert done.returncode == 1
    assert done.stderr == f"batchconv: error: w.onnx: the output {tmp_path}/link/w.bin would replace its own source\n"
    assert (tmp_path / "w.bin").read_bytes() == bytes(64)


@pytest.mark.parametrize("taken", ["m.bin", "m.xml", "m.json"])
def test_a_directory_in_the_way_is_seen_before_anything_is_written(
    models: dict[str, Path], tmp_path: Path, taken: str
) -> None:
    (tmp_path / taken).mkdir()
    done = run("convert", models["small.onnx"], "-o", tmp_path / "m.xml")
    assert done.stderr == f"batchconv: error: small.onnx: the output {tmp_path / taken} is a directory\n"
    assert [path.name for path in tmp_path.iterdir()] == [taken]


def test_an_output_beside_a_folder_that_is_not_there(models: dict[str, Path], tmp_path: Path) -> None:
    done = run("convert", models["small.onnx"], "-o", tmp_path / "none" / ".." / "m.xml")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["m.bin", "m.json", "m.xml"]


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["convert"], "Missing argument 'MODEL'. (see batchconv convert --help)"),
        (["convert", "m", "-o", "x.xml", "--bogus"], "No such option '--bogus'. (see batchconv convert --help)"),
        (["run", "m", "--workers", "0"],
         "Invalid value for '--workers': 0 is not in the range x>=1. (see batchconv run --help)"),
        (["run", "m", "--workers", "1", "--scheduler", "tcp://a:1"],
         "--workers and --scheduler exclude each other (see batchconv run --help)"),
        (["transform"], "No such command 'transform'. (see batchconv --help)"),
        (["--bogus"], "No such option '--bogus'. (see batchconv --help)"),
    ],
)  # fmt: skip
def test_misused_it_says_so_in_one_line(args: list[str], line: str) -> None:
    done = run(*args)
    assert done.returncode == 2
    assert done.stderr.replace("python -m batchconv", "batchconv") == f"batchconv: error: {line}\n"


def test_inspect_and_ops(models: dict[str, Path]) -> None:
    done = run("inspect", models["quickstart.caffemodel"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("quickstart.caffemodel: caffe")
    assert "Convolution" in done.stdout
    listed = run("ops", "--framework", "caffe").stdout.splitlines()
    assert "  Convolution" in listed
    assert int(listed[0].split()[1]) == len(listed) - 1


def test_a_target_that_cannot_be_written_is_one_line(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("convert", models["small.onnx"], "-o", tmp_path / "file" / "m.xml")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path / "file") in done.stderr


def test_input_syntax() -> None:
    given = parse_input("n/x:0[1,?,8..16,..4]{i32}")
    assert (given.name, given.dtype) == ("n/x:0", DType.I32)
    assert given.shape == (1, ANY, Interval(8, 16), Interval(0, 4))
    assert parse_input("x[]").shape == ()
    assert parse_input("x").shaped is False
    assert parse_input("x[...]").shape is None
    frozen = parse_input("x[2]->[1.5 2]").value
    assert frozen is not None
    assert frozen.tolist() == [1.5, 2.0]
    with pytest.raises(BadModel, match="element type 'f99'"):
        parse_input("x{f99}")


@pytest.mark.parametrize("text", ["8..2", "-2", "99999999999999999999", "1..99999999999999999999", "a..b", "1.5"])
def test_dimensions_that_are_none(text: str) -> None:
    with pytest.raises(BadModel, match="is not a number, '\\?', or a range"):
        parse_input(f"x[{text},3]")


def test_inputs_that_are_none() -> None:
    for given, message in [
        (5, "input 5 is not a text, a list, a mapping or a tuple"),
        ([5], r"input 5 is not a text like 'x\[1,3\]' or a tuple"),
        ({"x": 5}, "shape 5 is not a text"),
        (("x", np.complex64), "element type <class 'numpy.complex64'> is not one of OpenVINO's"),
    ]:
        with pytest.raises(BadModel, match=message):
            inputs_of(given)


def test_inputs_in_every_spelling_of_the_interface() -> None:
    wanted = parse_input("x[1,3,?]")
    assert inputs_of("x[1,3,?],a,b{i32}") == (wanted, parse_input("a,b{i32}"))
    assert inputs_of({"x": (1, 3, -1), "y": None}) == (wanted, parse_input("y"))
    assert inputs_of("x[1,3,?]") == (wanted,)
    assert inputs_of({"x": [1, 3, -1]}) == (wanted,)
    assert inputs_of([("x", [1, 3, -1])]) == (wanted,)
    assert inputs_of(("x", [1, 3, -1], np.int64))[0].dtype is DType.I64
    assert inputs_of(None) == ()


@pytest.mark.parametrize(("where", "code"), [(">&-", 0), ("> /dev/full", 1), ("| true", 0)])
def test_the_exit_code_is_right_whatever_becomes_of_the_output(where: str, code: int) -> None:
    command = f"{sys.executable} -m batchconv ops --framework caffe {where}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
