"""Object detection (specification: detection)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchconv.errors import BadModel
from batchconv.graph import Attr, Output, Value
from batchconv.ops.checks import same_type, want_dim, want_integers, want_rank, want_reals
from batchconv.ops.values import as_dim, items_of, numbers
from batchconv.opset import AttrDef, bool_, define, enum, float_, floats, int_, ints, str_, type_
from batchconv.shape import ANY, Dim, bounds, interval
from batchconv.tensor import DType

__all__ = [
    "detection_output", "non_max_suppression", "prior_box", "prior_box_clustered", "proposal", "psroi_pooling",
    "region_yolo", "reorg_yolo", "roi_pooling",
]  # fmt: skip


def _prior_shape(inputs: Sequence[Value], count: int) -> Output:
    """[2, 4 * height * width * count] for the (height, width) that the first input holds."""
    for value, what in zip(inputs, ("the size of the layer", "the size of the image")):
        want_integers(value, what)
        want_rank(value, what, 1)
        want_dim(value.shape, 0, 2, f"{what} must be two numbers")
    items = items_of(inputs[0]) or (ANY, ANY)
    return Output(DType.F32, (2, as_dim(items[0]) * as_dim(items[1]) * (4 * count)))


def ratios(attrs: Mapping[str, Attr]) -> int:
    """How many different aspect ratios a PriorBox has, 1 included and flipped ones if asked for."""
    found = {1.0}
    for ratio in attrs["aspect_ratio"]:
        found.add(round(ratio, 6))
        if attrs["flip"]:
            found.add(round(1 / ratio, 6))
    return len(found)


def priors(attrs: Mapping[str, Attr]) -> int:
    """How many boxes a PriorBox makes at each place."""
    total, sizes = ratios(attrs), len(attrs["min_size"])
    count = total * sizes + len(attrs["max_size"]) if attrs["scale_all_sizes"] else total + sizes - 1
    if attrs["fixed_size"]:
        count = total * len(attrs["fixed_size"])
    for density in attrs["density"]:
        extra = int(density) ** 2 - 1
        count += (len(attrs["fixed_ratio"]) or total) * extra
    return count


def _prior_box(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    return _prior_shape(inputs, priors(attrs))


def _prior_box_clustered(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    if len(attrs["width"]) != len(attrs["height"]):
        raise BadModel(f"{len(attrs['width'])} widths and {len(attrs['height'])} heights are given")
    return _prior_shape(inputs, len(attrs["width"]))


prior_box = define(
    "PriorBox",
    8,
    "output_size image_size",
    _prior_box,
    min_size=floats(()),
    max_size=floats(()),
    aspect_ratio=floats(()),
    density=floats(()),
    fixed_ratio=floats(()),
    fixed_size=floats(()),
    clip=bool_(False),
    flip=bool_(False),
    step=float_(0.0),
    offset=float_(),
    variance=floats(()),
    scale_all_sizes=bool_(True),
    min_max_aspect_ratios_order=bool_(True),
)
prior_box_clustered = define(
    "PriorBoxClustered",
    1,
    "output_size image_size",
    _prior_box_clustered,
    width=floats(),
    height=floats(),
    step=float_(0.0),
    step_w=float_(0.0),
    step_h=float_(0.0),
    clip=bool_(True),
    offset=float_(),
    variance=floats(()),
)


def _detection_output(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    boxes, scores, proposals = inputs[:3]
    dtype = same_type(inputs)
    want_rank(boxes, "the box logits", 2)
    want_rank(scores, "the class predictions", 2)
    want_rank(proposals, "the proposals", 3)
    images = want_dim(scores.shape, 0, boxes.shape[0] if boxes.shape else ANY, "images of boxes and scores differ")
    return Output(dtype, (1, 1, images * _kept(scores, proposals, attrs), 7))


def _kept(scores: Value, proposals: Value, attrs: Mapping[str, Attr]) -> Dim:
    """How many detections an image has at most."""
    keep: tuple[int, ...] = attrs["keep_top_k"]
    if keep and keep[0] > 0:
        return keep[0]
    if proposals.shape is None or scores.shape is None:
        return ANY
    count = proposals.shape[2] // (4 if attrs["normalized"] else 5)
    if attrs["top_k"] > 0:
        classes = scores.shape[1] // count if isinstance(count, int) and count else ANY
        return classes * int(attrs["top_k"])
    return scores.shape[1]


detection_output = define(
    "DetectionOutput",
    8,
    "box_logits class_preds proposals aux_class_preds? aux_box_preds?",
    _detection_output,
    background_label_id=int_(0),
    top_k=int_(-1),
    variance_encoded_in_target=bool_(False),
    keep_top_k=ints(),
    code_type=enum(
        "caffe.PriorBoxParameter.CORNER",
        "caffe.PriorBoxParameter.CENTER_SIZE",
        default="caffe.PriorBoxParameter.CORNER",
    ),
    share_location=bool_(True),
    nms_threshold=float_(),
    confidence_threshold=float_(0.0),
    clip_after_nms=bool_(False),
    clip_before_nms=bool_(False),
    decrease_label_id=bool_(False),
    normalized=bool_(False),
    input_height=int_(1),
    input_width=int_(1),
    objectness_score=float_(0.0),
)


def _non_max_suppression(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> tuple[Output, ...]:
    boxes, scores = inputs[:2]
    want_reals(boxes, "the boxes")
    want_reals(scores, "the scores")
    want_rank(boxes, "the boxes", 3)
    want_rank(scores, "the scores", 3)
    for value, what in zip(inputs[2:], ("max_output_boxes_per_class", "the iou", "the score threshold", "the sigma")):
        want_rank(value, what, 0, 1)
    most: int | None = None
    if boxes.shape is not None and scores.shape is not None:
        places = want_dim(boxes.shape, 1, scores.shape[2], "numbers of boxes and scores differ")
        images = want_dim(boxes.shape, 0, scores.shape[0], "images of boxes and scores differ")
        limit = numbers(inputs[2]) if len(inputs) > 2 else None
        highs = [bounds(dim).hi for dim in (places, images, scores.shape[1])]
        if limit is not None and None not in highs:
            most = min(highs[0] or 0, max(int(limit[0]), 0)) * (highs[1] or 0) * (highs[2] or 0)
    rows = interval(0, most)
    return Output(attrs["output_type"], (rows, 3)), Output(DType.F32, (rows, 3)), Output(attrs["output_type"], (1,))


non_max_suppression = define(
    "NonMaxSuppression",
    9,
    "boxes scores max_output_boxes_per_class? iou_threshold? score_threshold? soft_nms_sigma?",
    _non_max_suppression,
    box_encoding=enum("corner", "center", default="corner"),
    sort_result_descending=bool_(True),
    output_type=AttrDef(type_().check, DType.I64, "an element type"),
)


def _roi_pooling(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, rois = inputs
    want_rank(data, "the data", 4)
    want_rank(rois, "the regions", 2)
    want_dim(rois.shape, 1, 5, "a region must be five numbers")
    count = rois.shape[0] if rois.shape else ANY
    channels = data.shape[1] if data.shape else ANY
    return Output(same_type(inputs), (count, channels, attrs["pooled_h"], attrs["pooled_w"]))


roi_pooling = define(
    "ROIPooling",
    2,
    "data coords",
    _roi_pooling,
    pooled_h=int_(),
    pooled_w=int_(),
    spatial_scale=float_(),
    method=enum("max", "bilinear", default="max"),
)


def _psroi_pooling(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, rois = inputs
    want_rank(data, "the data", 4)
    want_rank(rois, "the regions", 2)
    want_dim(rois.shape, 1, 5, "a region must be five numbers")
    cells = (
        attrs["group_size"] ** 2 if attrs["mode"] == "average" else attrs["spatial_bins_x"] * attrs["spatial_bins_y"]
    )
    want_dim(data.shape, 1, attrs["output_dim"] * cells, "channels are not output_dim for each cell")
    count = rois.shape[0] if rois.shape else ANY
    return Output(same_type(inputs), (count, attrs["output_dim"], attrs["group_size"], attrs["group_size"]))


psroi_pooling = define(
    "PSROIPooling",
    1,
    "data coords",
    _psroi_pooling,
    output_dim=int_(),
    group_size=int_(1),
    spatial_scale=float_(),
    mode=enum("average", "bilinear", default="average"),
    spatial_bins_x=int_(1),
    spatial_bins_y=int_(1),
)


def _proposal(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> tuple[Output, Output]:
    scores, deltas, image = inputs
    want_rank(scores, "the class probabilities", 4)
    want_rank(deltas, "the box deltas", 4)
    want_rank(image, "the image's shape", 1)
    images = want_dim(scores.shape, 0, deltas.shape[0] if deltas.shape else ANY, "images differ")
    rows = images * attrs["post_nms_topn"]
    dtype = same_type(inputs)
    return Output(dtype, (rows, 5)), Output(dtype, (rows,))


proposal = define(
    "Proposal",
    4,
    "class_probs bbox_deltas image_shape",
    _proposal,
    base_size=int_(),
    pre_nms_topn=int_(),
    post_nms_topn=int_(),
    nms_thresh=float_(),
    feat_stride=int_(),
    min_size=int_(),
    ratio=floats(),
    scale=floats(),
    clip_before_nms=bool_(True),
    clip_after_nms=bool_(False),
    normalize=bool_(False),
    box_size_scale=float_(1.0),
    box_coordinate_scale=float_(1.0),
    framework=str_(""),
)


def _region_yolo(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data = inputs[0]
    want_rank(data, "the data", 4)
    if data.shape is None:
        return Output(data.dtype, None)
    if not attrs["do_softmax"]:
        channels = (attrs["classes"] + attrs["coords"] + 1) * len(attrs["mask"])
        return Output(data.dtype, (data.shape[0], channels, *data.shape[2:]))
    flat: Dim = 1
    start, stop = attrs["axis"] % 4, attrs["end_axis"] % 4
    for dim in data.shape[start : stop + 1]:
        flat = flat * dim
    return Output(data.dtype, (*data.shape[:start], flat, *data.shape[stop + 1 :]))


region_yolo = define(
    "RegionYolo",
    1,
    "data",
    _region_yolo,
    anchors=floats(()),
    axis=int_(),
    coords=int_(),
    classes=int_(),
    end_axis=int_(),
    num=int_(),
    do_softmax=bool_(True),
    mask=ints(()),
)


def _reorg_yolo(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, (stride, *_) = inputs[0], attrs["stride"]
    want_rank(data, "the data", 4)
    if data.shape is None:
        return Output(data.dtype, None)
    n, c, h, w = data.shape
    return Output(data.dtype, (n, c * (stride * stride), h // stride, w // stride))


reorg_yolo = define("ReorgYolo", 2, "data", _reorg_yolo, stride=ints())
