"""Every rule as a pair of texts, and each pair run by OpenVINO before and after.

The text pairs name weights whose files do not exist: no rule reads one.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import networks
import numpy as np
import pytest

from batchconv import ops, passes
from batchconv.graph import Graph, Value
from batchconv.passes import PIPELINE
from batchconv.tensor import DType


class Case(NamedTuple):
    before: str
    symbols: str
    after: str


CONV = "x[1,3,8,8] w[4,3,3,3] "
TWO = "x[2,3,5,5] x2[2,3,5,5] "
SCALE = "(g / (var + 0.001).sqrt)"
HALVES = "x:f16[1,3,8,8] w:f16[4,3,3,3] "

FOLDED = {
    # scale behind a layer
    "conv * s": Case("Multiply(Convolution(x, w), s)", CONV + "s[4,1,1]", "Convolution(x, w * s[4,1,1,1])"),
    "s * conv": Case("Multiply(s, Convolution(x, w))", CONV + "s[1,4,1,1]", "Convolution(x, w * s[4,1,1,1])"),
    "conv * number": Case("Multiply(Convolution(x, w), s)", CONV + "s[]", "Convolution(x, w * s[1,1,1,1])"),
    "conv / c": Case("Divide(Convolution(x, w), c)", CONV + "c[4,1,1]", "Convolution(x, w * c.reciprocal[4,1,1,1])"),
    "padded conv * s": Case(
        "Multiply(Convolution(x, w, pads_begin=(1, 1), pads_end=(1, 1)), s)",
        "x[?,3,?,?] w[4,3,3,3] s[4,1,1]",
        "Convolution(x, w * s[4,1,1,1])",
    ),
    "conv 1-D * s": Case("Multiply(Convolution(x, w), s)", "x[1,3,8] w[4,3,3] s[4,1]", "Convolution(x, w * s[4,1,1])"),
    "conv 3-D * s": Case(
        "Multiply(Convolution(x, w), s)",
        "x[1,3,4,4,4] w[4,3,2,2,2] s[4,1,1,1]",
        "Convolution(x, w * s[4,1,1,1,1])",
    ),
    "grouped * s": Case(
        "Multiply(GroupConvolution(x, w), s)",
        "x[1,4,8,8] w[2,3,2,3,3] s[6,1,1]",
        "GroupConvolution(x, w * s[2,3,1,1,1])",
    ),
    "depthwise * s": Case(
        "Multiply(GroupConvolution(x, w), s)",
        "x[1,4,8,8] w[4,1,1,3,3] s[4,1,1]",
        "GroupConvolution(x, w * s[4,1,1,1,1])",
    ),
    "deconv * s": Case(
        "Multiply(ConvolutionBackpropData(x, w), s)",
        "x[1,3,4,4] w[3,5,2,2] s[5,1,1]",
        "ConvolutionBackpropData(x, w * s)",
    ),
    "grouped deconv * s": Case(
        "Multiply(GroupConvolutionBackpropData(x, w), s)",
        "x[1,4,4,4] w[2,2,3,2,2] s[6,1,1]",
        "GroupConvolutionBackpropData(x, w * s[2,1,3,1,1])",
    ),
    "matmul 2-D * s": Case("Multiply(MatMul(x, w), s)", "x[?,5] w[5,4] s[4]", "MatMul(x, w * s)"),
    "matmul 3-D * s": Case("Multiply(MatMul(x, w), s)", "x[2,?,5] w[5,4] s[1,1,4]", "MatMul(x, w * s[4])"),
    "matmul transposed * s": Case(
        "Multiply(MatMul(x, w, transpose_b=True), s)", "x[2,?,5] w[4,5] s[4]", "MatMul(x, w * s[4,1])"
    ),
    "matmul of the left * s": Case("Multiply(MatMul(w, x), s)", "w[4,5] x[5,3] s[4,1]", "MatMul(w * s, x)"),
    "matmul of the left, transposed * s": Case(
        "Multiply(MatMul(w, x, transpose_a=True), s)", "w[5,4] x[2,5,3] s[4,1]", "MatMul(w * s[4], x)"
    ),
    "half precision": Case(
        "Multiply(Convolution(x, w), s)", HALVES + "s:f16[4,1,1]", "Convolution(x, (w:f32 * s[4,1,1,1]:f32):f16)"
    ),
    "half precision, rounded once": Case(
        "Multiply(Multiply(Convolution(x, w), s), c)",
        HALVES + "s:f16[4,1,1] c:f16[]",
        "Convolution(x, (w:f32 * s[4,1,1,1]:f32 * c[1,1,1,1]:f32):f16)",
    ),
    # batch normalisation
    "conv, batch norm": Case(
        "BatchNormInference(Convolution(x, w), g, b, m, var)",
        "x[?,3,8,8] w[4,3,3,3] g[4] b[4] m[4] var[4]",
        f"Add(Convolution(x, w * {SCALE}[4,1,1,1]), (b - (m * {SCALE}))[4,1,1])",
    ),
    "conv, bias, batch norm": Case(
        "BatchNormInference(Add(Convolution(x, w), c), g, b, m, var)",
        CONV + "c[4,1,1] g[4] b[4] m[4] var[4]",
        f"Add(Convolution(x, w * {SCALE}[4,1,1,1]), c * {SCALE}[4,1,1] + (b - (m * {SCALE}))[4,1,1])",
    ),
    "matmul, batch norm": Case(
        "BatchNormInference(MatMul(x, w), g, b, m, var)",
        "x[2,3] w[3,4] g[4] b[4] m[4] var[4]",
        f"Add(MatMul(x, w * {SCALE}), b - (m * {SCALE}))",
    ),
    "batch norm alone": Case(
        "Relu(BatchNormInference(x, g, b, m, var))",
        "x[?,4,?,?] g[4] b[4] m[4] var[4]",
        f"Relu(Add(Multiply(x, {SCALE}[4,1,1]), (b - (m * {SCALE}))[4,1,1]))",
    ),
    "batch norm, scale, shift": Case(
        "Add(Multiply(BatchNormInference(Convolution(x, w), g, b, m, var), s), t)",
        CONV + "g[4] b[4] m[4] var[4] s[4,1,1] t[4,1,1]",
        f"Add(Convolution(x, w * {SCALE}[4,1,1,1] * s[4,1,1,1]), (b - (m * {SCALE}))[4,1,1] * s + t)",
    ),
    "batch norm in half precision": Case(
        "BatchNormInference(Convolution(x, w), g, b, m, var)",
        HALVES + "g:f16[4] b:f16[4] m:f16[4] var:f16[4]",
        "Add(Convolution(x, (w:f32 * (g:f32 / (var:f32 + 0.001).sqrt)[4,1,1,1]):f16), "
        "(b:f32 - (m:f32 * (g:f32 / (var:f32 + 0.001).sqrt)))[4,1,1]:f16)",
    ),
    # chains
    "shift, shift": Case("Add(Add(Convolution(x, w), a), b)", CONV + "a[4,1,1] b[]", "Add(Convolution(x, w), a + b)"),
    "shift, minus": Case(
        "Subtract(Add(Convolution(x, w), a), b)", CONV + "a[4,1,1] b[4,1,1]", "Add(Convolution(x, w), a + b.negative)"
    ),
    "scale, scale": Case("Multiply(Multiply(x, a), b)", "x[?,3,?] a[3,1] b[]", "Multiply(x, a * b)"),
    "scale, shift, scale": Case(
        "Multiply(Add(Multiply(x, a), b), s)", "x[2,3,4] a[3,1] b[3,1] s[3,1]", "Add(Multiply(x, a * s), b * s)"
    ),
    "layer, shift, scale": Case(
        "Multiply(Add(MatMul(x, w), b), s)", "x[2,3] w[3,4] b[4] s[4]", "Add(MatMul(x, w * s), b * s)"
    ),
    # scale and shift before a layer
    "s * x before conv": Case(
        "Convolution(Multiply(x, s), w, pads_begin=(1, 1))", CONV + "s[1,3,1,1]", "Convolution(x, w * s[3,1,1])"
    ),
    "s * x before grouped": Case(
        "GroupConvolution(Multiply(x, s), w)",
        "x[1,4,8,8] w[2,3,2,3,3] s[4,1,1]",
        "GroupConvolution(x, w * s[2,1,2,1,1])",
    ),
    "s * x before deconv": Case(
        "ConvolutionBackpropData(Multiply(x, s), w)",
        "x[1,3,4,4] w[3,5,2,2] s[3,1,1]",
        "ConvolutionBackpropData(x, w * s[3,1,1,1])",
    ),
    "s * x before grouped deconv": Case(
        "GroupConvolutionBackpropData(Multiply(x, s), w)",
        "x[1,4,4,4] w[2,2,3,2,2] s[4,1,1]",
        "GroupConvolutionBackpropData(x, w * s[2,2,1,1,1])",
    ),
    "s * x before matmul": Case("MatMul(Multiply(x, s), w)", "x[?,?,5] w[5,4] s[5]", "MatMul(x, w * s[5,1])"),
    "s * x before matmul, transposed": Case(
        "MatMul(Multiply(x, s), w, transpose_a=True, transpose_b=True)",
        "x[2,5,3] w[4,5] s[5,1]",
        "MatMul(x, w * s[5])",
    ),
    "s * x behind matmul": Case("MatMul(w, Multiply(x, s))", "x[5,3] w[4,5] s[5,1]", "MatMul(w * s[5], x)"),
    "mean and deviation": Case(
        "Convolution(Divide(Subtract(x, m), c), w)",
        CONV + "m[3,1,1] c[3,1,1]",
        "Add(Convolution(x, w * c.reciprocal), (w * c.reciprocal * m.negative).sum[1,2,3][4,1,1])",
    ),
    "mean of an image of bytes": Case(
        "Convolution(Subtract(Convert(x, destination_type=DType.F32), m), w)",
        "x:u8[1,3,8,8] w[4,3,3,3] m[3,1,1]",
        "Add(Convolution(Convert(x), w), (w * m.negative).sum[1,2,3][4,1,1])",
    ),
    "shift before grouped": Case(
        "GroupConvolution(Add(x, b), w)",
        "x[1,4,8,8] w[2,3,2,3,3] b[4,1,1]",
        "Add(GroupConvolution(x, w), (w * b[2,1,2,1,1]).sum[2,3,4][6,1,1])",
    ),
    # padding
    "pad before conv": Case(
        "Convolution(Pad(x, [0, 0, 1, 2], [0, 0, 3, 0]), w, pads_begin=(1, 0))", CONV, "Convolution(x, w)"
    ),
    "pad before valid conv": Case(
        "Convolution(Pad(x, [0, 0, 1, 2], [0, 0, 3, 0]), w, auto_pad='valid', pads_end=(1, 1))",
        CONV,
        "Convolution(x, w)",
    ),
}

KEPT = {
    "scale read twice": Case("(y := Convolution(x, w)), Multiply(y, s)", CONV + "s[4,1,1]", ""),
    "shift read twice": Case("(y := Add(x, a)), Add(y, b)", "x[2,3] a[3] b[3]", ""),
    "input scale read twice": Case("Relu(y := Multiply(x, s)), Convolution(y, w)", CONV + "s[3,1,1]", ""),
    "weights read twice": Case(
        "Multiply(Convolution(x, w), s), Convolution(x2, w)", "x[1,3,5,5] x2[1,3,5,5] w[4,3,3,3] s[4,1,1]", ""
    ),
    "scale a row": Case("Multiply(Convolution(x, w), s)", CONV + "s[1,1,6,1]", ""),
    "scale an image of the batch": Case("Multiply(Convolution(x, w), s)", "x[2,3,8,8] w[4,3,3,3] s[2,1,1,1]", ""),
    "scale makes channels": Case("Multiply(Convolution(x, w), s)", "x[1,3,8,8] w[1,3,3,3] s[4,1,1]", ""),
    "scale of more dimensions": Case("Multiply(Convolution(x, w), s)", CONV + "s[1,1,1,1,1]", ""),
    "input scale makes channels": Case("Convolution(Multiply(x, s), w)", "x[1,1,8,8] w[4,3,3,3] s[3,1,1]", ""),
    "input scale of unknown channels": Case("Convolution(Multiply(x, s), w)", "x[1,?,8,8] w[4,3,3,3] s[3,1,1]", ""),
    "input scale of unknown columns": Case("MatMul(Multiply(x, s), w)", "x[2,?] w[3,2] s[3]", ""),
    "input scale makes a dimension": Case("MatMul(Multiply(x, s), w)", "x[4,3] w[3,2] s[1,1,3]", ""),
    "matmul of rows": Case("Multiply(MatMul(x, w), s)", "x[4,3] w[3,4] s[4,1]", ""),
    "shift before padding": Case("Convolution(Add(x, b), w, pads_end=(0, 1))", CONV + "b[3,1,1]", ""),
    "shift before same": Case("Convolution(Add(x, b), w, auto_pad='same_upper')", CONV + "b[3,1,1]", ""),
    "shift before deconv": Case(
        "ConvolutionBackpropData(Add(x, b), w)",
        "x[1,3,4,4] w[3,5,2,2] b[3,1,1]",
        "",
    ),
    "product larger than both": Case("Multiply(Multiply(x, a), b)", "x[3,4] a[3,1] b[1,4]", ""),
    "no constant": Case("Multiply(Convolution(x, w), x2)", "x[1,3,8,8] x2[4,1,1] w[4,3,3,3]", ""),
    "c / x": Case("Divide(c, Convolution(x, w))", CONV + "c[4,1,1]", ""),
    "c - x": Case("Subtract(c, x)", "x[2,3] c[3]", ""),
    "dequantisation": Case(
        "Convolution(Multiply(Subtract(Convert(Relu(x), destination_type=DType.F32), c), s), w)",
        "x:u8[1,3,8,8] c[] s[] w[4,3,3,3]",
        "",
    ),
    "integers": Case("Multiply(Multiply(x, a), a)", "x:i32[2,3] a:i32[]", ""),
    "pad with ones": Case("Convolution(Pad(x, [0, 0, 1, 1], [0, 0, 1, 1], const(1.0)), w)", CONV, ""),
    "pad by reflection": Case("Convolution(Pad(x, [0, 0, 1, 1], [0, 0, 1, 1], pad_mode='reflect'), w)", CONV, ""),
    "pad of channels": Case("Convolution(Pad(x, [0, 1, 0, 0], [0, 0, 0, 0]), w)", "x[1,2,8,8] w[4,3,3,3]", ""),
    "pad that crops": Case("Convolution(Pad(x, [0, 0, 0, 0], [0, 0, -1, 0]), w)", CONV, ""),
}

REMOVED = {
    "convert": Case("Relu(Convert(x, destination_type=DType.F32))", "x[2]", "Relu(x)"),
    "add 0": Case("Add(x, const([0.0, 0.0]))", "x[3,2]", "x"),
    "add 0 that makes a dimension": Case("Relu(Add(x, const([[0.0]])))", "x[2]", "Relu(Add(x, [0]))"),
    "multiply by 1": Case("Multiply(const(1.0), x)", "x[?,2]", "x"),
    "multiply by 1 that may broadcast": Case("Multiply(x, const([1.0, 1.0, 1.0]))", "x[3,?]", "Multiply(x, [1,1,1])"),
    "divide by 1": Case("Divide(x, const(1.0))", "x[?]", "x"),
    "1 divided": Case("Divide(const(1.0), x)", "x[?]", "Divide(1, x)"),
    "pad": Case("Pad(x, [0, 0], [0, 0])", "x[?,2]", "x"),
    "concat": Case("Concat(x, axis=0)", "x[?,2]", "x"),
    "split": Case("Relu(Split(x, 1, num_splits=1))", "x[?,2]", "Relu(x)"),
    "broadcast": Case("Relu(Broadcast(x, [2, 3]))", "x[2,3]", "Relu(x)"),
    "broadcast of a free dimension": Case("Broadcast(x, [3, 3])", "x[?,3]", "Broadcast(x, [3,3])"),
    "tile": Case("Tile(x, [1, 1])", "x[?,2]", "x"),
    "tile that makes a dimension": Case("Tile(x, [1, 1, 1])", "x[?,2]", "Tile(x, [1,1,1])"),
    "transpose": Case("Transpose(x, [0, 1, 2])", "x[1,?,3]", "x"),
    "transposes": Case("Transpose(Transpose(x, [0, 2, 1]), [2, 1, 0])", "x[1,2,3]", "Transpose(x, [1,2,0])"),
    "transposes that cancel": Case("Transpose(Transpose(x, [2, 0, 1]), [1, 2, 0])", "x[1,?,3]", "x"),
    "reshape to the same": Case("Reshape(x, [2, 3])", "x[2,3]", "x"),
    "reshape to the same, one free": Case("Reshape(x, [-1, 3])", "x[?,3]", "x"),
    "reshape of two free": Case("Reshape(x, [-1, 3])", "x[?,?]", "Reshape(x, [-1,3])"),
    "reshapes": Case("Reshape(Reshape(x, [3, 2]), [6])", "x[2,3]", "Reshape(x, [6])"),
    "reshapes, 0 of the one between": Case(
        "Reshape(Reshape(x, [3, 2]), [0, 1, 2])", "x[2,3]", "Reshape(Reshape(x, [3,2]), [0,1,2])"
    ),
    "reshapes, 0 of both": Case("Reshape(Reshape(x, [0, 3, 2]), [0, -1])", "x[?,2,3]", "Reshape(x, [0,-1])"),
    "unsqueeze, reshape": Case("Reshape(Unsqueeze(x, [0]), [-1])", "x[2,3]", "Reshape(x, [-1])"),
    "squeeze of unsqueeze": Case("Squeeze(Unsqueeze(x, [0, -1]), [2, 0])", "x[?]", "x"),
    "unsqueeze of squeeze": Case("Unsqueeze(Squeeze(x, [1]), [1])", "x[?,1,?]", "x"),
    "squeeze of another axis": Case("Squeeze(Unsqueeze(x, [0]), [1])", "x[1,?,?]", "Squeeze(Unsqueeze(x, [0]), [1])"),
    "a chain of nothing": Case("Add(Multiply(Pad(x, [0], [0]), const(1.0)), const(0.0))", "x[4]", "x"),
    "flatten by shape": Case(
        "Reshape(x, Concat(Unsqueeze(Gather(ShapeOf(x, output_type=DType.I64), 0, 0), 0), [-1], axis=0))",
        "x[?,3,2]",
        "Reshape(x, [0,6])",
    ),
}

COMPUTED = {
    "shape": Case("ShapeOf(x, output_type=DType.I64)", "x[2,3]", "[2,3]"),
    "half of a shape": Case("Gather(ShapeOf(x, output_type=DType.I64), [1], 0)", "x[?,3]", "[3]"),
    "transpose": Case("MatMul(x, Transpose(w, [1, 0]))", "x[2,30] w[40,30]", "MatMul(x, w.T[1,0])"),
    "reshape": Case("Add(x, Reshape(w, [-1, 1]))", "x[2,600,2] w[20,30]", "Add(x, w[600,1])"),
    "unsqueeze": Case("Add(x, Unsqueeze(w, [1, 2]))", "x[2,600,2,2] w[600]", "Add(x, w[600,1,1])"),
    "convert": Case("Add(x, Convert(w, destination_type=DType.F32))", "x[600] w:f64[600]", "Add(x, w:f32)"),
    "convert that grows": Case(
        "Add(x, Convert(w, destination_type=DType.F32))", "x[600] w:f16[600]", "Add(x, Convert(w))"
    ),
    "sum": Case("Add(x, Add(w, b))", "x[2,600] w[2,600] b[600]", "Add(x, w + b)"),
    "difference": Case("Add(x, Subtract(w, b))", "x:i32[2,600] w:i32[2,600] b:i32[600]", "Add(x, w - b)"),
    "root": Case("Multiply(x, Sqrt(c))", "x[2,600] c[600]", "Multiply(x, c.sqrt)"),
    "half precision": Case(
        "Multiply(x, Multiply(Sqrt(c), c))", "x:f16[2,600] c:f16[600]", "Multiply(x, (c:f32.sqrt * c:f32):f16)"
    ),
    "large product": Case("Add(x, Multiply(a, b))", "x[30,60] a[30,1] b[60]", "Add(x, Multiply(a, b))"),
    "rows": Case(
        "Add(x, Slice(w, [-3, 1], [99, 22], [1, 1], [0, 1]))",
        "x[3,21] w[50,40]",
        "Add(x, w.rows(0,47:50).rows(1,1:22))",
    ),
    "weights stored as bytes": Case(
        "MatMul(x, Multiply(Subtract(Convert(const(w8), destination_type=DType.F32), const(2.0)), const(0.5)))",
        "x[2,3]",
        "MatMul(x, Multiply(Subtract(Convert([1,2,3]), 2), 0.5))",
    ),
    "every other row": Case(
        "Add(x, Slice(w, [0], [99], [2]))", "x[15,40] w[30,40]", "Add(x, Slice(w, [0], [99], [2]))"
    ),
    "halves": Case(
        "Add(x, (y := Split(w, 0, num_splits=2))[0]), Add(x, y[1])",
        "x[300] w[600]",
        "Add(x, w.rows(0,0:300)), Add(x, w.rows(0,300:600))",
    ),
    "a folded weight of a layer": Case(
        "Multiply(GroupConvolution(x, Reshape(w, [256, 2, 1, 3, 3])), Unsqueeze(s, [1, 2]))",
        "x[1,256,3,3] w[512,1,3,3] s[512]",
        "GroupConvolution(x, w[256,2,1,3,3] * s[256,2,1,1,1])",
    ),
}

BECOMES = [
    pytest.param(case, id=f"{group}: {name}")
    for group, cases in (("folded", FOLDED), ("removed", REMOVED), ("computed", COMPUTED))
    for name, case in cases.items()
]


@pytest.mark.parametrize("case", BECOMES)
def test_becomes(case: Case) -> None:
    assert networks.show(passes.run(networks.build(case.before, case.symbols))) == case.after


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in KEPT.items()])
def test_is_kept(case: Case) -> None:
    graph = networks.build(case.before, case.symbols)
    assert networks.show(passes.run(graph)) == networks.show(graph)


@pytest.mark.parametrize("case", BECOMES)
def test_computes_the_same(case: Case, tmp_path: Path) -> None:
    networks.store(case.symbols, tmp_path)
    graph = networks.build(case.before, case.symbols, f"{tmp_path}/")
    feeds = networks.feeds(graph)
    tolerance = 4e-3 if ":f16" in case.symbols else 1e-5
    for want, got in networks.run_both(graph, passes.run(graph), feeds):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(want).max())))


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    symbols = CONV + "s[4,1,1]"
    networks.store(symbols, tmp_path)
    right, wrong = (
        networks.build(text, symbols, f"{tmp_path}/")
        for text in ("Multiply(Convolution(x, w), s)", "Multiply(Multiply(Convolution(x, w), s), const(1.01))")
    )
    feeds = networks.feeds(right)
    (want,), (got,) = networks.run(right, feeds), networks.run(passes.run(wrong), feeds)
    assert not np.allclose(got, want, rtol=1e-5, atol=1e-5)


def test_every_rule_has_its_equation_and_a_pair() -> None:
    fired: set[str] = set()
    for case in (*FOLDED.values(), *REMOVED.values(), *COMPUTED.values()):
        passes.run(
            networks.build(case.before, case.symbols), lambda line: fired.add(line) if line.endswith("done") else None
        )
    names = {line.partition(":")[0] for line in fired}
    functions = {rule for table in PIPELINE if isinstance(table, dict) for found in table.values() for rule in found}
    assert {rule.__name__ for rule in functions} == names
    assert all("=" in (rule.__doc__ or "") for rule in functions)


def test_explained() -> None:
    graph = networks.build("(y := Convolution(x, w)), Multiply(y, s)", CONV + "s[4,1,1]")
    said: list[str] = []
    passes.run(graph, said.append)
    assert said == ["scale_layer: Multiply '': not done, what comes before is read elsewhere too"]


def test_a_weight_keeps_its_name_when_a_nameless_operation_on_it_becomes_a_step() -> None:
    """One whose elements shape inference knows (of up to 1 KiB), and a larger one."""
    x = ops.parameter("x", DType.F32, (1, 64)).value()
    small, large = ops.const(np.ones((64, 1, 1)), name="small"), networks.symbol("large", "f32[64,8,8]")
    flat = ops.reshape(large, ops.const([64, 64]), special_zero=False)
    y = ops.add(
        ops.matmul(x, ops.transpose(flat, ops.const([1, 0]))),
        ops.reshape(small, ops.const([1, 64]), special_zero=False),
    )
    done = passes.run(Graph((x.op,), (ops.result(y, "y"),)))
    assert {op.name for op in done.ops() if op.type == "Constant"} == {"small", "large"}


def test_names_follow_values() -> None:
    x = ops.parameter("x", DType.F32, (1, 3, 8, 8)).value()

    def named(value: Value, name: str) -> Value:
        return value.op.named(name).with_names(0, [f"{name}:0"]).value()

    w = networks.symbol("w", "f32[4,3,3,3]")
    conv = named(networks.calls()["Convolution"](x, w), "conv")
    scaled = named(ops.multiply(conv, networks.symbol("s", "f32[4,1,1]")), "scale")
    same = named(ops.convert(scaled, destination_type=DType.F32), "same")
    done = passes.run(Graph((x.op,), (ops.result(same, "out"),)))
    (op,) = [op for op in done.ops() if op.type == "Convolution"]
    assert (op.name, op.outputs[0].names) == ("scale", ("scale:0", "same:0"))
    assert op.inputs[1].op.name == "w"
    assert [p.name for p in done.parameters] == ["x"]
    assert [r.name for r in done.results] == ["out"]
