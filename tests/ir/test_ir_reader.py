"""The IR reader refuses what is no IR, in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_ir_xml import save, small_net

from batchconv.errors import BadModel
from batchconv.ir.reader import names, read_ir

CONSTANT = """<net name="n" version="11"><layers><layer id="0" name="c" type="Const" version="opset1">
<data element_type="{type}" shape="{shape}" offset="{offset}" size="{size}"/>
<output><port id="0" precision="FP32"/></output></layer></layers></net>"""


def constant(type: str = "f32", shape: str = "2", offset: int = 4, size: int = 8) -> bytes:
    return CONSTANT.format(type=type, shape=shape, offset=offset, size=size).encode()


def test_layers_edges_and_constants() -> None:
    net = read_ir(*save(small_net()))
    conv = net.layer("conv")
    assert conv.data["strides"] == "1, 1"
    assert [port.id for port in (*conv.inputs, *conv.outputs)] == [0, 1, 2]
    assert conv.outputs[0].shape == (-1, 2, -1, 4)
    assert net.input(conv, 1).name == "w"
    assert net.input(conv, 1).rt_info == ("decompression",)
    assert net.layer("w_compressed").array.tolist() == np.arange(4).reshape(2, 2, 1, 1).tolist()
    assert net.layer("x").outputs[0].names == ("a,b", "x")
    with pytest.raises(BadModel, match="Convolution 'conv': this layer is no constant"):
        _ = conv.array


def test_from_files(tmp_path: Path) -> None:
    xml, bin = save(small_net())
    (tmp_path / "m.xml").write_bytes(xml)
    (tmp_path / "m.bin").write_bytes(bin)
    assert read_ir(str(tmp_path / "m.xml")).layer("w_compressed").array.sum() == 6


def test_bodies() -> None:
    text = (
        '<net name="n" version="11"><layers><layer id="0" name="if" type="If" version="opset8"><then_body><layers>'
        '<layer id="0" name="p" type="Parameter" version="opset1"><data shape="" element_type="f32"/></layer>'
        "</layers></then_body></layer></layers></net>"
    )
    assert read_ir(text.encode()).layers[0].bodies["then_body"].layers[0].name == "p"


def test_tensor_names_apart() -> None:
    assert names("a\\,b,c") == ("a,b", "c")
    assert names("") == ()


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (b"", "this is no XML: no element found"),
        (b"<net", "this is no XML: unclosed token"),
        (b"\xff\xfe\x00", "this is no XML"),
        (b'<net name="n" version="12"/>', "no IR of version 10 or 11"),
        (b'<html version="11"/>', "no IR of version 10 or 11"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><net version="11"/>', "an IR has no DOCTYPE"),
        ('<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a><net version="11"/>'.encode("utf-16"), "DOCTYPE"),
        (b'<net version="11"><layers><layer id="0" name="a" type="ReLU"/></layers></net>', "KeyError 'version'"),
        (b'<net version="11"><layers><layer id="x" name="a" type="R" version="o"/></layers></net>', "ValueError"),
        (constant(size=4), r"4 bytes at 4 does not fit f32\[2\] in a .bin of 12 bytes"),
        (constant(offset=5), "8 bytes at 5 does not fit"),
        (constant(offset=-1), "does not fit"),
        (constant(shape="4611686018427387904"), "does not fit"),
        (constant(type="f99"), "KeyError 'f99'"),
    ],
)
def test_what_is_no_ir(xml: bytes, message: str) -> None:
    with pytest.raises(BadModel, match=message):
        read_ir(xml, bytes(12))


def test_a_constant_that_fits() -> None:
    assert read_ir(constant(), np.arange(3, dtype=np.float32).tobytes()).layer("c").array.tolist() == [1, 2]
