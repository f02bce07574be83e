"""Sums over parts that ranks exchange, updates of views, kernels that go through their samples in parts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels import EXACT, KERNELS, Kernels
from backends.numpy_mpi.kernels import update as update_module
from backends.numpy_mpi.kernels.parts import in_parts
from backends.numpy_mpi.kernels.philox import philox4x32, words, words_of
from dlc.ops.conv import CONV
from dlc.ops.operator import LAYOUTS
from tests.kernels.calling import Array, Op, image, kernel

TABLES = pytest.mark.parametrize("table", [KERNELS, EXACT], ids=["real", "exact"])
CUTS = [(0, 3, 8), (0, 1, 8), (0, 2, 5, 8)]
"""Borders of the parts of 8 rows or columns."""

RULES: list[tuple[str, int, dict[str, Any]]] = [
    ("sgd", 1, {"momentum": 0.9, "weight_decay": 0.1}),
    ("sgd", 1, {"momentum": 0.9, "nesterov": True}),
    ("adagrad", 1, {}),
    ("rmsprop", 2, {"momentum": 0.9}),
    ("adam", 2, {"weight_decay": 0.1}),
    ("adamw", 2, {}),
    ("lars", 0, {"momentum": 0.0}),
    ("lars", 1, {"momentum": 0.9, "weight_decay": 0.1}),
    ("lamb", 2, {"weight_decay": 0.1}),
]
BY_NORMS = ("lars", "lamb")


def drawn(rng: np.random.Generator, dtype: Any, table: Kernels) -> Array:
    values = rng.standard_normal((6, 8))
    return (np.rint(3 * values) if table is EXACT else values).astype(dtype)


def views(array: Array, cuts: tuple[int, ...], axis: int) -> list[Array]:
    """Parts of a weight: rows, or columns, which do not lie together."""
    return [array[:, start:stop] if axis else array[start:stop] for start, stop in pairwise(cuts)]


@TABLES
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("rule", "states", "attrs"), RULES)
def test_parts_of_a_weight_are_updated_as_the_whole(
    rule: str, states: int, attrs: dict[str, Any], axis: int, dtype: Any, table: Kernels
) -> None:
    rng, update = np.random.default_rng(states), kernel(rule, "update", table=table)
    whole = [drawn(rng, dtype, table), *(np.zeros((6, 8), dtype) for _ in range(states))]
    parts = [array.copy() for array in whole]
    cuts = (0, 2, 6) if axis == 0 else CUTS[2]
    for step in range(3):
        gradient, attrs_ = drawn(rng, dtype, table), {"step": step, **attrs}
        update(whole[0], gradient, *whole[1:], lr=0.1, **attrs_)
        shards = list(zip(*(views(array, cuts, axis) for array in (parts[0], gradient, *parts[1:])), strict=True))
        tables = [np.full(2, 7.25) for _ in shards] if rule in BY_NORMS else []
        for shard, squares in zip(shards, tables, strict=False):
            before = [array.copy() for array in shard]
            kernel("sums", rule, "", table)(*shard, squares, **attrs_)
            assert all(map(np.array_equal, before, shard)), "states move in the update alone"
        for shard in shards:
            update(*shard, *([np.sum(tables, axis=0)] if tables else []), lr=0.1, **attrs_)
        exact = table is EXACT or rule not in BY_NORMS
        for one, other in zip(whole, parts, strict=True):
            bound = 0.0 if exact else 1e-13 if dtype == np.float64 else 1e-6
            assert np.abs(one - other).max() <= bound


@pytest.mark.parametrize("chunk", [1, 3, 8, 20, 1000])
def test_chunks_of_views(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows longer than a chunk are cut, shorter ones taken together; every element comes once."""
    monkeypatch.setattr(update_module, "CHUNK", chunk)
    array = np.zeros((5, 4, 9))
    for view in (array, array[:, :, 2:8], array[:, 1:3], array.transpose(2, 0, 1), array[:, :0], array[0, 0, ::2]):
        for (piece,) in update_module._chunks(view):
            assert piece.size <= chunk
            piece += 1
    counted = np.ones((5, 4, 9))
    counted[:, :, 2:8] += 1
    counted[:, 1:3] += 1
    counted += 1
    counted[0, 0, ::2] += 1
    assert np.array_equal(array, counted)


@TABLES
def test_a_weight_of_one_number(table: Kernels) -> None:
    weight, gradient = np.array(3.0), np.array(2.0)
    kernel("sgd", "update", table=table)(weight, gradient, lr=0.25)
    assert weight == 2.5


@TABLES
@pytest.mark.parametrize("kind", ["norm", "value"])
def test_clipping_of_parts(kind: str, table: Kernels) -> None:
    """Of three gradients one is split over six ranks, one held twice by three, one by all."""
    rng = np.random.default_rng(0)
    whole = [drawn(rng, np.float64, table) for _ in range(3)]
    rows, columns = views(whole[0].copy(), tuple(range(7)), 0), (0, 3, 5, 8)
    ranks = [[rows[rank], views(whole[1].copy(), columns, 1)[rank // 2], whole[2].copy()] for rank in range(6)]
    attrs: dict[str, Any] = {"kind": kind, "bound": 0.5}
    copies, tables = {"copies": (1, 2, 6)}, [np.full(1, 7.25) for _ in range(6)]
    for parts, squares in zip(ranks, tables, strict=True):
        kernel("sums", "clip", "", table)(*parts, squares, **attrs, **copies)
    for parts in ranks:
        extra = [np.sum(tables, axis=0)] if kind == "norm" else []
        kernel("clip", "clip", "", table)(*parts, *extra, **attrs, **(copies if extra else {}))
    kernel("clip", "clip", "", table)(*whole, **attrs)
    found = (np.concatenate([p[0] for p in ranks]), np.concatenate([p[1] for p in ranks[::2]], axis=1), ranks[5][2])
    for one, other in zip(whole, found, strict=True):
        assert np.array_equal(one, other) if table is EXACT else np.allclose(one, other, rtol=1e-14, atol=0)


def test_regularisers_and_sums_of_views() -> None:
    rng = np.random.default_rng(0)
    weight, gradient, other = rng.standard_normal((3, 6, 8))
    total = np.full((6, 8), 7.25)
    part = (slice(None), slice(2, 5))
    expected = gradient[part] + 0.2 * weight[part] + 0.1 * np.sign(weight[part])
    kernel("regularise", "regularise")(weight[part], gradient[part], l1=0.1, l2=0.2)
    assert np.allclose(gradient[part], expected)
    kernel("sum", "sum")(gradient[part], other[part], total[part])
    assert np.array_equal(total[part], gradient[part] + other[part])
    assert (total[:, :2] == 7.25).all()
    kernel("sum", "sum")(total[part], other[part], weight[part], total[part])
    assert np.array_equal(total[part], gradient[part] + other[part] + other[part] + weight[part])
    kernel("zero", "forward")(total[part], gradient)
    assert not total[part].any()
    assert not gradient.any()
    assert (total[:, 5:] == 7.25).all()


# --- what parts are told ------------------------------------------------------------------------------------------


def test_words_of_some_columns() -> None:
    whole = words(np.arange(3, 6), 50, (1, 2), 7)
    for columns in (np.arange(50), np.array([0, 5, 6, 49]), np.arange(13, 14), np.arange(0, 50, 4), np.arange(0)):
        assert np.array_equal(words_of(np.arange(3, 6), columns, (1, 2), 7), whole[:, columns])


def test_no_more_words_are_drawn_than_the_part_lies_in(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn_blocks = list[int]()

    def counted(counter: Any, *rest: Any) -> Any:
        drawn_blocks.append(np.broadcast(*counter).size)
        return philox4x32(counter, *rest)

    monkeypatch.setattr("backends.numpy_mpi.kernels.philox.philox4x32", counted)
    x = np.ones((2, 16, 100))
    kernel("dropout", "forward")(
        x, x.copy(), np.empty(x.shape, np.uint8), p=0.5, key=(1, 2), step=0, position=0,
        origin=(((0, 2), (32, 64), (0, 100)),) * 3,
    )  # fmt: skip
    assert drawn_blocks == [2 * 16 * 100 // 4]


@pytest.mark.parametrize("shift", [0, 1e4, -1e4])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classes_on_ranks_with_logits_far_apart(smoothing: float, shift: float) -> None:
    """A rank whose logits are all far below the largest has probabilities of zero, and no overflow."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((5, 8)).astype(np.float32) + np.float32(shift)
    logits[:, 3:] += 500
    label = np.array([0, 3, 7, 2, 4], np.int32)
    attrs: dict[str, Any] = {"count": 5, "smoothing": smoothing}
    loss, probabilities, dlogits = np.empty((), np.float32), np.empty_like(logits), np.empty_like(logits)
    kernel("cross_entropy", "forward")(logits, label, loss, probabilities, **attrs)
    kernel("cross_entropy", "dx")(np.float32(1), probabilities, label, dlogits, **attrs)
    for cuts in CUTS:
        pairs = list(pairwise(cuts))
        largest, sums = np.zeros((len(pairs), 9), np.float32), np.zeros((len(pairs), 9), np.float32)
        for (start, stop), row in zip(pairs, largest, strict=True):
            kernel("sums", "cross_entropy", "forward0")(logits[:, start:stop].copy(), label, row)
        top = largest.max(axis=0)
        for (start, stop), row in zip(pairs, sums, strict=True):
            kernel("sums", "cross_entropy", "forward1")(logits[:, start:stop].copy(), label, top, row)
        total, losses = sums.sum(axis=0), []
        for start, stop in pairs:
            place = ((0, 5), (start, 8))
            part, own, found, slope = (
                logits[:, start:stop].copy(),
                np.empty((), np.float32),
                *np.empty((2, 5, stop - start), np.float32),
            )
            kernel("cross_entropy", "forward")(
                part, label, top, total, own, found, **attrs, origin=(place, ((0, 5),), ((0, 9),), ((0, 9),), (), place)
            )
            kernel("cross_entropy", "dx")(
                np.float32(1), found, label, slope, **attrs, origin=((), place, ((0, 5),), place)
            )
            assert np.allclose(found, probabilities[:, start:stop], rtol=1e-5, atol=1e-30)
            assert np.allclose(slope, dlogits[:, start:stop], rtol=1e-5, atol=1e-7)
            losses.append(own)
        assert np.allclose(np.sum(losses), loss, rtol=1e-5)


@TABLES
@pytest.mark.parametrize("microbatch", [4, 8])
def test_groups_of_a_microbatch(microbatch: int, table: Kernels) -> None:
    """Tables of its own groups alone; the parts' gradients and running averages add up. The last group is smaller."""
    rng = np.random.default_rng(0)
    x, dy = (np.rint(4 * rng.standard_normal((10, 2, 3, 2))) for _ in range(2))
    scale, shift, running = np.array([1.0, 2]), np.array([3.0, -1]), np.zeros(2)

    def computed(start: int, stop: int, size: int, first: int) -> list[Array]:
        part, groups = slice(start, stop), -(-size // 4)
        attrs: dict[str, Any] = {"group": 4, "eps": 0.5, "count": 10, "position": start, "first": first}
        y, dx, (mean, rstd) = np.empty_like(x[part]), np.empty_like(x[part]), np.empty((2, groups, 2))
        dscale, dshift, mean_sum, variance_sum = np.empty((4, 2))
        inputs, made = (x[part], scale, shift, running, running), (y, mean, rstd)
        kernel("bn", "forward", table=table)(*inputs, *made, **attrs)
        kernel("bn", "dx", table=table)(dy[part], x[part], scale, mean, rstd, dx, dscale, dshift, **attrs)
        kernel("bn", "statistics", table=table)(x[part], mean, rstd, mean_sum, variance_sum, **attrs)
        return [y, dx, dscale, dshift, mean_sum, variance_sum]

    whole = computed(0, 10, 10, 0)
    starts = range(0, 10, microbatch)
    parts = [computed(start, min(start + microbatch, 10), microbatch, start) for start in starts]
    for at, expected in enumerate(whole):
        found = np.concatenate([p[at] for p in parts]) if at < 2 else np.sum([p[at] for p in parts], axis=0)
        assert np.array_equal(found, expected) if table is EXACT else np.allclose(found, expected, rtol=1e-13)


# --- parts of the samples ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [0, 1, 5, 6])
@pytest.mark.parametrize("parts", [1, 2, 3, 8])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("algorithm", ["direct", "im2col", "fft", "winograd(2)"])
def test_convolutions_in_parts(algorithm: str, layout: str, parts: int, samples: int) -> None:
    """By workspaces for the samples of one part; the weights' gradients are added up."""
    args = {"filters": 4, "window": 3, "pad": 1}
    op = Op(CONV, (image("f64", max(samples, 1), 3, 7, 6),), args, layout, algorithm)
    small = Op(CONV, (image("f64", -(-max(samples, 1) // parts), 3, 7, 6),), args, layout, algorithm)
    rng = np.random.default_rng(0)
    known = {**op.draw(rng), "dy": rng.standard_normal(op.types["y"].shape)}
    known |= {role: known[role][:samples] for role in ("x", "dy")}
    whole = op.backward(op.forward(known))
    for stage, needs, gives in (
        ("forward", ("x", "weight", "bias"), ("y",)),
        ("dx", ("dy", "weight"), ("dx",)),
        ("dw", ("dy", "x"), ("dweight", "dbias")),
    ):
        inputs = [op.store(role, known[role]) for role in needs]
        outputs = [np.full_like(op.store(role, whole[role]), 7.25) for role in gives]
        workspaces = [np.full(each.type.shape, 7.25) for each in small.workspaces(stage)]
        cut = [at for at, role in enumerate((*needs, *gives)) if op.types[role].batched]
        attrs = {**dict(op.inferred.attrs), **op.layout_keyword()}
        function = kernel("conv", stage, algorithm)
        in_parts(function, parts, len(inputs), (*inputs, *outputs), *workspaces, samples=cut, **attrs)
        for role, array in zip(gives, outputs, strict=True):
            assert np.allclose(op.load(role, array), whole[role], rtol=1e-12, atol=1e-12), (stage, role)
