"""Sums, differences, products and quotients in C, of values of one shape; in any layout."""

from __future__ import annotations

from .elementwise import Formula, loops


def _both(says: str, statement: str) -> Formula:
    return Formula(says, ("a", "b"), ("y",), statement)


def _number(says: str, statement: str) -> Formula:
    """Of a value and a number."""
    return Formula(says, ("x",), ("y",), statement, ("number",))


TIMES_NUMBER = _number("y = number x.", "y[i] = x[i] * ($dtype)number;")

FORMULAS = {
    ("add", "forward", ""): _both("y = a + b.", "y[i] = a[i] + b[i];"),
    ("add", "forward", "number"): _number("y = x + number.", "y[i] = x[i] + ($dtype)number;"),
    ("add", "dx", ""): Formula("da = db = dy.", ("dy",), ("da", "db"), "da[i] = dy[i];\ndb[i] = dy[i];"),
    ("sub", "forward", ""): _both("y = a - b.", "y[i] = a[i] - b[i];"),
    ("sub", "forward", "number"): _number("y = x - number.", "y[i] = x[i] - ($dtype)number;"),
    ("sub", "forward", "first"): _number("y = number - x.", "y[i] = ($dtype)number - x[i];"),
    ("sub", "dx", ""): Formula("da = dy, db = -dy.", ("dy",), ("da", "db"), "da[i] = dy[i];\ndb[i] = -dy[i];"),
    ("mul", "forward", ""): _both("y = a b.", "y[i] = a[i] * b[i];"),
    ("mul", "forward", "number"): TIMES_NUMBER,
    ("mul", "dx", ""): Formula(
        "da = dy b, db = dy a.",
        ("dy", "a", "b"),
        ("da", "db"),
        "const $dtype slope = dy[i] * b[i];\ndb[i] = dy[i] * a[i];\nda[i] = slope;",
    ),
    ("mul", "dx", "number"): TIMES_NUMBER,
    ("div", "forward", ""): _both("y = a/b.", "y[i] = a[i] / b[i];"),
    ("div", "forward", "number"): _number("y = x/number.", "y[i] = x[i] / ($dtype)number;"),
    ("div", "forward", "first"): _number("y = number/x.", "y[i] = ($dtype)number / x[i];"),
    ("div", "dx", ""): Formula(
        "da = dy/b, db = -dy a/b^2.",
        ("dy", "a", "b"),
        ("da", "db"),
        "const $dtype slope = dy[i] / b[i];\ndb[i] = dy[i] * (-a[i] / (b[i] * b[i]));\nda[i] = slope;",
    ),
}

FUNCTIONS = loops(FORMULAS)
