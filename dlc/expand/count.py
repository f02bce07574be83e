"""A lower bound of the number of ops that a network expands to, found without expanding it.

`repeat 1000000000 { … }`, repeats inside repeats and blocks that use blocks multiply; here they do so as numbers. Only
what depends on the shapes of values stays open, and counts as nothing. The expansion itself stops at the same bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dlc.diagnostics import Diagnostic, Span
from dlc.expand.arguments import Bound
from dlc.expand.check import Body, Checked
from dlc.expand.evaluate import DEEPEST, FUNCTIONS, UNKNOWN, Entity, Evaluator, Scope
from dlc.messages import e02_names as messages
from dlc.syntax import ast

MOST_OPS = 100_000


class TooManyOpsError(Exception):
    """Ends an expansion that grows beyond the bound; `span` is where, `note` what multiplies there."""

    def __init__(self, span: Span | None, note: str = "") -> None:
        super().__init__(note)
        self.span, self.note = span, note

    @property
    def diagnostic(self) -> Diagnostic:
        """E0211."""
        return messages.TOO_MANY_OPS.at(self.span, limit=MOST_OPS, notes=(self.note,) if self.note else ())


@dataclass(slots=True)
class Counter:
    """Counts at least the ops of checked bodies; each block is counted once for each set of constant arguments."""

    checked: Checked
    _depth: int = 0
    _blocks: dict[tuple[str, tuple[tuple[str, Entity], ...]], int] = field(default_factory=dict)

    def least(self, body: Body, constants: dict[str, Entity]) -> int:
        """At least so many ops; TooManyOpsError where that alone is too many."""
        names = dict.fromkeys(body.targets, UNKNOWN)
        scope = Scope(body.where, {**names, **constants}, self.checked.parameters)
        expressions = [s.value for s in body.statements if isinstance(s, ast.Binding)]
        expressions += [] if body.result is None else [body.result]
        return self._total(expressions, scope)

    def _total(self, expressions: list[ast.Expr], scope: Scope) -> int:
        total = 0
        stack: list[ast.Expr] = list(expressions)
        while stack:
            match stack.pop():
                case ast.Chain(head, links):
                    stack.append(head)
                    total += self._links(links, scope)
                case ast.Call() as call:
                    total += self._call(call, False, scope)
                    stack.extend(argument.value for argument in call.arguments)
                case ast.Binary(left=left, right=right):
                    stack += (left, right)
                case ast.Labelled(value) | ast.Unary(operand=value) | ast.Index(value):
                    stack.append(value)
                case ast.ListOf(items):
                    stack.extend(items)
                case ast.If() as choice:
                    taken = Evaluator(scope, _ignore).branch(choice)
                    stack += () if taken is None else (taken,)
        return total

    def _links(self, links: tuple[ast.Link, ...], scope: Scope) -> int:
        """What a chain holds; nothing where it lies too deep, which the expansion refuses."""
        if self._depth >= DEEPEST:
            return 0
        self._depth += 1
        total = 0
        for link in links:
            stage = link.stage
            total += self._repeat(stage, scope) if isinstance(stage, ast.Repeat) else self._call(stage, True, scope)
        self._depth -= 1
        return total

    def _repeat(self, repeat: ast.Repeat, scope: Scope) -> int:
        count = Evaluator(scope, _ignore).evaluate(repeat.count)
        if isinstance(count, bool) or not isinstance(count, int) or count <= 0:
            return 0
        each = max(1, self._links(repeat.body, scope.inner(repeat.variable, UNKNOWN)))
        if count * each > MOST_OPS:
            holds = f", each of at least {each:,} ops" if each > 1 else ""
            raise TooManyOpsError(repeat.span, f"`repeat {count}`{holds}")
        return count * each

    def _call(self, call: ast.Call, piped: bool, scope: Scope) -> int:
        if call.callee in FUNCTIONS:
            return 0
        bound = self.checked.calls.bind(call, piped, scope.where)
        if bound is None:
            return 0
        if not isinstance(bound.callee, ast.Block):
            return 1
        body = self.checked.blocks.get(bound.callee.name)
        if body is None:
            return 0
        constants = self._constants(bound, bound.callee, scope)
        key = (body.name, tuple(constants.items()))
        if key not in self._blocks:
            self._blocks[key] = max(1, self.least(body, constants))
        if self._blocks[key] > MOST_OPS:
            raise TooManyOpsError(call.span, f"block `{body.name}` alone holds at least {self._blocks[key]:,} ops")
        return self._blocks[key]

    def _constants(self, bound: Bound, block: ast.Block, scope: Scope) -> dict[str, Entity]:
        """The block's arguments as far as they are constants; the others are unknown."""
        constants: dict[str, Entity] = {}
        defaults = Scope(scope.where, constants, self.checked.parameters, words=True)
        for formal in block.formals:
            if formal.name in bound.arguments:
                value = Evaluator(scope, _ignore).evaluate(bound.arguments[formal.name].value)
            elif formal.default is not None:
                value = Evaluator(defaults, _ignore).evaluate(formal.default)
            else:
                value = UNKNOWN
            constants[formal.name] = value
        return constants


def _ignore(_: Diagnostic) -> None:
    """Mistakes are reported where the body is expanded."""
