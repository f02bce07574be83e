"""Calls: which argument is meant by what is written.

`bind` matches the arguments of a call to the operands and parameters of an operator or to the formals of a block,
by place and by name; it looks at names only, so unused blocks are checked too. What an argument says is read in
`values.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dlc.diagnostics import Diagnostic, DiagnosticError, Label, Span, similar
from dlc.expand.evaluate import FUNCTION_NAMES, FUNCTIONS
from dlc.expand.report import Report, undefined
from dlc.messages import e02_names as messages
from dlc.ops import LAYERS, operator
from dlc.ops.operator import Operator, Parameter
from dlc.syntax import ast

CALLABLE: Mapping[str, Operator] = {op.name: op for op in LAYERS}
"""The operators that networks are made of, by name."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A call whose arguments have found their places.

    `operands` holds what an operator computes with, None for what arrives through `->`. `arguments` holds the rest by
    name; for a block, all but what arrives.
    """

    callee: Operator | ast.Block
    operands: tuple[ast.Argument | None, ...]
    arguments: Mapping[str, ast.Argument]

    @property
    def layer(self) -> ast.Argument | None:
        """The layer that the call wraps, as `weight_norm(linear(84))` does; None for other calls."""
        wraps = isinstance(self.callee, Operator) and wraps_layer(self.callee)
        return self.arguments.get("layer") if wraps else None


@dataclass(slots=True)
class Calls:
    """Binds calls to the operators and blocks in reach; each call is bound, and its mistakes reported, once."""

    blocks: Mapping[str, ast.Block]
    report: Report
    bound: dict[Span, Bound | None] = field(default_factory=dict)

    def bind(self, call: ast.Call, piped: bool, where: str) -> Bound | None:
        """The callee and its arguments; None after a mistake. `piped`: a value arrives through `->`."""
        key = call.callee_span
        if key not in self.bound:
            try:
                callee = self._callee(call, where)
                self.bound[key] = None if callee is None else bind(call, callee, piped)
            except DiagnosticError as error:
                self.bound[key] = None
                for diagnostic in error.diagnostics:
                    self.report(diagnostic)
        return self.bound[key]

    def layer(self, wrapper: Bound, where: str) -> Bound | None:
        """The layer that a call wraps, bound as one that something arrives at; None after a mistake (E0213)."""
        if wrapper.layer is None:
            return None
        call, found = wrapper.layer.value, "another expression"
        if isinstance(call, ast.Call):
            bound = self.bind(call, True, where)
            if bound is None or _has_weight(bound):
                return bound
            tied = " with a tied weight" if "tied" in bound.arguments else ""
            found = f"a call of `{call.callee}`{tied}"
        elif isinstance(call, ast.Name):
            found = f"`{call.text}`"
        callee, needed = wrapper.callee.name, "a layer with a weight of its own, such as `linear(84)`"
        self.report(messages.WRONG_KIND.at(call.span, argument="layer", callee=callee, needed=needed, found=found))
        return None

    def argument_span(self, callee_span: Span, argument: str) -> Span | None:
        """Where the call at that place gives that argument; None where it leaves it at its default."""
        bound = self.bound.get(callee_span)
        given = None if bound is None else bound.arguments.get(argument)
        return None if given is None else given.span

    def _callee(self, call: ast.Call, where: str) -> Operator | ast.Block | None:
        found = CALLABLE.get(call.callee) or self.blocks.get(call.callee)
        if found is not None:
            return found
        if (other := operator(call.callee)) is not None and other.role != "operator":
            notes = (f"`{call.callee}` stands in `train` blocks",)
            self.report(messages.UNDEFINED.at(call.callee_span, name=call.callee, where=where, notes=notes))
        elif call.callee in FUNCTIONS:
            notes = (f"`{call.callee}` is a function of numbers: `{call.callee}(…)`, without an arrow",)
            self.report(messages.UNDEFINED.at(call.callee_span, name=call.callee, where=where, notes=notes))
        else:
            known = dict.fromkeys(CALLABLE, "an operator") | dict.fromkeys(self.blocks, "a block")
            self.report(undefined(call.callee, call.callee_span, where, known | FUNCTION_NAMES))
        return None


def bind(call: ast.Call, callee: Operator | ast.Block, piped: bool) -> Bound:
    """The call's arguments in their places; DiagnosticError with all its mistakes."""
    if isinstance(callee, ast.Block):
        return _bind_block(call, callee, piped)
    parameters = [parameter.name for parameter in callee.parameters if not _internal(parameter)]
    operands: tuple[ast.Argument | None, ...]
    if callee.variadic:
        operands = (*((None,) if piped else ()), *(a for a in call.arguments if a.name is None))
        found = _match(call, [a for a in call.arguments if a.name is not None], parameters, ())
    else:
        names = operand_names(callee)
        taken = names[:1] if piped else ()
        found = _match(call, call.arguments, (*names, *parameters), taken)
        operands = tuple(found.pop(name, None) for name in names)
        given = sum(operand is not None for operand in operands) + piped
        if given != len(operands):
            raise DiagnosticError([_wrong_operands(call, callee, len(operands), given)])
    missing = next((p.name for p in callee.parameters if p.required and p.name not in found), None)
    if missing is not None:
        raise DiagnosticError([_missing(call, callee, missing)])
    return Bound(callee, operands, found)


def _has_weight(layer: Bound) -> bool:
    """Whether what is called has a weight of its own."""
    return isinstance(layer.callee, Operator) and "weight" in layer.callee.weights and "tied" not in layer.arguments


def wraps_layer(op: Operator) -> bool:
    """Whether a call of it has another call as an argument: that of the layer whose weight it makes."""
    return any(parameter.kind == "layer" for parameter in op.parameters)


def operand_names(op: Operator) -> tuple[str, ...]:
    """What a call of it computes with; where it wraps a layer, that is the layer's operand."""
    return ("x",) if wraps_layer(op) else op.operands


def _bind_block(call: ast.Call, callee: ast.Block, piped: bool) -> Bound:
    names = [formal.name for formal in callee.formals]
    if piped and not names:
        raise DiagnosticError([_wrong_operands(call, callee, 0, 1)])
    found = _match(call, call.arguments, names, names[:1] if piped else ())
    for formal in callee.formals[piped:]:
        if formal.default is None and formal.name not in found:
            raise DiagnosticError([_missing(call, callee, formal.name)])
    return Bound(callee, (), found)


def _match(
    call: ast.Call, arguments: Sequence[ast.Argument], names: Sequence[str], taken: Sequence[str]
) -> dict[str, ast.Argument]:
    """Arguments by name; `taken` is what arrives through `->`."""
    found: dict[str, ast.Argument] = {}
    mistakes: list[Diagnostic] = []
    free = [name for name in names if name not in taken]
    positional = sum(argument.name is None for argument in arguments)
    places = iter(free)
    for argument in arguments:
        name = next(places, None) if argument.name is None else argument.name
        if name is None:
            mistakes.append(_too_many(call, argument, free, positional))
            break
        if name not in names:
            mistakes.append(_no_argument(call, argument, name, names))
        elif name in found or name in taken:
            mistakes.append(_twice(call, argument, name, found.get(name)))
        found[name] = argument
    if mistakes:
        raise DiagnosticError(mistakes)
    return found


# --- mistakes in calls ------------------------------------------------------------------------------------------


def _too_many(call: ast.Call, argument: ast.Argument, free: Sequence[str], given: int) -> Diagnostic:
    allowed = f"at most {len(free)} argument{'s' * (len(free) > 1)}" if free else "no arguments"
    notes = (f"its arguments are {listed(free)}",) if free else ()
    return messages.TOO_MANY_ARGUMENTS.at(argument.span, callee=call.callee, allowed=allowed, given=given, notes=notes)


def _no_argument(call: ast.Call, argument: ast.Argument, name: str, names: Sequence[str]) -> Diagnostic:
    near = similar(name, names)
    helps = (f"there is an argument with a similar name: `{near}`",) if near else ()
    notes = (f"its arguments are {listed(names)}",) if names else ("it has no arguments",)
    return messages.NO_ARGUMENT.at(argument.span, callee=call.callee, argument=name, notes=notes, helps=helps)


def _twice(call: ast.Call, argument: ast.Argument, name: str, first: ast.Argument | None) -> Diagnostic:
    label = Label(call.callee_span, "what arrives through `->`") if first is None else Label(first.span, "first here")
    return messages.GIVEN_TWICE.at(argument.span, callee=call.callee, argument=name, secondary=(label,))


def _missing(call: ast.Call, callee: Operator | ast.Block, name: str) -> Diagnostic:
    notes = (f"it is called as {signature(callee)}",)
    return messages.MISSING_ARGUMENT.at(call.span, callee=call.callee, argument=name, notes=notes)


def _wrong_operands(call: ast.Call, callee: Operator | ast.Block, count: int, given: int) -> Diagnostic:
    needed = "no value" if count == 0 else f"{count} value{'s' * (count > 1)}"
    notes = (f"it is called as {signature(callee)}",)
    return messages.WRONG_OPERANDS.at(call.span, callee=call.callee, needed=needed, given=given, notes=notes)


def signature(callee: Operator | ast.Block) -> str:
    """As it is called: `x -> conv(filters, window, stride = …)`, `concat(a, b, …)`, `mse(prediction, target)`."""
    if isinstance(callee, ast.Block):
        first, rest = callee.formals[:1], callee.formals[1:]
        written = [formal.name if formal.default is None else f"{formal.name} = …" for formal in rest]
        head = [formal.name for formal in first]
    else:
        names = ["a", "b", "…"] if callee.variadic else list(operand_names(callee))
        head = names[:1] if callee.role == "operator" and len(names) == 1 else []
        written = [] if head else names
        written += [p.name if p.required else f"{p.name} = …" for p in callee.parameters if not _internal(p)]
    brackets = f"({', '.join(written)})" if written else ""
    return f"`{' -> '.join([*head, callee.name])}{brackets}`"


def _internal(parameter: Parameter) -> bool:
    """Whether an argument is filled in by signs only: the number of `x / 2`."""
    return parameter.name in ("scalar", "scalar_first")


def listed(names: Iterable[str]) -> str:
    """`a`, `b` and `c`."""
    *most, last = (f"`{name}`" for name in names)
    return f"{', '.join(most)} and {last}" if most else last
