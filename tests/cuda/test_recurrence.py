"""Recurrent networks in CUDA: their text on the processor against the NumPy kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.ir.tensor import tensor
from dlc.ops import operator
from tests.cuda.calling import compare, empty, needs_compiler
from tests.kernels.calling import Op

CASES: tuple[dict[str, Any], ...] = (
    {"batch": 3, "seq": 5, "width": 7, "hidden": 9},
    {"batch": 1, "seq": 1, "width": 1, "hidden": 1, "bias": False},
    {"batch": 5, "seq": 4, "width": 4, "hidden": 33, "layers": 2, "bidirectional": True},
    {"batch": 3, "seq": 7, "width": 5, "hidden": 8, "truncate": 3, "returns": "last"},
    {"batch": 2, "seq": 3, "width": 3, "hidden": 2, "bidirectional": True, "returns": "last", "layers": 3},
    {"batch": 0, "seq": 3, "width": 4, "hidden": 5},
)
"""Odd extents, one of everything, several layers both ways, pieces, only the last state, no sample."""

CELLS = (("lstm", {}), ("gru", {}), ("rnn", {}), ("rnn", {"nonlinearity": "relu"}))

pytestmark = needs_compiler


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("name", "more"), CELLS)
def test_it(name: str, more: dict[str, Any], case: dict[str, Any], dtype: str) -> None:
    extents = {axis: case[axis] for axis in ("batch", "seq", "width")}
    args = {name: value for name, value in case.items() if name not in extents} | more
    op = Op(operator(name), (tensor("f64", **extents),), args)
    rng = np.random.default_rng(3)
    known = {role: rng.uniform(-0.5, 0.5, op.types[role].shape) for role in (*op.inputs, "dy")}
    results = [empty(*op.types[role].shape) for role in op.outputs]
    inputs = [known[role] for role in op.inputs]
    compare((name, "forward", ""), dtype, [*inputs, *results], bound=32, **dict(op.inferred.attrs))
    known |= {role: value for role, value in op.forward(known).items() if role in op.outputs}
    (gradient,) = op.operator.gradients
    asked = [empty(*op.types[f"d{role}"].shape) for role in op.inputs]
    needs = [known[role] for role in op.needs(gradient)]
    compare((name, "dx", ""), dtype, [*needs, *asked], bound=64, **dict(op.inferred.attrs))
