"""Kernels on parts of a batch, one of them empty: results stand side by side, sums over samples add up."""

from __future__ import annotations

from copy import copy
from itertools import pairwise

import numpy as np
import pytest

from tests.kernels.calling import Known
from tests.operators.case import Case
from tests.operators.cases import cases
from tests.operators.test_gradients import with_gradients

BOUND = 1e-13
CASES = cases()
DRAWS = 3


def on_part(case: Case, known: Known, batch: int, start: int, stop: int) -> Known:
    """All results and gradients of the samples start … stop of a batch."""
    part = copy(case.op)
    known_when_running = {"count": batch, "position": start}
    part.runtime = {**case.op.runtime} | {n: v for n, v in known_when_running.items() if n in part.operator.runtime}
    types = part.types
    given = {role: array[start:stop] if types[role].batched else array for role, array in known.items()}
    return part.backward(part.forward(given))


@pytest.mark.parametrize("name", CASES)
def test_parts_make_the_whole(name: str) -> None:
    rng = np.random.default_rng([ord(letter) for letter in name])
    for _ in range(DRAWS):
        case = CASES[name](rng)
        batches = [case.op.types[role].shape[0] for role in case.op.inputs if case.op.types[role].batched]
        if not batches or case.op.operator.name == "bn":
            pytest.skip("it has no samples, or its groups span parts: the ranks exchange their sums")
        batch, known = batches[0], with_gradients(case, rng)
        whole = on_part(case, known, batch, 0, batch)
        cuts = (0, 0, 1, batch) if batch > 1 else (0, 0, 1)
        parts = [on_part(case, known, batch, *cut) for cut in pairwise(cuts)]
        for role in (*case.op.results, *(f"d{role}" for role in case.roles)):  # saved values lie as the kernel likes
            found = [part[role] for part in parts]
            together = np.concatenate(found) if case.op.types[role].batched else sum(found)
            np.testing.assert_allclose(together, whole[role], rtol=BOUND, atol=BOUND, err_msg=role)
