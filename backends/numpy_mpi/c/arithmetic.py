"""Sums, differences, products and quotients in C, of values of one shape; in any layout."""

from __future__ import annotations

from .elementwise import Formula, loops

FORMULAS = {
    ("add", "forward", ""): Formula("y = a + b.", ("a", "b"), ("y",), "y[i] = a[i] + b[i];"),
    ("add", "dx", ""): Formula("da = db = dy.", ("dy",), ("da", "db"), "da[i] = dy[i];\ndb[i] = dy[i];"),
}

FUNCTIONS = loops(FORMULAS)
