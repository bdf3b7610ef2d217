"""What pydantic validates: the keys of a manifest, the spellings of their values, and the JSON Schema made of both."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import core_schema

from batchconv.errors import BatchconvError
from batchconv.formats import FORMATS as COMPRESSED
from batchconv.frontends import FRONTENDS
from batchconv.inputs import parse_dim, parse_input, parse_shape
from batchconv.manifest import Precision
from batchconv.quantize import BACKUPS, Compression
from batchconv.shape import Shape

FORMATS = ("fp32", *COMPRESSED)
"""What a precision may be."""

NAME = re.compile(r"[^/\\\x00-\x1f\x7f]{1,200}")
"""What a model or precision folder may be called: one step of a path, short enough for a temporary file beside it."""

RESERVED = ("report.json", ".batchconv")
"""What the engine itself writes into the output folder."""


@dataclass(frozen=True, eq=False)
class Reads:
    """Marks a field that `parse` reads (any of our errors, or ValueError, is a fault) and `schema` describes."""

    parse: Callable[[Any], Any]
    schema: Mapping[str, Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        return dict(self.schema)

    def validate(self, value: Any) -> Any:
        try:
            return self.parse(value)
        except BatchconvError as error:
            raise ValueError(str(error)) from None


def _dim(value: Any) -> Any:
    """One dimension; `[1,3,?,?]` without quotes is YAML for keys without values, and means what it looks like."""
    if value == {None: None}:
        return parse_dim("?")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"dimension {value!r} is not a number, '?', or a range like '1..8'")
    return parse_dim(str(value))


def _shape(value: Any) -> Shape:
    if isinstance(value, str):
        return parse_shape(value)
    if not isinstance(value, list):
        raise ValueError("a shape is a list like [1,3,'?',8..16]")
    return tuple(map(_dim, value))


def _value(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype.kind not in "bif" or array.size > 1 << 16:
        raise ValueError("a value is a number or a list of at most 65536 numbers")
    return array


def _amount(units: Mapping[str, float], what: str) -> Callable[[Any], float]:
    """A reader of amounts: a bare number, or a number with one of `units`."""

    def parse(value: Any) -> float:
        match = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]*)\s*", str(value))
        try:
            amount = float(match[1]) * units[match[2].lower()] if match and not isinstance(value, bool) else 0
        except (KeyError, ValueError):
            amount = 0
        if not amount > 0:
            raise ValueError(f"{value!r} is not {what}")
        return amount

    return parse


_SIZES = {"": 1.0, "b": 1.0} | {
    prefix + unit: float(base**power)
    for power, prefix in enumerate("kmgt", 1)
    for unit, base in (("", 1024), ("ib", 1024), ("b", 1000))
}
_TIMES = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}

_NUMBERS = {"anyOf": [{"type": "number"}, {"type": "boolean"}, {"type": "array"}]}
_SHAPES = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]}}],
    "examples": [[1, 3, 224, 224], [1, 3, "?", "8..16"], "[1,3,?,?]"],
}
_ShapeField: TypeAlias = Annotated[Any, Reads(_shape, _SHAPES)]
_DTypeField: TypeAlias = Annotated[
    Any, Reads(lambda v: parse_input(f"x{{{v}}}").dtype, {"type": "string", "examples": ["f32", "i64"]})
]
_ValueField: TypeAlias = Annotated[Any, Reads(_value, _NUMBERS)]
_InputText: TypeAlias = Annotated[
    Any, Reads(lambda v: parse_input(str(v)), {"type": "string", "examples": ["data[1,3,?,?]", "ids{i64}"]})
]
_Size: TypeAlias = Annotated[
    Any, Reads(_amount(_SIZES, "a size like '4 GiB'"), {"type": ["string", "integer"], "examples": ["4 GiB"]})
]
_Time: TypeAlias = Annotated[
    Any, Reads(_amount(_TIMES, "a time like '30m'"), {"type": ["string", "number"], "examples": ["30m", 90]})
]


def one_of(what: str, choices: Sequence[str]) -> Reads:
    """A field that is one of `choices`, in letters of any case."""

    def parse(value: Any) -> str:
        name = str(value).lower()
        if name not in choices:
            raise ValueError(f"{what} {value!r} is not one of {', '.join(choices)}{guess(name, choices)}")
        return name

    return Reads(parse, {"type": "string", "enum": list(choices)})


def _folder(value: Any) -> str:
    text = str(value)
    if not NAME.fullmatch(text) or text in (".", ".."):
        raise ValueError(f"{text!r} cannot be the name of a folder in the output")
    return text


def named(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a name is a text (put it in quotes)")
    if value in RESERVED:
        raise ValueError(f"{value!r} is reserved")
    return _folder(value)


_FormatField: TypeAlias = Annotated[Any, one_of("precision", FORMATS)]
_FrameworkField: TypeAlias = Annotated[Any, one_of("framework", tuple(FRONTENDS))]
_BackupField: TypeAlias = Annotated[Any, one_of("backup", BACKUPS)]
_FolderField: TypeAlias = Annotated[Any, Reads(_folder, {"type": "string", "pattern": f"^{NAME.pattern}$"})]
_NameField: TypeAlias = Annotated[Any, Reads(named, {"type": "string", "pattern": f"^{NAME.pattern}$"})]


def _variable(value: Any) -> str:
    """`$NAME`, as storage spells an environment variable."""
    name = str(value).removeprefix("$")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("the name of an environment variable is wanted, not a value")
    if name not in os.environ:
        raise ValueError(f"the environment variable {name} is not set")
    return "$" + name


_VariableField: TypeAlias = Annotated[
    Any, Reads(_variable, {"type": "string", "pattern": r"^\$?[A-Za-z_][A-Za-z0-9_]*$", "examples": ["MY_S3_KEY"]})
]


def _kind(value: Any) -> str:
    """Which form of a field that has two is given."""
    return "mapping" if isinstance(value, dict) else "plain"


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class InputForm(Form):
    """An input by shape, element type or the value it is frozen to."""

    shape: _ShapeField = None
    type: _DTypeField = None
    value: _ValueField = None


class PrecisionForm(Form):
    """One artifact: the format of its weights, and what is compressed how."""

    precision: _FormatField
    folder: _FolderField = Field(default=None, description="Default: the precision in upper case.")
    group_size: int | None = Field(default=None, description="Weights that share a scale; -1: a whole row.")
    ratio: float | None = Field(
        default=None, ge=0, le=1, description="Share of the weights in this format; the rest: backup."
    )
    all_layers: bool | None = None
    ignore: list[str] | None = Field(default=None, description="Patterns of layer names that stay as they are.")
    only: list[str] | None = Field(default=None, description="Patterns of layer names; all others stay as they are.")
    backup: _BackupField = Field(default=None, description="Format of the layers that are not in this one.")
    scale_search: bool | None = None

    @model_validator(mode="after")
    def agree(self) -> PrecisionForm:
        """The settings fit each other."""
        if found := precision(self).compression.faults():
            raise ValueError("; ".join(found))
        return self


_InputField = Annotated[
    Annotated[InputForm, Tag("mapping")] | Annotated[_ShapeField, Tag("plain")], Discriminator(_kind)
]
_PrecisionField = Annotated[
    Annotated[PrecisionForm, Tag("mapping")] | Annotated[_FormatField, Tag("plain")], Discriminator(_kind)
]
_Inputs = Annotated[
    Annotated[dict[str, _InputField], Tag("mapping")] | Annotated[list[_InputText], Tag("plain")],
    Discriminator(_kind),
]


class DefaultsForm(Form):
    """What every model has that does not say otherwise."""

    framework: _FrameworkField = None
    inputs: _Inputs | None = None
    outputs: list[str] | None = None
    precisions: list[_PrecisionField] | None = Field(default=None, min_length=1)


class ModelForm(DefaultsForm):
    """A model, or with a glob several; `name` defaults to the file's stem."""

    model: str = Field(min_length=1, description="Path or URL; relative to the manifest; may be a glob.")
    name: _NameField = None
    proto: str | None = Field(default=None, description="Caffe: the .prototxt.")


class EngineForm(Form):
    """Limits of the run: `memory` of a task (default: what its worker has), working `time` of a model (none)."""

    memory: _Size = None
    time: _Time = None
    retries: int = Field(default=2, ge=0, le=10, description="Further tries after a failure that may pass.")
    workers: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)


class StorageForm(Form):
    """The part of a manifest that says how stores are reached."""

    storage: dict[str, dict[str, _VariableField]] = Field(
        default_factory=dict,
        description="Options of each URL protocol by NAME of the environment variable that holds the value.",
        examples=[{"s3": {"key": "AWS_ACCESS_KEY_ID", "secret": "AWS_SECRET_ACCESS_KEY", "endpoint_url": "S3_URL"}}],
    )


class ManifestForm(StorageForm):
    """A manifest of batchconv."""

    models: list[ModelForm] = Field(min_length=1)
    output: str = Field(min_length=1, description="Folder or URL (s3://..., memory://...); relative to the manifest.")
    defaults: DefaultsForm = DefaultsForm()
    engine: EngineForm = EngineForm()


def schema() -> dict[str, Any]:
    """The JSON Schema of manifests."""
    made = ManifestForm.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "batchconv manifest"}


def guess(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, if one of `known` is close to `word`."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean '{close[0]}'?" if close else ""


def precision(item: Any) -> Precision:
    if isinstance(item, str):
        return Precision(item.upper(), Compression(mode=item))
    given = {key: value for key, value in item.model_dump(exclude_unset=True).items() if value is not None}
    mode = given.pop("precision")
    folder = given.pop("folder", mode.upper())
    options: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return Precision(folder, Compression(mode=mode, **options))
