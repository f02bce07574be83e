"""Kernels that move elements, arithmetic and products of matrices, where NumPy says what they should be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels import EXACT, KERNELS, Kernels
from dlc.ir.tensor import TensorType, tensor
from dlc.ops import operator
from dlc.ops.operator import LAYOUTS
from tests.kernels.calling import JUNK, Op, kernel

IMAGE = tensor("f64", batch=2, channel=6, height=5, width=4)
ROWS = tensor("f64", batch=3, seq=4, width=5)


def forward(name: str, *operands: TensorType, layout: str = "NCHW", **args: Any) -> tuple[Op, dict[str, Any]]:
    op = Op(operator(name), operands, args, layout)  # type: ignore[arg-type]
    return op, op.forward(op.draw(np.random.default_rng(0)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pads_are_numpy_s(mode: str, layout: str) -> None:
    _, found = forward("pad", IMAGE, layout=layout, amount=((2, 0), (1, 3)), mode=mode, value=1.5)
    values = {"constant_values": 1.5} if mode == "constant" else {}
    expected = np.pad(found["x"], ((0, 0), (0, 0), (2, 0), (1, 3)), mode, **values)  # type: ignore[call-overload]
    assert np.array_equal(found["y"], expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("start", "stop", "step"), [(1, 5, 2), (-2, None, 1), (None, None, -1), (4, 1, -2)])
def test_slices_are_numpy_s(start: int | None, stop: int | None, step: int, layout: str) -> None:
    given = {name: bound for name, bound in (("start", start), ("stop", stop)) if bound is not None}
    _, found = forward("slice", IMAGE, layout=layout, axis="channel", step=step, **given)
    assert np.array_equal(found["y"], found["x"][:, start:stop:step])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parts_in_their_order(layout: str) -> None:
    _, found = forward("split", IMAGE, layout=layout, n=(1, 3, 2), axis="channel")
    for index, part in enumerate(np.split(found["x"], (1, 4), axis=1)):
        assert np.array_equal(found[f"y{index}"], part)


@pytest.mark.parametrize("reached", [(0,), (2,), (0, 2), (0, 1, 2)])
def test_parts_without_a_gradient_leave_zeros(reached: tuple[int, ...]) -> None:
    dys = [np.full((2, extent), index + 1.0) for index, extent in enumerate((1, 3, 2))]
    dx = np.full((2, 6), JUNK)
    kernel("split", "dx")(*(dys[index] for index in reached), dx, n=(1, 3, 2), axis=1, reached=reached)
    expected = np.concatenate([dy * (index in reached) for index, dy in enumerate(dys)], axis=1)
    assert np.array_equal(dx, expected)


def test_transposed() -> None:
    _, found = forward("transpose", IMAGE, order=("width", "channel", "height"))
    assert np.array_equal(found["y"], found["x"].transpose(0, 3, 1, 2))
    _, found = forward("transpose", ROWS)
    assert np.array_equal(found["y"], found["x"].swapaxes(1, 2))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (ROWS, tensor("f64", width=5, key=2), "bik,kj->bij"),
        (tensor("f64", row=2, seq=4), ROWS, "ik,bkj->bij"),
        (tensor("f64", row=2, seq=4), tensor("f64", seq=4, width=5), "ik,kj->ij"),
        (tensor("f64", batch=3, heads=2, seq=4, width=5), tensor("f64", heads=2, width=5, key=3), "bhik,hkj->bhij"),
        (tensor("f64", batch=3, heads=2, seq=4, width=5), tensor("f64", batch=3, width=5, key=3), "bhik,bkj->bhij"),
    ],
)
def test_products_of_matrices(a: TensorType, b: TensorType, expected: str) -> None:
    _, found = forward("matmul", a, b)
    assert np.allclose(found["y"], np.einsum(expected, found["a"], found["b"]), rtol=1e-13, atol=0)


def test_extents_of_one_are_repeated_on_both_sides() -> None:
    a, b = IMAGE.with_extent("height", 1), IMAGE.with_extent("channel", 1)
    op, found = forward("mul", a, b, layout="CHWN")
    assert op.types["y"] == IMAGE
    assert np.array_equal(found["y"], found["a"] * found["b"])
    found = op.backward(found | {"dy": np.ones(IMAGE.shape)})
    assert np.allclose(found["da"], np.broadcast_to(found["b"].sum(axis=2, keepdims=True), a.shape))


@pytest.mark.parametrize("table", [KERNELS, EXACT], ids=["real", "exact"])
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "matmul"])
def test_gradients_without_a_batch_add_up_over_samples(name: str, table: Kernels) -> None:
    """Ranks add up what each has of them; integers, so that the real ones are exact too, but for quotients."""
    rng = np.random.default_rng(1)
    b = tensor("f64", width=5, key=2) if name == "matmul" else tensor("f64", seq=4, width=5)
    op = Op(operator(name), (ROWS, b), {}, table=table)  # type: ignore[arg-type]
    known = {role: rng.integers(1, 9, op.types[role].shape).astype(np.float64) for role in (*op.inputs, "dy")}

    def gradient(samples: slice) -> Any:
        shard = known | {role: known[role][samples] for role in ("a", "dy")}
        return op.backward(op.forward(shard))["db"]

    parts = gradient(slice(0, 1)) + gradient(slice(1, 3))
    assert np.allclose(parts, gradient(slice(0, 3)), rtol=0 if table is EXACT else 1e-14, atol=0)
