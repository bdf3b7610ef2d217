"""Caffe: `.prototxt` and `.caffemodel` of BVLC Caffe, its SSD branch and common forks; `read` and `registry`."""

from batchconv.frontends.caffe import detection, math, nn, pooling, shapes  # noqa: F401 (they register their translators)
from batchconv.frontends.caffe.reader import read
from batchconv.frontends.caffe.registry import registry

__all__ = ["read", "registry"]
