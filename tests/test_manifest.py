"""Manifests: what they mean, and every fault at once with its line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from batchconv import cli, manifest, storage
from batchconv.errors import ManifestError
from batchconv.manifest import Entry, Limits, Manifest, forms
from batchconv.quantize import Compression
from batchconv.shape import text
from batchconv.tensor import DType

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a manifest beside two (empty) models and gives its path."""
    for name in ("a.onnx", "b.c.onnx"):
        (tmp_path / name).touch()

    def put(body: str, name: str = "m.yaml") -> str:
        (tmp_path / name).write_text(body)
        return str(tmp_path / name)

    return put


def faults(path: str) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        manifest.load(path)
    return list(caught.value.faults)


def only(loaded: Manifest) -> Entry:
    (entry,) = loaded.entries
    return entry


def test_globs_become_models_named_by_stem_with_the_defaults_filled_in(write: Write, tmp_path: Path) -> None:
    loaded = manifest.load(
        write("output: out\ndefaults: {precisions: [fp16], framework: onnx}\nmodels: [{model: '*.onnx', outputs: [y]}]")
    )
    assert [(e.name, e.model) for e in loaded.entries] == [
        ("a", str(tmp_path / "a.onnx")),
        ("b.c", str(tmp_path / "b.c.onnx")),
    ]
    first = loaded.entries[0]
    assert (first.framework, first.outputs, first.line) == ("onnx", ("y",), 3)
    assert loaded.output == str(tmp_path / "out")
    assert loaded.xml(first, first.precisions[0]) == str(tmp_path / "out/a/FP16/a.xml")


def test_a_path_that_is_no_pattern_need_not_be_there(write: Write) -> None:
    """A model that is missing fails alone, at planning; it does not stop the others."""
    assert only(manifest.load(write("output: out\nmodels: [{model: gone.onnx}]"))).name == "gone"


@pytest.mark.parametrize(
    ("spelled", "shape", "dtype"),
    [
        ("{x: [1, 3, ?, ?]}", "[1,3,?,?]", None),
        ("{x: [1, -1, 1..8]}", "[1,?,1..8]", None),
        ("{x: '[1,?,8..]'}", "[1,?,8..]", None),
        ("{x: []}", "[]", None),
        ("{x: {shape: [2], type: i64}}", "[2]", DType.I64),
        ("['x[1,3,?,?]{f16}']", "[1,3,?,?]", DType.F16),
    ],
)
def test_spellings_of_an_input(write: Write, spelled: str, shape: str, dtype: DType | None) -> None:
    (made,) = only(manifest.load(write(f"output: o\nmodels:\n- model: a.onnx\n  inputs: {spelled}"))).inputs
    assert (made.name, text(made.shape), made.dtype, made.shaped) == ("x", shape, dtype, True)


def test_an_input_of_type_or_value_alone_keeps_its_shape(write: Write) -> None:
    loaded = manifest.load(write("output: o\nmodels:\n- {model: a.onnx, inputs: {x: {type: f16}, k: {value: [1, 2]}}}"))
    x, k = only(loaded).inputs
    assert (x.shaped, k.shaped) == (False, False)
    assert k.value is not None
    assert np.array_equal(k.value, [1, 2])


def test_precisions_as_names_or_with_options(write: Write) -> None:
    body = """
output: s3://bucket/zoo
models:
- model: a.onnx
  precisions:
  - FP16
  - {precision: int4_sym, group_size: 64, ratio: 0.8, all_layers: true, ignore: [head*], backup: int8_sym}
  - {precision: int4_sym, folder: PLAIN, scale_search: false}
"""
    loaded = manifest.load(write(body))
    entry = only(loaded)
    assert [(p.folder, p.compression) for p in entry.precisions] == [
        ("FP16", Compression(mode="fp16")),
        (
            "INT4_SYM",
            Compression("int4_sym", group_size=64, ratio=0.8, all_layers=True, ignore=("head*",), backup="int8_sym"),
        ),
        ("PLAIN", Compression("int4_sym", scale_search=False)),
    ]
    assert loaded.xml(entry, entry.precisions[1]) == "s3://bucket/zoo/a/INT4_SYM/a.xml"


def test_files_and_limits(write: Write, tmp_path: Path) -> None:
    engine = "{memory: 1.5 GiB, time: 30m, retries: 0, workers: 3}"
    body = f"output: o\nmodels: [{{model: /z/n.caffemodel, proto: n.prototxt}}]\nengine: {engine}"
    loaded = manifest.load(write(body))
    assert loaded.limits == Limits(memory=3 << 29, seconds=1800.0, retries=0, workers=3)
    assert only(loaded).files == {"proto": str(tmp_path / "n.prototxt")}


def test_json_means_the_same_and_has_lines_too(write: Write) -> None:
    good = '{\n\t"output": "out",\n\t"models": [{"model": "a.onnx", "precisions": ["fp32"]}]\n}'
    assert (
        manifest.load(write(good, "m.json")).entries
        == manifest.load(write("output: out\n\nmodels: [{model: a.onnx, precisions: [fp32]}]")).entries
    )
    assert faults(write(good.replace("fp32", "fp31"), "m.json"))[0].startswith("line 3: models[0].precisions[0]: ")


def test_every_fault_at_once_each_with_its_line(write: Write) -> None:
    found = faults(
        write(
            """output: out
defalts: {}
engine:
  memory: many
  retries: -1
models:
  - model: '*.nothing'
  - name: ../evil
    model: a.onnx
    presisions: [fp16]
  - model: a.onnx
    precisions:
      - fp17
      - {precision: int4_sym, grop_size: 3}
      - precision: int8_sym
        backup: int9
      - precision: int4_sym
        ratio: 2
    inputs: {x: [1, blah], y: {type: f99}}
  - model: a.onnx
    name: b
    name: c
    precisions: [fp16, FP16]
  - model: x/net.onnx
  - model: y/net.onnx
  - model: z/report.json.onnx
  - {}
  - 3
"""
        )
    )
    expected = [
        (2, "defalts: unknown key; did you mean 'defaults'?"),
        (4, "engine.memory: 'many' is not a size"),
        (5, "engine.retries: should be greater than or equal to 0"),
        (7, "models[0].model: no file fits '*.nothing'"),
        (8, "models[1].name: '../evil' cannot be the name of a folder"),
        (10, "models[1].presisions: unknown key; did you mean 'precisions'?"),
        (13, "models[2].precisions[0]: precision 'fp17' is not one of"),
        (14, "models[2].precisions[1].grop_size: unknown key; did you mean 'group_size'?"),
        (16, "models[2].precisions[2].backup: backup 'int9' is not one of"),
        (18, "models[2].precisions[3].ratio: should be less than or equal to 1"),
        (19, "models[2].inputs.x: dimension 'blah'"),
        (19, "models[2].inputs.y.type: element type 'f99'"),
        (22, "key 'name' is given twice"),
        (23, "models[3].precisions[1]: two artifacts would lie in 'FP16'"),
        (25, "models[5]: the name 'net' is taken by the model of line 24"),
        (26, "models[6].model"),
        (27, "models[7].model: is missing"),
        (28, "models[8]: a mapping is wanted"),
    ]
    assert len(found) == len(expected)
    for fault, (line, words) in zip(found, expected):
        assert fault.startswith(f"line {line}: {words}")


@pytest.mark.parametrize(
    "name", ["..", ".", "a/b", "..\\x", "/etc/x", "", "a\x01b", "x" * 201, "report.json", ".batchconv"]
)
def test_names_that_lead_out_of_the_output_are_refused(write: Write, name: str) -> None:
    body = json.dumps({"output": "out", "models": [{"model": "a.onnx", "name": name}]})
    assert len(faults(write(body, "m.json"))) == 1


def test_a_folder_that_leads_out_of_the_model_is_refused(write: Write) -> None:
    body = "output: o\nmodels: [{model: a.onnx, precisions: [{precision: fp16, folder: ../../x}]}]"
    assert "cannot be the name of a folder" in faults(write(body))[0]


def test_settings_that_contradict_each_other_are_faults(write: Write) -> None:
    body = "output: o\nmodels:\n- model: a.onnx\n  precisions:\n  - {precision: int8_sym, ratio: 0.5}"
    assert faults(write(body))[0].startswith("line 5: models[0].precisions[0]: ")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "the manifest is empty"),
        ("null", "line 1: the manifest is empty"),
        ("- a", "line 1: a mapping is wanted"),
        ("{", "line 1: not JSON"),
        ("models: [", "line 1: not YAML"),
        ("a: *x", "line 1: not YAML: found undefined alias 'x'"),
        ("a: \x01", "not YAML"),
        ("a: !!python/object/apply:os.system [ls]", "line 1: not YAML"),
        ("output: o\nmodels: []", "line 2: models: "),
        ("[" * 5000, "not JSON" + "|" + "not YAML"),
    ],
)
def test_files_that_are_no_manifest(write: Write, body: str, words: str) -> None:
    assert re.search(words.replace("[", r"\["), faults(write(body))[0])


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_bytes(b"output: \xff")
    assert faults(str(tmp_path / "m.yaml")) == ["not UTF-8 text (byte 8)"]


def test_aliases_that_multiply_cost_nothing(write: Write) -> None:
    body = "output: o\na: &a [x]\n" + "".join(
        f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi")
    )
    assert len(faults(write(body + "models: *i"))) > 1


def test_storage_options_are_names_of_environment_variables(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "output: o\nmodels: [{model: a.onnx}]\nstorage:\n  s3:\n    key: MY_KEY\n    secret: %s"
    monkeypatch.setenv("MY_KEY", "k")
    monkeypatch.delenv("MY_SECRET", raising=False)
    assert faults(write(body % "MY_SECRET")) == [
        "line 6: storage.s3.secret: the environment variable MY_SECRET is not set"
    ]
    assert faults(write(body % "wJalr/XUtn+FEMI")) == [
        "line 6: storage.s3.secret: the name of an environment variable is wanted, not a value"
    ]
    monkeypatch.setenv("MY_SECRET", "s")
    assert manifest.load(write(body % "$MY_SECRET")).storage == {"s3": {"key": "$MY_KEY", "secret": "$MY_SECRET"}}
    storage.configure({})


def test_the_published_schema_is_current() -> None:
    """`batchconv schema > manifests/schema.json` makes it so."""
    published = Path(__file__).parents[1] / "manifests" / "schema.json"
    assert json.loads(published.read_text()) == manifest.schema()


def test_formats_are_those_of_the_command_line() -> None:
    assert list(cli.FORMATS) == list(forms.FORMATS)
