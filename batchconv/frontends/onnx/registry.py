"""The table that every translator of this package enters itself into."""

from batchconv.frontends.translate import Registry

onnx = Registry("onnx")
