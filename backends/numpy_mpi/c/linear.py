"""Linear maps in C: the bias is what the sums start from, and its gradient is found in the same call.

Arrays come as a table of addresses, for a bias may be missing.
"""

from __future__ import annotations

from collections.abc import Callable

from . import linear_few
from .columns import columns
from .gemm import gemm
from .source import CFunction, fill
from .target import Target

NUMBERS = ("table", "rows", "inputs", "outputs", "biased", "transposed")


def forward(target: Target, dtype: str) -> CFunction:
    """Table of x, weight, [bias], y; scratch and extents."""
    text = fill(FORWARD, dtype=dtype)
    return CFunction(f"linear_forward_{dtype}", text, ("scratch",), NUMBERS, shared=(gemm(target, dtype),))


def dx(target: Target, dtype: str) -> CFunction:
    """Table of dy, weight, dx; scratch and extents."""
    text = fill(DX, dtype=dtype)
    return CFunction(f"linear_dx_{dtype}", text, ("scratch",), NUMBERS, shared=(gemm(target, dtype),))


def dw(target: Target, dtype: str) -> CFunction:
    """Table of dy, x, dweight, [dbias]; scratch and extents."""
    shared = (gemm(target, dtype), columns(dtype))
    return CFunction(f"linear_dw_{dtype}", fill(DW, dtype=dtype), ("scratch",), NUMBERS, shared=shared)


FUNCTIONS: dict[tuple[str, str, str], Callable[[Target, str], CFunction]] = {
    ("linear", "forward", ""): forward,
    ("linear", "forward", "few"): linear_few.forward,
    ("linear", "dx", ""): dx,
    ("linear", "dx", "few"): linear_few.dx,
    ("linear", "dw", ""): dw,
}
"""(op, pass, variant) -> the generator of its function."""

FORWARD = """\
/* y = x W^T + bias, W [outputs][inputs], or [inputs][outputs] where it is transposed. */
void linear_forward_${dtype}($dtype *scratch, long table, long rows, long inputs, long outputs, long biased,
                             long transposed)
{
    $dtype *const *arrays = ($dtype *const *)table;
    #pragma omp parallel if (rows * inputs * outputs > SHARED_OUT)
    ${dtype}_gemm(rows, outputs, inputs, arrays[0], inputs, 1, arrays[1], transposed ? outputs : 1,
                  transposed ? 1 : inputs, biased ? arrays[2] : 0, 0, arrays[2 + biased], outputs, scratch);
}
"""

DX = """\
/* dx = dy W, or dy W^T where W is transposed. */
void linear_dx_${dtype}($dtype *scratch, long table, long rows, long inputs, long outputs, long biased, long transposed)
{
    $dtype *const *arrays = ($dtype *const *)table;
    #pragma omp parallel if (rows * inputs * outputs > SHARED_OUT)
    ${dtype}_gemm(rows, inputs, outputs, arrays[0], outputs, 1, arrays[1], transposed ? 1 : inputs,
                  transposed ? outputs : 1, 0, 0, arrays[2], inputs, scratch);
}
"""

DW = """\
/* dW = dy^T x, or x^T dy where W is transposed, and the sums of the columns of dy. */
void linear_dw_${dtype}($dtype *scratch, long table, long rows, long inputs, long outputs, long biased, long transposed)
{
    $dtype *const *arrays = ($dtype *const *)table, *dy = arrays[0], *x = arrays[1];
    #pragma omp parallel if (rows * inputs * outputs > SHARED_OUT)
    {
        if (transposed)
            ${dtype}_gemm(inputs, outputs, rows, x, 1, inputs, dy, outputs, 1, 0, 0, arrays[2], outputs, scratch);
        else
            ${dtype}_gemm(outputs, inputs, rows, dy, 1, outputs, x, inputs, 1, 0, 0, arrays[2], inputs, scratch);
        if (biased)
            ${dtype}_columns(dy, arrays[3], rows, outputs);
    }
}
"""
