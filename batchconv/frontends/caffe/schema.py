"""What the files of Caffe may hold: messages with field numbers, and enumerations (of BVLC, SSD and common forks).

A field is written `number name type`, the type one letter (s text, i integer, f number, d double, b true or false),
a message or an enumeration, with `*` behind it where the field repeats. Text and binary files are read by this one
table (`prototxt`, `wire`); what it does not name is kept by name in text, so that a layer can be refused for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

SCALARS = "sifdb"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message."""

    number: int
    name: str
    type: str
    repeated: bool


@dataclass(frozen=True, slots=True)
class Message:
    """A message: its fields by name (text) and by number (wire)."""

    name: str
    by_name: Mapping[str, Field]
    by_number: Mapping[int, Field]


@cache
def message(name: str) -> Message:
    """The message of that name; KeyError if the table has none."""
    rows = [row.split() for row in _MESSAGES[name].split(",") if row.strip()]
    fields = [Field(int(number), label, kind.rstrip("*"), kind.endswith("*")) for number, label, kind in rows]
    return Message(name, {f.name: f for f in fields}, {f.number: f for f in fields})


_V1_TYPES = """NONE ACCURACY BNLL CONCAT CONVOLUTION DATA DROPOUT EUCLIDEAN_LOSS FLATTEN HDF5_DATA HDF5_OUTPUT IM2COL
    IMAGE_DATA INFOGAIN_LOSS INNER_PRODUCT LRN MULTINOMIAL_LOGISTIC_LOSS POOLING RELU SIGMOID SOFTMAX SOFTMAX_LOSS SPLIT
    TANH WINDOW_DATA ELTWISE POWER SIGMOID_CROSS_ENTROPY_LOSS HINGE_LOSS MEMORY_DATA ARGMAX THRESHOLD DUMMY_DATA SLICE
    MVN ABSVAL SILENCE CONTRASTIVE_LOSS EXP DECONVOLUTION"""

ENUMS: dict[str, tuple[str, ...]] = {
    "Phase": ("TRAIN", "TEST"),
    "Pool": ("MAX", "AVE", "STOCHASTIC"),
    "Rounding": ("CEIL", "FLOOR"),
    "EltwiseOp": ("PROD", "SUM", "MAX"),
    "Region": ("ACROSS_CHANNELS", "WITHIN_CHANNEL"),
    "ReductionOp": ("", "SUM", "ASUM", "SUMSQ", "MEAN"),
    "CodeType": ("", "CORNER", "CENTER_SIZE", "CORNER_SIZE"),
    "Engine": ("DEFAULT", "CAFFE", "CUDNN"),
    "Variance": ("FAN_IN", "FAN_OUT", "AVERAGE"),
    "Share": ("STRICT", "PERMISSIVE"),
    "V1Type": tuple(_V1_TYPES.split()),
}
"""Enumeration -> its names, the place in the tuple being the number ("" where no name has it)."""

_V1_NAMES = {
    "BNLL": "BNLL",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "IM2COL": "Im2col",
    "LRN": "LRN",
    "RELU": "ReLU",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
    "ARGMAX": "ArgMax",
    "MVN": "MVN",
    "ABSVAL": "AbsVal",
}


def v1_type(name: str) -> str:
    """The type name that today's files use for a `layers` type (CONVOLUTION -> Convolution)."""
    return _V1_NAMES.get(name) or "".join(word.capitalize() for word in name.split("_"))


_LAYER = """
    102 accuracy_param Anything, 103 argmax_param ArgMax, 139 batch_norm_param BatchNorm, 141 bias_param Bias,
    104 concat_param Concat, 106 convolution_param Convolution, 144 crop_param Crop, 107 data_param Anything,
    108 dropout_param Dropout, 109 dummy_data_param Anything, 110 eltwise_param Eltwise, 140 elu_param ELU,
    137 embed_param Embed, 111 exp_param Exp, 135 flatten_param Flatten, 112 hdf5_data_param Anything,
    113 hdf5_output_param Anything, 115 image_data_param Anything, 117 inner_product_param InnerProduct,
    143 input_param Input, 134 log_param Exp, 118 lrn_param LRN, 119 memory_data_param Anything, 120 mvn_param MVN,
    145 parameter_param Parameter, 121 pooling_param Pooling, 122 power_param Power, 131 prelu_param PReLU,
    130 python_param Python, 136 reduction_param Reduction, 123 relu_param ReLU, 133 reshape_param Reshape,
    142 scale_param Scale, 124 sigmoid_param Engine_, 125 softmax_param Softmax, 126 slice_param Slice,
    127 tanh_param Engine_, 128 threshold_param Threshold, 138 tile_param Tile, 100 transform_param Anything,
    101 loss_param Anything, 200 annotated_data_param Anything, 201 multibox_loss_param Anything,
    205 detection_evaluate_param Anything, 207 video_data_param Anything,
    202 permute_param Permute, 203 prior_box_param PriorBox, 204 detection_output_param DetectionOutput,
    206 norm_param Normalize, 164 shuffle_channel_param ShuffleChannel, 2143 interp_param Interp,
    154 roi_pooling_param ROIPooling, 1137 bn_param BN, 9001 upsample_param Upsample, 9002 clip_param Clip,
    9003 swish_param Swish, 9004 relu6_param ReLU6
"""

_FILLERS = "7 weight_filler Filler, 8 bias_filler Filler"

_MESSAGES = {
    "Net": """1 name s, 2 layers V1Layer*, 3 input s*, 4 input_dim i*, 5 force_backward b, 6 state State,
        7 debug_info b, 8 input_shape Shape*, 100 layer Layer*""",
    "State": "1 phase Phase, 2 level i, 3 stage s*",
    "Rule": "1 phase Phase, 2 min_level i, 3 max_level i, 4 stage s*, 5 not_stage s*",
    "Layer": """1 name s, 2 type s, 3 bottom s*, 4 top s*, 5 loss_weight f*, 6 param ParamSpec*, 7 blobs Blob*,
        8 include Rule*, 9 exclude Rule*, 10 phase Phase, 11 propagate_down b*, """
    + _LAYER,
    "V1Layer": """1 layer V0Layer, 2 bottom s*, 3 top s*, 4 name s, 5 type V1Type, 6 blobs Blob*, 7 blobs_lr f*,
        8 weight_decay f*, 32 include Rule*, 33 exclude Rule*, 35 loss_weight f*, 1001 param s*,
        1002 blob_share_mode Share*, 27 accuracy_param Anything, 23 argmax_param ArgMax, 9 concat_param Concat,
        10 convolution_param Convolution, 11 data_param Anything, 12 dropout_param Dropout,
        26 dummy_data_param Anything, 24 eltwise_param Eltwise, 41 exp_param Exp, 13 hdf5_data_param Anything,
        14 hdf5_output_param Anything, 15 image_data_param Anything, 17 inner_product_param InnerProduct,
        18 lrn_param LRN, 22 memory_data_param Anything, 34 mvn_param MVN, 19 pooling_param Pooling,
        21 power_param Power, 30 relu_param ReLU, 38 sigmoid_param Engine_, 39 softmax_param Softmax,
        31 slice_param Slice, 37 tanh_param Engine_, 25 threshold_param Threshold, 36 transform_param Anything,
        42 loss_param Anything""",
    "V0Layer": "1 name s, 2 type s",
    "Anything": "",
    "ParamSpec": "1 name s, 2 share_mode Share, 3 lr_mult f, 4 decay_mult f",
    "Shape": "1 dim i*",
    "Blob": """1 num i, 2 channels i, 3 height i, 4 width i, 5 data f*, 6 diff f*, 7 shape Shape, 8 double_data d*,
        9 double_diff d*""",
    "Filler": """1 type s, 2 value f, 3 min f, 4 max f, 5 mean f, 6 std f, 7 sparse i, 8 variance_norm Variance""",
    "ArgMax": "1 out_max_val b, 2 top_k i, 3 axis i",
    "BatchNorm": """1 use_global_stats b, 2 moving_average_fraction f, 3 eps f, 5 scale_filler Filler,
        6 bias_filler Filler, 15 engine Engine""",
    "BN": """1 slope_filler Filler, 2 bias_filler Filler, 3 momentum f, 4 eps f, 5 frozen b, 6 engine Engine""",
    "Bias": "1 axis i, 2 num_axes i, 3 filler Filler",
    "Concat": "1 concat_dim i, 2 axis i",
    "Convolution": """1 num_output i, 2 bias_term b, 3 pad i*, 4 kernel_size i*, 5 group i, 6 stride i*, 9 pad_h i,
        10 pad_w i, 11 kernel_h i, 12 kernel_w i, 13 stride_h i, 14 stride_w i, 15 engine Engine, 16 axis i,
        17 force_nd_im2col b, 18 dilation i*, """
    + _FILLERS,
    "Crop": "1 axis i, 2 offset i*",
    "Clip": "1 min f, 2 max f",
    "DetectionOutput": """1 num_classes i, 2 share_location b, 3 background_label_id i, 4 nms_param Nms,
        5 save_output_param Anything, 6 code_type CodeType, 7 keep_top_k i, 8 variance_encoded_in_target b,
        9 confidence_threshold f, 10 visualize b, 11 visualize_threshold f, 12 save_file s, 13 objectness_score f,
        9101 clip b, 9102 clip_before_nms b, 9103 clip_after_nms b, 9104 decrease_label_id b, 9105 normalized b,
        9106 input_height i, 9107 input_width i""",
    "Dropout": "1 dropout_ratio f, 2 scale_train b",
    "ELU": "1 alpha f",
    "Eltwise": "1 operation EltwiseOp, 2 coeff f*, 3 stable_prod_grad b",
    "Embed": "1 num_output i, 2 input_dim i, 3 bias_term b, 4 weight_filler Filler, 5 bias_filler Filler",
    "Engine_": "1 engine Engine",
    "Exp": "1 base f, 2 scale f, 3 shift f",
    "Flatten": "1 axis i, 2 end_axis i",
    "InnerProduct": """1 num_output i, 2 bias_term b, 3 weight_filler Filler, 4 bias_filler Filler, 5 axis i,
        6 transpose b""",
    "Input": "1 shape Shape*",
    "Interp": """1 height i, 2 width i, 3 zoom_factor i, 4 shrink_factor i, 5 pad_beg i, 6 pad_end i""",
    "LRN": "1 local_size i, 2 alpha f, 3 beta f, 4 norm_region Region, 5 k f, 6 engine Engine",
    "MVN": "1 normalize_variance b, 2 across_channels b, 3 eps f",
    "Nms": "1 nms_threshold f, 2 top_k i, 3 eta f",
    "Normalize": "1 across_spatial b, 2 scale_filler Filler, 3 channel_shared b, 4 eps f",
    "Parameter": "1 shape Shape",
    "Permute": "1 order i*",
    "Pooling": """1 pool Pool, 2 kernel_size i, 3 stride i, 4 pad i, 5 kernel_h i, 6 kernel_w i, 7 stride_h i,
        8 stride_w i, 9 pad_h i, 10 pad_w i, 11 engine Engine, 12 global_pooling b, 13 round_mode Rounding,
        1013 ceil_mode b""",
    "Power": "1 power f, 2 scale f, 3 shift f",
    "PReLU": "1 filler Filler, 2 channel_shared b",
    "PriorBox": """1 min_size f*, 2 max_size f*, 3 aspect_ratio f*, 4 flip b, 5 clip b, 6 variance f*, 7 img_size i,
        8 img_h i, 9 img_w i, 10 step f, 11 step_h f, 12 step_w f, 13 offset f""",
    "Python": "1 module s, 2 layer s, 3 param_str s, 4 share_in_parallel b",
    "Reduction": "1 operation ReductionOp, 2 axis i, 3 coeff f",
    "ReLU": "1 negative_slope f, 2 engine Engine",
    "ReLU6": "1 negative_slope f, 2 threshold f",
    "Reshape": "1 shape Shape, 2 axis i, 3 num_axes i",
    "ROIPooling": "1 pooled_h i, 2 pooled_w i, 3 spatial_scale f",
    "Scale": "1 axis i, 2 num_axes i, 3 filler Filler, 4 bias_term b, 5 bias_filler Filler",
    "ShuffleChannel": "1 group i",
    "Slice": "1 slice_dim i, 2 slice_point i*, 3 axis i",
    "Softmax": "1 engine Engine, 2 axis i",
    "Swish": "1 beta f",
    "Threshold": "1 threshold f",
    "Tile": "1 axis i, 2 tiles i",
    "Upsample": """1 scale i, 2 scale_h i, 3 scale_w i, 4 pad_out_h b, 5 pad_out_w b, 6 upsample_h i, 7 upsample_w i""",
}
