"""Linear maps together with an activation: behind the map, or the gradient of the one before it.

They give what the kernels of the single ops give one after the other; on devices a library finishes its product so.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from .elementwise import gelu_dx, gelu_forward, relu_forward
from .layout import Array
from .linear import linear_dx, linear_forward

Approximate = Literal["none", "tanh"]


def linear_relu_forward(*arrays: Array, transposed: bool = False, **_: object) -> None:
    """x [..., in], weight, [bias] -> y [..., out] = max(x·Wᵀ + b, 0)."""
    linear_forward(*arrays, transposed=transposed)
    relu_forward(arrays[-1], arrays[-1])


def linear_gelu_forward(*arrays: Array, approximate: Approximate, transposed: bool = False, **_: object) -> None:
    """x [..., in], weight, [bias] -> y [..., out] = gelu(x·Wᵀ + b)."""
    linear_gelu_kept_forward(*arrays, np.empty_like(arrays[-1]), approximate=approximate, transposed=transposed)


def linear_gelu_kept_forward(*arrays: Array, approximate: Approximate, transposed: bool = False, **_: object) -> None:
    """x [..., in], weight, [bias] -> y [..., out] = gelu(z), z = x·Wᵀ + b."""
    *operands, y, z = arrays
    linear_forward(*operands, z, transposed=transposed)
    gelu_forward(z, y, approximate=approximate)


def linear_gelu_dx(
    dy: Array,
    weight: Array,
    z: Array,
    dz: Array,
    *,
    approximate: Literal["tanh"],
    transposed: bool = False,
    **_: object,
) -> None:
    """dy [..., out], weight, what gelu was of [..., in] -> dz [..., in]: the map's gradient times gelu's slope at z."""
    between = np.empty_like(dz)
    linear_dx(dy, weight, between, transposed=transposed)
    gelu_dx(between, z, dz, approximate=approximate)
