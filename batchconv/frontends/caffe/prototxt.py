"""Protobuf's text format, read by the table in `schema`: a message becomes a dict of the fields that are set.

A parser of our own, since what a fork of Caffe adds must not end the reading: a field that the table does not have
is kept under its name (as UNKNOWN), and the layer that carries it is refused only if it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from batchconv.errors import BadModel
from batchconv.frontends.caffe.schema import ENUMS, SCALARS, Field, Message, message

UNKNOWN = None
"""The value of a field that the table does not have."""

_TOKEN = re.compile(
    r"""(?P<space>[\s,;]+|\#[^\n]*)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<word>[A-Za-z_][A-Za-z0-9_./]*)
    |(?P<number>-?\s*(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?|inf(?:inity)?f?\b|nan\b))
    |(?P<mark>[{}<>:\[\]])""",
    re.VERBOSE | re.IGNORECASE,
)
_CLOSING = {"{": "}", "<": ">"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_TRUTH = {"true": True, "True": True, "t": True, "1": True, "false": False, "False": False, "f": False, "0": False}


@dataclass(slots=True)
class Block:
    """A message as it stands in the text: (field name, value, line), a value being a Block or a token."""

    line: int
    items: list[tuple[str, Token | Block, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Token:
    """One word of the text: kind (text, word, number, mark, end), what stands there, and its line."""

    kind: str
    text: str
    line: int


def read_text(text: str) -> dict[str, Any]:
    """The network in `text`; every layer has its `line`. BadModel with the line number where the text is wrong."""
    return build(parse(text), message("Net"))


def tokens(text: str) -> Iterator[Token]:
    """The tokens of `text`, without blanks and comments, and an `end` behind them."""
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise BadModel(f"line {line}: {text[at]!r} is not expected here")
        kind, found = str(match.lastgroup), match.group()
        if kind != "space":
            yield Token(kind, found, line)
        line += found.count("\n")
        at = match.end()
    yield Token("end", "", line)


def parse(text: str) -> Block:
    """The blocks of `text`, whatever their fields are called; nothing recurses."""
    stream = tokens(text)
    root = Block(1)
    stack: list[tuple[Block, str]] = [(root, "")]
    for token in stream:
        block, closing = stack[-1]
        if token.text == closing and token.kind in ("mark", "end"):
            stack.pop()
            if not stack:
                return root
        elif token.kind == "word":
            _item(token, stream, stack, block)
        elif token.kind == "end":
            raise BadModel(f"line {token.line}: the text ends inside the block that line {block.line} opens")
        else:
            raise BadModel(f"line {token.line}: a field name is expected, not {token.text!r}")
    return root


def _item(name: Token, stream: Iterator[Token], stack: list[tuple[Block, str]], block: Block) -> None:
    """One field after its name: a block is opened, a value taken, a list taken whole."""
    token = next(stream)
    colon = token.text == ":" and token.kind == "mark"
    if colon:
        token = next(stream)
    if token.kind == "mark" and token.text in _CLOSING:
        inner = Block(token.line)
        block.items.append((name.text, inner, name.line))
        stack.append((inner, _CLOSING[token.text]))
    elif not colon:
        raise BadModel(f"line {token.line}: ':' or '{{' is expected after '{name.text}', not {token.text!r}")
    elif token.kind == "mark" and token.text == "[":
        block.items.extend((name.text, value, name.line) for value in _list(stream))
    else:
        block.items.append((name.text, _value(token), name.line))


def _value(token: Token) -> Token:
    if token.kind not in ("text", "word", "number"):
        raise BadModel(f"line {token.line}: a value is expected, not {token.text or 'the end'!r}")
    return token


def _list(stream: Iterator[Token]) -> Iterator[Token]:
    """The values up to `]` (lists of blocks do not occur in Caffe's files)."""
    for token in stream:
        if token.kind == "mark" and token.text == "]":
            return
        yield _value(token)


def build(block: Block, shape: Message) -> dict[str, Any]:
    """The fields of a block by the table: repeated ones as tuples, messages as dicts, enumerations by name."""
    out: dict[str, Any] = {"line": block.line} if shape.name in ("Layer", "V1Layer") else {}
    for name, value, line in _items(block, shape):
        known = shape.by_name.get(name)
        if known is None:
            if shape.name != "Anything":
                out[name] = UNKNOWN
        elif known.repeated:
            out[name] = (*out.get(name, ()), _convert(known, value, line))
        elif name in out and known.type in SCALARS:
            raise BadModel(f"line {line}: '{name}' is given twice")
        else:
            out[name] = _convert(known, value, line)
    return out


def _items(block: Block, shape: Message) -> Iterator[tuple[str, Token | Block, int]]:
    """The items of a block; a network may have settings that the table lacks (forks do), but no such blocks."""
    for name, value, line in block.items:
        if shape.name == "Net" and name not in shape.by_name and isinstance(value, Block):
            raise BadModel(f"line {line}: a network has no field '{name}'")
        yield name, value, line


def _convert(known: Field, value: Token | Block, line: int) -> Any:
    if isinstance(value, Block):
        if known.type in SCALARS or known.type in ENUMS:
            raise BadModel(f"line {line}: '{known.name}' is a value, not a block")
        return build(value, message(known.type))
    if known.type not in SCALARS and known.type not in ENUMS:
        raise BadModel(f"line {line}: '{known.name}' is a block, not a value")
    try:
        return _scalar(known.type, value)
    except (ValueError, KeyError, IndexError):
        raise BadModel(
            f"line {line}: {known.name}: {value.text} is not {_HINTS.get(known.type) or _names(known.type)}"
        ) from None


_HINTS = {
    "s": "a text in quotes",
    "i": "a whole number",
    "f": "a number",
    "d": "a number",
    "b": "true or false",
}


def _names(enum: str) -> str:
    return "one of " + ", ".join(name for name in ENUMS[enum] if name)


def _scalar(kind: str, token: Token) -> Any:
    """The value of a token in the type of its field; ValueError or KeyError if it does not fit."""
    if kind == "s":
        return unquoted(token)
    if kind == "b":
        return _TRUTH[token.text]
    text = token.text.replace(" ", "")
    if kind == "i":
        return int(text, 0) if text.lower().startswith(("0x", "-0x")) else int(text)
    if kind in "fd":
        return float(text if "inf" in text.lower() else text.rstrip("fF"))
    return enum_name(kind, int(text)) if token.kind == "number" else _member(kind, text)


def _member(enum: str, name: str) -> str:
    if not name or name not in ENUMS[enum]:
        raise ValueError(name)
    return name


def enum_name(enum: str, number: int) -> str:
    """The name of that number in an enumeration; ValueError if it has none."""
    names = ENUMS[enum]
    return _member(enum, names[number] if 0 <= number < len(names) else "")


def unquoted(token: Token) -> str:
    """The text between the quotes, escapes resolved; BadModel unless it is UTF-8."""
    if token.kind != "text":
        raise ValueError(token.text)
    plain = re.sub(r"\\([0-7]{1,3}|[xX][0-9a-fA-F]{1,2}|.)", _escape, token.text[1:-1])
    try:
        return plain.encode("utf-8", "surrogateescape").decode()
    except UnicodeDecodeError:
        raise BadModel(f"line {token.line}: a name is not UTF-8") from None


def _escape(match: re.Match[str]) -> str:
    code = match.group(1)
    if code[0] in "01234567":
        return bytes([int(code, 8) & 255]).decode("utf-8", "surrogateescape")
    if code[0] in "xX":
        return bytes([int(code[1:], 16)]).decode("utf-8", "surrogateescape")
    return _ESCAPES.get(code, code)
