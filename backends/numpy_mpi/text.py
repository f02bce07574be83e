"""Python text as ruff would format it: literals, calls and comments of emitted programs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

WIDTH = 120


def literal(value: object) -> str:
    """A Python literal; only such text from a spec ever reaches emitted code."""
    if isinstance(value, tuple):
        items = ", ".join(literal(item) for item in value)
        return f"({items},)" if len(value) == 1 else f"({items})"
    if isinstance(value, str):
        quoted = ascii(value)
        return f'"{quoted[1:-1]}"' if quoted[0] == "'" and '"' not in quoted else quoted
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return f'float("{value}")'
    return repr(value)


def counted(first: int, end: int) -> str:
    """`range(end)`, or from another number than 0 `range(first, end)`."""
    return f"range({first}, {end})" if first else f"range({end})"


def comment(text: str, indent: int = 0) -> str:
    """A comment line; whatever is no printable ASCII-safe character becomes a blank."""
    return f"{' ' * indent}# {re.sub(r'[^ -~→…]', ' ', text)}"


def call(function: str, arguments: Iterable[str], indent: int = 0, tail: str = "") -> str:
    """A call on one line, or with its arguments on the next, or with one argument a line; `tail` stands behind it."""
    items, margin = list(arguments), " " * indent
    line = f"{margin}{function}({', '.join(items)}){tail}"
    if len(line) <= WIDTH or not items:
        return line
    inner = f"{margin}    {', '.join(items)}"
    body = inner if len(inner) <= WIDTH else "\n".join(f"{margin}    {item}," for item in items)
    return f"{margin}{function}(\n{body}\n{margin}){tail}"


def import_line(module: str, names: Iterable[str]) -> str:
    """`from module import …`, wrapped as ruff wraps it."""
    items = list(names)
    line = f"from {module} import {', '.join(items)}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"from {module} import (", *(f"    {item}," for item in items), ")"])


def literal_map(entries: Mapping[str, object]) -> str:
    """A dict display on one line."""
    return "{" + ", ".join(f"{literal(key)}: {literal(value)}" for key, value in entries.items()) + "}"


def table(rows: Iterable[tuple[str, str]], indent: int = 0) -> str:
    """A dict display with one row a line, or {} where there are none."""
    lines = [f"{' ' * indent}    {literal(key)}: {value}," for key, value in rows]
    return "\n".join(["{", *lines, " " * indent + "}"]) if lines else "{}"
