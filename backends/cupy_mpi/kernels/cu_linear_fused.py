"""Linear maps together with an activation: cuBLASLt finishes its products so; else kernels finish cuBLAS's.

cuBLASLt's GELU is the approximation by tanh: of the other one the kernel is always the program's own.
"""

from __future__ import annotations

from typing import Literal

from .cu_linear import finished, rows
from .launch import Array, Product, Steps, each

Approximate = Literal["none", "tanh"]


def linear_relu_forward(x: Array, weight: Array, *rest: Array, transposed: bool = False, **_: object) -> Steps:
    """y = max(x·Wᵀ + b, 0)."""
    *bias, y = rest
    if not y.size:
        return ()
    operands = (rows(x), weight if transposed else weight.T, rows(y))
    above = each(y.size, *(bias or [None]), y, numbers=(y.shape[-1],), kernel="linear_relu_forward")
    own = (Product(*operands), *above)
    return finished(operands, " ".join(("relu", *("bias" for _ in bias))), own, *bias)


def linear_gelu_forward(*arrays: Array, approximate: Approximate, transposed: bool = False, **_: object) -> Steps:
    """y = gelu(x·Wᵀ + b)."""
    return _gelu(arrays, None, approximate, transposed)


def linear_gelu_kept_forward(*arrays: Array, approximate: Approximate, transposed: bool = False, **_: object) -> Steps:
    """y = gelu(z), z = x·Wᵀ + b."""
    return _gelu(arrays[:-1], arrays[-1], approximate, transposed)


def _gelu(arrays: tuple[Array, ...], z: Array | None, approximate: Approximate, transposed: bool) -> Steps:
    """x, weight, [bias], y; z where it is wanted."""
    x, weight, *bias, y = arrays
    if not y.size:
        return ()
    operands = (rows(x), weight if transposed else weight.T, rows(y))
    told = (y.shape[-1], int(approximate == "tanh"))
    own = (Product(*operands), *each(y.size, *(bias or [None]), y, z, numbers=told, kernel="linear_gelu_forward"))
    if approximate != "tanh":
        return own
    words = ("gelu", *(("kept",) if z is not None else ()), *("bias" for _ in bias))
    return finished(operands, " ".join(words), own, bias[0] if bias else None, None if z is None else rows(z))


def linear_gelu_dx(
    dy: Array,
    weight: Array,
    z: Array,
    dz: Array,
    *,
    approximate: Literal["tanh"],
    transposed: bool = False,
    **_: object,
) -> Steps:
    """dz = dy·W times gelu's slope at z."""
    if not dz.size:
        return ()
    operands = (rows(dy), weight.T if transposed else weight, rows(dz))
    own = (Product(*operands), *each(dz.size, z, dz, kernel="linear_gelu_dx"))
    return finished(operands, "gelu slope", own, None, rows(z))
