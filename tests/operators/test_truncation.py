"""Truncated back-propagation through time: no derivative of anything, so only PyTorch's detached state checks it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.operators.cases_recurrent import recurrent
from tests.operators.test_gradients import with_gradients

OPS = ("rnn", "lstm", "gru")
DRAWS = 12


@pytest.mark.parametrize("name", OPS)
def test_pieces_as_long_as_the_sequence_change_nothing(name: str) -> None:
    found = []
    for truncate in (0, 4, 9):
        rng = np.random.default_rng(1)
        case = recurrent(name, truncate=truncate)(rng)
        found.append(case.op.backward(case.op.forward(with_gradients(case, rng))))
    for other in found[1:]:
        assert all(np.array_equal(found[0][role], other[role]) for role in found[0])


@pytest.mark.parametrize("name", OPS)
def test_no_gradient_passes_a_stop(name: str) -> None:
    """With a stop before each element, an element's gradient does not depend on what arrives at later ones."""
    rng = np.random.default_rng(2)
    fixed = {"truncate": 1, "layers": 1, "bidirectional": False, "returns": "sequence"}
    case = next(c for c in iter(lambda: recurrent(name, **fixed)(rng), None) if c.known["x"].shape[1] > 2)
    known = case.op.forward(with_gradients(case, rng))
    late = known["dy"].copy()
    late[:, 2:] += 1
    dx, other = (case.op.backward(known | {"dy": dy})["dx"] for dy in (known["dy"], late))
    assert np.array_equal(dx[:, :2], other[:, :2])
    assert not np.allclose(dx[:, 2:], other[:, 2:])


@pytest.mark.oracle
@pytest.mark.parametrize("name", OPS)
def test_truncated_gradients_are_those_of_detached_states(name: str) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: its results are not compared with")
    from tests.operators.references_recurrent import REFERENCES
    from tests.operators.test_against_torch import BOUND, errors

    rng = np.random.default_rng(3)
    for _ in range(DRAWS):
        case = recurrent(name, truncate=int(rng.integers(1, 4)))(rng)
        for role, error in errors(case, REFERENCES[name], rng).items():
            assert error < BOUND, f"{role} is off by {error:.1e}"
