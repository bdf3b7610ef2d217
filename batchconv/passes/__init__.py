"""What makes a translated graph smaller and faster without changing what it computes; no weight is read."""

from __future__ import annotations

from collections.abc import Callable

from batchconv.graph import Graph
from batchconv.passes import constants, linear, redundant
from batchconv.passes.recipes import rules
from batchconv.passes.results import results_apart
from batchconv.rewrite import Explain, Rules, rewrite

Pass = Rules | Callable[[Graph], Graph]
"""Rules that share one sweep, or a function of the whole graph."""

PIPELINE: tuple[Pass, ...] = (
    # first, since the patterns below look for constants where the framework computes them from shapes and weights
    rules(
        constants.known_value,
        constants.reshape_constant,
        constants.transpose_constant,
        constants.convert_constant,
        constants.combine_constants,
        constants.map_constant,
        constants.slice_constant,
        constants.split_constant,
        redundant.convert_to_same,
        redundant.concat_of_one,
        redundant.split_in_one,
        redundant.tile_once,
        redundant.broadcast_to_same,
        redundant.pad_nothing,
        redundant.neutral_constant,
        redundant.reshape_without_shapes,  # before those that need a known target
        redundant.view_to_same,
        redundant.view_of_view,
        redundant.squeeze_of_unsqueeze,
        redundant.transpose_nothing,
        redundant.transpose_of_transpose,
        redundant.padded_input,
    ),
    # then, with nothing left between a layer and its scale; a sweep visits inputs before users, so that a scale joins
    # the layer before it rather than the one after
    rules(
        linear.batch_norm,
        linear.divide_by_constant,
        linear.subtract_constant,
        linear.scale_layer,  # before chains are merged: a scale a channel fits a layer, a product of two may not
        linear.merge_constants,
        linear.scale_of_shift,
        linear.shifted_input,  # before the scale behind the shift can be seen
        linear.scaled_input,
    ),
    # last, since what is removed above may leave several outputs with one value
    results_apart,
)


def run(graph: Graph, explain: Explain | None = None) -> Graph:
    """The graph after every pass of PIPELINE; `explain` is told, a line each, what rules did and why they did not."""
    for step in PIPELINE:
        graph = step(graph) if callable(step) else rewrite(graph, step, explain)
    return graph
