"""The ops, blocks and repeats of a statement in the branches that are taken, found before any of them is expanded.

Addresses are numbered in text order, expansion goes in the order of computing; so the names come first.
"""

from __future__ import annotations

from dlc.diagnostics import Span
from dlc.expand.addresses import Site
from dlc.expand.arguments import Bound, Calls
from dlc.expand.evaluate import FUNCTIONS, UNKNOWN, Entity, Evaluator, Tensor, left_end, left_spine
from dlc.ops import SIGNS
from dlc.syntax import ast


def is_value(entity: Entity | None) -> bool:
    """Whether arithmetic on it makes an op; what is unknown may be a value."""
    return entity is None or isinstance(entity, Tensor | tuple) or entity is UNKNOWN


class Survey:
    """Collects `sites`; the evaluator decides which branches are taken."""

    def __init__(self, evaluator: Evaluator, calls: Calls) -> None:
        self.evaluator = evaluator
        self.calls = calls
        self.sites: list[Site] = []

    def expression(self, expression: ast.Expr) -> bool:
        """Collect the sites of an expression; whether it is a value, so that arithmetic on it is an op."""
        match expression:
            case ast.Name(text):
                return is_value(self.evaluator.scope.find(text))
            case ast.Call():
                return self._call(expression, None)
            case ast.Chain(head, links):
                self.expression(head)
                for link in links:
                    self.link(link)
                return True
            case ast.Labelled(ast.Call() as call, label):
                return self._call(call, label)
            case ast.Binary():
                return self._binary(expression)
            case ast.Unary("-", operand):
                return self._sign("-", expression.span, self.expression(operand))
            case ast.If():
                branch = self.evaluator.branch(expression)
                return branch is None or self.expression(branch)
            case ast.ListOf(items):
                return max([self.expression(item) for item in items], default=False)
            case ast.Index(value):
                return self.expression(value)
        return False

    def link(self, link: ast.Link) -> None:
        """Collect the sites of one link of a chain; the body of a repeat has a survey of its own."""
        if isinstance(link.stage, ast.Repeat):
            self.sites.append(Site("repeat", "repeat", link.stage.span, link.label))
        else:
            self._call(link.stage, link.label, piped=True)

    def _call(self, call: ast.Call, label: str | None, piped: bool = False) -> bool:
        if call.callee in FUNCTIONS:
            return False
        bound = self.calls.bind(call, piped, self.evaluator.scope.where)
        if bound is None:
            return True
        if bound.layer is not None:
            return self._wrapped(bound, bound.layer.value, label)
        is_block = isinstance(bound.callee, ast.Block)
        self.sites.append(Site("block" if is_block else "op", call.callee, call.callee_span, label))
        for argument in bound.arguments.values() if is_block else bound.operands:
            if argument is not None:
                self.expression(argument.value)
        return True

    def _wrapped(self, wrapper: Bound, layer: ast.Expr, label: str | None) -> bool:
        """The address is the layer's: what wraps it has its own below that."""
        for argument in wrapper.operands:
            if argument is not None:
                self.expression(argument.value)
        return self._call(layer, label, piped=True) if isinstance(layer, ast.Call) else True

    def _binary(self, expression: ast.Binary) -> bool:
        value = self.expression(left_end(expression))
        for node in left_spine(expression):
            if node.operator not in SIGNS:
                return False
            right = self.expression(node.right)
            value = self._sign(node.operator, node.operator_span, value or right)
        return value

    def _sign(self, sign: str, span: Span, value: bool) -> bool:
        if value:
            self.sites.append(Site("op", SIGNS[sign], span))
        return value
