"""Gradients of all kernels but convolution's against central differences, on drawn shapes, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels import EXACT, KERNELS
from dlc.ir.graph import Attr
from dlc.ir.tensor import Axis, TensorType
from dlc.ops import operator
from dlc.ops.operator import LAYOUTS
from tests.kernels.calling import Known, Op, image, kernel, numeric_gradient, relative_error

BOUND = 1e-7
TABLES = {"real": KERNELS, "exact": EXACT}


def extents(rng: np.random.Generator, *limits: tuple[int, int]) -> tuple[int, ...]:
    return tuple(int(rng.integers(low, high + 1)) for low, high in limits)


def spaced(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Distinct values, none near zero, further apart than a difference's steps: no kink lies between."""
    size = int(np.prod(shape))
    return ((rng.permutation(size) - size // 2 + 0.5) * 0.02).reshape(shape)


def draw_image(rng: np.random.Generator) -> TensorType:
    return image("f64", *extents(rng, (1, 3), (1, 3), (4, 7), (4, 7)))


def draw_pool(rng: np.random.Generator) -> dict[str, Attr]:
    window = extents(rng, (2, 3), (1, 3))
    pads: tuple[Attr, ...] = (0, (window[0] // 2, window[1] // 2), "same")
    args: dict[str, Attr] = {"window": window, "pad": pads[int(rng.integers(3))], "ceil": bool(rng.integers(2))}
    return args | {"stride": extents(rng, (1, 3), (1, 3)) if rng.integers(2) else window}


def check(op: Op, known: Known, roles: tuple[str, ...]) -> None:
    found = op.forward(known)
    found = op.backward(found)
    for role in roles:
        expected = numeric_gradient(op, known, role)
        assert relative_error(found[f"d{role}"], expected) < BOUND, (op.operator.name, op.args, op.layout, role)


def with_dy(op: Op, known: Known, rng: np.random.Generator) -> Known:
    return known | {"dy": rng.standard_normal(op.types["y"].shape)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "global_avgpool"])
def test_plain_operators(name: str, layout: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(6):
        op = Op(operator(name), (draw_image(rng),), {}, layout)
        check(op, with_dy(op, {"x": spaced(rng, op.types["x"].shape)}, rng), ("x",))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["maxpool", "avgpool"])
def test_pools(name: str, layout: str) -> None:
    rng = np.random.default_rng(2)
    for _ in range(14):
        args = draw_pool(rng) | ({"count_pad": bool(rng.integers(2))} if name == "avgpool" else {})
        op = Op(operator(name), (draw_image(rng),), args, layout)
        check(op, with_dy(op, {"x": spaced(rng, op.types["x"].shape)}, rng), ("x",))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", ["channel", "height", "width"])
def test_softmax(axis: str, layout: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(3):
        x = image("f64", *extents(rng, (1, 3), (2, 4), (2, 5), (2, 5)))
        op = Op(operator("softmax"), (x,), {"axis": axis}, layout)
        check(op, with_dy(op, op.draw(rng), rng), ("x",))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_concat(layout: str) -> None:
    rng = np.random.default_rng(4)
    for _ in range(5):
        n, h, w = extents(rng, (1, 3), (2, 4), (2, 4))
        operands = tuple(image("f64", n, int(c), h, w) for c in rng.integers(1, 4, 3))
        op = Op(operator("concat"), operands, {"axis": "channel"}, layout)
        known = with_dy(op, op.draw(rng), rng)
        assert np.array_equal(op.forward(known)["y"], np.concatenate([known[f"x{i}"] for i in range(3)], axis=1))
        check(op, known, ("x0", "x1", "x2"))


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias: bool) -> None:
    rng = np.random.default_rng(5)
    for _ in range(8):
        shape = extents(rng, (1, 4), (1, 4), (1, 5)) if rng.integers(2) else extents(rng, (1, 4), (1, 5))
        names = ("batch", "seq", "width") if len(shape) == 3 else ("batch", "feature")
        x = TensorType("f64", tuple(Axis(name, extent) for name, extent in zip(names, shape, strict=True)))
        op = Op(operator("linear"), (x,), {"features": int(rng.integers(1, 5)), "bias": bias})
        check(op, with_dy(op, op.draw(rng), rng), op.inputs)


@pytest.mark.parametrize(
    ("shape", "axes"), [((5,), (3,)), ((4, 5), (2, 3)), ((2, 3), (0, 1)), ((3,), (1,)), ((2, 3, 4, 5), (0, 1, 2, 3))]
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_add_broadcasts_by_the_positions_of_axes(shape: tuple[int, ...], axes: tuple[int, ...], layout: str) -> None:
    rng = np.random.default_rng(6)
    a, b, dy = (rng.standard_normal(extents) for extents in ((2, 3, 4, 5), shape, (2, 3, 4, 5)))
    given = [stored(array, layout) for array in (a, b)]
    y, da, db = (stored(np.full_like(array, 7.0), layout) for array in (a, a, b))
    kernel("add", "forward")(*given, y, axes=axes, layout=layout)
    kernel("add", "dx")(stored(dy, layout), da, db, axes=axes, layout=layout)
    aligned = b.reshape([extent if axis in axes else 1 for axis, extent in enumerate(a.shape)])
    assert np.array_equal(y, stored(a + aligned, layout))
    assert np.array_equal(da, stored(dy, layout))
    summed = dy.sum(axis=tuple(axis for axis in range(4) if axis not in axes))
    assert relative_error(db, stored(summed, layout)) < 1e-14


def stored(x: Any, layout: str) -> Any:
    """An array as it lies in memory: images in the layout's order, others as they are."""
    order = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 2, 3, 1), "CHWN": (1, 2, 3, 0)}[layout]
    return np.ascontiguousarray(x.transpose(order)) if x.ndim == 4 else x.copy()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("narrow", [None, ("batch", "channel"), ("height", "width"), ("channel",)])
@pytest.mark.parametrize("name", ["sub", "mul", "div"])
def test_arithmetic_of_two_values(name: str, narrow: tuple[str, ...] | None, layout: str) -> None:
    rng = np.random.default_rng(8)
    for swapped in (False, True):
        a = image("f64", *extents(rng, (1, 3), (1, 3), (2, 4), (2, 4)))
        b = a if narrow is None else TensorType("f64", tuple(axis for axis in a.axes if axis.name in narrow))
        op = Op(operator(name), (b, a) if swapped else (a, b), {}, layout)
        known = {role: 1 + np.abs(value) for role, value in op.draw(rng).items()}
        check(op, with_dy(op, known, rng), ("a", "b"))


@pytest.mark.parametrize("scalar_first", [False, True])
@pytest.mark.parametrize("name", ["sub", "mul", "div"])
def test_arithmetic_with_a_number(name: str, scalar_first: bool) -> None:
    rng = np.random.default_rng(9)
    op = Op(operator(name), (image("f64", 3, 5),), {"scalar": 1.7, "scalar_first": scalar_first})
    known = {role: 1 + np.abs(value) for role, value in op.draw(rng).items()}
    check(op, with_dy(op, known, rng), ("a",))
    expected = {"sub": np.subtract, "mul": np.multiply, "div": np.divide}[name]
    pair = (1.7, known["a"]) if scalar_first else (known["a"], 1.7)
    assert np.array_equal(op.forward(known)["y"], expected(*pair))


def test_add_a_number() -> None:
    y, x = np.empty(3), np.arange(3.0)
    kernel("add", "forward")(x, y, scalar=2.5)
    assert np.array_equal(y, x + 2.5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", ["cross_entropy", "mse", "half_mse"])
def test_losses(name: str, smoothing: float) -> None:
    rng = np.random.default_rng(7)
    for _ in range(5):
        n, classes = extents(rng, (1, 5), (2, 6))
        count = n + int(rng.integers(3))
        if name == "cross_entropy":
            label = TensorType("i32", (Axis("batch", n),))
            op = Op(
                operator(name), (image("f64", n, classes), label), {"smoothing": smoothing}, runtime={"count": count}
            )
            known = op.draw(rng) | {"label": rng.integers(0, classes, n).astype(np.int32), "dy": np.array(1.5)}
            check(op, known, ("logits",))
        else:
            op = Op(operator(name), (image("f64", n, classes), image("f64", n, classes)), {}, runtime={"count": count})
            check(op, op.draw(rng) | {"dy": np.array(1.5)}, ("prediction",))


def test_cross_entropy_of_large_logits_is_finite() -> None:
    label = TensorType("i32", (Axis("batch", 2),))
    op = Op(operator("cross_entropy"), (image("f32", 2, 3), label), {}, runtime={"count": 2})
    logits = np.array([[1e4, 0, -1e4], [-1e30, 0, 1e30]], dtype=np.float32)
    found = op.forward({"logits": logits, "label": np.array([2, 2], dtype=np.int32)})
    assert found["y"] == pytest.approx(1e4)
    assert np.isfinite(found["probabilities"]).all()


@pytest.mark.parametrize(("top", "correct"), [(1, 2), (2, 3), (3, 4)])
def test_accuracy(top: int, correct: int) -> None:
    """Equal logits count in order of class; what is not a number is not correct."""
    logits = np.array([[3, 2, 1, 0], [0, 1, 2, 3], [5, 5, 0, 0], [3, 2, 1, 0], [np.nan, 0, 0, 0]], dtype=np.float64)
    label = np.array([0, 3, 1, 2, 0], dtype=np.int32)
    result = np.array(7.0)
    kernel("accuracy", "forward")(logits, label, result, top=top)
    assert result == correct


def test_maxpool_keeps_the_first_of_equal_elements() -> None:
    op = Op(operator("maxpool"), (image("f64", 1, 1, 2, 4),), {"window": 2})
    known = op.forward({"x": np.array([[[[1.0, 1, 0, 2], [1, 1, 2, 2]]]])})
    assert known["indices"].tolist() == [[[[0, 1]]]]
    assert op.backward(known | {"dy": np.array([[[[3.0, 4.0]]]])})["dx"].tolist() == [[[[3, 0, 0, 4], [0, 0, 0, 0]]]]


def bn_op(rng: np.random.Generator, layout: str, group: Attr, flat: bool = False) -> Op:
    n, c, h, w = extents(rng, (3, 6), (1, 3), (2, 3), (2, 3))
    x = image("f64", n, c) if flat else image("f64", n, c, h, w)
    return Op(operator("bn"), (x,), {"group": group, "eps": 0.1}, layout, runtime={"count": n, "position": 0})


def bn_known(op: Op, rng: np.random.Generator) -> Known:
    return with_dy(op, op.draw(rng) | {"x": rng.standard_normal(op.types["x"].shape) * 2 + 1}, rng)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("group", ["batch", 2, 3])
def test_bn_of_images(group: Attr, layout: str) -> None:
    """Whole batches and groups, with a remainder group where the batch does not divide."""
    rng = np.random.default_rng(8)
    for _ in range(4):
        op = bn_op(rng, layout, group)
        check(op, bn_known(op, rng), ("x", "scale", "shift"))


def test_bn_of_features() -> None:
    rng = np.random.default_rng(9)
    x = image("f64", 6, 4)
    op = Op(operator("bn"), (x,), {"group": 3}, runtime={"count": 6, "position": 0})
    check(op, bn_known(op, rng), ("x", "scale", "shift"))


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("shards", [(0, 7), (0, 4, 7), (0, 1, 2, 3, 7), (0, 5, 7)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bn_phases_add_up_over_ranks(layout: str, shards: tuple[int, ...], table: str) -> None:
    """Tables summed between the phases give what one rank computes, dscale, dshift and statistics included."""
    rng = np.random.default_rng(10)
    op = Op(operator("bn"), (image("f64", 7, 2, 3, 2),), {"group": 3}, layout, runtime={"count": 7, "position": 0})
    op.table = TABLES[table]
    known = bn_known(op, rng)
    if table == "exact":
        known = {role: np.round(array * 2) for role, array in known.items()}
    whole = op.backward(op.forward(known))
    whole = op.call("statistics", ("x", "batch_mean", "batch_rstd"), ("mean", "variance"), whole)
    parts = in_phases(op, known, shards)
    for role, value in parts.items():
        expected = whole[role]
        if table == "exact":
            assert np.array_equal(value, expected), role
        else:
            assert relative_error(value, expected) < 1e-12, role


def in_phases(op: Op, known: Known, shards: tuple[int, ...]) -> Known:
    """Forward, backward and statistics on several ranks; rows of x joined, what is added up added up."""
    tables = dict.fromkeys(("sums", "squares", "dy_sums", "dyx_sums"), op.inferred.saved[0][1])
    op.types |= tables
    ranks = []
    for start, stop in pairwise(shards):
        local = dict(known) | {role: known[role][start:stop] for role in ("x", "dy")}
        ranks.append((local, {"count": 7, "position": start}))

    def phase(stage: str, needs: tuple[str, ...], gives: tuple[str, ...], summed: bool = False) -> None:
        for index, (local, runtime) in enumerate(ranks):
            op.runtime = runtime
            ranks[index] = (op.call(stage, needs, gives, local), runtime)
        for role in gives if summed else ():
            total = sum(local[role] for local, _ in ranks)
            for local, _ in ranks:
                local[role] = total

    saved = ("batch_mean", "batch_rstd")
    phase("sums", ("x",), ("sums",), summed=True)
    phase("squares", ("x", "sums"), ("squares",), summed=True)
    phase("apply", ("x", "scale", "shift", "sums", "squares"), ("y", *saved))
    phase("grad_sums", ("dy", "x", *saved), ("dy_sums", "dyx_sums"), summed=True)
    phase("grad_apply", ("dy", "x", "scale", *saved, "dy_sums", "dyx_sums"), ("dx", "dscale", "dshift"))
    phase("statistics", ("x", *saved), ("mean", "variance"))
    joined = {role: np.concatenate([local[role] for local, _ in ranks]) for role in ("y", "dx")}
    added = {role: sum(local[role] for local, _ in ranks) for role in ("dscale", "dshift", "mean", "variance")}
    return joined | added


def test_bn_running_averages() -> None:
    """Mean over groups, unbiased variances, moved by the momentum; inference normalises with them."""
    rng = np.random.default_rng(11)
    op = Op(
        operator("bn"), (image("f64", 6, 2, 3, 3),), {"group": 3, "momentum": 0.1}, runtime={"count": 6, "position": 0}
    )
    known = op.forward(bn_known(op, rng))
    sums = op.call("statistics", ("x", "batch_mean", "batch_rstd"), ("mean", "variance"), known)
    groups = known["x"].reshape(2, 3, 2, 3, 3)
    assert relative_error(sums["mean"], groups.mean(axis=(1, 3, 4)).mean(axis=0)) < 1e-13
    assert relative_error(sums["variance"], groups.var(axis=(1, 3, 4), ddof=1).mean(axis=0)) < 1e-12
    mean, variance = np.zeros(2), np.ones(2)
    kernel("bn", "update")(mean, variance, sums["mean"], sums["variance"], momentum=0.1)
    assert relative_error(mean, 0.1 * sums["mean"]) < 1e-15
    assert relative_error(variance, 0.9 + 0.1 * sums["variance"]) < 1e-15
    y = op.call("inference", op.inputs, ("y",), known | {"mean": mean, "variance": variance})["y"]
    shape = (2, 1, 1)
    scale = (known["scale"] / np.sqrt(variance + 1e-5)).reshape(shape)
    expected = (known["x"] - mean.reshape(shape)) * scale + known["shift"].reshape(shape)
    assert relative_error(y, expected) < 1e-14


def test_conversions_between_layouts() -> None:
    rng = np.random.default_rng(12)
    x = rng.standard_normal((2, 3, 4, 5))
    axes: Mapping[str, tuple[int, ...]] = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 2, 3, 1), "CHWN": (1, 2, 3, 0)}
    convert = kernel("convert", "forward")
    for source in LAYOUTS:
        for target in LAYOUTS:
            given, expected = np.ascontiguousarray(x.transpose(axes[source])), x.transpose(axes[target])
            y = np.full(expected.shape, 7.0)
            convert(given, y, source=source, target=target)
            assert np.array_equal(y, expected)


def test_sum_and_clip() -> None:
    rng = np.random.default_rng(13)
    a, b, c = (rng.standard_normal((3, 2)) for _ in range(3))
    total = np.full((3, 2), 7.0)
    kernel("sum", "sum")(a, b, c, total)
    assert np.array_equal(total, a + b + c)
    clip, kept = kernel("clip", "clip"), [a.copy(), b.copy()]
    norm = np.sqrt((a**2).sum() + (b**2).sum())
    clip(*kept, kind="norm", bound=2 * norm)
    assert np.array_equal(kept[0], a)
    clip(*kept, kind="norm", bound=0.5)
    assert relative_error(kept[0], a * (0.5 / (norm + 1e-6))) < 1e-14
    assert relative_error(kept[1], b * (0.5 / (norm + 1e-6))) < 1e-14
    clip(a, c, kind="value", bound=0.3)
    assert np.abs(a).max() <= 0.3
    assert np.abs(c).max() <= 0.3


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["relu", "softmax", "maxpool", "avgpool", "global_avgpool", "bn", "dropout"])
def test_a_rank_without_samples(name: str, layout: str) -> None:
    """The last batch may have fewer samples than there are ranks; sums over no samples are zero."""
    args: dict[str, Attr] = {"softmax": {"axis": "channel"}, "dropout": {"p": 0.5}}.get(name, {})
    args |= {"window": 2} if name in ("maxpool", "avgpool") else {}
    runtime = {"bn": {"count": 1, "position": 1}, "dropout": {"step": 0, "position": 1}}.get(name, {})
    op = Op(operator(name), (image("f64", 2, 3, 4, 4),), args, layout, runtime=runtime)
    known = op.draw(np.random.default_rng(14))
    known["x"], known["dy"] = known["x"][:0], np.zeros((0, *op.types["y"].shape[1:]))
    if name == "dropout":
        op.inferred = replace(op.inferred, attrs=(*op.inferred.attrs, ("key", (1, 2))))
    found = op.backward(op.forward(known))
    assert found["y"].shape[0] == found["dx"].shape[0] == 0
    if name == "bn":
        assert not found["dscale"].any()
        assert not found["dshift"].any()


def test_losses_without_samples() -> None:
    label = TensorType("i32", (Axis("batch", 2),))
    for name, second in (("cross_entropy", label), ("mse", image("f64", 2, 3))):
        op = Op(operator(name), (image("f64", 2, 3), second), {}, runtime={"count": 1})
        empty = np.zeros((0, 3)), np.zeros(0, np.int32) if second is label else np.zeros((0, 3))
        found = op.backward(op.forward(dict(zip(op.inputs, empty, strict=True)) | {"dy": np.array(1.0)}))
        assert found["y"] == 0
