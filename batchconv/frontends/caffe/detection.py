"""Layers of detectors (SSD's PriorBox and DetectionOutput, Fast R-CNN's ROIPooling)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from batchconv import ops
from batchconv.errors import BadModel, Unsupported
from batchconv.frontends.caffe.registry import dims, ints, registry
from batchconv.frontends.caffe.shapes import sizes
from batchconv.graph import Value


@registry.op("PriorBox")
def prior_box(
    x: Value,
    image: Value,
    *,
    min_size: Sequence[float],
    max_size: Sequence[float] = (),
    aspect_ratio: Sequence[float] = (),
    flip: bool = True,
    clip: bool = False,
    variance: Sequence[float] = (),
    img_size: int = 0,
    img_h: int = 0,
    img_w: int = 0,
    step: float = 0.0,
    step_h: float = 0.0,
    step_w: float = 0.0,
    offset: float = 0.5,
) -> Value:
    """Boxes around every place of x, in parts of the picture's size, and their variances: [1, 2, boxes * 4]."""
    if max_size and len(max_size) != len(min_size):
        raise BadModel(f"{len(max_size)} max_size for {len(min_size)} min_size")
    if step_h != step_w:
        raise Unsupported(f"step_h {step_h} and step_w {step_w} differ")
    height, width = img_h or img_size, img_w or img_size
    picture = ints((height, width)) if height and width else sizes(image, dims(image)[2:4], (2, 3))
    made = ops.prior_box(
        sizes(x, dims(x)[2:4], (2, 3)),
        picture,
        min_size=min_size,
        max_size=max_size,
        aspect_ratio=aspect_ratio or (1.0,),
        flip=flip,
        clip=clip,
        variance=variance or (0.1,),
        step=step or step_h,
        offset=offset,
        scale_all_sizes=True,
        min_max_aspect_ratios_order=True,
    )
    return ops.unsqueeze(made, ints((0,)))


@registry.op("DetectionOutput")
def detection_output(
    location: Value,
    confidence: Value,
    priors: Value,
    *,
    num_classes: int,
    share_location: bool = True,
    background_label_id: int = 0,
    nms_param: Mapping[str, Any] | None = None,
    code_type: str = "CORNER",
    keep_top_k: int = -1,
    variance_encoded_in_target: bool = False,
    confidence_threshold: float | None = None,
    clip: bool = False,
    clip_before_nms: bool = False,
    clip_after_nms: bool = False,
    decrease_label_id: bool = False,
    normalized: bool = True,
    input_height: int = 1,
    input_width: int = 1,
    objectness_score: float = 0.0,
) -> Value:
    """Boxes decoded, suppressed and sorted: rows [image, label, score, x1, y1, x2, y2], ended by image -1."""
    nms = nms_param or {}
    if nms.get("eta", 1.0) != 1.0:
        raise Unsupported(f"nms_param eta {nms['eta']} (adaptive suppression) is not supported")
    classes = dims(confidence)[-1]
    if isinstance(classes, int) and classes % num_classes:
        raise BadModel(f"{classes} confidences are no multiple of num_classes = {num_classes}")
    return ops.detection_output(
        location,
        confidence,
        priors,
        background_label_id=background_label_id,
        top_k=nms.get("top_k", -1),
        keep_top_k=(keep_top_k,),
        variance_encoded_in_target=variance_encoded_in_target,
        code_type=f"caffe.PriorBoxParameter.{code_type}",
        share_location=share_location,
        nms_threshold=nms.get("nms_threshold", 0.3),
        confidence_threshold=-3.4e38 if confidence_threshold is None else confidence_threshold,
        clip_before_nms=clip or clip_before_nms,
        clip_after_nms=clip_after_nms,
        decrease_label_id=decrease_label_id,
        normalized=normalized,
        input_height=input_height,
        input_width=input_width,
        objectness_score=objectness_score,
    )


@registry.op("ROIPooling")
def roi_pooling(x: Value, rois: Value, *, pooled_h: int, pooled_w: int, spatial_scale: float = 1.0) -> Value:
    """The largest in every cell of a pooled_h x pooled_w grid over each region [picture, x1, y1, x2, y2]."""
    return ops.roi_pooling(x, rois, pooled_h=pooled_h, pooled_w=pooled_w, spatial_scale=spatial_scale, method="max")
