"""Values and gradients of every operator against PyTorch's, on the configurations drawn for their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.operators.case import Case
from tests.operators.cases import cases, references
from tests.operators.test_gradients import error_beside, with_gradients

torch = pytest.importorskip("torch", reason="PyTorch is not installed: its results are not compared with")

pytestmark = pytest.mark.oracle

BOUND = 1e-12
DRAWS = 6
CASES = cases()


def errors(case: Case, reference: Any, rng: np.random.Generator) -> dict[str, float]:
    """The relative error of each result and gradient; of a gradient near zero, beside the largest one."""
    known, op = with_gradients(case, rng), case.op
    found = op.backward(op.forward(known))
    tensors = {role: torch.tensor(known[role], requires_grad=role in case.roles) for role in op.inputs}
    if "mask" in found:
        tensors["mask"] = torch.tensor(found["mask"])
    results = reference(tensors, {**dict(op.inferred.attrs), **op.runtime, "training": True})
    results = results if isinstance(results, tuple) else (results,)
    torch.autograd.backward(results, [torch.tensor(known[f"d{role}"]) for role in op.results])
    expected = {role: result.detach().numpy() for role, result in zip(op.results, results, strict=True)}
    gradients = {f"d{role}": tensors[role].grad.numpy() for role in case.roles}
    for role, value in expected.items():
        assert found[role].shape == value.shape
    largest = max((float(np.linalg.norm(gradient)) for gradient in gradients.values()), default=0.0)
    return {role: error_beside(found[role], value, 0.0) for role, value in expected.items()} | {
        role: error_beside(found[role], gradient, largest) for role, gradient in gradients.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str) -> None:
    rng = np.random.default_rng([ord(letter) for letter in name])
    reference = references()[name.partition("/")[0]]
    for _ in range(DRAWS):
        for role, error in errors(CASES[name](rng), reference, rng).items():
            assert error < BOUND, f"{role} is off by {error:.1e}"
