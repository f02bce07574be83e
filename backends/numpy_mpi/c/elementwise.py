"""Activations in C, element by element, in any layout.

A `Formula` is what is done at one index; loops that compilers vectorise are put around it here. Results may lie where
an operand does. From `ALONE` elements on threads share the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from math import pi, sqrt

from .exponentials import exponentials
from .source import CFunction, fill, indented
from .target import Target

CUBIC = 0.044715
"""Of the approximation P(x) ~ (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))/2 (D. Hendrycks, K. Gimpel, 2016)."""

NORMAL = f"const $dtype below = ($dtype)0.5 * (1 + ${{dtype}}_erf(($dtype){sqrt(0.5)!r} * x[i]));\n"
ABOUT_NORMAL = (
    f"const $dtype bent = ($dtype){sqrt(2 / pi)!r} * x[i] * (1 + ($dtype){CUBIC} * x[i] * x[i]);\n"
    "const $dtype below = ($dtype)0.5 * (1 + ${dtype}_tanh(bent));\n"
)

Generator = Callable[[Target, str], CFunction]
Functions = dict[tuple[str, str, str], Generator]

ALONE = 2**15
"""Elements that one thread does sooner than several have started."""


CHUNK = 2**13
"""Elements of which one thread does all: what stands in vectors, and what behind the last one, is the same for any
number of threads, and so are the results, which compilers may round differently in the two places."""


@dataclass(frozen=True, slots=True)
class Formula:
    """C statements for index `i` of all arrays; numbers are doubles but where they begin with `long `.

    Elements of arrays are of the function's type but where a name begins with another.
    """

    says: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    statements: str
    numbers: tuple[str, ...] = ()


def loop(name: str, formula: Formula, target: Target, dtype: str) -> CFunction:
    """`NAME_DTYPE(arrays…, size, numbers…)`: the formula for each of `size` elements; numbers are of type `dtype`."""
    arrays = tuple(dict.fromkeys((*formula.reads, *formula.writes)))
    numbers = tuple(number if " " in number else f"double {number}" for number in formula.numbers)
    parameters = [("" if each in formula.writes else "const ") + array(each, dtype) for each in arrays]
    text = fill(
        LOOP,
        says=formula.says,
        name=f"{name}_{dtype}",
        parameters=", ".join((*parameters, "long size", *numbers)),
        alone=ALONE,
        chunk=CHUNK,
        statements=indented(formula.statements.strip() + "\n", 3),
        dtype=dtype,
        f="f" if dtype == "f32" else "",
    )
    shared = (exponentials(dtype),) if f"{dtype}_" in text.partition("{")[2] else ()
    return CFunction(f"{name}_{dtype}", text, arrays, ("size", *told(numbers)), shared=shared)


def told(numbers: Iterable[str]) -> tuple[str, ...]:
    """Parameters that are numbers as functions name them."""
    return tuple(number.removeprefix("long ") for number in numbers)


def array(named: str, dtype: str) -> str:
    """An array as a parameter."""
    kind, _, name = named.rpartition(" ")
    return f"{kind or dtype} *{name}"


LOOP = """\
/* $says */
void $name($parameters)
{
    #pragma omp parallel for schedule(static) if (size > $alone)
    for (long start = 0; start < size; start += $chunk) {
        const long stop = least(start + $chunk, size);
        #pragma omp simd
        for (long i = start; i < stop; i++) {
$statements        }
    }
}
"""


def loops(formulas: dict[tuple[str, str, str], Formula]) -> Functions:
    """A function for each (op, pass); its text has the other variants' functions too, which bindings name."""
    found: Functions = {}
    for op, stage, _ in formulas:
        variants = {variant: formula for (*key, variant), formula in formulas.items() if key == [op, stage]}
        found[op, stage, ""] = partial(loop_with_variants, f"{op}_{stage}", variants)
    return found


def loop_with_variants(name: str, formulas: dict[str, Formula], target: Target, dtype: str) -> CFunction:
    """The function of variant "", those of the others above it: `NAME_VARIANT_DTYPE`."""
    made = {
        variant: loop(f"{name}_{variant}".rstrip("_"), formula, target, dtype) for variant, formula in formulas.items()
    }
    others = (function.text for variant, function in made.items() if variant)
    needed = (text for function in made.values() for text in function.shared)
    return replace(made[""], shared=(*dict.fromkeys(needed), *others))


def _activation(says: str, statements: str, *numbers: str) -> Formula:
    return Formula(says, ("x",), ("y",), statements, numbers)


def _slope(says: str, kept: str, statements: str, *numbers: str) -> Formula:
    """Of the result or of the operand, whichever the gradient is computed from."""
    return Formula(says, ("dy", kept), ("dx",), statements, numbers)


FORMULAS = {
    ("relu", "forward", ""): _activation("y = max(x, 0).", "y[i] = x[i] < 0 ? 0 : x[i];"),
    ("relu", "dx", ""): _slope(
        "dx = dy where y > 0, else 0.", "y", "dx[i] = dy[i] * (y[i] > 0 ? ($dtype)1 : ($dtype)0);"
    ),
    ("leaky_relu", "forward", ""): _activation(
        "y = x where x > 0, else slope x.", "y[i] = x[i] > 0 ? x[i] : ($dtype)slope * x[i];", "slope"
    ),
    ("leaky_relu", "dx", ""): _slope(
        "dx = dy where y > 0, else slope dy.", "y", "dx[i] = dy[i] * (y[i] > 0 ? ($dtype)1 : ($dtype)slope);", "slope"
    ),
    ("elu", "forward", ""): _activation(
        "y = x where x > 0, else alpha (e^x - 1).",
        "y[i] = x[i] > 0 ? x[i] : ($dtype)alpha * ${dtype}_expm1(x[i] > 0 ? 0 : x[i]);",
        "alpha",
    ),
    ("elu", "dx", ""): _slope(
        "dx = dy where y > 0, else dy (y + alpha).",
        "y",
        "dx[i] = dy[i] * (y[i] > 0 ? ($dtype)1 : y[i] + ($dtype)alpha);",
        "alpha",
    ),
    ("tanh", "forward", ""): _activation("y = tanh x.", "y[i] = ${dtype}_tanh(x[i]);"),
    ("tanh", "dx", ""): _slope("dx = dy (1 - y^2).", "y", "dx[i] = dy[i] * (1 - y[i] * y[i]);"),
    ("sigmoid", "forward", ""): _activation("y = 1/(1 + e^-x).", "y[i] = ${dtype}_sigmoid(x[i]);"),
    ("sigmoid", "dx", ""): _slope("dx = dy y (1 - y).", "y", "dx[i] = dy[i] * ((1 - y[i]) * y[i]);"),
    ("silu", "forward", ""): _activation("y = x/(1 + e^-x).", "y[i] = ${dtype}_sigmoid(x[i]) * x[i];"),
    ("silu", "dx", ""): _slope(
        "dx = dy s (1 + x (1 - s)), s the sigmoid of x.",
        "x",
        "const $dtype s = ${dtype}_sigmoid(x[i]);\ndx[i] = dy[i] * (s * (1 + x[i] * (1 - s)));",
    ),
    ("hard_swish", "forward", ""): _activation(
        "y = x min(max(x + 3, 0), 6)/6.",
        "const $dtype moved = x[i] + 3, lifted = moved < 0 ? 0 : moved;\ny[i] = (lifted > 6 ? 6 : lifted) * x[i] / 6;",
    ),
    ("hard_swish", "dx", ""): _slope(
        "dx = 0 where x <= -3, dy where x >= 3, else dy (2x + 3)/6.",
        "x",
        "const $dtype slope = (2 * x[i] + 3) / 6;\ndx[i] = dy[i] * (x[i] <= -3 ? 0 : x[i] >= 3 ? 1 : slope);",
    ),
    ("gelu", "forward", ""): _activation("y = x P(x), P the normal distribution.", f"{NORMAL}y[i] = below * x[i];"),
    ("gelu", "forward", "tanh"): _activation(
        "y = x P(x), P about the normal distribution.", f"{ABOUT_NORMAL}y[i] = below * x[i];"
    ),
    ("gelu", "dx", ""): _slope(
        "dx = dy (P(x) + x P'(x)), P the normal distribution.",
        "x",
        f"{NORMAL}const $dtype density = ($dtype){1 / sqrt(2 * pi)!r} * ${{dtype}}_exp(($dtype)-0.5 * x[i] * x[i]);\n"
        "dx[i] = dy[i] * (below + x[i] * density);",
    ),
    ("gelu", "dx", "tanh"): _slope(
        "dx = dy (P(x) + x P'(x)), P about the normal distribution.",
        "x",
        f"{ABOUT_NORMAL}const $dtype steep = ($dtype){sqrt(8 / pi)!r} * (1 + ($dtype){3 * CUBIC!r} * x[i] * x[i]);\n"
        "dx[i] = dy[i] * (below + x[i] * (below * (1 - below) * steep));",
    ),
}

FUNCTIONS = loops(FORMULAS)
"""(op, pass, "") -> the generator of its function."""
