"""Expressions, from names and numbers to chains of calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dlc.diagnostics import Span


def span_field() -> Any:
    """The field of a node's span, which takes no part in comparison."""
    return field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Name:
    """A bare word: a value, a parameter, or a choice such as `same` and `NHWC`, by what its place asks for."""

    text: str
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Number:
    """`32`, `0.05`, `5e-5`; integers stay integers."""

    value: int | float
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a unit, one token: `900 GB/s`, `2 us`, `5 epochs`."""

    value: int | float
    unit: str
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Text:
    """A quoted text."""

    value: str
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Window:
    """`3x3`, `1x2`, `3x3x3`: one extent per spatial axis, height before width."""

    extents: tuple[int, ...]
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class ListOf:
    """`[3, 4, 6, 3]`."""

    items: tuple[Expr, ...]
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call; `name` is None where it is positional."""

    name: str | None
    value: Expr
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Call:
    """`conv(64, 3x3)`: an operator, a block or a function of settings; `callee_span` covers the name alone."""

    callee: str
    arguments: tuple[Argument, ...]
    callee_span: Span = span_field()
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Attribute:
    """`x.channel`, `data.label`, `wte.embedding.weight`."""

    value: Expr
    name: str
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Index:
    """`blocks[0]`."""

    value: Expr
    index: Expr
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Unary:
    """`-x` and `not x`; `operator` is the text `-` or `not`."""

    operator: str
    operand: Expr
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Binary:
    """`a + b`; `operator` is one of `+ - * / @ == != < <= > >= and or then`.

    `then` joins learning-rate schedules and only means something there.
    """

    operator: str
    left: Expr
    right: Expr
    operator_span: Span = span_field()
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class If:
    """`if condition then value else other`; only the branch taken is expanded."""

    condition: Expr
    then: Expr
    otherwise: Expr
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Repeat:
    """`repeat n as i { chain }`: the body is a chain of links without a head."""

    count: Expr
    variable: str | None
    body: tuple[Link, ...]
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Link:
    """One stage of a chain: a call, a bare operator name (a call without arguments) or a repeat, and its label."""

    stage: Call | Repeat
    label: str | None
    label_span: Span | None = span_field()
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Chain:
    """`head -> link -> link`."""

    head: Expr
    links: tuple[Link, ...]
    span: Span = span_field()


@dataclass(frozen=True, slots=True)
class Labelled:
    """A call that heads a chain or stands alone, with a label: `concat(a, b) as join`."""

    value: Expr
    label: str
    label_span: Span = span_field()
    span: Span = span_field()


Expr = (
    Name
    | Number
    | Quantity
    | Text
    | Window
    | ListOf
    | Call
    | Attribute
    | Index
    | Unary
    | Binary
    | If
    | Chain
    | Labelled
)
