"""Parameters: `param NAME = default`, typed by the default, replaced by `-P NAME=value`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dlc.diagnostics import DiagnosticError, Label, similar
from dlc.expand.evaluate import UNKNOWN, Entity, Evaluator, Scope, described
from dlc.expand.order import circle_message, in_order, names_in
from dlc.expand.report import Report
from dlc.messages import e02_names as messages
from dlc.syntax import ast
from dlc.units import KIND_WORDS, UNITS

WHERE = "the parameters"


def parameters(items: Sequence[ast.Param], overrides: Mapping[str, str], report: Report) -> Scope:
    """The scope of all parameters; one with a mistake is unknown. Defaults may use other parameters, in any order."""
    declared: dict[str, ast.Param] = {}
    for item in items:
        if item.name in declared:
            first = Label(declared[item.name].name_span, "first defined here")
            report(messages.DEFINED_TWICE.at(item.name_span, name=item.name, secondary=(first,)))
        declared.setdefault(item.name, item)
    for name in overrides:
        if name not in declared:
            _unknown_override(name, declared, report)
    scope = Scope(WHERE, dict.fromkeys(declared, UNKNOWN), words=True)
    reads = {name: tuple(names_in(item.default)) for name, item in declared.items()}

    def report_circle(circle: list[str]) -> None:
        report(circle_message(circle, declared[circle[0]].name_span))

    for name in in_order(reads, report_circle):
        scope.names[name] = _value(declared[name], overrides.get(name), scope, report)
    return Scope(WHERE, scope.names)


def _unknown_override(name: str, declared: Mapping[str, ast.Param], report: Report) -> None:
    near = similar(name, declared)
    helps = (f"there is a parameter with a similar name: `{near}`",) if near else ()
    notes = (f"parameters: {', '.join(sorted(declared))}",) if declared else ("there are no parameters",)
    report(messages.NO_PARAMETER.at(None, name=name, notes=notes, helps=helps))


def _value(item: ast.Param, override: str | None, scope: Scope, report: Report) -> Entity:
    default = Evaluator(scope, report).evaluate(item.default)
    if override is None:
        return default
    if isinstance(default, str) and not override.startswith('"'):
        return override
    value = _read(item, override, scope)
    if default is not UNKNOWN and not fits(value, default):
        label = Label(item.default.span, f"its default is {described(default)}")
        mistake = messages.WRONG_PARAMETER.at(
            item.name_span, name=item.name, needed=type_name(default), found=f"`{override}`", secondary=(label,)
        )
        report(mistake)
        return UNKNOWN
    return value


def _read(item: ast.Param, text: str, scope: Scope) -> Entity:
    """The value that an override says, UNKNOWN where it says none: the message then quotes the text."""
    from dlc.syntax.parser import parse

    try:
        file = parse(f"dlspec 1\nparam {item.name} = {text}\n", f"-P {item.name}")
    except DiagnosticError:
        return UNKNOWN
    match file.items:
        case (ast.Param(default=expression),):
            return Evaluator(scope, lambda _: None).evaluate(expression)
    return UNKNOWN


def fits(value: Entity, default: Entity) -> bool:
    """Whether a value has the type of a default; an empty list fits any list, an integer any number."""
    match default:
        case bool():
            return isinstance(value, bool)
        case int():
            return isinstance(value, int) and not isinstance(value, bool)
        case float():
            return isinstance(value, int | float) and not isinstance(value, bool)
        case tuple():
            return isinstance(value, tuple) and (not default or all(fits(item, default[0]) for item in value))
        case ast.Quantity():
            return isinstance(value, ast.Quantity) and UNITS[value.unit].kind == UNITS[default.unit].kind
    return type(value) is type(default)


def type_name(default: Entity) -> str:
    """The type of a default in words."""
    match default:
        case bool():
            return "`yes` or `no`"
        case int():
            return "an integer"
        case float():
            return "a number"
        case str():
            return "a text"
        case ast.Name():
            return "a word"
        case ast.Window():
            return "a window such as `3x3`"
        case ast.Quantity(unit=unit):
            return f"{KIND_WORDS[UNITS[unit].kind]} such as `1 {unit}`"
        case tuple():
            return f"a list, each item {type_name(default[0])}" if default else "a list"
    return "a constant"
