"""ONNX, opset 1 to 26: `read` makes the Model, `registry` holds the translators (by family, one module each)."""

from batchconv.frontends.onnx import (  # noqa: F401  (each enters its translators into the registry)
    activation,
    arithmetic,
    detection,
    generate,
    indexing,
    loss,
    movement,
    nn,
    norm,
    quant,
    recurrent,
    reduction,
    resize,
    signal,
    transformer,
)
from batchconv.frontends.onnx.reader import read
from batchconv.frontends.onnx.registry import onnx as registry

__all__ = ["read", "registry"]
