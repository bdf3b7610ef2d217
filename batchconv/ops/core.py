"""Parameter, Constant, Result: where values enter and leave (operation specification: infrastructure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from batchconv.graph import Attr, Op, Output, Value
from batchconv.opset import any_, define, type_
from batchconv.shape import Shape
from batchconv.tensor import DType
from batchconv.weight import Weight, inline

__all__ = ["constant", "const", "parameter", "result"]


def _parameter(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    return Output(attrs["element_type"], attrs["shape"])


def _constant(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    spec = attrs["weight"].spec
    return Output(spec.dtype, spec.shape)


def _result(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    return Output(inputs[0].dtype, inputs[0].shape)


_PARAMETER = define("Parameter", 1, "", _parameter, element_type=type_(), shape=any_())
_CONSTANT = define("Constant", 1, "", _constant, weight=any_())
_RESULT = define("Result", 1, "value", _result)


def parameter(name: str, dtype: DType, shape: Shape) -> Op:
    """A network input of that tensor name, which is its friendly name too."""
    return _PARAMETER.op(name=name, element_type=dtype, shape=shape).with_names(0, [name])


def constant(weight: Weight, name: str = "") -> Value:
    """A value that is a recipe; nothing is read."""
    return _CONSTANT(weight=weight, name=name)


def const(array: npt.ArrayLike, dtype: DType | None = None, name: str = "") -> Value:
    """A small constant that we compute ourselves; unless `dtype` says otherwise int lists become i64, floats f32."""
    data = np.asarray(array)
    if dtype is None and not data.size and not isinstance(array, np.ndarray):
        dtype = DType.I64
    if dtype is None and data.dtype == np.float64:
        dtype = DType.F32
    if dtype is None and data.dtype.kind == "i" and not isinstance(array, np.ndarray):
        dtype = DType.I64
    return constant(inline(data, dtype), name)


def result(value: Value, name: str = "") -> Op:
    """A network output."""
    return _RESULT.op(value, name=name)
