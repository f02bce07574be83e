"""What is said where an operator does not take its operands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dlc.diagnostics import Diagnostic, Label, Span
from dlc.expand.evaluate import Entity, Tensor, described
from dlc.messages import MESSAGES
from dlc.messages import e02_names as messages
from dlc.ops.operator import OperandError
from dlc.syntax import ast


def not_a_value(callee: str, found: Entity, place: Span) -> Diagnostic:
    """E0219; what `split` makes is a list, whose items bear names or numbers."""
    several = isinstance(found, tuple) and any(isinstance(item, Tensor) for item in found)
    helps = ("`a, b = …` names the items of a list, `list[0]` is the first of them",) if several else ()
    return messages.NOT_A_VALUE.at(place, callee=callee, found=described(found), helps=helps)


def operand_message(
    error: OperandError, span: Span, operands: Sequence[Span], arguments: Mapping[str, ast.Argument]
) -> Diagnostic:
    """A shape rule's refusal, at the argument or operand at fault."""
    place = span
    if error.argument is not None and error.argument in arguments:
        place = arguments[error.argument].value.span
    elif error.operand is not None and error.operand < len(operands):
        place = operands[error.operand]
    message = MESSAGES[error.code]
    sentence = message.sentence.format(**error.values)
    return Diagnostic(message.code, sentence, Label(place, error.label), notes=error.notes, helps=error.helps)
