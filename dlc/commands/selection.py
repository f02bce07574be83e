"""Selectors that stand on the command line, with messages that point into them."""

from __future__ import annotations

from dataclasses import replace

from dlc.commands.answer import UsageError
from dlc.diagnostics import Diagnostic, DiagnosticError, Label, Span
from dlc.driver import SourcedError
from dlc.expand.select import matches
from dlc.ir.graph import Graph
from dlc.syntax import ast
from dlc.syntax.parser import parse

NAME = "--select"
"""What messages call the selector's text."""

_ABOVE = "dlspec 1\nplan here on here {\n"
_BEFORE = "pin "
_AFTER = " { layout = auto }\n}\n"


def select(text: str, graph: Graph) -> tuple[str, ...]:
    """The addresses of the forward ops that a selector reaches, in order; SourcedError where it has mistakes."""
    try:
        return matches(_parsed(text), graph)
    except DiagnosticError as error:
        raise SourcedError(tuple(_relocated(d, text) for d in error.diagnostics), {NAME: text}) from None


def _parsed(text: str) -> ast.Selector:
    """The grammar knows selectors as parts of pins, so it reads one."""
    file = parse(f"{_ABOVE}{_BEFORE}{text}{_AFTER}", NAME)
    rules = [rule for item in file.items if isinstance(item, ast.Plan) for rule in item.rules]
    if len(file.items) == len(rules) == 1 and isinstance(rules[0], ast.Pin) and len(rules[0].settings) == 1:
        return rules[0].selector
    raise UsageError(f"`{text}` is more than one selector")


def _relocated(diagnostic: Diagnostic, text: str) -> Diagnostic:
    """The message with its places counted from the beginning of the selector."""
    primary = diagnostic.primary
    return replace(diagnostic, primary=primary and Label(_place(primary.span, text), primary.text), secondary=())


def _place(span: Span, text: str) -> Span:
    first_line = _ABOVE.count("\n") + 1
    if span.line != first_line:
        return Span(NAME, 1, len(text) + 1, 1, len(text) + 2)
    column = min(span.column - len(_BEFORE), len(text) + 1)
    end = min(span.end_column - len(_BEFORE), len(text) + 1) if span.end_line == first_line else len(text) + 1
    return Span(NAME, 1, max(1, column), 1, max(column + 1, end))
