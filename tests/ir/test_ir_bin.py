"""The `.bin`: what parts write, joined, is what whole reads give, however the work is cut."""

from __future__ import annotations

import pickle
import random
import threading
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from growth import is_linear
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ir_fakes import Columnwise, Grouped, Rowwise, check, encoded, expected, sizes, written

from batchconv import packing, storage
from batchconv.errors import BadModel, InternalError
from batchconv.ir import bin as parts
from batchconv.ir import geometry
from batchconv.ir.layout import Out, Part, Piece, lay_out, stats_pieces, weights
from batchconv.steps import Binary, Cast, Reshape, Slice, Transpose
from batchconv.tensor import Array, DType, Spec
from batchconv.weight import Encoded, Extent, Weight, fill, inline, read

NARROW = [DType.U1, DType.U2, DType.U3, DType.U4, DType.U6, DType.I4, DType.NF4]
WIDE = [DType.F32, DType.F16, DType.F64, DType.I64, DType.I32, DType.U8, DType.I8]
ENCODERS: list[Any] = [Rowwise(), Grouped(), Columnwise()]

shapes = st.lists(st.sampled_from([1, 2, 3, 4, 5, 8, 13]), max_size=4).map(tuple)


def elements(dtype: DType, shape: tuple[int, ...], seed: int) -> Array:
    rng = np.random.default_rng(seed)
    if dtype.bits < 8:
        return rng.integers(0, 1 << (dtype.bits - (dtype is DType.I4)), shape).astype(dtype.numpy)
    return (rng.standard_normal(shape) * 20).astype(dtype.numpy)


@st.composite
def sources(draw: st.DrawFn, file: Path) -> Weight:
    """A recipe without steps: in the file, inline or a fill, of any type."""
    dtype = draw(st.sampled_from(WIDE + NARROW))
    shape = draw(shapes)
    if draw(st.integers(0, 9)) == 0:
        shape = (*shape, 0)
    kind = draw(st.sampled_from(["file", "file", "inline", "fill"]))
    if kind == "fill" and dtype.bits >= 8:
        return fill(draw(st.integers(0, 3)), dtype, shape)
    array = elements(dtype, shape, draw(st.integers(0, 5)))
    if kind == "inline":
        return inline(array, dtype)
    data = packing.pack(array, dtype)
    with file.open("ab") as out:
        offset = out.tell()
        out.write(data)
    return Weight(Spec(dtype, shape), Extent(str(file), offset, len(data)))


@st.composite
def recipes(draw: st.DrawFn, file: Path) -> Weight:
    """A recipe with steps."""
    weight = draw(sources(file))
    for kind in draw(st.lists(st.sampled_from(["transpose", "reshape", "slice", "binary", "cast"]), max_size=3)):
        spec = weight.spec
        if kind == "transpose":
            weight = weight.then(Transpose(tuple(draw(st.permutations(range(len(spec.shape)))))))
        elif kind == "reshape":
            weight = weight.then(Reshape(draw(st.sampled_from([(spec.size,), (1, spec.size), (*spec.shape, 1)]))))
        elif kind == "slice" and spec.shape and spec.shape[0] > 1:
            weight = weight.then(Slice(0, 1, spec.shape[0]))
        elif kind == "binary" and spec.dtype is DType.F32:
            shape = spec.shape[-1:] if draw(st.booleans()) else (*spec.shape[:1], *(1 for _ in spec.shape[1:]))
            weight = weight.then(Binary("multiply", inline(elements(DType.F32, shape, 7))))
        elif kind == "cast" and spec.dtype in (DType.F16, DType.F64):
            weight = weight.then(Cast(DType.F32))
    return weight


def compressed(weight: Weight, kind: int) -> list[Weight]:
    """The recipes of one variant that are made of `weight`."""
    spec = weight.spec
    if kind == 0 or spec.dtype is not DType.F32 or not spec.size:
        return [weight]
    if kind == 1:
        return [weight.then(Cast(DType.F16, clamp=True))]
    if not spec.shape:
        return [weight]
    return encoded(weight, ENCODERS[kind - 2])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_parts_joined_are_whole_reads(tmp_path: Path, data: st.DataObject) -> None:
    file = tmp_path / "source"
    file.write_bytes(b"..")
    base = data.draw(st.lists(recipes(file), min_size=1, max_size=6))
    base += data.draw(st.lists(st.sampled_from(base), max_size=2))
    kinds = data.draw(
        st.lists(st.lists(st.integers(0, 4), min_size=len(base), max_size=len(base)), min_size=1, max_size=3)
    )
    variants = [
        [(made, f"w{i}") for i, (weight, kind) in enumerate(zip(base, row)) for made in compressed(weight, kind)]
        for row in kinds
    ]
    block, part_bytes = data.draw(st.sampled_from([16, 64, 1000])), data.draw(st.sampled_from([40, 200, 100_000]))
    with sizes(block, data.draw(st.sampled_from([1, 64, 4096]))):
        plan, stores, _ = written(variants, part_bytes, shuffled(data.draw(st.integers(0, 3))))
        check(variants, plan, stores)
        again = written(variants, 1 << 20)[1]
    assert [store.data for store in stores] == [store.data for store in again]


def shuffled(seed: int) -> list[int]:
    order = list(range(500))
    random.Random(seed).shuffle(order)
    return order


def on_disk(path: Path, shape: tuple[int, ...], seed: int = 0, dtype: DType = DType.F32) -> Weight:
    array = elements(dtype, shape, seed)
    path.write_bytes(packing.pack(array, dtype))
    return Weight(Spec(dtype, shape), Extent(str(path), 0, array.nbytes))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_variant_does_not_depend_on_the_others(tmp_path: Path, encoder: Any) -> None:
    big = [on_disk(tmp_path / str(i), (64, 32), i) for i in range(4)]
    variants = [
        [(weight, "") for weight in big],
        [(made, "") for weight in big for made in encoded(weight, encoder)],
        [(weight.then(Cast(DType.F16, clamp=True)), "") for weight in big] + [(inline(np.ones(5, np.float32)), "")],
    ]
    with sizes(512, 1024):
        plan, together, _ = written(variants, 4096)
        assert len(plan.parts) > 2
        for target, recipes_ in enumerate(variants):
            alone = written([recipes_], 1000)[1][0]
            assert alone.data == together[target].data


def test_each_block_is_read_once_for_all_variants(tmp_path: Path) -> None:
    weight = on_disk(tmp_path / "w", (64, 32))
    variants = [
        [(weight, "")],
        [(made, "") for made in encoded(weight, Rowwise())],
        [(weight.then(Cast(DType.F64)), "")],
    ]
    got: list[tuple[int, int]] = []
    into = storage.read_into

    def counted(url: str, offset: int, view: memoryview) -> int:
        got.append((offset, len(view)))
        return into(url, offset, view)

    with sizes(1024, 1024), mock.patch.object(storage, "read_into", counted):
        written(variants, 2000)
    assert sorted(got) == [(at, 1024) for at in range(0, 64 * 32 * 4, 1024)]


def test_untouched_weights_are_copied(tmp_path: Path) -> None:
    weight = on_disk(tmp_path / "w", (64, 32))
    reshaped = on_disk(tmp_path / "v", (32, 32), 1).then(Reshape((1, 1024)))
    with sizes(1024, 1024):
        _, (store,), _ = written([[(weight, ""), (reshaped, "")]], 3000)
        assert set(store.hows) == {"copy"}
        halves = [(weight.then(Cast(DType.F16, clamp=True)), "")]
        _, stores, _ = written([[(weight, "")], halves], 3000)
        assert set(stores[0].hows) == {"write"}


def test_equal_recipes_and_equal_inline_bytes_share_a_place(tmp_path: Path) -> None:
    weight = on_disk(tmp_path / "w", (64, 32))
    zeros = [inline(np.zeros(2, np.float32)), inline(np.zeros(1, np.int64)), inline(np.zeros((2, 1), np.int32))]
    other = inline(np.zeros(3, np.float32))
    same = [weight, weight.then(Reshape((32, 64))), *zeros]
    plan = lay_out([[(each, "") for each in (*same, other, weight)]])
    offsets = plan.offsets[0]
    assert offsets[same[0]] == offsets[same[1]] == 0
    assert len({offsets[zero] for zero in zeros}) == 1
    assert len(set(offsets.values())) == 3
    assert plan.sizes == (64 * 32 * 4 + 64 + 12,)


def test_empty_tensors_are_one_zero_byte_and_text_is_as_stored() -> None:
    empty = inline(np.zeros((0, 3), np.float32))
    text = Weight(Spec(DType.STRING, (2,)), b"\2\0\0\0\0\0\0\0\1\0\0\0\2\0\0\0ab")
    plan, (store,), _ = written([[(text, ""), (empty, "")]], 100)
    assert plan.offsets[0] == {text: 0, empty: 64}
    assert bytes(store.data) == text.source + bytes(46) + b"\0"
    assert geometry.blob_size(empty) == 1
    assert geometry.blob_size(text) == 18


def test_a_model_without_weights_is_one_empty_part() -> None:
    plan, (store,), receipts = written([[]], 100)
    assert [part.spans for part in plan.parts] == [((0, 0),)]
    assert not store.data
    assert receipts[0].nbytes == 0


def test_parts_meet_what_object_stores_ask(tmp_path: Path) -> None:
    source = Extent(str(tmp_path / "nowhere"), 0, 1 << 40)
    big = [Weight(Spec(DType.F32, (3072, 3072)), Extent(source.url, i << 26, 1 << 26)) for i in range(8)]
    small = [inline(np.array([i], np.int64)) for i in range(50)]
    variants = [
        [(weight, "") for weight in (*big, *small)],
        [(made, "") for weight in big for made in encoded(weight, Grouped())] + [(each, "") for each in small],
    ]
    plan = lay_out(variants)
    spans = [part.spans for part in plan.parts[:-1]]
    assert len(spans) > 4
    assert all(5 << 20 <= nbytes <= 64 << 20 for span in spans for _, nbytes in span)
    cuts = [piece.start * 3072 * 4 for part in plan.parts for piece in part.pieces if piece.base.stored.size > 1]
    assert all(cut % (3072 * 4 * 84) == 0 for cut in cuts), "pieces start where a block of about 1 MiB does"
    assert len(pickle.dumps(plan.parts[1])) < 1500


def test_a_huge_model_has_no_more_parts_than_stores_take() -> None:
    many = [Weight(Spec(DType.F32, (32768, 8192)), Extent("/nowhere", i << 30, 1 << 30)) for i in range(700)]
    plan = lay_out([[(weight, "") for weight in many]])
    assert 7000 < len(plan.parts) < 10_000
    assert lay_out([]).parts[0].spans == ()


def test_statistics_of_cut_weights_are_measured_first(tmp_path: Path) -> None:
    weight = on_disk(tmp_path / "w", (64, 32))
    other = on_disk(tmp_path / "v", (8, 4), 3)
    variant = [(made, "") for each in (weight, other) for made in encoded(each, Columnwise())]
    with sizes(512, 1024):
        waiting = stats_pieces(lay_out([variant], 600))
        assert {piece.base for piece in waiting} == {weight}
        assert sum(piece.stop - piece.start for piece in waiting) == 64
        assert not stats_pieces(lay_out([variant]))
        part = lay_out([variant], 600).parts[0]
        with mock.patch.object(storage, "part"), pytest.raises(InternalError, match="was not measured"):
            parts.write_part(part, [None])  # type: ignore[list-item]


def test_two_encoders_with_statistics_on_one_weight(tmp_path: Path) -> None:
    class Other(Columnwise):
        def stats(self, block: Array) -> Array:
            return super().stats(block) * 3

    weight = on_disk(tmp_path / "w", (64, 32))
    variants = [[(made, "") for made in encoded(weight, encoder)] for encoder in (Columnwise(), Other())]
    with sizes(512, 1024):
        plan, stores, _ = written(variants, 600)
        check(variants, plan, stores)
        assert stores[0].data != stores[1].data


def test_one_weight_twice_in_a_variant_in_two_forms(tmp_path: Path) -> None:
    weight = on_disk(tmp_path / "w", (64, 32))
    variant = [(made, "") for encoder in (Rowwise(), Grouped()) for made in encoded(weight, encoder)]
    variant += [(weight, ""), *((made, "") for made in encoded(weight.then(Reshape((32, 64))), Rowwise()))]
    with sizes(512, 1024):
        plan, stores, _ = written([variant], 600)
        assert len(plan.parts) > 3
        check([variant], plan, stores)


def test_tallies_add_up_over_parts(tmp_path: Path) -> None:
    weight = on_disk(tmp_path / "w", (64, 32))
    variant = [(made, "fc1") for made in encoded(weight, Rowwise())]
    with sizes(512, 1024):
        plan, _, receipts = written([[(weight, "fc1")], variant], 600)
    total = sum(receipt.tallies[1, "fc1"]["rows"] for receipt in receipts)
    assert total == 64
    assert not any((0, "fc1") in receipt.tallies for receipt in receipts)
    assert [receipt.part for receipt in receipts] == list(range(len(plan.parts)))
    assert sum(receipt.nbytes for receipt in receipts) == sum(plan.sizes)
    assert len(pickle.dumps(receipts[0])) < 1000


def test_a_transposed_weight_is_read_in_few_passes(tmp_path: Path) -> None:
    weight = on_disk(tmp_path / "w", (64, 64)).then(Transpose((1, 0)), Binary("add", fill(1, DType.F32, (64, 1))))
    with sizes(512, 1024):
        assert geometry.block_rows(weight, 1) == 8 == 4 * geometry.block_rows(replace_steps(weight), 1)
        plan, stores, _ = written([[(weight, "")]], 4000)
        check([[(weight, "")]], plan, stores)


def replace_steps(weight: Weight) -> Weight:
    return Weight(weight.stored, weight.source)


def test_small_remote_weights_come_in_few_requests() -> None:
    import fsspec

    data = np.arange(3000, dtype=np.float32)
    with fsspec.open("memory://ir/source", "wb") as file:
        file.write(data.tobytes())
    url = "memory://ir/source"
    small = [Weight(Spec(DType.F32, (10,)), Extent(url, i * 40, 40)) for i in range(30)]
    operand = Weight(Spec(DType.F32, (60,)), Extent(url, 2000, 240))
    big = Weight(Spec(DType.F32, (30, 60)), Extent(url, 0, 7200)).then(Binary("add", operand))
    calls: list[int] = []
    many, one = storage.read_many, storage.read

    def read_many(ranges: Any) -> list[bytes]:
        calls.append(len(ranges))
        return many(ranges)

    with (
        mock.patch.object(storage, "read_many", read_many),
        mock.patch.object(storage, "read", side_effect=one) as single,
    ):
        variants = [[(weight, "") for weight in (*small, big)]]
        plan, stores, _ = written(variants, 10_000)
        assert calls == [32]
        assert single.call_count == 0
    check(variants, plan, stores)


def test_a_source_that_is_too_short_is_a_bad_model(tmp_path: Path) -> None:
    weight = on_disk(tmp_path / "w", (64, 32))
    (tmp_path / "w").write_bytes(b"\0" * 5000)
    half = weight.then(Cast(DType.F16, clamp=True))
    with pytest.raises(BadModel, match="ends early"):
        written([[(half, "")]], 100)
    short = Weight(weight.stored, Extent(str(tmp_path / "w"), 0, 5000))
    for tail in ((), (Cast(DType.F16, clamp=True),)):
        with pytest.raises(BadModel, match="needs 8192 bytes but its source has 5000"):
            written([[(short.then(*tail), "")]], 1 << 20)


def test_an_encoder_that_breaks_its_word_is_found(tmp_path: Path) -> None:
    class Liar(Rowwise):
        def encode(self, block: Array, spec: Spec, stats: Array | None = None) -> Any:
            made = super().encode(block, spec, stats)
            made.parts["codes"] = made.parts["codes"][:-1]
            return made

    weight = on_disk(tmp_path / "w", (64, 32)).then(Encoded(Liar(), "codes"))
    with pytest.raises(InternalError, match=r"rows 0 to 64 of 'fc' gave 2016 bytes of i8\[64, 32\], not 2048"):
        written([[(weight, "fc")]], 1 << 20)


def test_local_files_by_two_threads(tmp_path: Path) -> None:
    """The real store: parts in any order on two threads, the last one last, give the same file."""
    big = [on_disk(tmp_path / str(i), (256, 64), i) for i in range(4)]
    variants = [
        [(weight, "") for weight in big],
        [(made, "") for weight in big for made in encoded(weight, Grouped())],
    ]
    with sizes(4096, 1024):
        plan = lay_out(variants, 20_000)
        urls = [str(tmp_path / f"{i}.bin") for i in range(2)]
        uploads = [storage.begin(url, size) for url, size in zip(urls, plan.sizes)]
        early = list(plan.parts[:-1])
        random.Random(1).shuffle(early)
        assert len(early) > 3
        threads = [
            threading.Thread(
                target=lambda mine: [parts.write_part(part, uploads) for part in mine], args=(early[i::2],)
            )
            for i in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        receipts = [parts.write_part(part, uploads, last=part is plan.parts[-1]) for part in plan.parts]
        for i, upload in enumerate(uploads):
            storage.finish(upload, [receipt.parts[i] for receipt in receipts])
        for i, url in enumerate(urls):
            data = Path(url).read_bytes()
            for weight, _ in variants[i]:
                offset, want = plan.offsets[i][weight], expected(weight)
                assert data[offset : offset + len(want)] == want


def many(size: int) -> list[tuple[Weight, str]]:
    """Recipes of as many different weights."""
    url = "/nowhere/model.onnx"
    return [
        (Weight(Spec(DType.F32, (128, 10 + i % 3)), Extent(url, i * 8192, 128 * (10 + i % 3) * 4)), f"w{i}")
        for i in range(size)
    ]


def test_laying_out_is_linear() -> None:
    assert is_linear(lambda size: partial(lay_out, [many(size)]), 1000)
    plan = lay_out([many(20_000)])
    assert len(plan.offsets[0]) == 20_000
    assert len(plan.parts) > 2


def test_weights_of_a_graph_in_its_order() -> None:
    from batchconv import ops
    from batchconv.graph import Graph

    x = ops.parameter("x", DType.F32, (1, 2))
    a, b = ops.const([1.0, 2.0], name="a"), ops.const([[3.0], [4.0]], name="b")
    graph = Graph((x,), (ops.result(ops.add(ops.add(x.value(), a), b)),))
    assert [name for _, name in weights(graph)] == ["a", "b"]
    assert read(weights(graph)[1][0]).tolist() == [[3.0], [4.0]]


def test_parts_travel() -> None:
    part = Part(0, ((0, 4),), (Piece(inline(np.ones(1, np.float32)), 0, 1, (Out(0, (), 0, 4, "w"),)),))
    assert pickle.loads(pickle.dumps(part)) == part
