"""Kernels on parts of an op beside the whole: in single precision, with stand-ins, without samples, on views.

`tests/ops` compares parts of every split in double precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from backends.numpy_mpi.kernels import EXACT, KERNELS, Kernels
from dlc.ops.operator import LAYOUTS
from tests.kernels.calling import Known
from tests.operators.case import Case
from tests.operators.test_gradients import with_gradients
from tests.ops.pieces import Pieces, indexing, largest_error, partitions, reads_something
from tests.ops.test_indexing import CASES as ALL

Rng = np.random.Generator

CASES = {name: draw for name, draw in ALL.items() if name not in ("flatten", "reshape")}
DRAWS = 6
SINGLE = 1e-5


def seeded(name: str) -> Rng:
    return np.random.default_rng([ord(letter) for letter in name])


def errors(case: Case, known: Known, rng: Rng, exact: bool = False) -> Iterator[tuple[str, float]]:
    """For each partition the largest error of the parts."""
    space, whole = indexing(case.op), case.op.backward(case.op.forward(known))
    for partition, mesh in partitions(space, rng):
        pieces = Pieces(case.op, space, partition, mesh, known, exact)
        if reads_something(pieces):
            pieces.forward()
            pieces.backward()
            yield f"{partition} of {case.op.types}", largest_error(pieces, whole)


@pytest.mark.parametrize("name", CASES)
def test_single_precision(name: str) -> None:
    rng = seeded(name)
    for _ in range(DRAWS):
        case = CASES[name](rng)
        operands = tuple(type_.with_dtype("f32") if type_.dtype == "f64" else type_ for type_ in case.op.operands)
        op = replace(case.op, operands=operands)
        known = {
            role: a.astype(np.float32) if a.dtype == np.float64 else a for role, a in with_gradients(case, rng).items()
        }
        for where, error in errors(replace(case, op=op), known, rng):
            assert error < SINGLE, where


@pytest.mark.parametrize("name", CASES)
def test_stand_ins_are_exact(name: str) -> None:
    rng = seeded(name)
    for _ in range(DRAWS):
        case = stood_in(CASES[name](rng))
        for where, error in errors(case, whole_numbers(case, rng), rng, exact=True):
            assert error == 0, where


def stood_in(case: Case, table: Kernels = EXACT) -> Case:
    """The same op with stand-ins, by an algorithm that is exact."""
    algorithm = "direct" if case.op.algorithm else ""
    return replace(case, op=replace(case.op, table=table, algorithm=algorithm))


def whole_numbers(case: Case, rng: Rng) -> Known:
    return {role: np.rint(4 * a) if a.dtype == np.float64 else a for role, a in with_gradients(case, rng).items()}


@pytest.mark.parametrize("table", [KERNELS, EXACT], ids=["real", "exact"])
@pytest.mark.parametrize("name", CASES)
def test_no_samples(name: str, table: Kernels) -> None:
    """Results are empty, sums over the samples and gradients of weights are zero."""
    rng = seeded(name)
    for layout in LAYOUTS:
        case = stood_in(CASES[name](rng), table)
        free = case.op.operator.layout_free and len(case.op.operands[0].axes) == 4
        op = replace(case.op, layout=layout) if free else case.op
        known = {role: a[:0] if op.types[role].batched else a for role, a in with_gradients(case, rng).items()}
        if not any(op.types[role].batched for role in op.inputs):
            continue
        found = op.backward(op.forward(known))
        for role in (*op.results, *(f"d{role}" for role in op.inputs)):
            if role in found and role not in known and op.types[role].axes:
                assert found[role].size == 0 if op.types[role].batched else not found[role].any(), role
