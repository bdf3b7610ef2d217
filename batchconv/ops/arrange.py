"""Less common ways to rearrange, search and generate: OneHot, NonZero, Roll, Unique ... (data movement, generation)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from batchconv.errors import BadModel
from batchconv.graph import Attr, Output, Value
from batchconv.ops.checks import (
    axis_value,
    like,
    same_type,
    want_dim,
    want_integers,
    want_least_rank,
    want_rank,
    want_reals,
)
from batchconv.ops.values import as_dim, dims_of, items_of, numbers
from batchconv.opset import AttrDef, bool_, define, enum, int_, str_, type_
from batchconv.shape import ANY, Dim, Shape, axis_of, bounds, broadcast_dim, interval, merge_dim, product, text
from batchconv.tensor import DType

__all__ = [
    "batch_to_space", "bucketize", "einsum", "eye", "multinomial", "non_zero", "one_hot", "random_uniform",
    "reverse_sequence", "roll", "scaled_dot_product_attention", "search_sorted", "shuffle_channels",
    "slice_scatter", "space_to_batch", "unique",
]  # fmt: skip

I64 = AttrDef(type_().check, DType.I64, "an element type")


def _one_hot(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    indices, depth = inputs[:2]
    want_integers(indices, "indices")
    want_integers(depth, "the depth")
    want_rank(depth, "the depth", 0)
    dtype = same_type(inputs[2:])
    if indices.shape is None:
        return Output(dtype, None)
    axis = axis_of(attrs["axis"], len(indices.shape) + 1)
    size = as_dim((items_of(depth) or (ANY,))[0])
    return Output(dtype, (*indices.shape[:axis], size, *indices.shape[axis:]))


def _non_zero(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    shape = inputs[0].shape
    if shape is None:
        return Output(attrs["output_type"], (ANY, ANY))
    return Output(attrs["output_type"], (len(shape), interval(0, bounds(product(shape)).hi)))


def _reverse_sequence(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, lengths = inputs
    want_rank(lengths, "seq_lengths", 1)
    if data.shape is None:
        return Output(data.dtype, None)
    batch = axis_of(attrs["batch_axis"], len(data.shape))
    axis_of(attrs["seq_axis"], len(data.shape))
    size = want_dim(lengths.shape, 0, data.shape[batch], "seq_lengths are not as many as the batch")
    return Output(data.dtype, (*data.shape[:batch], size, *data.shape[batch + 1 :]))


def _shuffle_channels(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, group = inputs[0], attrs["group"]
    if data.shape is not None:
        dim = data.shape[axis_of(attrs["axis"], len(data.shape))]
        if isinstance(dim, int) and dim % group:
            raise BadModel(f"{dim} channels cannot be shuffled in {group} groups")
    return like(inputs, attrs)


def _roll(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    want_integers(inputs[1], "the shift")
    want_integers(inputs[2], "axes")
    return like(inputs, attrs)


one_hot = define("OneHot", 1, "indices depth on_value off_value", _one_hot, axis=int_())
non_zero = define("NonZero", 3, "data", _non_zero, output_type=I64)
reverse_sequence = define(
    "ReverseSequence", 1, "data seq_lengths", _reverse_sequence, batch_axis=int_(0), seq_axis=int_(1)
)
shuffle_channels = define("ShuffleChannels", 1, "data", _shuffle_channels, axis=int_(1), group=int_(1))
roll = define("Roll", 7, "data shift axes", _roll)


def _blocks(inputs: Sequence[Value], what: tuple[str, str]) -> tuple[Shape, list[tuple[int, ...] | None]]:
    """The shape of the data, and block_shape and what is added or cut, where known and as long as the rank."""
    data = inputs[0]
    want_least_rank(data, "the data", 2)
    lists = []
    for value, name in zip(inputs[1:], ("block_shape", *what), strict=True):
        want_integers(value, name)
        want_rank(value, name, 1)
        found = numbers(value)
        if found is not None and data.shape is not None and len(found) != len(data.shape):
            raise BadModel(f"{name} {list(found)} does not fit data of shape {text(data.shape)}")
        lists.append(found)
    return data.shape, lists


def _batch_to_space(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    shape, (block, begin, end) = _blocks(inputs, ("crops_begin", "crops_end"))
    if shape is None or block is None or begin is None or end is None:
        return Output(inputs[0].dtype, None if shape is None else (ANY,) * len(shape))
    cells = math.prod(block)
    if isinstance(shape[0], int) and shape[0] % cells:
        raise BadModel(f"a batch of {shape[0]} cannot become blocks of {cells}")
    space = [dim * b + -(x + y) for dim, b, x, y in zip(shape[1:], block[1:], begin[1:], end[1:], strict=True)]
    return Output(inputs[0].dtype, (shape[0] // cells, *space))


def _space_to_batch(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    shape, (block, begin, end) = _blocks(inputs, ("pads_begin", "pads_end"))
    if shape is None or block is None or begin is None or end is None:
        return Output(inputs[0].dtype, None if shape is None else (ANY,) * len(shape))
    padded = [dim + (x + y) for dim, x, y in zip(shape[1:], begin[1:], end[1:], strict=True)]
    for dim, b in zip(padded, block[1:], strict=True):
        if isinstance(dim, int) and dim % b:
            raise BadModel(f"a padded axis of {dim} elements cannot be cut into blocks of {b}")
    space = [dim // b for dim, b in zip(padded, block[1:], strict=True)]
    return Output(inputs[0].dtype, (shape[0] * math.prod(block), *space))


batch_to_space = define("BatchToSpace", 2, "data block_shape crops_begin crops_end", _batch_to_space)
space_to_batch = define("SpaceToBatch", 2, "data block_shape pads_begin pads_end", _space_to_batch)


def _bucketize(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    want_rank(inputs[1], "the buckets", 1)
    return Output(attrs["output_type"], inputs[0].shape)


def _search_sorted(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    same_type(inputs)
    return Output(attrs["output_type"], inputs[1].shape)


bucketize = define("Bucketize", 3, "data buckets", _bucketize, output_type=I64, with_right_bound=bool_(True))
search_sorted = define(
    "SearchSorted", 15, "sorted_sequence values", _search_sorted, right_mode=bool_(False), output_type=I64
)


def _unique(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> tuple[Output, ...]:
    data, index, count = inputs[0], attrs["index_element_type"], attrs["count_element_type"]
    total = None if data.shape is None else bounds(product(data.shape))
    if len(inputs) == 1:
        lo, hi = (1 if total and total.lo else 0), total.hi if total else None
        found: Shape = (interval(lo, hi),)
        every: Dim = ANY if total is None else interval(total.lo, total.hi)
        return Output(data.dtype, found), Output(index, found), Output(index, (every,)), Output(count, found)
    axis = None if data.shape is None else axis_value(inputs[1], len(data.shape))
    if data.shape is None or axis is None:
        shape = None if data.shape is None else (ANY,) * len(data.shape)
        return Output(data.dtype, shape), Output(index, (ANY,)), Output(index, (ANY,)), Output(count, (ANY,))
    dim = data.shape[axis]
    kept = interval(min(1, bounds(dim).lo), bounds(dim).hi)
    fewer = (*data.shape[:axis], kept, *data.shape[axis + 1 :])
    return Output(data.dtype, fewer), Output(index, (kept,)), Output(index, (dim,)), Output(count, (kept,))


unique = define("Unique", 10, "data axis?", _unique, sorted=bool_(True), index_element_type=I64, count_element_type=I64)


def _eye(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    sizes = []
    for value, what in zip(inputs[:2], ("num_rows", "num_columns"), strict=True):
        want_integers(value, what)
        sizes.append(as_dim((items_of(value) or (ANY,))[0]))
    batch = dims_of(inputs[3]) if len(inputs) > 3 else ()
    return Output(attrs["output_type"], None if batch is None else (*batch, *sizes))


eye = define("Eye", 9, "num_rows num_columns diagonal_index batch_shape?", _eye, output_type=type_())


def _random_uniform(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    want_integers(inputs[0], "output_shape")
    return Output(attrs["output_type"], dims_of(inputs[0]))


random_uniform = define(
    "RandomUniform",
    8,
    "output_shape min_val max_val",
    _random_uniform,
    output_type=type_(),
    global_seed=int_(0),
    op_seed=int_(0),
    alignment=enum("tensorflow", "pytorch", default="tensorflow"),
)


def _multinomial(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    want_reals(inputs[0], "the probabilities")
    want_rank(inputs[0], "the probabilities", 2)
    rows = inputs[0].shape[0] if inputs[0].shape else ANY
    return Output(attrs["convert_type"], (rows, as_dim((items_of(inputs[1]) or (ANY,))[0])))


multinomial = define(
    "Multinomial",
    13,
    "probs num_samples",
    _multinomial,
    convert_type=type_(),
    with_replacement=bool_(),
    log_probs=bool_(),
    global_seed=int_(0),
    op_seed=int_(0),
)

_EQUATION = re.compile(r"[A-Za-z.]*(,[A-Za-z.]*)*(->[A-Za-z.]*)?")


def _einsum(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    equation = attrs["equation"].replace(" ", "")
    if not _EQUATION.fullmatch(equation):
        raise BadModel(f"equation '{attrs['equation']}' is not one of Einsum")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(inputs):
        raise BadModel(f"equation '{equation}' is for {len(terms)} inputs, {len(inputs)} given")
    if not arrow:
        right = _implied(left)
    if any(value.shape is None for value in inputs):
        return Output(same_type(inputs), None if "..." in right else (ANY,) * len(right))
    sizes: dict[str, tuple[Dim, ...]] = {}
    for term, value in zip(terms, inputs, strict=True):
        _label(term, value.shape or (), sizes)
    return Output(same_type(inputs), tuple(dim for label in _labels(right) for dim in sizes[label]))


def _labels(term: str) -> list[str]:
    return re.findall(r"\.\.\.|[A-Za-z]", term)


def _implied(left: str) -> str:
    """What comes out where the equation does not say: the ellipsis, then the labels that occur once, sorted."""
    letters = sorted({x for x in left if x.isalpha() and left.count(x) == 1})
    return ("..." if "..." in left else "") + "".join(letters)


def _label(term: str, shape: tuple[Dim, ...], sizes: dict[str, tuple[Dim, ...]]) -> None:
    """Adds what an input of `shape` says of the labels of its term."""
    labels = _labels(term)
    spare = len(shape) - len(labels) + ("..." in labels)
    if spare < 0 or (spare and "..." not in labels):
        raise BadModel(f"'{term}' does not fit an input of shape {text(shape)}")
    at = 0
    for label in labels:
        count = spare if label == "..." else 1
        sizes[label] = _joined(sizes.get(label), shape[at : at + count], label == "...")
        at += count


def _joined(old: tuple[Dim, ...] | None, new: tuple[Dim, ...], spread: bool) -> tuple[Dim, ...]:
    if old is None:
        return new
    rank = max(len(old), len(new))
    old, new = (1,) * (rank - len(old)) + old, (1,) * (rank - len(new)) + new
    return tuple((broadcast_dim if spread else merge_dim)(a, b) for a, b in zip(old, new, strict=True))


einsum = define("Einsum", 7, "inputs*", _einsum, equation=str_())


def _slice_scatter(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    same_type(inputs[:2])
    return like(inputs, attrs)


slice_scatter = define("SliceScatter", 15, "data updates start stop step axes?", _slice_scatter)


def _attention(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    query, _, value = inputs[:3]
    dtype = same_type(inputs[:3])
    if query.shape is None or value.shape is None:
        return Output(dtype, None)
    return Output(dtype, (*query.shape[:-1], value.shape[-1]))


scaled_dot_product_attention = define(
    "ScaledDotProductAttention",
    13,
    "query key value attention_mask? scale?",
    _attention,
    causal=bool_(False),
)
