"""The integer stand-ins: integers from integers, whatever the shards, and sensitive to what must not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels import EXACT, KERNELS
from backends.numpy_mpi.kernels.exact import fold, initialise
from dlc.ir.graph import Attr
from dlc.ir.tensor import Axis, TensorType
from dlc.ops import operator
from dlc.ops.operator import LAYOUTS
from tests.kernels.calling import Known, Op, image, kernel

CASES: dict[str, dict[str, Attr]] = {
    "relu": {},
    "tanh": {},
    "sigmoid": {},
    "leaky_relu": {"slope": 0.3},
    "elu": {},
    "gelu": {},
    "silu": {},
    "hard_swish": {},
    "softmax": {"axis": "channel"},
    "log_softmax": {"axis": "channel"},
    "avgpool": {"window": 3, "stride": 2, "pad": 1},
    "global_avgpool": {},
    "bn": {"group": 2},
}


def integers(rng: np.random.Generator, *shape: int, largest: int = 40) -> Any:
    return rng.integers(-largest, largest + 1, shape).astype(np.float64)


def test_fold() -> None:
    y = np.empty(9)
    fold(np.array([-4, -3, 0, 3, 4, 7, 2.0**52 + 1, -(2.0**52), 3.9]), y)
    expected = [3, -3, 0, 3, -3, 0, (2**52 + 1 + 3) % 7 - 3, (-(2**52) + 3) % 7 - 3, 3]
    assert y.tolist() == expected


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CASES)
def test_integers_whatever_the_shards(name: str, layout: str) -> None:
    rng = np.random.default_rng(0)
    op = Op(operator(name), (image("f64", 6, 2, 5, 4),), CASES[name], layout, table=EXACT)
    op.runtime = {"count": 6, "position": 0} if name == "bn" else {}
    known = {role: integers(rng, *op.types[role].shape) for role in op.inputs}
    known["dy"] = integers(rng, *op.types["y"].shape)
    whole = op.backward(op.forward(known))
    assert all(np.array_equal(array, np.rint(array)) for array in whole.values())
    assert np.abs(whole["y"]).max() <= (3 * 20 if name == "global_avgpool" else 3)
    parts = []
    for start, stop in ((0, 2), (2, 6)):
        op.runtime = {"count": 6, "position": start} if name == "bn" else {}
        parts.append(op.backward(op.forward(known | {role: known[role][start:stop] for role in ("x", "dy")})))
    for role in ("y", "dx"):
        assert np.array_equal(np.concatenate([part[role] for part in parts]), whole[role])
    for role in ("dscale", "dshift") if name == "bn" else ():
        assert np.array_equal(parts[0][role] + parts[1][role], whole[role])


@pytest.mark.parametrize("name", ["cross_entropy", "mse", "half_mse"])
def test_losses_add_up_and_see_the_count(name: str) -> None:
    rng = np.random.default_rng(1)
    label = TensorType("i32", (Axis("batch", 6),))
    operands = (image("f64", 6, 4), label if name == "cross_entropy" else image("f64", 6, 4))
    op = Op(operator(name), operands, {}, runtime={"count": 6}, table=EXACT)
    first, second = op.inputs
    known: Known = {first: integers(rng, 6, 4), "dy": np.array(1.0)}
    known[second] = rng.integers(0, 4, 6).astype(np.int32) if name == "cross_entropy" else integers(rng, 6, 4)

    def run(start: int, stop: int, count: int = 6) -> Known:
        op.runtime = {"count": count}
        return op.backward(op.forward(known | {role: known[role][start:stop] for role in (first, second)}))

    whole, parts = run(0, 6), (run(0, 1), run(1, 6))
    assert whole["y"] == parts[0]["y"] + parts[1]["y"]
    assert np.array_equal(whole[f"d{first}"], np.concatenate([part[f"d{first}"] for part in parts]))
    assert not np.array_equal(whole[f"d{first}"], run(0, 6, count=3)[f"d{first}"])


def test_dropout_keeps_what_the_real_one_keeps() -> None:
    rng = np.random.default_rng(2)
    x = integers(rng, 4, 30)
    masks = []
    for table in (KERNELS, EXACT):
        y, mask = np.empty_like(x), np.empty(x.shape, np.uint8)
        kernel("dropout", "forward", table=table)(x, y, mask, p=0.5, key=(1, 2), step=3, position=5)
        masks.append(mask)
    assert np.array_equal(*masks)
    assert np.array_equal(y, x * mask)


@pytest.mark.parametrize(
    ("rule", "states", "attrs"),
    [
        ("sgd", 0, {}),
        ("sgd", 1, {"momentum": 0.9}),
        ("sgd", 1, {"momentum": 0.9, "nesterov": True}),
        ("adagrad", 1, {}),
        ("rmsprop", 1, {}),
        ("rmsprop", 2, {"momentum": 0.9}),
        ("adam", 2, {}),
        ("adamw", 2, {}),
    ],
)
def test_updates_are_exact(rule: str, states: int, attrs: dict[str, Any]) -> None:
    """In sixteenths after two steps, for gradients up to 2**40; another gradient gives another weight."""
    results = []
    for moved in (0, 1):
        weight, kept = np.zeros(5), [np.zeros(5) for _ in range(states)]
        gradient = np.array([2.0**40 + 1, -3, 0, 1, 2]) + moved
        for step in range(2):
            kernel(rule, "update", table=EXACT)(weight, gradient, *kept, lr=0.1, step=step, **attrs)
        assert np.array_equal(weight * 16, np.rint(weight * 16))
        results.append(weight)
    assert (results[0] != results[1]).all()


def test_clipping_by_norm_looks_at_every_gradient() -> None:
    def run(last: float) -> Any:
        gradients = [np.array([1.0, 2.0]), np.array([0.0, last])]
        kernel("clip", "clip", table=EXACT)(*gradients, kind="norm", bound=1.0)
        return gradients[0]

    assert len({tuple(run(last)) for last in (0.0, 1.0, 2.0, 3.0)}) > 1


def test_first_weights_are_small_integers() -> None:
    weight = np.full((7, 5), 9.5)
    initialise(weight, kind="he", key=(1, 2), fan_in=3)
    assert set(np.unique(weight)) == {-2, -1, 0, 1, 2}
