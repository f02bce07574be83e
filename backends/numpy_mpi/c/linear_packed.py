"""Linear maps in C whose weight is packed before: the panels of the right operand that each product makes of it.

They lie as `gemm` goes over them: strips of columns, of each the depths one behind the other.
"""

from __future__ import annotations

from collections.abc import Callable

from .gemm import gemm, geometry
from .source import CFunction, fill
from .target import Target

NUMBERS = ("table", "rows", "inputs", "outputs", "biased")
EXTENTS = ("inputs", "outputs", "transposed")


def forward(target: Target, dtype: str) -> CFunction:
    """Table of packed, x, weight, [bias], y; extents."""
    text = fill(FORWARD, dtype=dtype)
    return CFunction(f"linear_forward_packed_{dtype}", text, (), NUMBERS, shared=(gemm(target, dtype),))


def dx(target: Target, dtype: str) -> CFunction:
    """Table of packed, dy, weight, dx; extents."""
    return CFunction(f"linear_dx_packed_{dtype}", fill(DX, dtype=dtype), (), NUMBERS, shared=(gemm(target, dtype),))


def pack_forward(target: Target, dtype: str) -> CFunction:
    """weight -> packed, for `forward`."""
    return _packing(target, dtype, "forward")


def pack_dx(target: Target, dtype: str) -> CFunction:
    """weight -> packed, for `dx`."""
    return _packing(target, dtype, "dx")


def _packing(target: Target, dtype: str, stage: str) -> CFunction:
    name = f"linear_{stage}_pack_{dtype}"
    shared = (gemm(target, dtype), fill(RIGHT, dtype=dtype, **geometry(target, dtype)))
    text = fill({"forward": PACK_FORWARD, "dx": PACK_DX}[stage], dtype=dtype, name=name)
    return CFunction(name, text, ("weight", "packed"), EXTENTS, shared=shared)


FUNCTIONS: dict[tuple[str, str, str], Callable[[Target, str], CFunction]] = {
    ("linear", "forward", ""): forward,
    ("linear", "dx", ""): dx,
    ("linear_forward", "pack", ""): pack_forward,
    ("linear_dx", "pack", ""): pack_dx,
}
"""(op, pass, algorithm) as in `kernels.PACKED` and `kernels.PACKING` -> the generator of its function."""

RIGHT = """\
/* All panels of b [depth, n], whose elements are so far apart by row and by column. All threads call it together. */
static void ${dtype}_right(long n, long depth, const $dtype *b, long b_k, long b_column, $dtype *room)
{
    const long deep = most(1, raised(depth, most(1, raised(depth, $depth))));
    room = ($dtype *)(((size_t)room + $aligned - 1) / $aligned * $aligned);
    for (long n0 = 0; n0 < n; n0 += $columns)
        for (long k0 = 0; k0 < depth; k0 += deep) {
            const long wide = least($columns, n - n0), length = least(deep, depth - k0);
            $dtype *panels = room + n0 * depth + k0 * raised(wide, $width) * $width;
            #pragma omp for schedule(static) nowait
            for (long j = 0; j < wide; j += $strip)
                ${dtype}_panels(b + k0 * b_k + (n0 + j) * b_column, b_column, b_k, least($strip, wide - j), length,
                                $width, panels + j * length, $width * length);
        }
}
"""

FORWARD = """\
/* y = x W^T + bias, of W as it was packed. */
void linear_forward_packed_${dtype}(long table, long rows, long inputs, long outputs, long biased)
{
    $dtype *const *arrays = ($dtype *const *)table;
    #pragma omp parallel if (rows * inputs * outputs > SHARED_OUT)
    ${dtype}_gemm(rows, outputs, inputs, arrays[1], inputs, 1, 0, 0, 0, biased ? arrays[3] : 0, 0, arrays[3 + biased],
                  outputs, arrays[0]);
}
"""

DX = """\
/* dx = dy W, of W as it was packed. */
void linear_dx_packed_${dtype}(long table, long rows, long inputs, long outputs, long biased)
{
    $dtype *const *arrays = ($dtype *const *)table;
    #pragma omp parallel if (rows * inputs * outputs > SHARED_OUT)
    ${dtype}_gemm(rows, inputs, outputs, arrays[1], outputs, 1, 0, 0, 0, 0, 0, arrays[3], inputs, arrays[0]);
}
"""

PACK_FORWARD = """\
/* W [outputs][inputs], or [inputs][outputs] where it is transposed, as y = x W^T goes over it. */
void $name(const $dtype *weight, $dtype *packed, long inputs, long outputs, long transposed)
{
    #pragma omp parallel
    ${dtype}_right(outputs, inputs, weight, transposed ? outputs : 1, transposed ? 1 : inputs, packed);
}
"""

PACK_DX = """\
/* W [outputs][inputs], or [inputs][outputs] where it is transposed, as dx = dy W goes over it. */
void $name(const $dtype *weight, $dtype *packed, long inputs, long outputs, long transposed)
{
    #pragma omp parallel
    ${dtype}_right(inputs, outputs, weight, transposed ? 1 : inputs, transposed ? outputs : 1, packed);
}
"""
