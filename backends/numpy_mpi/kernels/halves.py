"""Products of matrices in half precision, as libraries for devices compute them: sums in f32, results rounded once.

NumPy does so on copies in f32: operands and results of two bytes are cast.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from .cast import cast
from .layout import Array
from .linear import linear_dw, linear_dx, linear_forward
from .matmul import matmul_dx, matmul_forward

TYPES = (np.dtype("float16"), np.dtype("uint16"))
"""Of arrays in half precision; bf16 lies in the 16 bits of an integer."""


def in_f32(name: str, kernel: Callable[..., None], results: int) -> Callable[..., None]:
    """The kernel for arrays of two bytes, so many of which, the last, are results."""

    @wraps(kernel)
    def run(*arrays: Array, **told: Any) -> None:
        halves = [at for at, array in enumerate(arrays) if array.dtype in TYPES]
        wide = {at: np.empty(arrays[at].shape, np.float32) for at in halves}
        given, made = halves[: len(halves) - results], halves[len(halves) - results :]
        cast(*(arrays[at] for at in given), *(wide[at] for at in given))
        kernel(*(wide.get(at, array) for at, array in enumerate(arrays)), **told)
        cast(*(wide[at] for at in made), *(arrays[at] for at in made))

    run.__name__ = name
    return run


linear_halves_forward = in_f32("linear_halves_forward", linear_forward, 1)
linear_halves_dx = in_f32("linear_halves_dx", linear_dx, 1)
linear_halves_dw = in_f32("linear_halves_dw", linear_dw, 0)
matmul_halves_forward = in_f32("matmul_halves_forward", matmul_forward, 1)
matmul_halves_dx = in_f32("matmul_halves_dx", matmul_dx, 2)
