"""The less common operations: shapes as OpenVINO infers them."""

from __future__ import annotations

import pytest
from ops_compare import Case, c, op_of, ours, p, shape_of, theirs, zeros

from batchconv import ops
from batchconv.tensor import DType

I32 = DType.I32
CASES: list[Case] = [
    lambda: ops.one_hot(p("i64[2,?]"), c(10), c(1.0), c(0.0), axis=-1),
    lambda: ops.one_hot(p("i64[2,?]"), p("i64[]"), c(1.0), c(0.0), axis=1),
    lambda: ops.one_hot(p("i64[...]"), c(10), c(1.0), c(0.0), axis=1),
    lambda: ops.non_zero(p("f32[2,3]"), output_type=I32),
    lambda: ops.non_zero(p("f32[2,?]")),
    lambda: ops.non_zero(p("f32[...]")),
    lambda: ops.reverse_sequence(p("f32[?,3,4]"), p("i32[2]"), batch_axis=0, seq_axis=1),
    lambda: ops.shuffle_channels(p("f32[1,6,?]"), axis=1, group=3),
    lambda: ops.roll(p("f32[1,6,?]"), c([1]), c([-1])),
    lambda: ops.batch_to_space(p("f32[12,3,4,?]"), c([1, 1, 2, 2]), c([0, 0, 1, 0]), c([0, 0, 0, 1])),
    lambda: ops.space_to_batch(p("f32[3,3,4,7]"), c([1, 1, 2, 2]), c([0, 0, 1, 0]), c([0, 0, 1, 1])),
    lambda: ops.bucketize(p("f32[2,?]"), p("f32[5]"), output_type=I32),
    lambda: ops.search_sorted(p("f32[2,?]"), p("f32[2,7]"), output_type=I32),
    lambda: ops.unique.op(p("f32[2,?]")),
    lambda: ops.unique.op(p("f32[...]")),
    lambda: ops.eye(c(3), c(4), c(0), output_type=DType.F32),
    lambda: ops.eye(c(3), p("i64[]"), c(0), c([2, 5]), output_type=DType.I8),
    lambda: ops.random_uniform(c([2, 3]), c(0.0), c(1.0), output_type=DType.F32, op_seed=7),
    lambda: ops.random_uniform(shape_of("f32[?,4]"), c(0.0), c(1.0), output_type=DType.F32),
    lambda: ops.multinomial(p("f32[2,5]"), c([7]), convert_type=DType.I64, with_replacement=True, log_probs=False),
    lambda: ops.einsum(p("f32[2,?,3]"), p("f32[3,4..5]"), equation="abc,cd->abd"),
    lambda: ops.einsum(p("f32[2,3]"), equation="ij->ji"),
    lambda: ops.einsum(p("f32[5,2,7]"), p("f32[7,4]"), equation="...ij,jk->...ik"),
    lambda: ops.einsum(p("f32[2,3]"), p("f32[3,4]"), equation="ij,jk"),
    lambda: ops.slice_scatter(p("f32[9,?]"), p("f32[3,?]"), c([1]), c([4]), c([1]), c([0])),
    lambda: ops.scaled_dot_product_attention(p("f32[1,8,?,64]"), p("f32[1,8,?,64]"), p("f32[1,8,?,32]")),
    lambda: ops.dft(p("f32[2,?,8,2]"), c([1, 2])),
    lambda: ops.dft(p("f32[2,?,8,2]"), c([1, 2]), c([16, -1])),
    lambda: ops.idft(p("f32[2,?,8,2]"), c([-1])),
    lambda: ops.rdft(p("f32[2,?,8]"), c([1, 2])),
    lambda: ops.rdft(p("f32[2,9]"), c([1]), c([5])),
    lambda: ops.irdft(p("f32[2,9,5,2]"), c([1, 2])),
    lambda: ops.irdft(p("f32[2,9,5,2]"), c([1, 2]), c([4, 7])),
    lambda: ops.stft(p("f32[2,48]"), p("f32[16]"), c(16), c(4), transpose_frames=True),
    lambda: ops.stft(p("f32[2,?]"), p("f32[16]"), c(16), c(4), transpose_frames=False),
    lambda: ops.lstm_cell.op(
        p("f32[?,10]"), p("f32[2,8]"), p("f32[?,8]"), zeros(32, 10), zeros(32, 8), zeros(32), hidden_size=8
    ),
    lambda: ops.gru_cell(p("f32[2,10]"), p("f32[2,8]"), zeros(24, 10), zeros(24, 8), zeros(24), hidden_size=8),
    lambda: ops.gru_cell(
        p("f32[2,10]"), p("f32[2,8]"), zeros(24, 10), zeros(24, 8), zeros(32), hidden_size=8, linear_before_reset=True
    ),
    lambda: ops.rnn_cell(p("f32[2,10]"), p("f32[2,8]"), zeros(8, 10), zeros(8, 8), zeros(8), hidden_size=8, clip=3.0),
    lambda: ops.lstm_sequence.op(
        p("f32[?,?,10]"),
        p("f32[2,1,8]"),
        p("f32[?,1,8]"),
        p("i32[2]"),
        zeros(1, 32, 10),
        zeros(1, 32, 8),
        zeros(1, 32),
        hidden_size=8,
        direction="reverse",
    ),
    lambda: ops.gru_sequence.op(
        p("f32[2,5,10]"),
        p("f32[2,2,8]"),
        p("i32[2]"),
        zeros(2, 24, 10),
        zeros(2, 24, 8),
        zeros(2, 24),
        hidden_size=8,
        direction="bidirectional",
        activations=("relu", "tanh"),
    ),
    lambda: ops.rnn_sequence.op(
        p("f32[2,5,10]"), p("f32[2,1,8]"), p("i32[2]"), zeros(1, 8, 10), zeros(1, 8, 8), zeros(1, 8), hidden_size=8
    ),
    lambda: ops.ctc_greedy_decoder(p("f32[20,?,40]"), p("f32[20,8]")),
    lambda: ops.ctc_greedy_decoder_seq_len.op(p("f32[8,20,40]"), p("i32[8]"), c([39], I32)),
    lambda: ops.ctc_loss(p("f32[8,20,40]"), p("i32[8]"), p("i32[8,20]"), p("i32[8]"), c(39, I32)),
    lambda: ops.roi_align(
        p("f32[1,?,14,14]"),
        p("f32[7,4]"),
        p("i32[?]"),
        pooled_h=3,
        pooled_w=4,
        sampling_ratio=2,
        spatial_scale=0.5,
        mode="avg",
    ),
    lambda: ops.roi_align_rotated(
        p("f32[1,8,14,14]"),
        p("f32[7,5]"),
        p("i32[7]"),
        pooled_h=3,
        pooled_w=4,
        sampling_ratio=2,
        spatial_scale=0.5,
        clockwise_mode=True,
    ),
    lambda: ops.grid_sample(p("f32[?,3,9,9]"), p("f32[2,5,?,2]"), align_corners=True, mode="nearest"),
    lambda: ops.extract_image_patches(p("f32[1,3,10,9]"), sizes=(3, 3), strides=(5, 5), rates=(1, 1), auto_pad="valid"),
    lambda: ops.extract_image_patches(
        p("f32[1,3,10,11]"), sizes=(3, 3), strides=(5, 5), rates=(2, 2), auto_pad="same_upper"
    ),
    lambda: ops.deformable_convolution(
        p("f32[1,4,9,?]"), p("f32[1,18,7,?]"), zeros(6, 2, 3, 3), p("f32[1,9,7,?]"), strides=(1, 1), group=2
    ),
    lambda: ops.deformable_psroi_pooling(
        p("f32[1,72,14,14]"), p("f32[30,5]"), output_dim=8, group_size=3, spatial_scale=0.1
    ),
    lambda: ops.binary_convolution(
        p("f32[1,3,9,9]"), p("u1[8,3,3,3]"), strides=(1, 1), mode="xnor-popcount", pad_value=0.0
    ),
    lambda: ops.col2im(p("f32[2,12,9]"), c([4, 4]), c([2, 2])),
    lambda: ops.read_value(p("f32[1,5]"), variable_id="a", variable_type=DType.F32, variable_shape=(1, 5)),
]


TIGHTER: list[tuple[Case, str]] = [
    (lambda: ops.unique.op(p("f32[2,3]"), c(1)), "f32[2,1..3] i64[1..3] i64[3] i64[1..3]"),
    (lambda: ops.unique.op(p("f32[2,3..5]"), c(1)), "f32[2,1..5] i64[1..5] i64[3..5] i64[1..5]"),
    (lambda: ops.rdft(p("f32[2,?,9]"), c([2, 1])), "f32[2,1..,9,2]"),
]


@pytest.mark.parametrize(("case", "expected"), TIGHTER)
def test_shapes_that_we_know_better_than_openvino(case: Case, expected: str) -> None:
    assert " ".join(a + b for a, b in ours(op_of(case()))) == expected


@pytest.mark.parametrize("case", CASES)
def test_shapes_are_those_of_openvino(case: Case) -> None:
    pytest.importorskip("openvino")
    op = op_of(case())
    assert ours(op) == theirs(op)
