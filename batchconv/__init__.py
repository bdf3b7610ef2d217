"""Trained networks of many frameworks become OpenVINO IR, one at a time or a zoo a night.

    frontends.open_model   a file becomes a Model: nodes, and weights as recipes; payloads stay where they are
    translate              the Model becomes a Graph of OpenVINO operations, one translator a node
    passes.run             the Graph is folded, fused and cleaned; recipes grow longer, no weight is read
    passes.compress        constants get their format and decompression subgraph, once for each precision
    ir.layout              every recipe gets its place in the `.bin`, and the `.bin` is cut into parts
    ir.bin.write_part      bytes flow: source -> one worker -> target, a block at a time
    convert.publish        `.bin`, then `.xml`, then the record: whoever sees an `.xml` sees a whole model

`convert_model` does all of it in this process; `batchconv run` on a Dask cluster (batchconv.engine).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchconv.errors import BatchconvError, ConversionError, ManifestError, StorageError
from batchconv.version import VERSION as __version__

if TYPE_CHECKING:
    from batchconv.api import convert_model

__all__ = ["BatchconvError", "ConversionError", "ManifestError", "StorageError", "__version__", "convert_model"]


def __getattr__(name: str) -> Any:
    """`convert_model`, imported on first use: importing batchconv costs nothing."""
    if name == "convert_model":
        from batchconv.api import convert_model

        return convert_model
    raise AttributeError(f"module 'batchconv' has no attribute {name!r}")
