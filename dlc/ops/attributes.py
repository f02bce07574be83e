"""Attributes read by kind: an argument of another kind was let through by the expander, a programming error."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.ir.graph import Attr


def integer(attrs: Mapping[str, Attr], name: str) -> int:
    """A count; TypeError where it is something else."""
    value = attrs[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"attribute {name} is an integer, not {value!r}")
    return value


def number(attrs: Mapping[str, Attr], name: str) -> float:
    """A number; TypeError where it is something else."""
    value = attrs[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"attribute {name} is a number, not {value!r}")
    return float(value)


def flag(attrs: Mapping[str, Attr], name: str) -> bool:
    """`yes` or `no`; TypeError where it is something else."""
    value = attrs[name]
    if not isinstance(value, bool):
        raise TypeError(f"attribute {name} is yes or no, not {value!r}")
    return value


def word(attrs: Mapping[str, Attr], name: str) -> str:
    """A choice, an axis or an address; TypeError where it is something else."""
    value = attrs[name]
    if not isinstance(value, str):
        raise TypeError(f"attribute {name} is a word, not {value!r}")
    return value


def extents(attrs: Mapping[str, Attr], name: str) -> tuple[int, ...]:
    """A list of counts; one count is a list of one. TypeError where it is something else."""
    value = attrs[name]
    items = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        raise TypeError(f"attribute {name} is a list of integers, not {value!r}")
    return tuple(item for item in items if isinstance(item, int))
