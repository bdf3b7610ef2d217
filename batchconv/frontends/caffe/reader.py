"""Caffe's files found and read: the network from `.prototxt` (or the `.caffemodel` itself), its weights as recipes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchconv import storage
from batchconv.errors import BadModel, ConversionError
from batchconv.frontends.caffe.net import read_model
from batchconv.frontends.caffe.prototxt import read_text
from batchconv.frontends.caffe.wire import named_blobs, read_net
from batchconv.frontends.protobuf import Source
from batchconv.frontends.translate import Model

LARGEST_TEXT = 64 << 20
"""Bytes of prototxt beyond which a file is not taken for one."""


def read(url: str, files: Mapping[str, str] | None = None) -> Model:
    """The network at `url`, a `.caffemodel` or a `.prototxt`; no weight is read.

    files: "proto" names the prototxt of a caffemodel (default: the same stem, else `deploy.prototxt` beside it, else
    the network inside the caffemodel), "weights" the caffemodel of a prototxt (default: the same stem, else none).
    """
    given = files or {}
    try:
        if is_text(url):
            weights, proto = given.get("weights") or _beside(url, _stem(url) + ".caffemodel"), given.get("proto") or url
        else:
            weights = url
            proto = given.get("proto") or _beside(url, _stem(url) + ".prototxt", "deploy.prototxt")
        return _read(url, weights, proto)
    except ConversionError as error:
        raise error.at(model=_file(url)) from None


def _read(url: str, weights: str, proto: str) -> Model:
    source = Source(weights) if weights else None
    net = _text(proto, inside=proto == url) if proto else read_net(source) if source else {}
    _check(net, proto or weights)
    sources = tuple(dict.fromkeys(name for name in (url, weights, proto) if name))
    return read_model(net, named_blobs(source) if source else {}, url, sources, complete=bool(proto))


def is_text(url: str) -> bool:
    """True if the file is a prototxt: its extension says so, or its first kilobyte has no control characters."""
    if url.endswith((".caffemodel", ".prototxt", ".pt")):
        return not url.endswith(".caffemodel")
    head = storage.read(url, 0, 1024)
    return bool(head) and not any(byte < 9 or 13 < byte < 32 for byte in head)


def _text(url: str, inside: bool) -> dict[str, Any]:
    """The network in a prototxt; its errors name the file where that is not the model itself."""
    try:
        if storage.size(url) > LARGEST_TEXT:
            raise BadModel(f"{storage.size(url)} bytes are too many for a prototxt")
        return read_text(storage.read(url, 0, storage.size(url)).decode("utf-8", "surrogateescape"))
    except ConversionError as error:
        raise error if inside else type(error)(f"{_file(url)}: {error.message}", *error.args[1:]) from None


def _check(net: Mapping[str, Any], url: str) -> None:
    if not net.get("layer") and not net.get("layers"):
        raise BadModel(f"no layer in {_file(url)}: it is empty, or not a Caffe network")


def _file(url: str) -> str:
    return url.rstrip("/").rsplit("/", 1)[-1]


def _stem(url: str) -> str:
    name = _file(url)
    return name.rsplit(".", 1)[0] if "." in name else name


def _beside(url: str, *names: str) -> str:
    """The first of `names` that exists in the folder of `url`, else ""."""
    folder = url.rstrip("/").removesuffix(_file(url))
    return next((folder + name for name in names if storage.exists(folder + name)), "")
