"""Recurrent networks in C against the NumPy kernels in float64."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c import recurrence
from backends.numpy_mpi.c.target import Target
from backends.numpy_mpi.kernels import c_gru, c_lstm, c_rnn
from dlc.ir.tensor import tensor
from dlc.ops import operator
from tests.c.bound import Bound
from tests.c.building import JUNK, build, each_target, runnable, threads
from tests.kernels.calling import DTYPES, Op, kernel

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")

BOUNDS = {"f32": 4e-6, "f64": 1e-14}
"""Largest errors of results as parts of the largest result, along as many elements as are drawn here."""

CASES: tuple[dict[str, Any], ...] = (
    {"batch": 3, "seq": 5, "width": 7, "hidden": 9},
    {"batch": 1, "seq": 1, "width": 1, "hidden": 1, "bias": False},
    {"batch": 17, "seq": 4, "width": 40, "hidden": 33, "layers": 2, "bidirectional": True},
    {"batch": 15, "seq": 7, "width": 5, "hidden": 64, "truncate": 3, "returns": "last"},
    {"batch": 2, "seq": 3, "width": 31, "hidden": 20, "bidirectional": True, "returns": "last", "layers": 3},
    {"batch": 0, "seq": 3, "width": 4, "hidden": 5},
)
"""No multiple of a vector, one of everything, several layers both ways, pieces, only the last state, no sample."""

EXTENTS = ("batch", "seq", "width")


@pytest.fixture(scope="module", params=each_target())
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bound:
    target: Target = request.param
    made = {(key, dtype): make(target, dtype) for key, make in recurrence.FUNCTIONS.items() for dtype in BOUNDS}
    folder = tmp_path_factory.mktemp("recurrence")
    bindings = SimpleNamespace(**{**vars(c_lstm), **vars(c_gru), **vars(c_rnn)})
    return Bound(build(list(made.values()), target, tuple(BOUNDS), folder), made, bindings)


def drawn(op: Op, dtype: str) -> dict[str, Any]:
    """x and dy, and weights as large as they are initialised."""
    rng = np.random.default_rng(3)
    bound = {role: 1.0 if role in ("x", "dy") else op.args["hidden"] ** -0.5 for role in (*op.inputs, "dy")}
    return {role: rng.uniform(-b, b, op.types[role].shape).astype(DTYPES[dtype]) for role, b in bound.items()}


def results(op: Op, known: dict[str, Any], dtype: Any, call: Any) -> dict[str, Any]:
    """Everything that the forward and the backward pass write."""
    arrays = {role: np.full(type_.shape, JUNK, dtype) for role, type_ in op.types.items()}
    arrays |= {role: array.astype(dtype) for role, array in known.items()}
    (gradient,) = op.operator.gradients
    stages = {"forward": (*op.inputs, *op.outputs), "dx": (*op.needs(gradient), *(f"d{role}" for role in op.inputs))}
    for stage, roles in stages.items():
        call(stage, [arrays[role] for role in roles], dict(op.inferred.attrs))
    return {role: arrays[role] for role in (*op.outputs, *(f"d{role}" for role in op.inputs))}


def called(library: Bound, name: str, dtype: str, stage: str, arrays: list[Any], attrs: dict[str, Any]) -> None:
    assert library.call((name, stage, ""), dtype, arrays, **attrs)


@pytest.mark.parametrize("name", recurrence.CELLS)
@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_as_numpy_in_float64(library: Bound, name: str, dtype: str, case: dict[str, Any]) -> None:
    operator_ = operator(name)
    assert operator_ is not None
    x = tensor(dtype, **{extent: case[extent] for extent in EXTENTS})
    given = {key: value for key, value in case.items() if key not in EXTENTS}
    for more in ({}, {"nonlinearity": "relu"}) if name == "rnn" else ({},):
        op = Op(operator_, (x,), {**given, **more})
        known = drawn(op, dtype)
        wide = results(op, known, np.float64, lambda stage, arrays, attrs: kernel(name, stage)(*arrays, **attrs))
        found = []
        for count in (1, 2):
            threads(library.library, count)
            found.append(results(op, known, DTYPES[dtype], partial(called, library, name, dtype)))
        for role, exact in wide.items():
            assert np.array_equal(found[0][role], found[1][role]), f"{role} depends on the number of threads"
            scale = max(float(np.abs(exact).max(initial=0)), 1e-30)
            assert np.abs(found[0][role] - exact).max(initial=0) <= BOUNDS[dtype] * scale, role
