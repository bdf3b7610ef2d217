"""Convolution, pooling, normalisation, resizing: shapes as OpenVINO infers them, and what is refused."""

from __future__ import annotations

import pytest
from ops_compare import Case, c, op_of, ours, p, theirs, zeros

from batchconv import ops
from batchconv.tensor import DType

CASES: list[Case] = [
    lambda: ops.convolution(p("f32[1,3,224,224]"), zeros(8, 3, 3, 3)),
    lambda: ops.convolution(p("f32[?,3,?,8..16]"), zeros(8, 3, 3, 3), strides=(2, 2)),
    lambda: ops.convolution(
        p("f32[?,3,?,8..16]"), zeros(8, 3, 3, 3), strides=(2, 1), pads_begin=(1, 1), pads_end=(1, 1)
    ),
    lambda: ops.convolution(p("f32[1,3,1..16,..9]"), zeros(8, 3, 3, 3), strides=(1, 1), dilations=(2, 2)),
    lambda: ops.convolution(p("f32[1,3,20..,2..]"), zeros(8, 3, 3, 3), strides=(3, 1), dilations=(1, 2)),
    lambda: ops.convolution(p("f32[1,3,?,15]"), zeros(8, 3, 3, 3), strides=(2, 2), auto_pad="same_upper"),
    lambda: ops.convolution(p("f32[1,3,1..7,15]"), zeros(8, 3, 3, 3), strides=(2, 2), auto_pad="same_lower"),
    lambda: ops.convolution(
        p("f32[1,3,17,15]"), zeros(8, 3, 3, 3), strides=(2, 2), pads_begin=(4, 4), auto_pad="valid"
    ),
    lambda: ops.convolution(p("f32[...]"), zeros(8, 3, 3, 3)),
    lambda: ops.convolution(p("f32[1,3,17,15]"), p("f32[...]")),
    lambda: ops.convolution(p("f32[...]"), p("f32[...]")),
    lambda: ops.convolution(p("f32[1,?,17]"), zeros(8, 3, 5), pads_begin=(2,), pads_end=(1,)),
    lambda: ops.convolution(p("f32[1,3,9,9,?]"), zeros(8, 3, 1, 3, 3)),
    lambda: ops.convolution(p("f32[1,3,9,9]"), p("f32[?,?,3,?]")),
    lambda: ops.convolution(p("f16[1,3,9,9]"), p("f16[4..8,3,3,3]")),
    lambda: ops.group_convolution(p("f32[1,6,17,15]"), zeros(6, 1, 1, 3, 3), strides=(2, 2)),
    lambda: ops.group_convolution(p("f32[?,6,17,?]"), zeros(2, 4, 3, 3, 3), auto_pad="same_upper"),
    lambda: ops.group_convolution(p("f32[...]"), zeros(2, 4, 3, 3, 3)),
    lambda: ops.group_convolution(p("f32[1,6,17]"), p("f32[?,4,3,3]")),
    lambda: ops.group_convolution(p("f32[1,6,17,17]"), p("f32[...]")),
    lambda: ops.convolution_backprop_data(p("f32[1,8,7,?]"), zeros(8, 3, 3, 3), strides=(2, 2)),
    lambda: ops.convolution_backprop_data(
        p("f32[1,8,7,3..9]"),
        zeros(8, 3, 4, 4),
        strides=(2, 2),
        pads_begin=(1, 1),
        pads_end=(1, 1),
        output_padding=(1, 0),
    ),
    lambda: ops.convolution_backprop_data(
        p("f32[1,8,7,7]"), zeros(8, 3, 4, 4), c([14, 15]), strides=(2, 2), auto_pad="same_upper"
    ),
    lambda: ops.convolution_backprop_data(p("f32[1,8,?,7]"), zeros(8, 3, 4, 4), p("i64[2]"), strides=(2, 2)),
    lambda: ops.convolution_backprop_data(p("f32[1,8,7,7]"), zeros(8, 3, 4, 4), strides=(2, 2), auto_pad="same_lower"),
    lambda: ops.convolution_backprop_data(
        p("f32[1,8,7,7]"), zeros(8, 3, 4, 4), strides=(2, 2), pads_begin=(1, 1), auto_pad="valid"
    ),
    lambda: ops.convolution_backprop_data(p("f32[...]"), zeros(8, 3, 4, 4), strides=(2, 2)),
    lambda: ops.convolution_backprop_data(
        p("f32[1,8,7,7]"), zeros(8, 3, 4, 4), ops.slice(ops.shape_of(p("f32[1,3,?,14]")), c([2]), c([4]), c([1]))
    ),
    lambda: ops.group_convolution_backprop_data(
        p("f32[1,8,7,?]"), zeros(2, 4, 5, 3, 3), strides=(2, 2), dilations=(2, 1)
    ),
    lambda: ops.group_convolution_backprop_data(p("f32[?,8,7]"), zeros(8, 1, 1, 3), c([15]), strides=(2,)),
    lambda: ops.max_pool.op(p("f32[1,3,112,112]"), kernel=(3, 3), strides=(2, 2), rounding_type="ceil"),
    lambda: ops.max_pool.op(
        p("f32[1,3,112,112]"),
        kernel=(3, 3),
        strides=(2, 2),
        pads_begin=(1, 1),
        pads_end=(1, 1),
        rounding_type="ceil_torch",
    ),
    lambda: ops.max_pool.op(
        p("f32[1,3,8,9]"), kernel=(2, 2), strides=(3, 3), pads_begin=(1, 1), pads_end=(1, 1), rounding_type="ceil_torch"
    ),
    lambda: ops.max_pool.op(
        p("f32[1,3,8,9]"), kernel=(2, 2), strides=(3, 3), pads_begin=(1, 1), pads_end=(1, 1), rounding_type="ceil"
    ),
    lambda: ops.max_pool.op(
        p("f32[?,3,?,9..30]"), kernel=(2, 2), strides=(3, 3), rounding_type="ceil", index_element_type=DType.I32
    ),
    lambda: ops.max_pool.op(p("f32[?,3,1..8,9..30]"), kernel=(3, 2), strides=(1, 3), dilations=(2, 2)),
    lambda: ops.max_pool.op(p("f32[...]"), kernel=(3, 2), strides=(1, 3)),
    lambda: ops.max_pool.op(p("f32[1,3,17]"), kernel=(3,), strides=(2,), auto_pad="same_upper", axis=2),
    lambda: ops.max_pool.op(p("f32[1,3,17]"), kernel=(3,), strides=(2,), auto_pad="valid", rounding_type="ceil"),
    lambda: ops.avg_pool(p("f32[1,3,17,?]"), kernel=(7, 7), strides=(1, 1), exclude_pad=True),
    lambda: ops.avg_pool(
        p("f32[1,3,17,5..]"), kernel=(3, 3), strides=(2, 2), pads_begin=(1, 1), pads_end=(0, 1), exclude_pad=False
    ),
    lambda: ops.avg_pool(p("f32[1,3,17,19]"), kernel=(3, 3), strides=(2, 2), auto_pad="same_lower", exclude_pad=False),
    lambda: ops.avg_pool(p("f32[1,3,4,7,9]"), kernel=(1, 3, 3), strides=(2, 2, 2), rounding_type="ceil_torch"),
    lambda: ops.avg_pool(p("f32[...]"), kernel=(3, 3), strides=(1, 1)),
    lambda: ops.adaptive_avg_pool(p("f32[?,3,4,7]"), c([1, 2])),
    lambda: ops.adaptive_avg_pool(p("f32[?,3,4,7]"), p("i64[2]")),
    lambda: ops.adaptive_max_pool.op(p("f32[?,3,4,?]"), c([1, 2]), index_element_type=DType.I32),
    lambda: ops.adaptive_avg_pool(p("f32[...]"), c([1, 2])),
    lambda: ops.batch_norm_inference(p("f32[?,?,5]"), zeros(8), zeros(8), zeros(8), zeros(8), epsilon=1e-5),
    lambda: ops.batch_norm_inference(p("f32[1,8,?,?]"), p("f32[?]"), zeros(8), zeros(8), zeros(8), epsilon=1e-5),
    lambda: ops.batch_norm_inference(p("f32[...]"), zeros(8), zeros(8), zeros(8), zeros(8), epsilon=1e-5),
    lambda: ops.group_normalization(p("f32[1,8,?,?]"), zeros(8), zeros(8), num_groups=4, epsilon=1e-5),
    lambda: ops.lrn(p("f32[1,?,3..4]"), c([1]), alpha=1e-4, beta=0.75, bias=2.0, size=5),
    lambda: ops.lrn(p("f32[...]"), c([1]), alpha=1e-4, beta=0.75, bias=1.0, size=5),
    lambda: ops.mvn(p("f32[1,?,3..4]"), c([1, 2]), eps=1e-9, normalize_variance=False, eps_mode="OUTSIDE_SQRT"),
    lambda: ops.normalize_l2(p("f32[1,?,3..4]"), c([1]), eps=1e-9, eps_mode="max"),
    lambda: ops.softmax(p("f32[1,?,3..4]"), axis=-1),
    lambda: ops.softmax(p("f32[...]"), axis=3),
    lambda: ops.log_softmax(p("f32[1,?,3..4]"), axis=2),
    lambda: ops.grn(p("f32[1,?,3..4]"), bias=1e-6),
]


def sizes(shape: str, wanted: list[int], axes: list[int] | None = None, **attrs: object):
    given = [c(wanted)] + ([] if axes is None else [c(axes)])
    return lambda: ops.interpolate(p("f32" + shape), *given, mode="nearest", shape_calculation_mode="sizes", **attrs)


def scales(shape: str, wanted: list[float], axes: list[int] | None = None, **attrs: object):
    given = [c(wanted)] + ([] if axes is None else [c(axes)])
    return lambda: ops.interpolate(
        p("f32" + shape), *given, mode="linear_onnx", shape_calculation_mode="scales", **attrs
    )


CASES += [
    sizes("[1,3,?,4..8]", [7, 9], [2, 3]),
    sizes("[1,3,?,4..8]", [7, 9], [2, 3], coordinate_transformation_mode="align_corners"),
    sizes("[1,3,2,4]", [1, 3, 7, 9]),
    sizes("[...]", [7, 9], [2, 3]),
    scales("[1,3,10,4..8]", [2.0, 2.0], [2, 3]),
    scales("[1,3,10,?]", [0.3, 2.0], [2, 3]),
    scales("[1,3,10,3..]", [1 / 3, 1.5], [2, 3]),
    scales("[1,3,9,21]", [1 / 3, 1 / 3], [2, 3]),
    scales("[1,3,13,49]", [1 / 13, 3 / 7], [2, 3]),
    scales("[1,3,10,9]", [1.0, 1.0, 2.5, 0.9999999]),
    scales("[1,3,10,9]", [2.0], [3], pads_begin=(0, 0, 1, 1), pads_end=(0, 0, 0, 2)),
    lambda: ops.interpolate(
        p("f32[1,3,?,4]"),
        ops.slice(ops.shape_of(p("f32[1,3,20,1..7]")), c([2]), c([4]), c([1])),
        c([2, 3]),
        mode="cubic",
        shape_calculation_mode="sizes",
    ),
    lambda: ops.interpolate(p("f32[1,3,5,4]"), p("i32[2]"), c([2, 3]), mode="nearest", shape_calculation_mode="sizes"),
    lambda: ops.interpolate(p("f32[1,3,5,4]"), p("f32[2]"), c([2, 3]), mode="nearest", shape_calculation_mode="scales"),
    lambda: ops.depth_to_space(p("f32[1,12,?,3..4]"), block_size=2, mode="depth_first"),
    lambda: ops.depth_to_space(p("f32[?,?,5,7]"), block_size=3, mode="blocks_first"),
    lambda: ops.space_to_depth(p("f32[1,3,8,4..8]"), block_size=2, mode="blocks_first"),
    lambda: ops.space_to_depth(p("f32[1,3..4,8,?]"), block_size=2, mode="depth_first"),
    lambda: ops.depth_to_space(p("f32[...]"), block_size=2, mode="depth_first"),
]


@pytest.mark.parametrize("case", CASES)
def test_shapes_are_those_of_openvino(case: Case) -> None:
    pytest.importorskip("openvino")
    op = op_of(case())
    assert ours(op) == theirs(op)
