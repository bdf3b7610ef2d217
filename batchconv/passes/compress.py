"""Compressed constants: recipes get an encoder, and the graph the operations that undo it when the model runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from batchconv import ops
from batchconv.errors import BadModel
from batchconv.formats import CB4, Half, fits_f16
from batchconv.graph import Attr, Graph, Op, Output, Value, ordered
from batchconv.opset import TABLE
from batchconv.quantize import FLOATS, PLAIN, Choice, Compression, Layer, LayerReport, choose, primaries, shortened
from batchconv.shape import Shape
from batchconv.steps import Cast, Reshape
from batchconv.tensor import DType, Spec
from batchconv.weight import INLINE, Encoded, Step, Weight, read

CONVOLUTIONS = {
    "Convolution": (0,),
    "ConvolutionBackpropData": (1,),
    "GroupConvolution": (0, 1),
    "GroupConvolutionBackpropData": (0, 2),
}
"""Operation -> the axes of its weight that are channels (NNCF openvino/graph/layout.py)."""

SUFFIX = {
    "codes": "",
    "scale": "/scale",
    "zero_point": "/zero_point",
    "second_order_scale": "/second_order_scale",
}
"""Part of an encoder -> what NNCF appends to the weight's name for it."""

LOW = {dtype for dtype in DType if 0 < dtype.bits <= 8 and dtype is not DType.BOOLEAN}

SHAPING = {"Reshape": 1, "Broadcast": 1, "Tile": 1, "Interpolate": 1, "Pad": 1, "OneHot": 1, "Range": 0, "TopK": 1}
"""Operation -> the port from which its inputs say shapes and amounts: constants there keep their precision."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """A compressed graph, the layer that each of its recipes belongs to, and the report's lines (errors still open)."""

    graph: Graph
    weights: tuple[tuple[Weight, str], ...]
    report: tuple[LayerReport, ...]


def compress(graph: Graph, settings: Compression, sensitivities: Mapping[str, float] | None = None) -> Graph:
    """The graph with its weights compressed as `settings` say; see `compressed`."""
    return compressed(graph, settings, sensitivities).graph


def compressed(graph: Graph, settings: Compression, sensitivities: Mapping[str, float] | None = None) -> Compressed:
    """The graph with compressed weights and what was done to each layer.

    Nothing of the large weights is read, but where `ratio` is below 1 and `sensitivities` (layer name -> score,
    measured for `candidates`) lack a layer's score. BadModel if the settings contradict themselves.
    """
    faults = settings.faults()
    if faults:
        raise BadModel("; ".join(faults))
    names = constant_names(graph)
    if settings.mode == "fp32":
        return Compressed(graph, tuple(listed(graph, names, {})), ())
    if settings.mode in PLAIN:
        made = Making(graph, names, settings)
        halve(made)
        return made.finished()
    made = Making(graph, names, settings)
    for choice in choose(layers(graph, settings, names), settings, sensitivities):
        made.quantise(choice)
    return made.finished()


def candidates(graph: Graph, settings: Compression) -> list[Layer]:
    """The layers whose `quantize.sensitivity` a mixed precision needs (none where `ratio` is 1)."""
    if not settings.primary or settings.ratio >= 1:
        return []
    return primaries(layers(graph, settings, constant_names(graph)), settings)


def constant_names(graph: Graph) -> dict[Op, str]:
    """A name for each Constant, those of bodies too: its own, or `Constant_` and its place; each only once."""
    names: dict[Op, str] = {}
    taken: set[str] = set()
    for place, op in enumerate(everything(graph)):
        if op.type == "Constant" and op not in names:
            base = op.name or f"Constant_{place}"
            name, suffix = base, 0
            while name in taken:
                suffix += 1
                name = f"{base}_{suffix}"
            taken.add(name)
            names[op] = name
    return names


def everything(graph: Graph) -> Iterator[Op]:
    """Every operation, those of bodies after the one that holds them."""
    for op in graph.ops():
        yield op
        for attr in op.attrs.values():
            for body in bodies(attr):
                yield from everything(body)


def bodies(attr: Attr) -> Iterator[Graph]:
    """The graphs that an attribute holds."""
    if isinstance(attr, Graph):
        yield attr
    elif isinstance(attr, tuple):
        for item in attr:
            yield from bodies(item)


def layers(graph: Graph, settings: Compression, names: Mapping[Op, str]) -> list[Layer]:
    """Every weight that a MatMul, convolution or embedding reads, inputs first, towards the last Result first.

    Of several heads NNCF takes that of the first Result for the last layer, as OpenVINO orders operations from the
    last Result on. A weight that several read is the first's; the later ones are marked `taken`.
    """
    found: list[Layer] = []
    seen: set[Op] = set()
    angles = rotations(graph)
    for op in ordered(graph.results[::-1]):
        for port, constant, axes in weighted(op):
            weight, name = constant.attrs["weight"], names[constant]
            taken = settings.takes(*called(op, constant, name)) or ("gives angles" if op in angles else "")
            taken = "shared" if constant in seen else taken
            if not taken:
                seen.add(constant)
            found.append(Layer(name, op.type, port, weight, weight.spec, axes, taken))
    return found


def called(op: Op, constant: Op, name: str) -> set[str]:
    """Every name that a layer goes by: of its weight, its operation, the framework's nodes, their tensors."""
    tensors = {tensor for each in (op, constant) for output in each.outputs for tensor in output.names}
    return {name, constant.name, constant.origin, op.name, op.origin, *tensors} - {""}


def weighted(op: Op) -> Iterator[tuple[int, Op, tuple[int, ...]]]:
    """(port, Constant, axes to reduce) of each weight of a MatMul, convolution or Gather."""
    ports = {"MatMul": (0, 1), "Gather": (0,)}.get(op.type, (1,) if op.type in CONVOLUTIONS else ())
    constants = [(port, behind(op.inputs[port])) for port in ports]
    if op.type == "MatMul" and all(constant is not None for _, constant in constants):
        return
    for port, constant in constants:
        if constant is None:
            continue
        spec = constant.attrs["weight"].spec
        axes = reduced(op, port, len(spec.shape))
        if spec.size and axes and spec.dtype in FLOATS and op.inputs[port].dtype.is_real:
            yield port, constant, axes


def behind(value: Value) -> Op | None:
    """The Constant that a value is, through Convert."""
    op = value.op
    while op.type == "Convert":
        op = op.inputs[0].op
    return op if op.type == "Constant" else None


def reduced(op: Op, port: int, rank: int) -> tuple[int, ...]:
    """The axes of a weight along which elements meet in one sum (all but the first for an embedding)."""
    if op.type == "MatMul":
        if rank == 1:
            return (0,)
        turned = op.attrs["transpose_a" if port == 0 else "transpose_b"]
        return (rank - 1,) if turned == (port == 1) else (rank - 2,)
    channels = CONVOLUTIONS.get(op.type, (0,))
    return tuple(axis for axis in range(rank) if axis not in channels)


def rotations(graph: Graph) -> set[Op]:
    """MatMuls whose product goes, through Transpose, Concat or Multiply alone, into both Sin and Cos.

    Rotary and sine positions, which NNCF leaves alone (openvino/quantization/ignored_patterns.py).
    """
    sources: dict[str, set[Op]] = {"Sin": set(), "Cos": set()}
    for op in graph.ops():
        if op.type in sources:
            inner = op.inputs[0].op
            while inner.type in ("Transpose", "Concat", "Multiply"):
                inner = inner.inputs[0].op
            if inner.type == "MatMul":
                sources[op.type].add(inner)
    return sources["Sin"] & sources["Cos"]


def listed(graph: Graph, names: Mapping[Op, str], owners: Mapping[Op, str]) -> Iterator[tuple[Weight, str]]:
    """Each recipe of the graph once, with its layer."""
    seen: set[Weight] = set()
    for op in everything(graph):
        if op.type == "Constant" and op.attrs["weight"] not in seen:
            seen.add(op.attrs["weight"])
            yield op.attrs["weight"], owners.get(op) or names.get(op) or op.name


def made(type: str, inputs: tuple[Value, ...], dtype: DType, shape: Shape, name: str = "", **attrs: Attr) -> Value:
    """An operation whose output is known: its shape function could want values of small constants, and so read them."""
    return Value(Op(type, inputs, _attrs(type, tuple(attrs.items())), (Output(dtype, shape),), name))


@cache
def _attrs(type: str, given: tuple[tuple[str, Attr], ...]) -> dict[str, Attr]:
    """The attributes of an operation, checked (`rt_info` is none of them); one mapping for all that are equal."""
    attrs = dict(given)
    marks = {"rt_info": attrs.pop("rt_info")} if "rt_info" in attrs else {}
    return {**TABLE[type].check_attrs(attrs), **marks}


def convert(value: Value, dtype: DType, name: str = "", **marks: Attr) -> Value:
    return made("Convert", (value,), dtype, value.shape, name, destination_type=dtype, **marks)


@dataclass
class Making:
    """A graph in the making: what takes the place of each Constant, and which layer every new Constant is of."""

    graph: Graph
    names: dict[Op, str]
    settings: Compression
    places: dict[Op, Value] = field(default_factory=dict)
    owners: dict[Op, str] = field(default_factory=dict)
    report: list[LayerReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.by_name = {name: op for op, name in self.names.items()}
        self.typed = {v.op for op in self.graph.ops() if op.type != "Convert" for v in op.inputs}

    def constant(self, weight: Weight, name: str, layer: str, step: Step, spec: Spec, shape: tuple[int, ...]) -> Value:
        """A Constant of `spec` that is `weight` after one more step, which sees it in `shape`."""
        steps: tuple[Step, ...] = (step,)
        if shape != weight.spec.shape:
            steps = (Reshape(shape), step, Reshape(spec.shape))
        longer = Weight(weight.stored, weight.source, (*weight.steps, *steps))
        op = Op("Constant", (), {"weight": longer}, (Output(spec.dtype, spec.shape),), name)
        self.owners[op] = layer
        return Value(op)

    def quantise(self, choice: Choice) -> None:
        """Plan the layer's decompression and its line in the report."""
        layer = choice.layer
        if layer.taken == "shared":
            return
        if choice.format:
            at = self.by_name[layer.name]
            self.places[at] = self.decompression(choice, at)
        self.report.append(choice.line)

    def decompression(self, choice: Choice, at: Op) -> Value:
        """(codes [- zero point]) x scale in f16, in the shape and type of the Constant `at`, named as NNCF does."""
        layer, name = choice.layer, choice.layer.name
        encoder = choice.encoder(self.settings.scale_search)
        parts = {
            part: self.constant(
                layer.weight, f"{name}{SUFFIX[part]}", name, Encoded(encoder, part), spec, choice.seen[0]
            )
            for part, spec in choice.outputs.items()
        }
        value, scale = self.levels(parts, choice), self.scales(parts, layer)
        value = made("Multiply", (value, scale), DType.F16, value.shape, f"{name}/fq_weights_{layer.port}")
        dtype, shape = at.outputs[0].dtype, layer.spec.shape
        if choice.group != -1:
            target = ops.const(list(shape), DType.I64)
            value = made("Reshape", (value, target), DType.F16, shape, special_zero=False)
        if self.wants_type(at):
            value = convert(value, dtype, f"{name}/fq_weights_{layer.port}/convert")
        return value

    def levels(self, parts: Mapping[str, Value], choice: Choice) -> Value:
        """The codes as f16, less the zero point."""
        name = choice.layer.name
        if choice.format == "cb4":
            return self.looked_up(parts["codes"], name)
        value = convert(parts["codes"], DType.F16)
        offset = {"int3_sym": 4, "int2_sym": 2}.get(choice.format)
        if offset is not None:
            zero = ops.const(offset, DType.I8, f"{name}/zero_point")
        elif "zero_point" in parts:
            zero = parts["zero_point"]
        else:
            return value
        half = convert(zero, DType.F16)
        return made("Subtract", (value, half), DType.F16, value.shape, f"{name}/zero_point/subtract")

    def looked_up(self, codes: Value, name: str) -> Value:
        """cb4: the codes as indices into the codebook."""
        book = convert(ops.const(CB4.astype(DType.F8E4M3.numpy), DType.F8E4M3, name), DType.F16)
        index = convert(Value(codes.op.named(f"{name}_nncf_codebook_idxs")), DType.U8)
        self.owners[index.op.inputs[0].op] = name
        axis = ops.const(0, DType.I64)
        return made("Gather", (book, index, axis), DType.F16, index.shape, f"{name}_nncf_codebook", batch_dims=0)

    def scales(self, parts: Mapping[str, Value], layer: Layer) -> Value:
        """The scales as f16."""
        value = parts["scale"]
        if "second_order_scale" in parts:
            second = parts["second_order_scale"]
            name = f"{layer.name}/dequantized_scale_{layer.port}"
            value = made("Multiply", (convert(value, DType.F32), second), DType.F32, value.shape, name)
        return value if value.dtype is DType.F16 else convert(value, DType.F16)

    def wants_type(self, at: Op) -> bool:
        """True if somebody reads the Constant in its own type, which is not f16."""
        return at.outputs[0].dtype is not DType.F16 and at in self.typed

    def finished(self) -> Compressed:
        graph = placed(self.graph, self.places)
        names = {value.op: self.names[old] for old, value in self.places.items()} | self.names
        return Compressed(graph, tuple(listed(graph, names, self.owners)), tuple(self.report))


def placed(graph: Graph, places: Mapping[Op, Value]) -> Graph:
    """The graph with other values in the places of Constants, in bodies too; tensor names stay."""
    new: dict[Op, Op] = {}
    values: dict[Op, Value] = {}
    for op in graph.ops():
        if op in places:
            at = places[op]
            values[op] = Value(at.op.with_names(at.port, op.outputs[0].names), at.port)
            continue
        inputs = tuple(values[v.op] if v.op in values else Value(new[v.op], v.port) for v in op.inputs)
        attrs = {key: within(attr, places) for key, attr in op.attrs.items()}
        same = inputs == op.inputs and all(attrs[key] is op.attrs[key] for key in attrs)
        new[op] = op if same else replace(op, inputs=inputs, attrs=attrs, cache={})
    return Graph(tuple(new[op] for op in graph.parameters), tuple(new[op] for op in graph.results), graph.name)


def within(attr: Attr, places: Mapping[Op, Value]) -> Attr:
    """An attribute with the bodies it holds placed."""
    if isinstance(attr, Graph):
        done = placed(attr, places)
        return attr if done.ops() == attr.ops() else done
    if isinstance(attr, tuple) and any(True for _ in bodies(attr)):
        return tuple(within(item, places) for item in attr)
    return attr


def halve(made: Making) -> None:
    """Plan f16 or bf16 for every f32 and f64 Constant that may lose that much (ir.md section 5)."""
    all_ops = list(everything(made.graph))
    if optimised(all_ops):
        return
    exact = shaping(made.graph)
    readers = {constant: op for op in all_ops for value in op.inputs if (constant := behind(value)) is not None}
    dtype = DType.F16 if made.settings.mode == "fp16" else DType.BF16
    for op, name in made.names.items():
        weight: Weight = op.attrs["weight"]
        if weight.spec.dtype in (DType.F32, DType.F64):
            also = called(readers.get(op, op), op, name)
            reason = "shapes depend on it" if op in exact else unfit(weight, name, also, made.settings, dtype)
            if not reason:
                made.places[op] = half_constant(made, op, dtype)
            after = weight.spec.nbytes if reason else weight.spec.size * 2
            kind = weight.spec.dtype.ir if reason else made.settings.mode
            line = LayerReport(name, "Constant", kind, -1, weight.spec.nbytes, after, reason or "asked for")
            made.report.append(line)


def optimised(all_ops: list[Op]) -> bool:
    """True if the model is quantised already: ovc then leaves its constants alone."""
    if any(op.type == "FakeQuantize" for op in all_ops):
        return True
    converts = (op for op in all_ops if op.type == "Convert" and op.outputs[0].dtype.is_real)
    return any(op.inputs[0].op.type == "Constant" and op.inputs[0].dtype in LOW for op in converts)


def unfit(weight: Weight, name: str, called: set[str], settings: Compression, dtype: DType) -> str:
    """Why a constant stays as it is, as far as that is known before it is read; small ones are read now."""
    if name in settings.keep:
        return "f16 does not hold 75 % of it"
    if dtype is DType.F16 and weight.spec.nbytes <= INLINE and not fits_f16(read(weight)):
        return "f16 does not hold it"
    return settings.takes(*called)


def half_constant(made: Making, op: Op, dtype: DType) -> Value:
    """`<name>_compressed` in f16 or bf16, and the Convert that takes the Constant's name."""
    weight, name = op.attrs["weight"], made.names[op]
    small = dtype is DType.F16 and weight.spec.nbytes <= INLINE
    step = Cast(DType.F16, clamp=True) if small else Encoded(Half(dtype), "codes")
    shape = weight.spec.shape if small else shortened(weight.spec)
    stored = made.constant(weight, f"{name}_compressed", name, step, Spec(dtype, weight.spec.shape), shape)
    return convert(stored, op.outputs[0].dtype, name, rt_info=("decompression",))


def shaping(graph: Graph) -> set[Op]:
    """Constants from which shapes and amounts are computed, back to ShapeOf and Parameters."""
    found: set[Op] = set()
    for op in everything(graph):
        if op.type in SHAPING:
            stack = [value.op for value in op.inputs[SHAPING[op.type] :]]
            while stack:
                inner = stack.pop()
                if inner not in found and inner.type not in ("ShapeOf", "Parameter"):
                    found.add(inner)
                    stack.extend(value.op for value in inner.inputs)
    return found
