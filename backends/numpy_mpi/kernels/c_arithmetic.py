"""What sums, differences, products and quotients in C are told; where an operand is repeated NumPy has the code."""

from __future__ import annotations

from .c_elementwise import variant
from .layout import Array
from .native import Numbers


def add_forward(*arrays: Array, scalar: float | None = None, **_: object) -> Numbers | None:
    """Elements of two operands, or of one and a number."""
    return _forward("add", arrays, scalar)


def sub_forward(*arrays: Array, scalar: float | None = None, scalar_first: bool = False, **_: object) -> Numbers | None:
    """As for sums."""
    return _forward("sub", arrays, scalar, scalar_first)


def mul_forward(*arrays: Array, scalar: float | None = None, **_: object) -> Numbers | None:
    """As for sums."""
    return _forward("mul", arrays, scalar)


def div_forward(*arrays: Array, scalar: float | None = None, scalar_first: bool = False, **_: object) -> Numbers | None:
    """As for sums."""
    return _forward("div", arrays, scalar, scalar_first)


def add_dx(dy: Array, *dxs: Array, **_: object) -> Numbers | None:
    """Elements, of two gradients."""
    return _alike(dy, *dxs) if len(dxs) == 2 else None


sub_dx = add_dx


def mul_dx(dy: Array, *arrays: Array, scalar: float | None = None, **_: object) -> Numbers | None:
    """Elements, of two operands and their gradients or of the gradients alone and a number."""
    if scalar is None:
        return _alike(dy, *arrays)
    return Numbers((dy.size, float(scalar)), name=variant("mul_dx_number", dy)) if len(arrays) == 1 else None


def div_dx(dy: Array, *arrays: Array, scalar: float | None = None, **_: object) -> Numbers | None:
    """Elements, of two operands and their gradients."""
    return _alike(dy, *arrays) if scalar is None else None


def _forward(op: str, arrays: tuple[Array, ...], scalar: float | None, scalar_first: bool = False) -> Numbers | None:
    if scalar is None:
        return _alike(*arrays)
    name = f"{op}_forward_{'first' if scalar_first else 'number'}"
    return Numbers((arrays[0].size, float(scalar)), name=variant(name, arrays[0]))


def _alike(*arrays: Array) -> Numbers | None:
    """Elements of arrays that all have one shape."""
    same = all(array.shape == arrays[0].shape for array in arrays)
    return Numbers((arrays[0].size,)) if same else None
