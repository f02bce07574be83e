"""Activations in C, element by element, in any layout.

A `Formula` is what is done at one index; loops that compilers vectorise are put around it here. Results may lie where
an operand does. From `ALONE` elements on threads share the work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from .exponentials import exponentials
from .source import CFunction, fill, indented
from .target import Target

Generator = Callable[[Target, str], CFunction]
Functions = dict[tuple[str, str, str], Generator]

ALONE = 2**15
"""Elements that one thread does sooner than several have started."""


@dataclass(frozen=True, slots=True)
class Formula:
    """C statements for index `i` of all arrays; numbers are doubles but where they begin with `long `."""

    says: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    statements: str
    numbers: tuple[str, ...] = ()


def loop(name: str, formula: Formula, target: Target, dtype: str) -> CFunction:
    """`NAME_DTYPE(arrays…, size, numbers…)`: the formula for each of `size` elements; numbers are of type `dtype`."""
    arrays = tuple(dict.fromkeys((*formula.reads, *formula.writes)))
    numbers = tuple(number if " " in number else f"double {number}" for number in formula.numbers)
    parameters = [f"{'' if each in formula.writes else 'const '}{dtype} *{each}" for each in arrays]
    text = fill(
        LOOP,
        says=formula.says,
        name=f"{name}_{dtype}",
        parameters=", ".join((*parameters, "long size", *numbers)),
        alone=ALONE,
        statements=indented(formula.statements.strip() + "\n", 2),
        dtype=dtype,
        f="f" if dtype == "f32" else "",
    )
    told = tuple(number.removeprefix("long ") for number in numbers)
    shared = (exponentials(dtype),) if f"{dtype}_" in text.partition("{")[2] else ()
    return CFunction(f"{name}_{dtype}", text, arrays, ("size", *told), shared=shared)


LOOP = """\
/* $says */
void $name($parameters)
{
    #pragma omp parallel for simd schedule(static) if (parallel : size > $alone)
    for (long i = 0; i < size; i++) {
$statements    }
}
"""


def loops(formulas: dict[tuple[str, str, str], Formula]) -> Functions:
    """A function for each formula, named by its op, its pass and, where there are several, its variant."""
    return {key: partial(loop, "_".join(filter(None, key)), formula) for key, formula in formulas.items()}


FORMULAS = {
    ("relu", "forward", ""): Formula("y = max(x, 0).", ("x",), ("y",), "y[i] = x[i] < 0 ? 0 : x[i];"),
    ("relu", "dx", ""): Formula(
        "dx = dy where y > 0, else 0.", ("dy", "y"), ("dx",), "dx[i] = dy[i] * (y[i] > 0 ? ($dtype)1 : ($dtype)0);"
    ),
    ("tanh", "forward", ""): Formula("y = tanh x.", ("x",), ("y",), "y[i] = ${dtype}_tanh(x[i]);"),
    ("tanh", "dx", ""): Formula("dx = dy(1 - y^2).", ("dy", "y"), ("dx",), "dx[i] = dy[i] * (1 - y[i] * y[i]);"),
    ("sigmoid", "forward", ""): Formula("y = 1/(1 + e^-x).", ("x",), ("y",), "y[i] = ${dtype}_sigmoid(x[i]);"),
    ("sigmoid", "dx", ""): Formula("dx = dy y(1 - y).", ("dy", "y"), ("dx",), "dx[i] = dy[i] * ((1 - y[i]) * y[i]);"),
}

FUNCTIONS = loops(FORMULAS)
"""(op, pass, variant) -> the generator of its function."""
