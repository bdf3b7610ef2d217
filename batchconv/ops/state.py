"""Memory between inferences: ReadValue and Assign (specification: infrastructure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchconv.graph import Attr, Output, Value
from batchconv.ops.checks import like
from batchconv.opset import any_, define, str_, type_

__all__ = [
    "assign", "read_value",
]  # fmt: skip


def _read_value(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    return Output(attrs["variable_type"], attrs["variable_shape"])


read_value = define(
    "ReadValue", 6, "init_value?", _read_value, variable_id=str_(), variable_type=type_(), variable_shape=any_()
)
assign = define("Assign", 6, "new_value", like, variable_id=str_())
