"""What the tests of the parser read: one value, one network, one plan, or what is refused."""

from __future__ import annotations

import pytest

from dlc.diagnostics import DiagnosticError
from dlc.syntax import ast
from dlc.syntax.parser import parse


def value(text: str) -> ast.Expr:
    (item,) = parse(f"dlspec 1\nparam p = {text}\n", "a.dlspec").items
    assert isinstance(item, ast.Param)
    return item.default


def statements(text: str) -> tuple[ast.Statement, ...]:
    (item,) = parse(f"dlspec 1\nnetwork n {{\n{text}\n}}\n", "a.dlspec").items
    assert isinstance(item, ast.Network)
    return item.body


def rules(text: str) -> tuple[ast.PlanRule, ...]:
    (item,) = parse(f"dlspec 1\nplan n on c {{\n{text}\n}}\n", "a.dlspec").items
    assert isinstance(item, ast.Plan)
    return item.rules


def errors(text: str) -> list[str]:
    with pytest.raises(DiagnosticError) as error:
        parse(text, "a.dlspec")
    return [f"{d.code} {d.message}" for d in error.value.diagnostics]


def show(node: object) -> str:  # noqa: C901  one line for each node
    """An expression with all its brackets, so that a test shows what binds."""
    match node:
        case ast.Name(text):
            return text
        case ast.Number(number):
            return repr(number)
        case ast.Quantity(number, unit):
            return f"{number!r}_{unit}"
        case ast.Text(text):
            return repr(text)
        case ast.Window(extents):
            return "x".join(map(str, extents))
        case ast.ListOf(items):
            return f"[{', '.join(map(show, items))}]"
        case ast.Argument(name, argument):
            return f"{name}={show(argument)}" if name else show(argument)
        case ast.Call(callee, arguments):
            return f"{callee}({', '.join(map(show, arguments))})"
        case ast.Attribute(of, name):
            return f"{show(of)}.{name}"
        case ast.Index(of, index):
            return f"{show(of)}[{show(index)}]"
        case ast.Unary(operator, operand):
            return f"({operator} {show(operand)})"
        case ast.Binary(operator, left, right):
            return f"({show(left)} {operator} {show(right)})"
        case ast.If(condition, then, otherwise):
            return f"(if {show(condition)} then {show(then)} else {show(otherwise)})"
        case ast.Repeat(count, variable, body):
            return f"repeat {show(count)} as {variable} {{{' -> '.join(map(show, body))}}}"
        case ast.Link(stage, label):
            return f"{show(stage)} as {label}" if label else show(stage)
        case ast.Chain(head, links):
            return f"({' -> '.join(map(show, (head, *links)))})"
        case ast.Labelled(labelled, label):
            return f"({show(labelled)} as {label})"
    raise AssertionError(node)
