"""Layer and RMS normalisation in C: rows [row][column], each by itself; gradients of scales along columns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .source import CFunction, fill
from .target import Target

COLUMNS = 256
"""Columns whose sums one thread adds up at a time."""

RUN = 64
"""Rows of a partial sum: the errors of sums do not grow with all rows."""


def forward(op: str, target: Target, dtype: str) -> CFunction:
    """y = (x - mean)·rstd·scale + shift; RMS normalisation takes no mean and adds no shift."""
    return _function(FORWARD, op, "forward", dtype)


def dx(op: str, target: Target, dtype: str) -> CFunction:
    """dx = rstd·(g - mean(g) - x̂·mean(g·x̂)), g = dy·scale; without mean(g) where no mean was taken."""
    return _function(DX, op, "dx", dtype)


def dw(op: str, target: Target, dtype: str) -> CFunction:
    """dscale = Σ dy·x̂ and dshift = Σ dy over all rows."""
    return _function(DW, op, "dw", dtype)


FUNCTIONS: dict[tuple[str, str, str], Callable[[Target, str], CFunction]] = {
    (op, stage, ""): partial(make, op)
    for op in ("layernorm", "rmsnorm")
    for stage, make in (("forward", forward), ("dx", dx), ("dw", dw))
}
"""(op, pass, variant) -> the generator of its function."""

ARGUMENTS = {
    ("layernorm", "forward"): ("x", "scale", "shift", "y", "mean", "rstd"),
    ("layernorm", "dx"): ("dy", "x", "scale", "mean", "rstd", "dx"),
    ("layernorm", "dw"): ("dy", "x", "mean", "rstd", "dscale", "dshift"),
    ("rmsnorm", "forward"): ("x", "scale", "y", "rstd"),
    ("rmsnorm", "dx"): ("dy", "x", "scale", "rstd", "dx"),
    ("rmsnorm", "dw"): ("dy", "x", "rstd", "dscale"),
}

RESULTS = {"forward": ("y", "mean", "rstd"), "dx": ("dx",), "dw": ("dscale", "dshift")}


def _function(template: str, op: str, stage: str, dtype: str) -> CFunction:
    centred = op == "layernorm"
    names = ARGUMENTS[op, stage]
    arrays = (f"{'' if name in RESULTS[stage] else 'const '}{dtype} *restrict {name}" for name in names)
    numbers = ("rows", "columns", *(("double eps",) if stage == "forward" else ()))
    text = fill(
        template,
        name=f"{op}_{stage}_{dtype}",
        parameters=", ".join((*arrays, *(n if " " in n else f"long {n}" for n in numbers))),
        dtype=dtype,
        root="__builtin_sqrtf" if dtype == "f32" else "__builtin_sqrt",
        find_mean=FIND_MEAN if centred else "",
        center=" - center" if centred else "",
        shift=" + shift[c]" if centred else "",
        take_mean="    const $dtype center = mean[r];\n" if centred else "",
        total="total += g, " if centred else "",
        totals="total, slope" if centred else "slope",
        start="total = 0, slope = 0" if centred else "slope = 0",
        less=" - total / columns" if centred else "",
        shifts=SHIFTS if centred else "",
        add_shift="shifts[c] += dy[r * columns + c0 + c], " if centred else "",
        store_shift="dshift[c0 + c] = (r0 ? dshift[c0 + c] : 0) + shifts[c], " if centred else "",
        block=COLUMNS,
        run=RUN,
        alone=2**13,
    )
    return CFunction(f"{op}_{stage}_{dtype}", text, names, numbers)


FIND_MEAN = """\
        $dtype sum = 0;
        #pragma omp simd reduction(+: sum)
        for (long c = 0; c < columns; c++)
            sum += from[c];
        const $dtype center = sum / columns;
        mean[r] = center;
"""

FORWARD = """\
void $name($parameters)
{
    #pragma omp parallel for schedule(static) if (rows * columns > $alone)
    for (long r = 0; r < rows; r++) {
        const $dtype *from = x + r * columns;
        $dtype *to = y + r * columns, squares = 0;
$find_mean        #pragma omp simd reduction(+: squares)
        for (long c = 0; c < columns; c++)
            squares += (from[c]$center) * (from[c]$center);
        const $dtype factor = 1 / $root(squares / columns + ($dtype)eps);
        rstd[r] = factor;
        #pragma omp simd
        for (long c = 0; c < columns; c++)
            to[c] = (from[c]$center) * factor * scale[c]$shift;
    }
}
"""

DX = """\
void $name($parameters)
{
    #pragma omp parallel for schedule(static) if (rows * columns > $alone)
    for (long r = 0; r < rows; r++) {
        const $dtype *from = x + r * columns, *given = dy + r * columns;
        const $dtype factor = rstd[r];
    $take_mean        $dtype $start, *to = dx + r * columns;
        #pragma omp simd reduction(+: $totals)
        for (long c = 0; c < columns; c++) {
            const $dtype g = given[c] * scale[c];
            ${total}slope += g * ((from[c]$center) * factor);
        }
        slope /= columns;
        #pragma omp simd
        for (long c = 0; c < columns; c++)
            to[c] = (given[c] * scale[c]$less - (from[c]$center) * factor * slope) * factor;
    }
}
"""

SHIFTS = "            $dtype shifts[$block] = {0};\n"

DW = """\
void $name($parameters)
{
    #pragma omp parallel for schedule(static) if (rows * columns > $alone)
    for (long c0 = 0; c0 < columns; c0 += $block) {
        const long count = least($block, columns - c0);
        for (long r0 = 0; r0 == 0 || r0 < rows; r0 += $run) {
            $dtype scales[$block] = {0};
$shifts            for (long r = r0; r < least(r0 + $run, rows); r++) {
                const $dtype factor = rstd[r];
            $take_mean                #pragma omp simd
                for (long c = 0; c < count; c++)
                    ${add_shift}scales[c] += dy[r * columns + c0 + c] * ((x[r * columns + c0 + c]$center) * factor);
            }
            for (long c = 0; c < count; c++)
                ${store_shift}dscale[c0 + c] = (r0 ? dscale[c0 + c] : 0) + scales[c];
        }
    }
}
"""
