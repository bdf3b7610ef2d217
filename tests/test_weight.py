"""Recipes: equal ones are equal, they travel, they read only what they need, and encoders give the same by parts."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchconv import storage
from batchconv.errors import BadModel
from batchconv.steps import Binary, Cast, Reshape, Slice, Transpose, Unary
from batchconv.tensor import Array, DType, Region, Spec
from batchconv.weight import BLOCK, Encoded, Encoding, Extent, Weight, fill, inline, read


def numbers(path: Path, shape: tuple[int, ...]) -> tuple[Weight, Array]:
    """Random f32 in a file, and the array."""
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    path.write_bytes(array.tobytes())
    return Weight(Spec(DType.F32, shape), Extent(str(path), 0, array.nbytes)), array


def test_equal_recipes_are_equal_after_travel() -> None:
    def make() -> Weight:
        scale = Weight(Spec(DType.F32, (8,)), Extent("m.onnx", 4096, 32)).then(Unary("sqrt"), Reshape((8, 1)))
        return Weight(Spec(DType.F32, (8, 4)), Extent("m.onnx", 0, 128)).then(Binary("multiply", scale))

    weight = make()
    assert weight == make()
    assert hash(weight) == hash(make())
    assert pickle.loads(pickle.dumps(weight)) == weight
    assert len(pickle.dumps(weight)) < 1200
    assert make().then(Cast(DType.F16)) != weight


def test_scalars_stay_scalars() -> None:
    for weight in (inline(np.float32(2)), fill(2, DType.F32, ()), inline(np.float32(2)).then(Transpose(()))):
        assert weight.spec.shape == read(weight).shape == ()
        assert read(weight) == 2


def test_a_fill_has_no_bytes() -> None:
    weight = fill(1.5, DType.F16, (1 << 20, 1 << 20))
    assert read(weight, Region.rows(weight.spec.shape, 5, 7)).shape == (2, 1 << 20)
    assert len(pickle.dumps(weight)) < 400


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes asked of the store, one item a request."""
    lengths: list[int] = []
    plain = storage.read

    def counted(url: str, offset: int, length: int) -> bytes:
        lengths.append(length)
        return plain(url, offset, length)

    monkeypatch.setattr(storage, "read", counted)
    return lengths


def test_rows_read_only_their_bytes(tmp_path: Path, spent: list[int]) -> None:
    weight, array = numbers(tmp_path / "w", (64, 32))
    scaled = weight.then(Reshape((64, 8, 4)), Binary("multiply", inline(np.float32(2))), Cast(DType.F16))
    got = read(scaled, Region.rows((64, 8, 4), 10, 12))
    np.testing.assert_array_equal(got, (array[10:12].reshape(2, 8, 4) * 2).astype(np.float16))
    assert spent == [2 * 32 * 4]


def test_a_part_of_long_rows_reads_only_the_part(tmp_path: Path, spent: list[int]) -> None:
    weight, array = numbers(tmp_path / "w", (3, 4, 1 << 14))
    keys = weight.then(Slice(1, 1, 2), Reshape((3, 1 << 14)))
    np.testing.assert_array_equal(read(keys), array[:, 1])
    assert sum(spent) == array[:, 1].nbytes


def test_an_axis_of_length_one_in_front_costs_nothing(tmp_path: Path, spent: list[int]) -> None:
    weight, array = numbers(tmp_path / "w", (1, 64, 1 << 12))
    moved = weight.then(Reshape((64, 4, 1 << 10)), Transpose((0, 2, 1)), Slice(0, 8, 10))
    np.testing.assert_array_equal(read(moved), array.reshape(64, 4, 1 << 10).transpose(0, 2, 1)[8:10])
    assert sum(spent) == 2 * (1 << 12) * 4


def test_columns_are_gathered_in_blocks(tmp_path: Path, spent: list[int]) -> None:
    weight, array = numbers(tmp_path / "w", (2048, 1024))
    region = Region((0, 7), (2048, 9))
    np.testing.assert_array_equal(read(weight, region), array[:, 7:9])
    assert max(spent) <= BLOCK


def test_a_source_that_is_too_short(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"\0" * 30)
    whole = Spec(DType.F32, (2, 4))
    with pytest.raises(BadModel, match="needs 32 bytes but its source has 30"):
        read(Weight(whole, Extent(str(tmp_path / "w"), 0, 30)))
    with pytest.raises(BadModel, match="ends early"):
        read(Weight(whole, Extent(str(tmp_path / "w"), 0, 32)))
    with pytest.raises(BadModel, match="ends early"):
        read(Weight(whole, b"\0" * 31))


@dataclass(frozen=True, slots=True)
class Rounded:
    """An encoder to i8: a scale for every `group` rows, or (`columns`) one for each column over all rows."""

    group: int = 1
    columns: bool = False

    def outputs(self, spec: Spec) -> dict[str, Spec]:
        scales = (1, spec.shape[1]) if self.columns else (spec.rows // self.group, 1)
        return {"codes": Spec(DType.I8, spec.shape), "scale": Spec(DType.F32, scales)}

    def grain(self, spec: Spec) -> int:
        return self.group

    def needs_stats(self, spec: Spec) -> bool:
        return self.columns

    def stats(self, block: Array) -> Array:
        return np.abs(block).max(axis=0, keepdims=True)

    def merge(self, a: Array, b: Array) -> Array:
        return np.maximum(a, b)

    def of_rows(self) -> None:
        return None

    def encode(self, block: Array, spec: Spec, stats: Array | None = None) -> Encoding:
        if stats is not None:
            top = spread = stats
        else:
            top = np.abs(block.reshape(-1, self.group, spec.shape[1])).max(axis=(1, 2)).reshape(-1, 1)
            spread = np.repeat(top, self.group, axis=0)
        return Encoding({"codes": np.round(block / spread * 127).astype(np.int8), "scale": top / 127}, {})


@given(st.sampled_from([Rounded(1), Rounded(4), Rounded(12), Rounded(columns=True)]), st.data())
def test_parts_of_an_encoder(encoder: Rounded, data: st.DataObject) -> None:
    array = np.random.default_rng(1).normal(size=(12, 5)).astype(np.float32)
    stats = encoder.stats(array) if encoder.columns else None
    whole = encoder.encode(array, Spec(DType.F32, (12, 5)), stats).parts
    for name, want in whole.items():
        weight = inline(array).then(Encoded(encoder, name))
        assert weight.spec.shape == want.shape
        starts = [data.draw(st.integers(0, dim)) for dim in want.shape]
        region = Region(tuple(starts), tuple(data.draw(st.integers(a, dim)) for a, dim in zip(starts, want.shape)))
        np.testing.assert_array_equal(read(weight, region), want[region.slices])


def test_rows_of_an_encoder_read_only_their_groups(tmp_path: Path, spent: list[int]) -> None:
    weight, _ = numbers(tmp_path / "w", (64, 32))
    codes, scale = (weight.then(Encoded(Rounded(8), part)) for part in ("codes", "scale"))
    read(codes, Region.rows((64, 32), 9, 17))
    read(scale, Region.rows((8, 1), 3, 4))
    assert spent == [16 * 32 * 4, 8 * 32 * 4]
