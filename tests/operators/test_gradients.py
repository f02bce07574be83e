"""Every gradient of every operator against central differences, on drawn configurations, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.ops import LAYERS, LOSSES
from tests.kernels.calling import Known, numeric_gradient
from tests.operators.case import Case
from tests.operators.cases import cases

BOUND = 1e-7
AT_LEAST = 500
CASES = cases()
DRAWS = -(-AT_LEAST // max(1, len(CASES)))


def with_gradients(case: Case, rng: np.random.Generator) -> Known:
    """The case's inputs and a random gradient of each of its results."""
    dys = {f"d{role}": np.asarray(rng.standard_normal(case.op.types[role].shape)) for role in case.op.results}
    return case.known | dys


def largest_error(case: Case, rng: np.random.Generator) -> tuple[float, str]:
    """The relative error of the worst gradient and its role; of gradients near zero, relative to the largest one."""
    known = with_gradients(case, rng)
    found = case.op.backward(case.op.forward(known))
    numeric = {role: numeric_gradient(case.op, known, role) for role in case.roles}
    largest = max(float(np.linalg.norm(gradient)) for gradient in numeric.values())
    return max((error_beside(found[f"d{role}"], expected, largest), role) for role, expected in numeric.items())


def error_beside(found: np.ndarray, expected: np.ndarray, largest: float) -> float:
    """‖found - expected‖ over ‖expected‖; for a gradient near zero, over a thousandth of the largest one's norm.

    Infinite elements must be equal.
    """
    scale = max(float(np.linalg.norm(expected[np.isfinite(expected)])), 1e-3 * largest)
    with np.errstate(invalid="ignore"):
        difference = np.where(found == expected, 0.0, found - expected)
    return float(np.linalg.norm(difference)) / (scale or 1.0)


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    rng = np.random.default_rng([ord(letter) for letter in name])
    for draw in range(DRAWS):
        error, role = largest_error(CASES[name](rng), rng)
        assert error < BOUND, f"draw {draw}: d{role} is off by {error:.1e}"


def test_every_operator_with_a_gradient_is_drawn() -> None:
    differentiable = {op.name for op in (*LAYERS, *LOSSES) if op.gradients and not op.view}
    assert differentiable - {name.partition("/")[0] for name in CASES} == set()
    assert DRAWS * len(CASES) >= AT_LEAST
