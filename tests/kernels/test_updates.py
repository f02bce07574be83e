"""LARS, LAMB, L-BFGS and regularisers: five steps and more against PyTorch, or against the papers' formulas in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels import EXACT
from backends.numpy_mpi.kernels.lbfgs import NEXT, PAIRS
from dlc.ir.tensor import tensor
from dlc.ops import optimizer
from tests.kernels.calling import Array, kernel, relative_error

SHAPES = ((100, 200), (7,), (3, 2, 4))  # the first is longer than a chunk


def rate(step: int) -> float:
    return 0.5 / (step + 1)


def lars(torch: Any, w: Any, g: Any, state: dict[str, Any], lr: float, step: int, **a: float) -> Any:
    """You et al. 2017, equation 6, the rate behind the velocity."""
    g = g + a["weight_decay"] * w
    sizes = w.norm(), (g - a["weight_decay"] * w).norm()
    trust = a["trust"] * sizes[0] / (sizes[1] + a["weight_decay"] * sizes[0] + a["eps"]) if all(sizes) else 1.0
    state["v"] = a["momentum"] * state.get("v", 0) + trust * g
    return w - lr * state["v"]


def lamb(torch: Any, w: Any, g: Any, state: dict[str, Any], lr: float, step: int, **a: float) -> Any:
    """You et al. 2020, Algorithm 2."""
    state["m"] = a["beta1"] * state.get("m", 0) + (1 - a["beta1"]) * g
    state["v"] = a["beta2"] * state.get("v", 0) + (1 - a["beta2"]) * g**2
    m, v = state["m"] / (1 - a["beta1"] ** (step + 1)), state["v"] / (1 - a["beta2"] ** (step + 1))
    u = m / (torch.sqrt(v) + a["eps"]) + a["weight_decay"] * w
    return w - lr * (w.norm() / u.norm() if w.norm() and u.norm() else 1.0) * u


FORMULAS: list[tuple[str, int, Callable[..., Any], dict[str, float]]] = [
    ("lars", 1, lars, {"momentum": 0.9, "trust": 0.001, "weight_decay": 0.0, "eps": 1e-8}),
    ("lars", 1, lars, {"momentum": 0.9, "trust": 0.02, "weight_decay": 0.1, "eps": 1e-4}),
    ("lars", 0, lars, {"momentum": 0.0, "trust": 0.02, "weight_decay": 0.1, "eps": 0.0}),
    ("lamb", 2, lamb, {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6, "weight_decay": 0.0}),
    ("lamb", 2, lamb, {"beta1": 0.8, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
]


@pytest.mark.oracle
@pytest.mark.parametrize("zero", ["", "weight", "gradient"])
@pytest.mark.parametrize(("rule", "states", "formula", "attrs"), FORMULAS)
def test_rates_by_norms(
    rule: str, states: int, formula: Callable[..., Any], attrs: dict[str, float], zero: str
) -> None:
    """Where a norm is 0 the rate is as it would be without it."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its results are not compared with")
    rng = np.random.default_rng(0)
    weight = np.zeros(SHAPES[0]) if zero == "weight" else rng.standard_normal(SHAPES[0])
    expected, state = torch.tensor(weight.copy()), dict[str, Any]()
    kept = [np.zeros_like(weight) for _ in range(states)]
    for step in range(5):
        gradient = rng.standard_normal(weight.shape) * (zero != "gradient" or step > 0)
        expected = formula(torch, expected, torch.tensor(gradient), state, rate(step), step, **attrs)
        kernel(rule, "update")(weight, gradient, *kept, lr=rate(step), step=step, **attrs)
        assert relative_error(weight, expected.numpy()) < 1e-12


def lbfgs_states(history: int, elements: int) -> list[Array]:
    joint = optimizer("lbfgs").joint
    assert joint is not None
    return [np.zeros(type_.shape) for _, type_ in joint({"history": history}, tensor("f64", element=elements))]


def bowl(weights: list[Any], noise: list[Any], curvature: list[Any]) -> list[Any]:
    """The gradient of Σ curvature·w⁴/4 + noise·w, for arrays and tensors alike."""
    return [c * w**3 + n for w, n, c in zip(weights, noise, curvature, strict=True)]


@pytest.mark.oracle
@pytest.mark.parametrize("history", [1, 3, 10])
def test_lbfgs(history: int) -> None:
    """Eight steps, so that slots are used again; in one the gradient changes the wrong way: that pair is not kept."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its results are not compared with")
    rng = np.random.default_rng(history)
    shapes = ((6, 5), (4,), (2, 2, 2))
    weights = [rng.standard_normal(shape) for shape in shapes]
    tensors = [torch.tensor(weight.copy(), requires_grad=True) for weight in weights]
    curvature = [np.abs(rng.standard_normal(shape)) + 0.1 for shape in shapes]
    kept = lbfgs_states(history, sum(weight.size for weight in weights))
    stepper = torch.optim.LBFGS(tensors, lr=1.0, max_iter=1, history_size=history)
    left_out, given = list[int](), [np.zeros(shape) for shape in shapes]
    for step in range(8):
        noise = [0.3 * rng.standard_normal(shape) for shape in shapes]
        gradients = bowl(weights, noise, curvature)
        if step == 4:
            gradients = [before - 2 * (g - before) for g, before in zip(gradients, given, strict=True)]
        given = [gradient.copy() for gradient in gradients]
        for parameter, gradient in zip(tensors, given, strict=True):
            parameter.grad = torch.tensor(gradient)
        stepper.param_groups[0]["lr"] = rate(step)
        stepper.step(lambda: torch.tensor(0.0))
        before = kept[-1][[PAIRS, NEXT]].copy()
        kernel("lbfgs", "update")(*weights, *gradients, *kept, lr=rate(step), history=history)
        left_out += [step] * np.array_equal(before, kept[-1][[PAIRS, NEXT]])
        assert all(np.array_equal(a, b) for a, b in zip(gradients, given, strict=True))
        for weight, parameter in zip(weights, tensors, strict=True):
            assert relative_error(weight, parameter.detach().numpy()) < 1e-11, step
    assert history == 1 or (0 in left_out and 4 in left_out)


def test_lbfgs_rests_where_there_is_no_gradient() -> None:
    weights, kept = [np.ones(3), np.ones((2, 2))], lbfgs_states(2, 7)
    kernel("lbfgs", "update")(*weights, np.full(3, 1e-8), np.zeros((2, 2)), *kept, lr=1.0, history=2)
    assert all((array == 1).all() for array in weights)
    assert not any(array.any() for array in kept)


@pytest.mark.parametrize("history", [1, 2, 5])
def test_lbfgs_finds_the_bottom_of_a_parabola(history: int) -> None:
    scales = np.linspace(1, 30, 12)
    weights, kept = [np.linspace(-1, 2, 12)], lbfgs_states(history, 12)
    for _ in range(60):
        kernel("lbfgs", "update")(weights[0], scales * weights[0], *kept, lr=1.0, history=history)
    assert np.linalg.norm(weights[0]) < 1e-4


@pytest.mark.oracle
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.1), (0.2, 0.0), (0.2, 0.1)])
def test_regularisers_add_the_gradients_of_their_penalties(l1: float, l2: float) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its results are not compared with")
    rng = np.random.default_rng(1)
    weights = [rng.standard_normal(shape) for shape in SHAPES]
    weights[1][:3] = 0
    gradients = [rng.standard_normal(shape) for shape in SHAPES]
    tensors = [torch.tensor(weight, requires_grad=True) for weight in weights]
    sum(l1 * t.abs().sum() + l2 / 2 * (t**2).sum() for t in tensors).backward()
    expected = [gradient + t.grad.numpy() for gradient, t in zip(gradients, tensors, strict=True)]
    kernel("regularise", "regularise")(*weights, *gradients, **{n: v for n, v in (("l1", l1), ("l2", l2)) if v})
    assert all(relative_error(a, b) < 1e-14 for a, b in zip(gradients, expected, strict=True))


# Exact stand-ins.


def exact_lbfgs(moved: float) -> list[Array]:
    weights, kept = [np.zeros((2, 2)), np.zeros(3)], lbfgs_states(2, 7)
    for step in range(4):
        gradients = [np.array([[2.0**40, -3], [0, step]]), np.array([1.0, 2, 5 + moved])]
        kernel("lbfgs", "update", table=EXACT)(*weights, *gradients, *kept, lr=0.1, history=2)
    return weights


def test_exact_lbfgs_is_exact_and_sees_every_weight() -> None:
    one, other = exact_lbfgs(0), exact_lbfgs(1)
    assert all(np.array_equal(weight * 16, np.rint(weight * 16)) for weight in one)
    assert not np.array_equal(one[1], other[1])


@pytest.mark.parametrize(("rule", "states"), [("lars", 0), ("lars", 1), ("lamb", 2)])
def test_exact_norms_are_of_whole_tensors(rule: str, states: int) -> None:
    """The first element's step depends on the last one."""
    found = set()
    for last in range(6):
        weight, gradient = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, float(last)])
        kept = [np.zeros(3) for _ in range(states)]
        attrs = {"momentum": 0.5 * states} if rule == "lars" else {}
        kernel(rule, "update", table=EXACT)(weight, gradient, *kept, lr=0.1, step=0, **attrs)
        assert np.array_equal(weight * 16, np.rint(weight * 16))
        found.add(weight[0])
    assert len(found) > 1


def test_exact_regularisers_differ() -> None:
    found = []
    for attrs in ({"l1": 0.1}, {"l2": 0.1}, {"l1": 0.1, "l2": 0.1}):
        gradient = np.zeros(3)
        kernel("regularise", "regularise", table=EXACT)(np.array([2.0, -3, 0]), gradient, **attrs)
        found.append(gradient.tolist())
    assert found == [[1, -1, 0], [2, -3, 0], [3, -4, 0]]
