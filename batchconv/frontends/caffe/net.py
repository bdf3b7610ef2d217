"""A network of Caffe made into a `Model`: layers of the TEST phase, in-place layers apart, weights by layer name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchconv.errors import BadModel, Unsupported
from batchconv.frontends.caffe.prototxt import UNKNOWN
from batchconv.frontends.caffe.schema import message, v1_type
from batchconv.frontends.translate import Input, Model, Node
from batchconv.shape import ANY, Shape
from batchconv.tensor import DType
from batchconv.weight import Weight

Fields = Mapping[str, Any]

_PARAM = {
    "Normalize": "norm_param",
    "Deconvolution": "convolution_param",
    "ConvolutionDepthwise": "convolution_param",
    "DepthwiseConvolution": "convolution_param",
}
"""Layer types whose parameters are not called as the type is."""

_TRAINING = {"Filler", "Engine", "Variance", "Share", "Anything"}
"""Types of fields that say nothing about what a trained layer computes."""
_ALSO_TRAINING = {"force_nd_im2col", "moving_average_fraction", "momentum", "frozen", "stable_prod_grad"}
_ALSO_TRAINING |= {"dropout_ratio", "scale_train", "visualize", "visualize_threshold", "save_file"}

_EACH_ALONE = ("Convolution", "Deconvolution", "ConvolutionDepthwise", "DepthwiseConvolution")
"""Layer types that do the same to each of several bottoms."""


def read_model(
    net: Fields, blobs: Mapping[str, tuple[Weight, ...]], url: str, sources: tuple[str, ...], complete: bool = True
) -> Model:
    """The Model of a network (`read_text` or `read_net`) with the blobs of its layers (`named_blobs`).

    complete: a bottom that no layer makes is a fault; else it is an input (snapshots leave out what fed the network).
    """
    running = list(layers(net))
    last = {top: number for number, layer in enumerate(running) for top in layer.get("top", ())}
    build = Builder(Model("caffe", url, [], [], [], {}, net.get("name", ""), sources), dict(blobs), last, complete)
    build.inputs(declared(net))
    for number, layer in enumerate(running):
        build.layer(layer, number)
    build.model.outputs = [name for name in build.made if name not in build.read]
    return build.model


def layers(net: Fields) -> Iterator[Fields]:
    """The layers that run when testing, in the file's order, those of the old format in today's words."""
    state = net.get("state") or {}
    for layer in (*map(_from_v1, net.get("layers", ())), *net.get("layer", ())):
        if _included(layer, state):
            yield layer


def _from_v1(layer: Fields) -> Fields:
    if "layer" in layer:
        raise Unsupported(
            f"{_where(layer)}this is the oldest Caffe format (V0); Caffe's upgrade_net_proto_text renews it"
        )
    return {**layer, "type": v1_type(layer.get("type", "NONE"))}


def _where(layer: Fields) -> str:
    return f"line {layer['line']}: " if "line" in layer else ""


def _fault(layer: Fields, message: str) -> BadModel:
    return BadModel(_where(layer) + message, node=layer.get("name", ""), op=layer.get("type", ""))


def _included(layer: Fields, state: Fields) -> bool:
    """Caffe's rules: with `include`, one of them must hold; with `exclude`, none may."""
    include, exclude = layer.get("include", ()), layer.get("exclude", ())
    if include:
        return any(_holds(rule, state) for rule in include)
    return not any(_holds(rule, state) for rule in exclude)


def _holds(rule: Fields, state: Fields) -> bool:
    level, stages = state.get("level", 0), set(state.get("stage", ()))
    return (
        rule.get("phase", "TEST") == "TEST"
        and rule.get("min_level", level) <= level <= rule.get("max_level", level)
        and stages.issuperset(rule.get("stage", ()))
        and stages.isdisjoint(rule.get("not_stage", ()))
    )


def declared(net: Fields) -> list[Input]:
    """The inputs that the network names itself, by `input` with `input_shape` or `input_dim`."""
    names, dims = net.get("input", ()), net.get("input_dim", ())
    shapes: list[Sequence[int] | None] = [shape.get("dim", ()) for shape in net.get("input_shape", ())]
    if not shapes and dims:
        if len(dims) != 4 * len(names):
            raise BadModel(f"{len(dims)} input_dim for {len(names)} inputs: each takes four")
        shapes = [dims[i : i + 4] for i in range(0, len(dims), 4)]
    if len(shapes) not in (0, len(names)):
        raise BadModel(f"{len(shapes)} input_shape for {len(names)} inputs")
    return [Input(name, DType.F32, _dims(shape)) for name, shape in zip(names, shapes or [None] * len(names))]


def _input_layer(layer: Fields) -> list[Input]:
    """The inputs of an Input layer: a shape for each top, or one for all."""
    tops = layer.get("top", ())
    shapes: tuple[Fields, ...] = (layer.get("input_param") or {}).get("shape", ()) or ({},)
    shapes = shapes * len(tops) if len(shapes) == 1 else shapes
    if len(shapes) != len(tops):
        raise _fault(layer, f"{len(shapes)} shapes for {len(tops)} tops")
    return [Input(top, DType.F32, _dims(shape.get("dim"))) for top, shape in zip(tops, shapes)]


def _dims(shape: Sequence[int] | None) -> Shape:
    """The dimensions of an input; those that are not positive are set when the network runs."""
    return None if shape is None else tuple(dim if dim > 0 else ANY for dim in shape)


@dataclass
class Builder:
    """A Model under way: `now` says which tensor a blob's name means at this layer of the file.

    last: blob -> number of the last layer that makes it. Of an in-place chain the last version keeps the blob's
    name; the ones before are called `blob@layer`.
    """

    model: Model
    blobs: dict[str, tuple[Weight, ...]]
    last: Mapping[str, int]
    complete: bool
    now: dict[str, str] = field(default_factory=dict)
    made: dict[str, None] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)

    def inputs(self, inputs: Sequence[Input]) -> None:
        for entry in inputs:
            if entry.name in self.now:
                raise BadModel(f"input '{entry.name}' is given twice")
            self.model.inputs.append(entry)
            self.now[entry.name] = self.unused(entry.name)

    def layer(self, layer: Fields, number: int) -> None:
        """Append the node, or nodes, of one layer."""
        if layer.get("type") == "Input":
            self.inputs(_input_layer(layer))
            return
        inputs = [self.bottom(bottom, layer) for bottom in layer.get("bottom", ())]
        outputs = [self.top(top, layer, number) for top in layer.get("top", ())]
        if outputs:
            self.nodes(layer, inputs, outputs)

    def bottom(self, blob: str, layer: Fields) -> str:
        if blob not in self.now and not self.complete:
            self.inputs([Input(blob, DType.F32)])
        if blob not in self.now:
            raise _fault(layer, f"bottom '{blob}' is not made by any layer before it")
        self.read.add(self.now[blob])
        return self.now[blob]

    def top(self, blob: str, layer: Fields, number: int) -> str:
        if blob in self.now and blob not in layer.get("bottom", ()):
            raise _fault(layer, f"top '{blob}' is made by an earlier layer already")
        final = self.last[blob] == number and blob not in self.taken
        tensor = self.unused(blob if final else f"{blob}@{layer.get('name', '')}")
        self.made[tensor] = None
        self.now[blob] = tensor
        return tensor

    def unused(self, tensor: str) -> str:
        """`tensor`, with a stroke behind it for every other of that name; taken from now on."""
        while tensor in self.taken:
            tensor += "'"
        self.taken.add(tensor)
        return tensor

    def nodes(self, layer: Fields, inputs: list[str], outputs: list[str]) -> None:
        kind, name = layer["type"] if layer.get("type") else "?", layer.get("name", "")
        weights = self.weights(name)
        if kind in _EACH_ALONE and len(inputs) == len(outputs) > 1:
            for number, (one, other) in enumerate(zip(inputs, outputs)):
                self.append(kind, f"{name}/{number}" if number else name, (one, *weights), (other,), layer)
        else:
            self.append(kind, name, (*inputs, *weights), tuple(outputs), layer)

    def append(self, kind: str, name: str, inputs: tuple[str, ...], outputs: tuple[str, ...], layer: Fields) -> None:
        self.model.nodes.append(Node(kind, name, inputs, outputs, attributes(layer)))

    def weights(self, layer: str) -> list[str]:
        """The names under which the blobs of `layer` are weights of the model."""
        names = []
        for number, weight in enumerate(self.blobs.pop(layer, ())):
            names.append(self.unused(f"{layer}/blob{number}"))
            self.model.weights[names[-1]] = weight
        return names


def attributes(layer: Fields) -> dict[str, Any]:
    """The parameters of a layer that say what it computes: fields of its own message, and whatever the table lacks."""
    out = {name: value for name, value in layer.items() if value is UNKNOWN}
    own = param_name(layer)
    shape = message("Layer").by_name.get(own)
    if shape is None:
        return out
    fields = message(shape.type).by_name
    for name, value in (layer.get(own) or {}).items():
        known = fields.get(name)
        if known is None or (known.type not in _TRAINING and name not in _ALSO_TRAINING):
            out[name] = plain(value)
    return out


def param_name(layer: Fields) -> str:
    """Which message of the layer belongs to its type: `relu_param` to ReLU."""
    kind = layer.get("type", "")
    if kind in _PARAM:
        return _PARAM[kind]
    wanted = kind.lower()
    names = (name for name in message("Layer").by_name if name.endswith("_param"))
    return next((name for name in names if name.removesuffix("_param").replace("_", "") == wanted), "")


def plain(value: Any) -> Any:
    """A shape as its dimensions; everything else as it is."""
    if isinstance(value, dict) and set(value) <= {"dim"}:
        return tuple(value.get("dim", ()))
    return value
