"""A node bound to its translator by the signature: inputs to positions, attributes to keywords of the right type."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from batchconv.errors import BadModel, InternalError, Unsupported
from batchconv.graph import Op, Value
from batchconv.weight import Weight

Translator = Callable[..., "Value | Op | tuple[Value, ...]"]
Registered = TypeVar("Registered", bound=Translator)
NODE = "_node"
"""Name of the keyword by which a translator asks for the Node itself (number of outputs, opset, tops)."""

_KINDS: dict[str, tuple[str, type | tuple[type, ...]]] = {
    "int": ("an integer", int),
    "bool": ("true or false", int),
    "float": ("a number", (int, float)),
    "str": ("a text", str),
    "str | int": ("a text or an integer", (str, int)),
    "Weight": ("a tensor", Weight),
}
_LISTS: dict[str, tuple[str, type | tuple[type, ...]]] = {
    "Sequence[int]": ("a list of integers", int),
    "Ints": ("a list of integers", int),
    "Sequence[float]": ("a list of numbers", (int, float)),
    "Floats": ("a list of numbers", (int, float)),
    "Texts": ("a list of texts", str),
}
"""Annotation (less `| None`) -> what it says, and the Python types of a value or of a list's items."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One registered translator: since which operator version, and its signature taken apart.

    keywords: name of an attribute -> its default; kinds: its annotation.
    """

    since: int
    function: Translator
    least: int
    most: int | None
    keywords: Mapping[str, Any]
    kinds: Mapping[str, str]
    takes_node: bool
    open: bool
    where: str


def taking(other: Translator) -> Callable[[Registered], Registered]:
    """Mark a translator that hands its `**attributes` on to `other`: they are bound as the keywords of that one."""

    def mark(function: Registered) -> Registered:
        function.attributes_of = other  # type: ignore[attr-defined]
        return function

    return mark


@cache
def entry_of(since: int, function: Translator) -> Entry:
    """The signature of a translator, taken apart once, and only if a model uses it."""
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    named = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != NODE]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    other = getattr(function, "attributes_of", None)
    inner = entry_of(since, other) if other else None
    code = inspect.unwrap(function).__code__.co_filename.replace("\\", "/").split("/")
    return Entry(
        since,
        function,
        sum(p.default is p.empty for p in positional),
        None if variadic else len(positional),
        {p.name: p.default for p in named} | dict(inner.keywords if inner else {}),
        {p.name: str(p.annotation).removesuffix(" | None") for p in named} | dict(inner.kinds if inner else {}),
        any(p.name == NODE for p in parameters),
        inner.open if inner else any(p.kind is p.VAR_KEYWORD for p in parameters),
        "/".join(code[-2:]),
    )


def call(entry: Entry, node: Any, inputs: list[Value | None]) -> Value | Op | tuple[Value, ...]:
    """The translator called with inputs and attributes bound by its signature."""
    attrs = bound(entry, inputs, node.attributes())
    if entry.takes_node:
        attrs[NODE] = node
    try:
        return entry.function(*inputs, **attrs)
    except OverflowError:
        raise BadModel("a number among its attributes, sizes or constants is too large") from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise InternalError(f"{type(error).__name__}: {error}") from error


def bound(entry: Entry, inputs: list[Value | None], given: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes as keywords; BadModel or Unsupported unless they and the inputs fit the signature."""
    while inputs and inputs[-1] is None:
        inputs.pop()
    if len(inputs) < entry.least or (entry.most is not None and len(inputs) > entry.most):
        most = entry.most if entry.most is not None else "any"
        raise BadModel(f"{len(inputs)} inputs given, {entry.least} to {most} wanted")
    if any(value is None for value in inputs[: entry.least]):
        raise BadModel("a required input is left out")
    foreign = [] if entry.open else sorted(set(given) - set(entry.keywords))
    if foreign:
        raise Unsupported(f"attribute {_listed(foreign)} is not supported")
    absent = [n for n, default in entry.keywords.items() if default is inspect.Parameter.empty and n not in given]
    if absent:
        raise BadModel(f"attribute {_listed(absent)} is missing")
    return {name: fitted(name, value, entry.kinds.get(name, "")) for name, value in given.items()}


def fitted(name: str, value: Any, kind: str) -> Any:
    """The value of an attribute, as its annotation wants it; BadModel if it is something else."""
    what, types = _KINDS.get(kind) or _LISTS.get(kind) or ("", object)
    if types is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind in _LISTS:
        fits = isinstance(value, Sequence) and all(isinstance(item, types) for item in value)
        fits = fits and not isinstance(value, str)
    else:
        fits = isinstance(value, types)
    if not fits:
        raise BadModel(f"attribute '{name}' = {_short(value)} must be {what}")
    return value


def _short(value: Any) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
