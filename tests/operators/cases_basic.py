"""Cases of linear maps."""

from __future__ import annotations

import numpy as np

from dlc.ir.tensor import Axis, TensorType
from dlc.ops import operator
from tests.kernels.calling import Op
from tests.operators.case import Case, Draw, drawn


def linear(rng: np.random.Generator) -> Case:
    """Of features or of sequences, with and without a bias, the weight as it is or transposed."""
    n, seq, width, features = (int(extent) for extent in rng.integers((1, 1, 1, 1), (4, 4, 6, 6)))
    axes = (Axis("batch", n), *((Axis("seq", seq),) if rng.random() < 0.5 else ()), Axis("width", width))
    arguments = {"features": features, "bias": bool(rng.random() < 0.7)}
    arguments |= {"transposed": True} if rng.random() < 0.4 else {}
    return drawn(Op(operator("linear"), (TensorType("f64", axes),), arguments), rng)


CASES: dict[str, Draw] = {"linear": linear}
