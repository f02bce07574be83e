"""Update rules in C: each weight is read and written once, in any layout; one by one, or many in a call.

What the steps alone decide, such as the corrections of Adam's moments, comes from outside.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from .elementwise import Formula, Functions, loop, loops
from .source import CFunction, fill
from .target import Target

DECAYED = "const $dtype g = decay ? gradient[i] + ($dtype)decay * weight[i] : gradient[i];"

AVERAGE = "squares[i] = ($dtype)alpha * squares[i] + ($dtype)(1 - alpha) * (g * g);\n"

MOMENTS = """\
mean[i] = ($dtype)beta1 * mean[i] + ($dtype)(1 - beta1) * g;
square_mean[i] = ($dtype)beta2 * square_mean[i] + ($dtype)(1 - beta2) * (g * g);
const $dtype move = ($dtype)rate * mean[i] / (__builtin_sqrt$f(square_mean[i]) * ($dtype)root + ($dtype)eps);
"""
MOMENT_NUMBERS = ("rate", "root", "beta1", "beta2", "eps")


def _rule(says: str, states: tuple[str, ...], statements: str, *numbers: str) -> Formula:
    """An update of weight, gradient and states."""
    return Formula(says, ("weight", "gradient"), ("weight", *states), statements, numbers)


FORMULAS = {
    ("sgd", "update", ""): _rule(
        "g += decay w; v = momentum v + g; w -= lr v, or with Nesterov's momentum lr (g + momentum v).",
        ("velocity",),
        f"{DECAYED}\n"
        "const $dtype v = ($dtype)momentum * velocity[i] + g;\n"
        "velocity[i] = v;\n"
        "weight[i] -= ($dtype)lr * (nesterov ? g + ($dtype)momentum * v : v);",
        "lr",
        "momentum",
        "long nesterov",
        "decay",
    ),
    ("sgd", "update", "plain"): _rule(
        "g += decay w; w -= lr g.", (), f"{DECAYED}\nweight[i] -= ($dtype)lr * g;", "lr", "decay"
    ),
    ("adagrad", "update", ""): _rule(
        "g += decay w; A += g^2; w -= lr g/(sqrt A + eps).",
        ("squares",),
        f"{DECAYED}\nsquares[i] += g * g;\nweight[i] -= ($dtype)lr * g / (__builtin_sqrt$f(squares[i]) + ($dtype)eps);",
        "lr",
        "eps",
        "decay",
    ),
    ("rmsprop", "update", ""): _rule(
        "g += decay w; average A of g^2; v = momentum v + g/(sqrt A + eps); w -= lr v.",
        ("squares", "velocity"),
        f"{DECAYED}\n{AVERAGE}"
        "velocity[i] = ($dtype)momentum * velocity[i] + g / (__builtin_sqrt$f(squares[i]) + ($dtype)eps);\n"
        "weight[i] -= ($dtype)lr * velocity[i];",
        "lr",
        "alpha",
        "eps",
        "decay",
        "momentum",
    ),
    ("rmsprop", "update", "plain"): _rule(
        "g += decay w; average A of g^2; w -= lr g/(sqrt A + eps).",
        ("squares",),
        f"{DECAYED}\n{AVERAGE}weight[i] -= ($dtype)lr * (g / (__builtin_sqrt$f(squares[i]) + ($dtype)eps));",
        "lr",
        "alpha",
        "eps",
        "decay",
    ),
    ("adam", "update", ""): _rule(
        "g += decay w; averages m1 of g, m2 of g^2; w -= rate m1/(root sqrt m2 + eps).",
        ("mean", "square_mean"),
        f"{DECAYED}\n{MOMENTS}weight[i] -= move;",
        *MOMENT_NUMBERS,
        "decay",
    ),
    ("adamw", "update", ""): _rule(
        "Averages m1 of g, m2 of g^2; w = kept w - rate m1/(root sqrt m2 + eps).",
        ("mean", "square_mean"),
        f"const $dtype g = gradient[i];\n{MOMENTS}weight[i] = ($dtype)kept * weight[i] - move;",
        *MOMENT_NUMBERS,
        "kept",
    ),
}

ROWS = """\
$each
/* The same for each of `count` rows of a table: the addresses of its arrays, and how many elements they have. */
void $name(const long *table, long count$parameters)
{
    for (const long *row = table; row < table + $width * count; row += $width)
        $one($arrays, row[$last]$told);
}
"""


def rows(op: str, target: Target, dtype: str) -> CFunction:
    """`OP_updates_DTYPE(table, count, numbers…)`, and above it that for the rule's variant."""
    variants = {variant: formula for (rule, _, variant), formula in FORMULAS.items() if rule == op}
    made = {
        variant: _rows(f"{op}_updates_{variant}".rstrip("_"), f"{op}_row_{variant}".rstrip("_"), formula, target, dtype)
        for variant, formula in variants.items()
    }
    return replace(made[""], shared=tuple(each.text for variant, each in made.items() if variant))


def _rows(name: str, one: str, formula: Formula, target: Target, dtype: str) -> CFunction:
    each = loop(one, formula, target, dtype)
    numbers = [number if " " in number else f"double {number}" for number in formula.numbers]
    text = fill(
        ROWS,
        each=each.text.replace("void ", "static __attribute__((noinline)) void ", 1),
        name=f"{name}_{dtype}",
        one=each.name,
        parameters="".join(f", {number}" for number in numbers),
        told="".join(f", {number.split()[-1]}" for number in numbers),
        arrays=", ".join(f"({dtype} *)row[{at}]" for at in range(len(each.arguments))),
        width=len(each.arguments) + 1,
        last=len(each.arguments),
    )
    return CFunction(f"{name}_{dtype}", text, ("table",), ("count", *each.numbers[1:]))


FUNCTIONS: Functions = {
    **loops(FORMULAS),
    **{(op, "updates", ""): partial(rows, op) for op, _, variant in FORMULAS if not variant},
}
