"""What an argument of a call says: `read` evaluates it by the kind that its parameter declares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dlc.diagnostics import Diagnostic, similar
from dlc.expand.evaluate import UNKNOWN, Entity, Evaluator, Unknown, described
from dlc.ir.graph import Attr
from dlc.messages import e02_names as messages
from dlc.ops.operator import Parameter
from dlc.syntax import ast


def read(parameter: Parameter, argument: ast.Argument, callee: str, evaluator: Evaluator) -> Attr | Unknown:
    """The value of an argument by its kind; UNKNOWN after a mistake (E0213), which is reported.

    Kinds are those of `dlc.ops.operator.Parameter` that networks use, but `weight`, which names an address.
    """
    expression = evaluator.branch(argument.value)
    if expression is None:
        return UNKNOWN
    if parameter.kind == "axes":
        return _axes(parameter, argument, expression, callee, evaluator)
    if isinstance(expression, ast.Name):
        word = _word(parameter, expression, evaluator)
        if word is not None:
            return word
        if words_of(parameter) and expression.text not in (*evaluator.scope, "yes", "no"):
            return evaluator.fail(no_such_word(parameter, callee, expression))
    if parameter.kind == "axis":
        return _refuse(parameter, argument, callee, in_words(expression, evaluator), evaluator)
    value = evaluator.evaluate(expression)
    if value is UNKNOWN:
        return UNKNOWN
    attr = _attr(parameter, value)
    if attr is None:
        return _refuse(parameter, argument, callee, described(value), evaluator)
    return attr


def in_words(expression: ast.Expr, evaluator: Evaluator) -> str:
    """What stands where no expression is evaluated, as messages call it."""
    if isinstance(expression, ast.Number | ast.Text | ast.Window):
        return described(evaluator.evaluate(expression))
    return f"a list of {len(expression.items)}" if isinstance(expression, ast.ListOf) else "an expression"


def borrowed(expression: ast.Expr) -> tuple[ast.Expr, bool]:
    """The address of a borrowed weight, and whether it is transposed: `tied = transpose(a.linear.weight)`."""
    match expression:
        case ast.Call("transpose", (ast.Argument(None, address),)):
            return address, True
    return expression, False


def _axes(
    parameter: Parameter, argument: ast.Argument, expression: ast.Expr, callee: str, evaluator: Evaluator
) -> Attr | Unknown:
    """The names in a list, or a name alone."""
    items = listed_axes(expression)
    names = tuple(item for item in items if isinstance(item, ast.Name))
    if not names or len(names) < len(items):
        return _refuse(parameter, argument, callee, in_words(expression, evaluator), evaluator)
    for name in names:
        _word(parameter, name, evaluator)
    return tuple(name.text for name in names)


def listed_axes(expression: ast.Expr) -> tuple[ast.Expr, ...]:
    """What an argument of kind `axes` is made of: bare words, if it is sound."""
    return expression.items if isinstance(expression, ast.ListOf) else (expression,)


WORDS: Mapping[str, tuple[str, ...]] = {"pad": ("same", "valid"), "group": ("batch",)}
"""Bare words that kinds other than `choice` take."""


def no_such_word(parameter: Parameter, callee: str, name: ast.Name) -> Diagnostic:
    """E0213 for a bare word that nothing bears, where the argument takes other words."""
    near = similar(name.text, words_of(parameter))
    helps = (f"there is a word with a similar name: `{near}`",) if near else ()
    found = f"the word `{name.text}`"
    return messages.WRONG_KIND.at(
        name.span, argument=parameter.name, callee=callee, needed=needed(parameter), found=found, helps=helps
    )


def words_of(parameter: Parameter) -> tuple[str, ...]:
    """The bare words that an argument takes, whatever else bears their names."""
    return (*parameter.choices, *WORDS.get(parameter.kind, ()))


def _word(parameter: Parameter, name: ast.Name, evaluator: Evaluator) -> str | None:
    """What a bare word says where the argument takes that word, whatever else bears its name."""
    if parameter.kind in ("axis", "axes"):
        kind = "an axis"
    elif name.text in words_of(parameter):
        kind = f"a choice of `{parameter.name}`"
    else:
        return None
    if parameter.kind != "group" and evaluator.scope.find(name.text) is not None:
        evaluator.report(messages.WORD_READ_AS.at(name.span, name=name.text, kind=kind))
    return name.text


def _refuse(parameter: Parameter, argument: ast.Argument, callee: str, found: str, evaluator: Evaluator) -> Unknown:
    diagnostic = messages.WRONG_KIND.at(
        argument.value.span, argument=parameter.name, callee=callee, needed=needed(parameter), found=found
    )
    return evaluator.fail(diagnostic)


def _attr(parameter: Parameter, value: Entity) -> Attr | None:
    """A constant as an attribute of that kind, None where it is of another kind or out of range."""
    match parameter.kind:
        case "bool":
            return value if isinstance(value, bool) else None
        case "choice":
            return value.text if isinstance(value, ast.Name) and value.text in parameter.choices else None
        case "int":
            return _integer(parameter, value)
        case "group" | "pad" | "window":
            return _word_or_extents(parameter, value)
        case "shape":
            return _integers(parameter, value) if isinstance(value, tuple) else None
        case "counts":
            return _integers(parameter, value) if isinstance(value, tuple) else _integer(parameter, value)
        case "margins":
            return _margins(parameter, value)
        case "number":
            if isinstance(value, bool) or not isinstance(value, int | float):
                return None
            return value if _in(parameter, value) else None
    raise ValueError(f"networks have no arguments of kind {parameter.kind}")


def _word_or_extents(parameter: Parameter, value: Entity) -> Attr | None:
    """One of the kind's words, a number, the extents of `1x2`, or of pads the pairs of `[[0, 1], [2, 2]]`."""
    if isinstance(value, ast.Name) and value.text in WORDS.get(parameter.kind, ()):
        return value.text
    if isinstance(value, ast.Window) and parameter.kind != "group":
        return _integers(parameter, value.extents)
    if isinstance(value, tuple) and parameter.kind == "pad":
        pairs = _pairs(parameter, value)
        return pairs if pairs is not None and all(len(pair) == 2 for pair in pairs) else None
    return _integer(parameter, value)


def _integer(parameter: Parameter, value: Entity) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and _in(parameter, value) else None


def _integers(parameter: Parameter, values: Iterable[Entity]) -> tuple[int, ...] | None:
    items = tuple(_integer(parameter, value) for value in values)
    found = tuple(item for item in items if item is not None)
    return found if found and len(found) == len(items) else None


def _margins(parameter: Parameter, value: Entity) -> Attr | None:
    """A number, the extents of `1x2` before and after alike, a list of numbers, or a list of pairs."""
    if isinstance(value, ast.Window):
        extents = _integers(parameter, value.extents)
        return None if extents is None else tuple((extent, extent) for extent in extents)
    if not isinstance(value, tuple):
        return _integer(parameter, value)
    return _pairs(parameter, value) if any(isinstance(item, tuple) for item in value) else _integers(parameter, value)


def _pairs(parameter: Parameter, value: tuple[Entity, ...]) -> tuple[tuple[int, ...], ...] | None:
    """`[[0, 1], [2, 2]]`: before and after each axis."""
    found = tuple(_integers(parameter, item) if isinstance(item, tuple) else None for item in value)
    pairs = tuple(pair for pair in found if pair is not None)
    return pairs if pairs and len(pairs) == len(value) else None


def _in(parameter: Parameter, value: float) -> bool:
    if parameter.minimum is not None and value < parameter.minimum:
        return False
    if parameter.above is not None and value <= parameter.above:
        return False
    return parameter.below is None or value < parameter.below


def needed(parameter: Parameter) -> str:
    """What an argument can be, in words."""
    bounds = "" if parameter.minimum is None else f" from {parameter.minimum:g} up"
    bounds += "" if parameter.above is None else f" above {parameter.above:g}"
    bounds += "" if parameter.below is None else f" and below {parameter.below:g}"
    match parameter.kind:
        case "int":
            return f"an integer{bounds}"
        case "number":
            return f"a number{bounds}"
        case "bool":
            return "`yes` or `no`"
        case "choice":
            return " or ".join(f"`{choice}`" for choice in parameter.choices)
        case "window":
            return f"a number or a window such as `3x3`, its extents integers{bounds}"
        case "pad":
            return f"an integer{bounds}, `1x2`, `[[0, 1], [2, 2]]` (before and after each axis), `same` or `valid`"
        case "shape":
            return f"a list of integers{bounds}"
        case "counts":
            return f"an integer{bounds} or a list of them"
        case "margins":
            return f"an integer{bounds}, one for each axis such as `1x2`, or a list of pairs such as `[[1, 0], [2, 2]]`"
        case "axes":
            return "the name of an axis or a list of names"
        case "group":
            return f"a count of samples{bounds}, or `batch`"
    return "the name of an axis" if parameter.kind == "axis" else "the address of a weight"
