"""Convolution, pooling and normalisation (specification: convolution, pooling, normalization)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from batchconv.errors import BadModel
from batchconv.graph import Attr, Output, Value
from batchconv.ops.checks import (
    like,
    same_type,
    want_dim,
    want_integers,
    want_least_rank,
    want_length,
    want_rank,
    want_reals,
)
from batchconv.ops.values import dims_of
from batchconv.opset import AttrDef, Constructor, bool_, define, enum, float_, int_, ints, type_
from batchconv.shape import ANY, Dim, Interval, Shape, axis_of, bounds, ceil_div, interval, text
from batchconv.tensor import DType

__all__ = [
    "adaptive_avg_pool", "adaptive_max_pool", "avg_pool", "batch_norm_inference", "convolution",
    "convolution_backprop_data", "grn", "group_convolution", "group_convolution_backprop_data",
    "group_normalization", "log_softmax", "lrn", "max_pool", "mvn", "normalize_l2", "softmax",
]  # fmt: skip

AUTO_PAD = enum("explicit", "same_upper", "same_lower", "valid", "notset", default="explicit")
ROUNDING = enum("floor", "ceil", "ceil_torch", default="floor")
WINDOW = {
    "strides": ints(()),
    "dilations": ints(()),
    "pads_begin": ints(()),
    "pads_end": ints(()),
    "auto_pad": AUTO_PAD,
}


def extent(kernel: Dim, dilation: int) -> Dim:
    """What a dilated kernel spans."""
    return (kernel + -1) * dilation + 1


def window(size: Dim, span: Dim, stride: int, pads: int, begin: int, auto_pad: str, rounding: str = "floor") -> Dim:
    """How many positions a window of `span` takes over one axis with `pads` in all, `begin` of them in front.

    BadModel where the window is larger than the padded axis.
    """
    if auto_pad.startswith("same"):
        return ceil_div(size, stride)
    pads, begin = (0, 0) if auto_pad == "valid" else (pads, begin)
    if not isinstance(span, int):
        return interval(1, bounds(size + pads).hi)
    if isinstance(size, int):
        return positions(size, span, stride, pads, begin, rounding)
    least, most = (None if n is None else max(n, span - pads) for n in (size.lo, size.hi))
    if stride == 1 and pads == span - 1:
        return replace(size, lo=max(size.lo, 1))
    lo, hi = (None if n is None else positions(n, span, stride, pads, begin, rounding) for n in (least, most))
    return interval(lo or 1, hi)


def positions(size: int, span: int, stride: int, pads: int, begin: int, rounding: str) -> int:
    """`window` for an axis whose size is known."""
    room = size + pads - span
    if room < 0:
        raise BadModel(f"a window of {span} does not fit an axis of {size} padded by {pads}")
    if rounding == "floor":
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if rounding == "ceil_torch" and (count - 1) * stride >= size + begin else count


def windows(shape: Sequence[Dim], kernel: Sequence[Dim], attrs: Mapping[str, Attr]) -> tuple[Dim, ...]:
    """The spatial dimensions of a convolution or pooling of `shape` (spatial dimensions too)."""
    count = len(kernel)
    want_length(attrs, count, "strides", "pads_begin", "pads_end")
    want_length({"dilations": attrs.get("dilations")}, count, "dilations")
    ones, zeros = (1,) * count, (0,) * count
    strides, dilations = attrs["strides"] or ones, attrs.get("dilations") or ones
    begin, end = attrs["pads_begin"] or zeros, attrs["pads_end"] or zeros
    if min((*strides, *dilations), default=1) < 1:
        raise BadModel("strides and dilations must be 1 or more")
    rounding = attrs.get("rounding_type", "floor")
    return tuple(
        window(
            shape[i],
            extent(kernel[i], dilations[i]),
            strides[i],
            begin[i] + end[i],
            begin[i],
            attrs["auto_pad"],
            rounding,
        )
        for i in range(count)
    )


def _filters(shape: Shape, grouped: bool, rank: int, channels: Dim = ANY) -> tuple[Dim, Dim, Dim, tuple[Dim, ...]]:
    """Groups, the two channel counts of one group, and the kernel; unknown groups come out of the data's channels."""
    if shape is None:
        return ANY, ANY, ANY, (ANY,) * (rank - 2)
    if not grouped:
        return 1, shape[0], shape[1], shape[2:]
    group, width = shape[0], shape[2]
    if isinstance(group, Interval) and isinstance(width, int) and width > 0:
        group = channels // width
    return group, shape[1], width, shape[3:]


def convolution_of(type: str, grouped: bool) -> Constructor:
    """Convolution or GroupConvolution; filters [out, in, k...] or [group, out, in, k...]."""

    def infer(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
        data, filters = inputs
        dtype = same_type(inputs)
        want_rank(filters, "the filters", *((4, 5, 6) if grouped else (3, 4, 5)))
        want_rank(data, "the data", *((3, 4, 5) if filters.rank is None else (filters.rank - grouped,)))
        rank = data.rank if filters.rank is None else filters.rank - grouped
        if rank is None:
            return Output(dtype, None)
        sizes = data.shape or (ANY,) * rank
        group, out, into, kernel = _filters(filters.shape, grouped, rank, sizes[1])
        want_dim(sizes, 1, into * group, "channels of data and filters differ")
        return Output(dtype, (sizes[0], out * group, *windows(sizes[2:], kernel, attrs)))

    return define(type, 1, "data filters", infer, **WINDOW)


convolution = convolution_of("Convolution", False)
group_convolution = convolution_of("GroupConvolution", True)


def backprop(type: str, grouped: bool) -> Constructor:
    """The transposed convolutions; filters [in, out, k...] or [group, in, out, k...]."""

    def infer(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
        data, filters = inputs[:2]
        dtype = same_type(inputs[:2])
        want_rank(filters, "the filters", *((4, 5, 6) if grouped else (3, 4, 5)))
        want_rank(data, "the data", *((3, 4, 5) if filters.rank is None else (filters.rank - grouped,)))
        if len(inputs) > 2:
            want_integers(inputs[2], "output_shape")
        rank = data.rank if filters.rank is None else filters.rank - grouped
        if rank is None:
            return Output(dtype, None)
        sizes = data.shape or (ANY,) * rank
        group, into, out, kernel = _filters(filters.shape, grouped, rank)
        want_dim(data.shape, 1, into * group, "channels of data and filters differ")
        given = dims_of(inputs[2]) if len(inputs) > 2 else None
        if given is not None and len(given) != rank - 2:
            raise BadModel(f"output_shape {text(given)} must have {rank - 2} elements")
        spatial = _grown(sizes[2:], kernel, attrs) if len(inputs) < 3 else given or (ANY,) * (rank - 2)
        return Output(dtype, (sizes[0], out * group, *spatial))

    return define(type, 1, "data filters output_shape?", infer, **WINDOW, output_padding=ints(()))


def _grown(sizes: Sequence[Dim], kernel: Sequence[Dim], attrs: Mapping[str, Attr]) -> tuple[Dim, ...]:
    count = len(kernel)
    want_length(attrs, count, "strides", "dilations", "pads_begin", "pads_end", "output_padding")
    ones, zeros = (1,) * count, (0,) * count
    strides, dilations = attrs["strides"] or ones, attrs["dilations"] or ones
    begin, end = attrs["pads_begin"] or zeros, attrs["pads_end"] or zeros
    extra = attrs["output_padding"] or zeros
    if attrs["auto_pad"] != "explicit":
        begin = end = zeros
    grown = []
    for i in range(count):
        dim = (sizes[i] + -1) * strides[i] + extent(kernel[i], dilations[i]) + (extra[i] - begin[i] - end[i])
        if isinstance(dim, int) and dim < 1:
            raise BadModel(f"the output of axis {i + 2} would have {dim} elements")
        grown.append(dim)
    return tuple(grown)


convolution_backprop_data = backprop("ConvolutionBackpropData", False)
group_convolution_backprop_data = backprop("GroupConvolutionBackpropData", True)


def _pooled(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    value, kernel = inputs[0], attrs["kernel"]
    want_rank(value, "the data", 3, 4, 5)
    if value.shape is None:
        return Output(value.dtype, (ANY,) * (len(kernel) + 2))
    if len(kernel) != len(value.shape) - 2:
        raise BadModel(f"kernel {list(kernel)} does not fit data of shape {text(value.shape)}")
    return Output(value.dtype, (*value.shape[:2], *windows(value.shape[2:], kernel, attrs)))


def _max_pool(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> tuple[Output, Output]:
    out = _pooled(inputs, attrs)
    return out, Output(attrs["index_element_type"], out.shape)


POOL: dict[str, AttrDef] = {
    "kernel": ints(),
    "strides": ints(),
    "pads_begin": ints(()),
    "pads_end": ints(()),
    "rounding_type": ROUNDING,
    "auto_pad": AUTO_PAD,
}
INDEX = AttrDef(type_().check, DType.I64, "an element type")

max_pool = define("MaxPool", 14, "data", _max_pool, **POOL, dilations=ints(()), index_element_type=INDEX, axis=int_(0))
avg_pool = define("AvgPool", 14, "data", _pooled, **POOL, **{"exclude-pad": bool_(True)})


def _adaptive(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, wanted = inputs
    want_rank(data, "the data", 3, 4, 5)
    want_integers(wanted, "output_shape")
    if data.shape is None:
        return Output(data.dtype, None)
    sizes = dims_of(wanted) or (ANY,) * (len(data.shape) - 2)
    if len(sizes) != len(data.shape) - 2:
        raise BadModel(f"output_shape {text(sizes)} does not fit data of shape {text(data.shape)}")
    return Output(data.dtype, (*data.shape[:2], *sizes))


def _adaptive_max(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> tuple[Output, Output]:
    out = _adaptive(inputs, attrs)
    return out, Output(attrs["index_element_type"], out.shape)


adaptive_avg_pool = define("AdaptiveAvgPool", 8, "data output_shape", _adaptive)
adaptive_max_pool = define("AdaptiveMaxPool", 8, "data output_shape", _adaptive_max, index_element_type=INDEX)


def _per_channel(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    """The data, whose channels are as many as each of the other inputs has elements."""
    data = inputs[0]
    want_reals(data)
    want_least_rank(data, "the data", 2)
    dtype, channels = same_type(inputs), ANY if data.shape is None else data.shape[1]
    for value in inputs[1:]:
        want_rank(value, "a parameter of a channel", 1)
        channels = want_dim(value.shape, 0, channels, "channels of data and parameters differ")
    return Output(dtype, data.shape and (data.shape[0], channels, *data.shape[2:]))


batch_norm_inference = define("BatchNormInference", 5, "data gamma beta mean variance", _per_channel, epsilon=float_())
group_normalization = define(
    "GroupNormalization", 12, "data scale bias", _per_channel, num_groups=int_(), epsilon=float_()
)


def _over_axes(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    want_integers(inputs[1], "axes")
    want_rank(inputs[1], "axes", 0, 1)
    return like(inputs, attrs)


def _over_axis(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    want_reals(inputs[0])
    if inputs[0].shape is not None:
        axis_of(attrs["axis"], len(inputs[0].shape))
    return like(inputs, attrs)


lrn = define("LRN", 1, "data axes", _over_axes, alpha=float_(), beta=float_(), bias=float_(1.0), size=int_())
mvn = define(
    "MVN",
    6,
    "data axes",
    _over_axes,
    eps=float_(),
    normalize_variance=bool_(True),
    eps_mode=enum("INSIDE_SQRT", "OUTSIDE_SQRT", default="INSIDE_SQRT"),
)
normalize_l2 = define(
    "NormalizeL2", 1, "data axes", _over_axes, eps=float_(), eps_mode=enum("add", "max", default="add")
)
softmax = define("Softmax", 8, "data", _over_axis, axis=int_(1))
log_softmax = define("LogSoftmax", 5, "data", _over_axis, axis=int_(1))
grn = define("GRN", 1, "data", like, bias=float_(1.0))
