"""`convert_model`: the command line's `convert` from Python, with the keywords of `openvino.convert_model`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from batchconv.convert import Record, Request, Variant, convert
from batchconv.errors import BadModel
from batchconv.frontends.translate import Input
from batchconv.inputs import parse_inputs, parse_shape
from batchconv.quantize import Compression
from batchconv.shape import Shape
from batchconv.tensor import DType

if TYPE_CHECKING:
    import os

    PathLike = str | os.PathLike[str]

ShapeLike = str | Sequence[Any]


def convert_model(
    input_model: PathLike,
    *,
    output_model: PathLike,
    input: Any = None,
    output: str | Sequence[str] | None = None,
    compress_to_fp16: bool = True,
    precision: str | None = None,
    framework: str | None = None,
    files: Mapping[str, str] | None = None,
    name: str = "",
    threads: int | None = None,
    **compression: Any,
) -> Record:
    """`output_model` (an `.xml`) and its `.bin` and `.json` exist and hold `input_model`; returns their record.

    input: `'x[1,3,224,224]'`, a list of those, `{name: shape}`, or tuples `(name, shape, dtype)` in any order of
    shape and dtype; a shape is a text or a sequence with -1 for free dimensions; naming an inner node cuts there.
    output: one name or a list; cuts the graph. compress_to_fp16: as `ovc`; `precision` (any format of
    `--precision`) overrides it. files: `{'proto': ...}`. compression: keywords of `quantize.Compression`.
    Raises ConversionError (Unsupported, BadModel) or StorageError, one line each; then nothing was written.
    Source: `openvino.convert_model`, `openvino.save_model` (2026.4).
    """
    path = str(output_model)
    if not path.endswith(".xml"):
        raise BadModel(f"output_model '{path}' must end in .xml")
    mode = precision or ("fp16" if compress_to_fp16 else "fp32")
    outputs = (output,) if isinstance(output, str) else tuple(output or ())
    return convert(
        Request(
            model=str(input_model),
            variants=(Variant(path, Compression(mode=mode, **compression)),),
            framework=framework,
            files=dict(files or {}),
            inputs=inputs_of(input),
            outputs=outputs,
            name=name,
        ),
        threads,
    )


def inputs_of(given: Any) -> tuple[Input, ...]:
    """What `input=` means, in any of its spellings."""
    if given is None:
        return ()
    if isinstance(given, Mapping):
        given = list(given.items())
    if isinstance(given, (str, tuple)):
        given = [given]
    if not isinstance(given, Iterable):
        raise BadModel(f"input {given!r} is not a text, a list, a mapping or a tuple")
    return tuple(found for item in given for found in _inputs_of_item(item))


def _inputs_of_item(item: Any) -> tuple[Input, ...]:
    if isinstance(item, str):
        return parse_inputs(item)
    if isinstance(item, tuple) and item and isinstance(item[0], str):
        return (tuple_input(item),)
    raise BadModel(f"input {item!r} is not a text like 'x[1,3]' or a tuple (name, shape, type)")


def tuple_input(item: tuple[Any, ...]) -> Input:
    """`(name, shape, dtype)`, shape and dtype optional and in any order."""
    name, *rest = item
    dtype: DType | None = None
    shape: Shape = None
    shaped = False
    for part in rest:
        if part is None:
            continue
        if _is_type(part):
            dtype = _dtype(part)
        else:
            shape, shaped = shape_of(part), True
    return Input(str(name), dtype, shape, shaped=shaped)


def _is_type(part: Any) -> bool:
    return isinstance(part, (type, np.dtype, DType)) or hasattr(part, "to_dtype")


def _dtype(part: Any) -> DType:
    """The element type that a type, a numpy dtype, or an `openvino.Type` means; BadModel if there is none."""
    if isinstance(part, DType):
        return part
    converted: npt.DTypeLike = part.to_dtype() if hasattr(part, "to_dtype") else part
    try:
        return DType.of(converted)
    except (KeyError, TypeError):
        raise BadModel(f"element type {part!r} is not one of OpenVINO's") from None


def shape_of(shape: ShapeLike) -> Shape:
    """`'[1,?,3]'` or `[1, -1, 3]` as a shape."""
    if isinstance(shape, str):
        return parse_shape(shape)
    if not isinstance(shape, Iterable):
        raise BadModel(f"shape {shape!r} is not a text like '[1,?,3]' or a list")
    return parse_shape("[" + ",".join(str(dim) for dim in shape) + "]")
