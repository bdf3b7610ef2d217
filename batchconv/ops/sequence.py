"""Recurrent cells and sequences, CTC (specification: sequence processing)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchconv.graph import Attr, Output, Value
from batchconv.ops.checks import same_type, want_dim, want_integers, want_rank
from batchconv.opset import AttrDef, Infer, bool_, define, enum, float_, floats, int_, strs, type_
from batchconv.shape import ANY, Dim
from batchconv.tensor import DType

__all__ = [
    "ctc_greedy_decoder", "ctc_greedy_decoder_seq_len", "ctc_loss", "gru_cell", "gru_sequence", "lstm_cell",
    "lstm_sequence", "rnn_cell", "rnn_sequence",
]  # fmt: skip

DIRECTION = enum("forward", "reverse", "bidirectional", default="forward")


def _recurrence(activations: tuple[str, ...], **more: AttrDef) -> dict[str, AttrDef]:
    return {
        "hidden_size": int_(),
        "activations": strs(activations),
        "activations_alpha": floats(()),
        "activations_beta": floats(()),
        "clip": float_(0.0),
        **more,
    }


def _cell(states: int, gates: int) -> Infer:
    """Shape function: data [n, input], states [n, hidden], weights [gates * hidden, ...]; new states come out."""

    def infer(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> tuple[Output, ...]:
        data, hidden = inputs[0], attrs["hidden_size"]
        want_rank(data, "the data", 2)
        batch: Dim = data.shape[0] if data.shape else ANY
        for state in inputs[1 : 1 + states]:
            want_rank(state, "a state", 2)
            batch = want_dim(state.shape, 0, batch, "batches of data and states differ")
            want_dim(state.shape, 1, hidden, "a state is not as wide as hidden_size")
        for weights, rank in zip(inputs[1 + states :], (2, 2, 1), strict=False):
            want_rank(weights, "the weights", rank)
        for weights in inputs[1 + states : 3 + states]:
            want_dim(weights.shape, 0, gates * hidden, "rows of the weights are not hidden_size for each gate")
        return (Output(same_type(inputs), (batch, hidden)),) * states

    return infer


def _sequence(states: int, gates: int) -> Infer:
    """The same over time: data [n, time, input], states [n, directions, hidden]; all outputs, then the states."""

    def infer(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> tuple[Output, ...]:
        data, hidden = inputs[0], attrs["hidden_size"]
        directions = 2 if attrs["direction"] == "bidirectional" else 1
        want_rank(data, "the data", 3)
        batch, time = data.shape[:2] if data.shape else (ANY, ANY)
        for state in inputs[1 : 1 + states]:
            want_rank(state, "a state", 3)
            batch = want_dim(state.shape, 0, batch, "batches of data and states differ")
            want_dim(state.shape, 1, directions, "a state does not fit the direction")
            want_dim(state.shape, 2, hidden, "a state is not as wide as hidden_size")
        lengths, *weights = inputs[1 + states :]
        want_integers(lengths, "sequence_lengths")
        want_rank(lengths, "sequence_lengths", 1)
        batch = want_dim(lengths.shape, 0, batch, "sequence_lengths are not as many as the batch")
        for value, rank in zip(weights, (3, 3, 2), strict=True):
            want_rank(value, "the weights", rank)
            want_dim(value.shape, 0, directions, "the weights do not fit the direction")
        for value in weights[:2]:
            want_dim(value.shape, 1, gates * hidden, "rows of the weights are not hidden_size for each gate")
        dtype = same_type([data, *inputs[1 : 1 + states], *weights])
        return Output(dtype, (batch, directions, time, hidden)), *(Output(dtype, (batch, directions, hidden)),) * states

    return infer


LSTM, GRU, RNN = ("sigmoid", "tanh", "tanh"), ("sigmoid", "tanh"), ("tanh",)
RESET = {"linear_before_reset": bool_(False)}
lstm_cell = define("LSTMCell", 4, "X initial_hidden_state initial_cell_state W R B", _cell(2, 4), **_recurrence(LSTM))
gru_cell = define("GRUCell", 3, "X initial_hidden_state W R B", _cell(1, 3), **_recurrence(GRU, **RESET))
rnn_cell = define("RNNCell", 1, "X initial_hidden_state W R B", _cell(1, 1), **_recurrence(RNN))
lstm_sequence = define(
    "LSTMSequence",
    5,
    "X initial_hidden_state initial_cell_state sequence_lengths W R B",
    _sequence(2, 4),
    **_recurrence(LSTM, direction=DIRECTION),
)
gru_sequence = define(
    "GRUSequence",
    5,
    "X initial_hidden_state sequence_lengths W R B",
    _sequence(1, 3),
    **_recurrence(GRU, direction=DIRECTION, **RESET),
)
rnn_sequence = define(
    "RNNSequence",
    5,
    "X initial_hidden_state sequence_lengths W R B",
    _sequence(1, 1),
    **_recurrence(RNN, direction=DIRECTION),
)

I32 = AttrDef(type_().check, DType.I32, "an element type")


def _greedy(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    data, mask = inputs
    want_rank(data, "the data", 3)
    want_rank(mask, "sequence_mask", 2)
    time, batch = data.shape[:2] if data.shape else (ANY, ANY)
    time = want_dim(mask.shape, 0, time, "times of data and mask differ")
    batch = want_dim(mask.shape, 1, batch, "batches of data and mask differ")
    return Output(data.dtype, (batch, time, 1, 1))


def _greedy_seq_len(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> tuple[Output, Output]:
    data, lengths = inputs[:2]
    want_rank(data, "the data", 3)
    want_rank(lengths, "sequence_length", 1)
    batch, time = data.shape[:2] if data.shape else (ANY, ANY)
    batch = want_dim(lengths.shape, 0, batch, "batches of data and lengths differ")
    return Output(attrs["classes_index_type"], (batch, time)), Output(attrs["sequence_length_type"], (batch,))


def _ctc_loss(inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> Output:
    want_rank(inputs[0], "the logits", 3)
    return Output(inputs[0].dtype, (inputs[0].shape[0] if inputs[0].shape else ANY,))


ctc_greedy_decoder = define("CTCGreedyDecoder", 1, "data sequence_mask", _greedy, ctc_merge_repeated=bool_(True))
ctc_greedy_decoder_seq_len = define(
    "CTCGreedyDecoderSeqLen",
    6,
    "data sequence_length blank_index?",
    _greedy_seq_len,
    merge_repeated=bool_(True),
    classes_index_type=I32,
    sequence_length_type=I32,
)
ctc_loss = define(
    "CTCLoss",
    4,
    "logits logit_length labels label_length blank_index?",
    _ctc_loss,
    preprocess_collapse_repeated=bool_(False),
    ctc_merge_repeated=bool_(True),
    unique=bool_(False),
)
