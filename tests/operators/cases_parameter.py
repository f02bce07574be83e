"""A weight that is a value by itself."""

from __future__ import annotations

import numpy as np

from dlc.ops import operator
from tests.kernels.calling import Op
from tests.operators.case import Case, drawn


def parameter(rng: np.random.Generator) -> Case:
    shape = tuple(int(extent) for extent in rng.integers(1, 5, rng.integers(1, 4)))
    op = Op(operator("parameter"), (), {"shape": shape})
    op.types = {role: type_.with_dtype("f64") for role, type_ in op.types.items()}
    return drawn(op, rng, "weight")


CASES = {"parameter": parameter}
