"""Sums in C of the gradients of a value that was used several times, each read once, in order; and their clipping."""

from __future__ import annotations

from .elementwise import ALONE, Formula, Functions, loop_with_variants
from .source import CFunction, fill
from .target import Target

MOST = 6
"""Gradients that have a function; bindings leave more to NumPy."""


def total_of(count: int) -> Formula:
    """Of so many gradients."""
    names = tuple(f"dy{number}" for number in range(count))
    terms = " + ".join(f"{name}[i]" for name in names)
    return Formula(f"total = {' + '.join(names)}.", names, ("total",), f"total[i] = {terms};")


def sum_gradients(target: Target, dtype: str) -> CFunction:
    """`sum_gradients_DTYPE(dy0, dy1, total, size)`, and `sum_gradients_3_DTYPE` … with as many gradients."""
    formulas = {str(count) if count > 2 else "": total_of(count) for count in range(2, MOST + 1)}
    return loop_with_variants("sum_gradients", formulas, target, dtype)


PIECES = 16
"""Of a gradient, whose sums are added in order: threads share them out."""

CLIP = """\
/* All gradients by min(1, bound / (their norm + 1e-6)). Tables of their addresses and lengths. */
void clip_${dtype}(long table, long lengths, long count, double bound)
{
    $dtype *const *gradients = ($dtype *const *)table;
    const long *sizes = (const long *)lengths;
    long whole = 0;
    for (long g = 0; g < count; g++)
        whole += sizes[g];
    double sums[count * $pieces + 1];
    #pragma omp parallel if (whole > $alone)
    {
        #pragma omp for schedule(static)
        for (long at = 0; at < count * $pieces; at++) {
            const long size = sizes[at / $pieces], stretch = raised(size, $pieces), start = at % $pieces * stretch;
            const $dtype *from = gradients[at / $pieces];
            double sum = 0;
            #pragma omp simd reduction(+ : sum)
            for (long i = start; i < least(start + stretch, size); i++)
                sum += (double)from[i] * from[i];
            sums[at] = sum;
        }
        double total = 0;
        for (long at = 0; at < count * $pieces; at++)
            total += sums[at];
        const double factor = bound / (sqrt(total) + 1e-6);
        #pragma omp for schedule(static)
        for (long at = 0; at < count * $pieces; at++) {
            const long size = sizes[at / $pieces], stretch = raised(size, $pieces), start = at % $pieces * stretch;
            $dtype *to = gradients[at / $pieces];
            const $dtype shrunk = factor < 1 ? factor : 1;
            #pragma omp simd
            for (long i = start; i < least(start + stretch, size); i++)
                to[i] *= shrunk;
        }
    }
}
"""


def clip(target: Target, dtype: str) -> CFunction:
    """Tables of the gradients and of their lengths, how many there are, and the bound of their norm."""
    text = fill(CLIP, dtype=dtype, pieces=PIECES, alone=ALONE)
    return CFunction(f"clip_{dtype}", text, (), ("table", "lengths", "count", "double bound"))


FUNCTIONS: Functions = {("sum", "sum", ""): sum_gradients, ("clip", "clip", ""): clip}
"""(op, pass, variant) -> the generator of its function."""
