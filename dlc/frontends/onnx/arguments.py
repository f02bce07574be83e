"""Values as they stand in a spec: an argument written by the kind that its parameter declares."""

from __future__ import annotations

from dlc.diagnostics import Span
from dlc.ir.graph import Attr
from dlc.ops.operator import Operator, Parameter
from dlc.syntax import ast

NOWHERE = Span("", 1, 1, 1, 1)
"""The place of what no file holds yet."""


def number(value: float) -> ast.Expr:
    """`3`, `0.5`, `-1`; a whole number without a fraction."""
    value = int(value) if value == int(value) else value
    return ast.Unary("-", number(-value), NOWHERE) if value < 0 else ast.Number(value, NOWHERE)


def name(text: str) -> ast.Name:
    """A bare word."""
    return ast.Name(text, NOWHERE)


def listed(items: tuple[ast.Expr, ...]) -> ast.ListOf:
    """`[a, b]`."""
    return ast.ListOf(items, NOWHERE)


def call(op: Operator, attrs: dict[str, Attr], operands: tuple[ast.Expr, ...] = ()) -> ast.Call:
    """A call with its operands and attributes; what has its default is left away, what is required has no name."""
    arguments = [ast.Argument(None, operand, NOWHERE) for operand in operands]
    for parameter in op.parameters:
        value = attrs.get(parameter.name, parameter.default)
        if value is not None and (parameter.required or value != parameter.default):
            label = None if parameter.required and not op.variadic else parameter.name
            arguments.append(ast.Argument(label, written(parameter, value), NOWHERE))
    return ast.Call(op.name, tuple(arguments), NOWHERE, NOWHERE)


def written(parameter: Parameter, value: Attr) -> ast.Expr:
    """One argument."""
    match value:
        case bool():
            return name("yes" if value else "no")
        case int() | float():
            return number(value)
        case str():
            return _path(value)
    extents = tuple(item for item in value if isinstance(item, int))
    if parameter.kind in ("window", "pad") and extents:
        return ast.Window(extents, NOWHERE) if len(extents) > 1 else number(extents[0])
    return listed(tuple(map(_item, value)))


def _path(text: str) -> ast.Expr:
    """A bare word, or an address such as `wte.embedding.weight`."""
    before, dot, last = text.rpartition(".")
    return ast.Attribute(_path(before), last, NOWHERE) if dot else name(text)


def _item(item: int | str | tuple[int, ...]) -> ast.Expr:
    match item:
        case str():
            return name(item)
        case tuple():
            return listed(tuple(map(number, item)))
    return number(item)
