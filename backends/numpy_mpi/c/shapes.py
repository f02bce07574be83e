"""Operators that put the elements of their operands in other places, in C: rows of elements that lie together."""

from __future__ import annotations

from collections.abc import Callable

from .source import CFunction, fill
from .target import Target

Make = Callable[[Target, str], CFunction]

PARTS = (2, 3, 4)
"""How many values are joined or cut by one function."""

PIECE = 16384
"""Elements that one thread copies sooner than several have started."""

COPY = """\
/* `length` elements, cut into pieces. */
static inline void ${real}_copy(const $real *restrict from, $real *restrict to, long length)
{
    #pragma omp parallel for schedule(static) if (length > $piece)
    for (long i = 0; i < length; i += $piece)
        memcpy(to + i, from + i, least($piece, length - i) * sizeof *to);
}
"""

JOIN = """\
/* Rows of $parts values, one after the other in the rows of y. */
void $name($pointers, $real *restrict y, long rows, $lengths)
{
    const long apart = $total;
    if (rows == 1) {
        long at = 0;
$joins        return;
    }
    #pragma omp parallel for schedule(static) if (rows * apart > $piece)
    for (long r = 0; r < rows; r++) {
        $real *at = y + r * apart;
$row_joins    }
}
"""

CUT = """\
/* Rows of x, one stretch after the other to rows of $parts values. */
void $name(const $real *restrict x, $pointers, long rows, $lengths)
{
    const long apart = $total;
    if (rows == 1) {
        long at = 0;
$cuts        return;
    }
    #pragma omp parallel for schedule(static) if (rows * apart > $piece)
    for (long r = 0; r < rows; r++) {
        const $real *at = x + r * apart;
$row_cuts    }
}
"""

SLICE = """\
/* A stretch of each row of x. */
void $name(const $real *restrict x, $real *restrict y, long rows, long apart, long begin, long length)
{
    #pragma omp parallel for schedule(static) if (rows * length > $piece)
    for (long r = 0; r < rows; r++)
        memcpy(y + r * length, x + r * apart + begin, length * sizeof *y);
}
"""

SLICE_DX = """\
/* dy where x was taken, else 0. */
void $name(const $real *restrict dy, $real *restrict dx, long rows, long apart, long begin, long length)
{
    #pragma omp parallel for schedule(static) if (rows * apart > $piece)
    for (long r = 0; r < rows; r++) {
        $real *to = dx + r * apart;
        memset(to, 0, begin * sizeof *to);
        memcpy(to + begin, dy + r * length, length * sizeof *to);
        memset(to + begin + length, 0, (apart - begin - length) * sizeof *to);
    }
}
"""


def _joined(name: str, text: str, parts: int) -> Make:
    """A function of `parts` values and the one that they are joined to, or cut from."""
    numbered = range(parts)

    def make(target: Target, real: str) -> CFunction:
        cut = text is CUT
        const = "" if cut else "const "
        step = "        at += n{k};\n"
        texts = {
            "joins": "        ${real}_copy(x{k}, y + at, n{k});\n" + step,
            "cuts": "        ${real}_copy(x + at, y{k}, n{k});\n" + step,
            "row_joins": "        memcpy(at, x{k} + r * n{k}, n{k} * sizeof *at);\n" + step,
            "row_cuts": "        memcpy(y{k} + r * n{k}, at, n{k} * sizeof *at);\n" + step,
        }
        values = {
            "parts": parts,
            "name": f"{name}_{parts}_{real}",
            "pointers": ", ".join(f"{const}{real} *restrict {'y' if cut else 'x'}{k}" for k in numbered),
            "lengths": ", ".join(f"long n{k}" for k in numbered),
            "total": " + ".join(f"n{k}" for k in numbered),
            **{key: "".join(each.replace("{k}", str(k)) for k in numbered) for key, each in texts.items()},
        }
        filled = fill(text, real=real, piece=PIECE, **values)
        many = tuple(f"{'y' if cut else 'x'}{k}" for k in numbered)
        arguments = ("x", *many) if cut else (*many, "y")
        numbers = ("rows", *(f"n{k}" for k in numbered))
        return CFunction(str(values["name"]), filled, arguments, numbers, shared=(fill(COPY, real=real, piece=PIECE),))

    return make


def _slice(name: str, text: str, arguments: tuple[str, str]) -> Make:
    def make(target: Target, real: str) -> CFunction:
        filled = fill(text, name=f"{name}_{real}", real=real, piece=PIECE)
        return CFunction(f"{name}_{real}", filled, arguments, ("rows", "apart", "begin", "length"))

    return make


FUNCTIONS: dict[tuple[str, str, str], Make] = {
    **{("concat", "forward", str(parts)): _joined("concat_forward", JOIN, parts) for parts in PARTS},
    **{("concat", "dx", str(parts)): _joined("concat_dx", CUT, parts) for parts in PARTS},
    **{("split", "forward", str(parts)): _joined("split_forward", CUT, parts) for parts in PARTS},
    **{("split", "dx", str(parts)): _joined("split_dx", JOIN, parts) for parts in PARTS},
    ("slice", "forward", ""): _slice("slice_forward", SLICE, ("x", "y")),
    ("slice", "dx", ""): _slice("slice_dx", SLICE_DX, ("dy", "dx")),
}
"""(op, pass, number of values that are joined or cut) -> its generator for a target and a dtype."""
