"""Object detection: shapes as OpenVINO infers them, and what is refused."""

from __future__ import annotations

import pytest
from ops_compare import Case, c, op_of, ours, p, shape_of, theirs

from batchconv import ops
from batchconv.graph import Value
from batchconv.tensor import DType


def hw(text: str) -> Value:
    """Height and width of a Parameter."""
    return ops.slice(shape_of(text), c([2]), c([4]), c([1]))


def prior(layer: str, **attrs: object) -> Case:
    return lambda: ops.prior_box(hw(layer), hw("f32[1,3,300,300]"), offset=0.5, variance=(0.1,), **attrs)


def detections(boxes: str, scores: str, proposals: str, **attrs: object) -> Case:
    return lambda: ops.detection_output(p(boxes), p(scores), p(proposals), nms_threshold=0.5, **attrs)


CASES: list[Case] = [
    prior("f32[1,8,19,19]", min_size=(60.0,), max_size=(111.0,), aspect_ratio=(2.0, 3.0), flip=True),
    prior("f32[1,8,19,19]", min_size=(60.0, 70.0), max_size=(111.0,), aspect_ratio=(2.0, 1.0), flip=False),
    prior("f32[1,8,19,19]", min_size=(60.0, 70.0), aspect_ratio=(2.0, 0.5), flip=True, scale_all_sizes=False),
    prior("f32[1,8,5,6]", fixed_size=(8.0, 16.0), density=(4.0, 2.0), aspect_ratio=(2.0,)),
    prior("f32[1,8,5,6]", fixed_size=(8.0, 16.0), fixed_ratio=(1.0, 2.0), density=(4.0, 2.0)),
    prior("f32[1,8,?,6]", min_size=(60.0,)),
    prior("f32[1,8,4..5,6]", min_size=(60.0,)),
    prior("f32[...]", min_size=(60.0,)),
    lambda: ops.prior_box_clustered(
        hw("f32[1,8,5,6]"), hw("f32[1,3,30,30]"), width=(1.0, 2.0), height=(3.0, 4.0), offset=0.5
    ),
    lambda: ops.prior_box_clustered(hw("f32[1,8,5,?]"), hw("f32[1,3,30,30]"), width=(1.0,), height=(3.0,), offset=0.5),
    detections("f32[1,40]", "f32[1,30]", "f32[1,2,40]", keep_top_k=(200,), normalized=True),
    detections("f32[?,40]", "f32[?,30]", "f32[1,2,40]", keep_top_k=(200,), normalized=True),
    detections("f32[2,40]", "f32[2,30]", "f32[1,2,40]", keep_top_k=(-1,), top_k=5, normalized=True),
    detections("f32[2,40]", "f32[2,30]", "f32[1,2,40]", keep_top_k=(-1,), normalized=True),
    detections("f32[2,40]", "f32[2,30]", "f32[1,2,50]", keep_top_k=(-1,), normalized=False),
    detections("f32[2,?]", "f32[2,?]", "f32[1,2,?]", keep_top_k=(-1,), normalized=True),
    detections("f32[2,?]", "f32[2,?]", "f32[1,2,?]", keep_top_k=(-1,), top_k=5, normalized=True),
    detections("f32[...]", "f32[...]", "f32[...]", keep_top_k=(100,), normalized=True),
    lambda: ops.detection_output(
        p("f32[1,40]"),
        p("f32[1,30]"),
        p("f32[1,2,40]"),
        p("f32[1,20]"),
        p("f32[1,40]"),
        keep_top_k=(7,),
        nms_threshold=0.5,
        normalized=True,
        code_type="caffe.PriorBoxParameter.CENTER_SIZE",
    ),
    lambda: ops.non_max_suppression.op(p("f32[1,100,4]"), p("f32[1,3,100]"), c([10]), c([0.5]), c([0.1])),
    lambda: ops.non_max_suppression.op(p("f32[2,100,4]"), p("f32[2,3,100]"), c(1000), output_type=DType.I32),
    lambda: ops.non_max_suppression.op(p("f32[?,?,4]"), p("f32[?,3,100]"), c([10])),
    lambda: ops.non_max_suppression.op(p("f32[1,?,4]"), p("f32[1,3,?]"), c([10])),
    lambda: ops.non_max_suppression.op(p("f32[1,100,4]"), p("f32[1,3,100]"), p("i64[]")),
    lambda: ops.non_max_suppression.op(p("f32[1,100,4]"), p("f32[1,3,100]")),
    lambda: ops.non_max_suppression.op(p("f32[...]"), p("f32[...]"), c([10])),
    lambda: ops.roi_pooling(p("f32[1,256,14,14]"), p("f32[300,5]"), pooled_h=6, pooled_w=7, spatial_scale=0.0625),
    lambda: ops.roi_pooling(
        p("f32[1,?,14,14]"), p("f32[?,5]"), pooled_h=6, pooled_w=7, spatial_scale=1.0, method="bilinear"
    ),
    lambda: ops.psroi_pooling(p("f32[1,72,14,14]"), p("f32[?,5]"), output_dim=8, group_size=3, spatial_scale=0.0625),
    lambda: ops.psroi_pooling(
        p("f32[1,72,14,14]"),
        p("f32[30,5]"),
        output_dim=8,
        group_size=3,
        spatial_scale=0.1,
        mode="bilinear",
        spatial_bins_x=3,
        spatial_bins_y=3,
    ),
    lambda: ops.proposal.op(
        p("f32[1,24,14,14]"),
        p("f32[1,48,14,14]"),
        p("f32[3]"),
        base_size=16,
        pre_nms_topn=6000,
        post_nms_topn=300,
        nms_thresh=0.7,
        feat_stride=16,
        min_size=16,
        ratio=(0.5, 1.0, 2.0),
        scale=(8.0, 16.0, 32.0, 64.0),
    ),
    lambda: ops.proposal.op(
        p("f32[?,24,?,14]"),
        p("f32[?,48,14,?]"),
        c([14.0, 14.0, 1.0]),
        base_size=16,
        pre_nms_topn=6000,
        post_nms_topn=300,
        nms_thresh=0.7,
        feat_stride=16,
        min_size=16,
        ratio=(0.5,),
        scale=(8.0,),
        framework="tensorflow",
    ),
    lambda: ops.region_yolo(
        p("f32[1,125,13,13]"), coords=4, classes=20, num=5, do_softmax=True, axis=1, end_axis=3, anchors=(1.0, 2.0)
    ),
    lambda: ops.region_yolo(
        p("f32[?,255,13,13]"), coords=4, classes=80, num=9, do_softmax=False, axis=1, end_axis=3, mask=(0, 1, 2)
    ),
    lambda: ops.region_yolo(p("f32[?,125,?,13]"), coords=4, classes=20, num=5, do_softmax=True, axis=1, end_axis=-1),
    lambda: ops.reorg_yolo(p("f32[1,64,26,26]"), stride=(2,)),
    lambda: ops.reorg_yolo(p("f32[?,64,26,?]"), stride=(2,)),
]


@pytest.mark.parametrize("case", CASES)
def test_shapes_are_those_of_openvino(case: Case) -> None:
    pytest.importorskip("openvino")
    op = op_of(case())
    assert ours(op) == theirs(op)
