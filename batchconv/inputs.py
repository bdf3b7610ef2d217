"""The syntax of `--input`: `NAME[1,3,?,8..16]{f32}->value`, as Model Optimizer's users know it."""

from __future__ import annotations

import re

import numpy as np

from batchconv.errors import BadModel
from batchconv.frontends.translate import Input
from batchconv.shape import ANY, Dim, Shape, interval
from batchconv.tensor import Array, DType

_ITEM = re.compile(
    r"(?P<name>.*?)\s*(?P<shape>[\[(][^\[\]()]*[\])])?\s*(?:\{(?P<dtype>\w+)\})?\s*(?:->\s*(?P<value>.+))?", re.S
)
_BETWEEN = re.compile(r"(?<=[\]})])\s*,\s*")
"""The comma between two inputs, which is never the one within a name."""
LARGEST = 1 << 31
"""No dimension is larger."""
_LONG = {"float": "f32", "float32": "f32", "float16": "f16", "half": "f16", "float64": "f64", "double": "f64"}
_LONG |= {"int64": "i64", "int32": "i32", "int8": "i8", "uint8": "u8", "bool": "boolean"}


def parse_input(text: str) -> Input:
    """The input that `text` asks for; BadModel naming what is wrong with it.

    NAME: a tensor or node (an inner one cuts the graph there). [..]: its shape, `?` or `-1` free, `a..b` bounded,
    `...` any rank, `[]` a scalar. {..}: its element type. -> value: freeze it to a number or `[a,b,...]`.
    """
    match = _ITEM.fullmatch(text.strip())
    if match is None or not match["name"]:
        raise BadModel(f"input {text!r} is not of the form 'NAME[1,3,224,224]'")
    shape = match["shape"]
    return Input(
        match["name"],
        _dtype(match["dtype"]) if match["dtype"] else None,
        parse_shape(shape) if shape else None,
        _value(match["value"]) if match["value"] else None,
        shaped=shape is not None,
    )


def parse_inputs(text: str) -> tuple[Input, ...]:
    """The inputs of `'a[1,3],b{i32}'`."""
    return tuple(map(parse_input, _BETWEEN.split(text.strip())))


def parse_shape(text: str) -> Shape:
    """`[1,3,?,8..16]` as a shape; `[...]` is any rank."""
    body = text.strip().strip("[]()").strip()
    if body == "...":
        return None
    return tuple(parse_dim(item) for item in re.split(r"[,\s]+", body)) if body else ()


def parse_dim(text: str) -> Dim:
    """One dimension: `3`, `?`, `-1`, `8..16`, `8..`, `..16`."""
    if text in ("?", "-1"):
        return ANY
    low, dots, high = text.partition("..")
    try:
        least, most = int(low or 0) if dots else int(text), int(high) if high else None
    except ValueError:
        least, most = -1, None
    if 0 <= least <= (LARGEST if most is None else most) <= LARGEST:
        return interval(least, most) if dots else least
    raise BadModel(f"dimension {text!r} is not a number, '?', or a range like '1..8'")


def _dtype(text: str) -> DType:
    try:
        return DType.named(_LONG.get(text, text))
    except KeyError:
        raise BadModel(f"element type {text!r} is not one of {', '.join(d.ir for d in DType if d.bits >= 8)}") from None


def _value(text: str) -> Array:
    body = text.strip()
    items = re.split(r"[,\s]+", body.strip("[]").strip())
    try:
        numbers = [_number(item) for item in items]
    except ValueError:
        raise BadModel(f"value {text!r} is not a number or a list of numbers") from None
    return np.array(numbers if body.startswith("[") else numbers[0])


def _number(text: str) -> float | int | bool:
    if text in ("True", "true", "False", "false"):
        return text in ("True", "true")
    try:
        return int(text)
    except ValueError:
        return float(text)
