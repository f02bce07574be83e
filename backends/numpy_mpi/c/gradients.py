"""Sums in C of the gradients of a value that was used several times: each is read once, in order."""

from __future__ import annotations

from .elementwise import Formula, Functions, loop_with_variants
from .source import CFunction
from .target import Target

MOST = 6
"""Gradients that have a function; bindings leave more to NumPy."""


def _sum(count: int) -> Formula:
    names = tuple(f"dy{number}" for number in range(count))
    terms = " + ".join(f"{name}[i]" for name in names)
    return Formula(f"total = {' + '.join(names)}.", names, ("total",), f"total[i] = {terms};")


def sum_gradients(target: Target, dtype: str) -> CFunction:
    """`sum_gradients_DTYPE(dy0, dy1, total, size)`, and `sum_gradients_3_DTYPE` … with as many gradients."""
    formulas = {str(count) if count > 2 else "": _sum(count) for count in range(2, MOST + 1)}
    return loop_with_variants("sum_gradients", formulas, target, dtype)


FUNCTIONS: Functions = {("sum", "sum", ""): sum_gradients}
"""(op, pass, variant) -> the generator of its function."""
