"""Inputs that do not fit are BadModel, in one line that says what is wrong; OpenVINO refuses them too."""

from __future__ import annotations

import pytest
from ops_compare import Case, c, p, zeros

from batchconv import ops
from batchconv.errors import BadModel
from batchconv.graph import Value


def image(channels: int = 3) -> Value:
    return p(f"f32[1,{channels},8,8]")


def slices(*lists: list[int]) -> Case:
    return lambda: ops.slice(image(), *(c(items) for items in lists))


REFUSED: list[tuple[Case, str]] = [
    (lambda: ops.add(p("f32[2]"), p("i64[2]")), "inputs have different element types f32, i64"),
    (lambda: ops.add(p("f32[2]"), p("f32[3]")), "dimensions 2 and 3 cannot be broadcast"),
    (lambda: ops.add(p("f32[4..5]"), p("f32[2..3]")), "dimensions 4..5 and 2..3 do not agree"),
    (lambda: ops.relu(p("boolean[2]")), "the input must be numbers, not boolean"),
    (lambda: ops.logical_not(p("f32[2]")), "the input must be boolean, not f32"),
    (lambda: ops.select(p("f32[2]"), p("f32[2]"), p("f32[2]")), "the condition must be boolean, not f32"),
    (lambda: ops.bitwise_and(p("f32[2]"), p("f32[2]")), "the input must be integers, not f32"),
    (lambda: ops.convolution(image(), zeros(8, 4, 3, 3)), "channels of data and filters differ: 3 and 4"),
    (lambda: ops.convolution(image(), zeros(8, 3, 3)), "the data must have rank 3, not shape [1,3,8,8]"),
    (lambda: ops.convolution(p("f32[1,3]"), zeros(8, 3)), "the filters must have rank 3 or 4 or 5, not shape [8,3]"),
    (
        lambda: ops.convolution(image(), zeros(8, 3, 9, 9)),
        "a window of 9 does not fit an axis of 8 padded by 0",
    ),
    (
        lambda: ops.convolution(image(), zeros(8, 3, 3, 3), pads_begin=(1,)),
        "attribute 'pads_begin' = [1] must have 2 elements",
    ),
    (lambda: ops.convolution(image(), zeros(8, 3, 3, 3), strides=(0, 1)), "strides and dilations must be 1 or more"),
    (lambda: ops.group_convolution(image(6), zeros(2, 4, 2, 3, 3)), "channels of data and filters differ: 6 and 4"),
    (
        lambda: ops.convolution_backprop_data(image(8), zeros(8, 3, 3, 3), c([1, 2, 3])),
        "output_shape [1,2,3] must have 2 elements",
    ),
    (
        lambda: ops.convolution_backprop_data(p("f32[1,8,1,8]"), zeros(8, 3, 1, 1), pads_begin=(2, 0)),
        "the output of axis 2 would have -1 elements",
    ),
    (lambda: ops.max_pool(image(), kernel=(3,), strides=(1,)), "kernel [3] does not fit data of shape [1,3,8,8]"),
    (
        lambda: ops.max_pool(image(), kernel=(9, 3), strides=(1, 1)),
        "a window of 9 does not fit an axis of 8 padded by 0",
    ),
    (
        lambda: ops.batch_norm_inference(image(), *[zeros(4)] * 4, epsilon=0.1),
        "channels of data and parameters differ: 4 and 3",
    ),
    (lambda: ops.softmax(p("f32[2]"), axis=1), "axis 1 is outside a tensor of rank 1"),
    (lambda: ops.matmul(p("f32[2,3]"), p("f32[4,5]")), "shapes [2,3] and [4,5] cannot be multiplied"),
    (lambda: ops.matmul(p("f32[]"), p("f32[4,5]")), "the first input must have rank 1 or more, not shape []"),
    (lambda: ops.reduce_mean(p("f32[2]"), c([1])), "axis 1 is outside a tensor of rank 1"),
    (lambda: ops.reduce_mean(p("f32[2]"), c([1.0])), "axes must be integers, not f32"),
    (lambda: ops.topk(p("f32[2]"), c([1]), axis=0, mode="max", sort="none"), "k must have rank 0, not shape [1]"),
    (lambda: ops.reshape(p("f32[6]"), c([4, 2]), special_zero=False), "shape [6] cannot become [4,2]"),
    (lambda: ops.reshape(p("f32[6]"), c([4, -1]), special_zero=False), "shape [6] cannot become [4,-1]"),
    (
        lambda: ops.reshape(p("f32[6]"), c([-1, -1]), special_zero=False),
        "the target shape [-1, -1] has more than one -1",
    ),
    (lambda: ops.reshape(p("f32[6]"), c([6, -2]), special_zero=False), "a dimension cannot be -2"),
    (
        lambda: ops.reshape(p("f32[6]"), c([6, 0]), special_zero=True),
        "0 at position 1 of the target shape has no dimension to copy in [6]",
    ),
    (lambda: ops.squeeze(p("f32[2,1]"), c([0])), "axis 0 of shape [2,1] cannot be squeezed"),
    (lambda: ops.transpose(p("f32[2,1]"), c([0, 0])), "order [0, 0] does not fit shape [2,1]"),
    (lambda: ops.concat(p("f32[2,1]"), p("f32[3,1]"), axis=1), "inputs cannot be concatenated: [2,1], [3,1]"),
    (lambda: ops.concat(p("f32[2,1]"), p("f32[3]"), axis=0), "inputs have different ranks: [2,1], [3]"),
    (lambda: ops.split(p("f32[5]"), c(0), num_splits=2), "an axis of 5 elements cannot be split into 2 equal parts"),
    (lambda: ops.variadic_split(p("f32[5]"), c(0), c([2, 2])), "split_lengths [2, 2] do not fit an axis of 5 elements"),
    (
        lambda: ops.variadic_split(p("f32[5]"), c(0), c([-1, 7])),
        "split_lengths [-1, 7] do not fit an axis of 5 elements",
    ),
    (
        lambda: ops.variadic_split(p("f32[5]"), c(0), c([-1, -1])),
        "split_lengths [-1, -1] are not lengths with at most one -1",
    ),
    (lambda: ops.broadcast(p("f32[3]"), c([4])), "shape [3] cannot be broadcast to [4]"),
    (lambda: ops.broadcast(p("f32[3,3]"), c([3])), "shape [3,3] cannot be broadcast to [3]"),
    (lambda: ops.broadcast(p("f32[3]"), c([3, 4]), mode="explicit"), "mode 'explicit' needs axes_mapping"),
    (lambda: ops.pad(p("f32[3]"), c([1, 1]), c([0, 0])), "2 pads for data of rank 1"),
    (lambda: ops.pad(p("f32[3]"), c([-2]), c([-2])), "pads -2 and -2 leave -1 of 3 elements"),
    (lambda: ops.gather(p("f32[3]"), c([0]), c(1)), "axis 1 is outside a tensor of rank 1"),
    (lambda: ops.gather(p("f32[3]"), c([0.5]), c(0)), "indices must be integers, not f32"),
    (slices([0], [1], [0], [1]), "the step of a slice is 0"),
    (slices([0, 0], [1], [1], [1]), "start, stop, step and axes of a slice have different lengths"),
    (slices([0, 0], [1, 1], [1, 1], [1, 1]), "axes [1, 1] of a slice repeat"),
    (
        lambda: ops.strided_slice(p("f32[3]"), c([0, 0]), c([1, 1]), begin_mask=(), end_mask=()),
        "2 slices for data of shape [3]",
    ),
    (
        lambda: ops.interpolate(image(), c([2, 2]), c([2]), mode="nearest", shape_calculation_mode="sizes"),
        "2 sizes or scales for 1 axes",
    ),
    (
        lambda: ops.interpolate(image(), c([2]), c([-1]), mode="nearest", shape_calculation_mode="sizes"),
        "the axes of Interpolate must not be negative",
    ),
    (
        lambda: ops.depth_to_space(image(), block_size=2, mode="blocks_first"),
        "3 channels cannot be spread over blocks of 4",
    ),
    (
        lambda: ops.space_to_depth(image(), block_size=3, mode="blocks_first"),
        "data of shape [1,3,8,8] cannot be cut into blocks of 3",
    ),
    (lambda: ops.shuffle_channels(image(), group=2), "3 channels cannot be shuffled in 2 groups"),
    (
        lambda: ops.prior_box_clustered(c([5, 6]), c([9, 9]), width=(1.0,), height=(), offset=0.5),
        "1 widths and 0 heights are given",
    ),
    (
        lambda: ops.non_max_suppression(p("f32[1,9,4]"), p("f32[1,2,8]")),
        "numbers of boxes and scores differ: 9 and 8",
    ),
    (
        lambda: ops.psroi_pooling(p("f32[1,8,9,9]"), p("f32[2,5]"), output_dim=8, group_size=3, spatial_scale=1.0),
        "channels are not output_dim for each cell: 8 and 72",
    ),
    (lambda: ops.einsum(p("f32[2]"), equation="ij->i"), "'ij' does not fit an input of shape [2]"),
    (lambda: ops.einsum(p("f32[2]"), p("f32[2]"), equation="i->i"), "equation 'i->i' is for 1 inputs, 2 given"),
    (
        lambda: ops.lstm_cell(
            p("f32[2,9]"), p("f32[2,8]"), p("f32[3,8]"), zeros(32, 9), zeros(32, 8), zeros(32), hidden_size=8
        ),
        "batches of data and states differ: 3 and 2",
    ),
    (lambda: ops.range(c(0), c(3), c(0), output_type=c(0).dtype), "the step of a range is 0"),
]


@pytest.mark.parametrize(("case", "message"), REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(case: Case, message: str) -> None:
    with pytest.raises(BadModel) as caught:
        case()
    assert str(caught.value) == message
