"""What expressions without operators are worth: numbers, words, windows and lists, through names and arithmetic.

A literal that is no plain number stands for itself: a bare word that nothing bears, a window and a quantity evaluate to
their own nodes of the syntax tree. `UNKNOWN` stands for what could not be evaluated; it silences all that follows from
it, so that each mistake is reported once.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from dlc.diagnostics import Diagnostic, Diagnostics, Span, similar
from dlc.expand.report import Report, undefined
from dlc.ir.tensor import TensorType
from dlc.messages import e02_names as messages
from dlc.messages import e03_shapes as shape_messages
from dlc.syntax import ast
from dlc.units import Amount, in_si

LARGEST_INTEGER = 2**53
DEEPEST = 150
"""Levels of expressions and expanded blocks inside each other; far below Python's own limit of nested calls."""


class _Unknown(enum.Enum):
    UNKNOWN = "unknown"


UNKNOWN: Final = _Unknown.UNKNOWN
Unknown = Literal[_Unknown.UNKNOWN]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of the network as its names see it: its name in the Graph, and its type."""

    name: str
    type: TensorType


Constant = int | float | bool | str | ast.Name | ast.Window | ast.Quantity
"""`str` is a quoted text, `ast.Name` a bare word, `bool` is `yes` or `no`."""

Entity = Constant | Tensor | Unknown | tuple["Entity", ...]
"""What a name can stand for; a tuple is a list."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Names in reach. `where` says in words what they belong to: network `lenet5`."""

    where: str
    names: dict[str, Entity] = field(default_factory=dict)
    parent: Scope | None = None
    words: bool = False
    """Whether a name that nothing bears is a word that stands for itself, as in `param mode = same`."""

    def find(self, name: str) -> Entity | None:
        """What the name stands for here or further out; None where nothing bears it."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        return None

    def __iter__(self) -> Iterator[str]:
        """All names in reach, inner ones first."""
        scope: Scope | None = self
        while scope is not None:
            yield from scope.names
            scope = scope.parent

    def inner(self, variable: str | None, value: Entity) -> Scope:
        """A scope inside this one, with one more name, if it is one."""
        return Scope(self.where, {} if variable is None else {variable: value}, self)


def described(entity: Entity) -> str:
    """An entity in words, for messages."""
    match entity:
        case bool():
            return "`yes`" if entity else "`no`"
        case int() | float():
            return f"the number {entity:.15g}" if isinstance(entity, float) else f"the number {entity}"
        case str():
            return "a text"
        case ast.Name(text):
            return f"the word `{text}`"
        case ast.Window(extents):
            return f"the window {'x'.join(map(str, extents))}"
        case ast.Quantity(value, unit):
            return f"the quantity {value} {unit}"
        case Tensor(name):
            return f"the value `{name}`"
        case tuple():
            return f"a list of {len(entity)}"
    return "something unknown"


def evaluate(expression: ast.Expr, scope: Scope, diagnostics: Diagnostics) -> Entity:
    """The constant that an expression stands for; mistakes are collected, and the result is then UNKNOWN."""
    return Evaluator(scope, diagnostics.add).evaluate(expression)


class Evaluator:
    """Evaluates expressions in one scope. Networks extend it by operators and blocks (`call`, `chain`, `combine`)."""

    __slots__ = ("depth", "report", "scope")

    def __init__(self, scope: Scope, report: Report, depth: int = 0) -> None:
        self.scope = scope
        self.report = report
        self.depth = depth

    def fail(self, diagnostic: Diagnostic) -> Unknown:
        """Report a mistake; what could not be evaluated is unknown."""
        self.report(diagnostic)
        return UNKNOWN

    def evaluate(self, expression: ast.Expr) -> Entity:
        """What the expression stands for; UNKNOWN after a mistake, which is then reported."""
        if self.depth >= DEEPEST:
            return self.fail(
                messages.TOO_DEEP.at(expression.span, what="expressions and blocks together", limit=DEEPEST)
            )
        self.depth += 1
        try:
            return self._evaluate(expression)
        finally:
            self.depth -= 1

    def _evaluate(self, expression: ast.Expr) -> Entity:
        match expression:
            case ast.Number(value) | ast.Text(value):
                return value
            case ast.Name():
                return self.name(expression)
            case ast.Window() | ast.Quantity():
                return expression
            case ast.Binary():
                return self._binary(expression)
            case ast.Attribute():
                return self._attribute(expression)
            case ast.Index():
                return self._index(expression)
            case ast.ListOf(items):
                return self._list(items)
            case ast.Unary():
                return self._unary(expression)
            case ast.If():
                branch = self.branch(expression)
                return UNKNOWN if branch is None else self.evaluate(branch)
            case ast.Call():
                return self.call(expression)
        return self.chain(expression)

    def name(self, name: ast.Name) -> Entity:
        """What a bare word stands for: yes or no, what bears that name, or the word itself where words may stand."""
        if name.text in ("yes", "no"):
            return name.text == "yes"
        found = self.scope.find(name.text)
        if found is not None:
            return found
        if self.scope.words:
            return name
        return self.fail(undefined(name.text, name.span, self.scope.where, dict.fromkeys(self.scope, "a name")))

    def branch(self, choice: ast.Expr) -> ast.Expr | None:
        """The branch that an `if` takes, through `else if`; None where a condition is unknown."""
        while isinstance(choice, ast.If):
            taken = self.truth(choice.condition, "if")
            if taken is UNKNOWN:
                return None
            choice = choice.then if taken else choice.otherwise
        return choice

    def truth(self, expression: ast.Expr, operation: str) -> bool | Unknown:
        """Whether a condition holds."""
        value = self.evaluate(expression)
        if value is UNKNOWN or isinstance(value, bool):
            return value
        return self.fail(_unfit(operation, "yes or no", value, expression.span))

    # --- what networks add ---

    def call(self, call: ast.Call) -> Entity:
        """A call that heads no chain: here only functions of numbers."""
        if call.callee in FUNCTIONS:
            return self.function(call)
        return self.fail(undefined(call.callee, call.callee_span, self.scope.where, FUNCTION_NAMES))

    def chain(self, expression: ast.Expr) -> Entity:
        """Chains and labels: nothing but networks and blocks has them."""
        return self.fail(messages.NO_CHAIN.at(expression.span))

    def combine(self, sign: str, left: Entity, right: Entity, at: ast.Binary) -> Entity:
        """`left sign right`, both known, for an arithmetic sign."""
        for value, span in ((left, at.left.span), (right, at.right.span)):
            if isinstance(value, bool) or not isinstance(value, int | float):
                return self.fail(_unfit(sign, "numbers", value, span))
        assert isinstance(left, int | float)
        assert isinstance(right, int | float)
        if sign == "@":
            return self.fail(_unfit(sign, "two values of the network", left, at.left.span))
        return self._in_range(sign, at.span, lambda: _compute(sign, left, right))

    # --- operators and functions ---

    def function(self, call: ast.Call) -> Entity:
        """`sqrt(n)` and the other functions of numbers."""
        function, arity = FUNCTIONS[call.callee]
        values = [self.evaluate(argument.value) for argument in call.arguments]
        if len(values) != arity or any(argument.name is not None for argument in call.arguments):
            needed = f"{arity} number{'s' * (arity > 1)} without a name"
            return self.fail(
                messages.WRONG_OPERANDS.at(call.span, callee=call.callee, needed=needed, given=len(values))
            )
        for value, argument in zip(values, call.arguments, strict=True):
            if value is UNKNOWN:
                return UNKNOWN
            if isinstance(value, bool) or not isinstance(value, int | float):
                return self.fail(_unfit(call.callee, "numbers", value, argument.span))
        return self._in_range(call.callee, call.span, lambda: function(*values))

    def _in_range(self, operation: str, span: Span, compute: Callable[[], int | float]) -> int | float | Unknown:
        """A computed number, if it exists and is not too large."""
        try:
            result = compute()
        except ZeroDivisionError:
            return self.fail(messages.DIVISION_BY_ZERO.at(span))
        except (OverflowError, ValueError):
            return self.fail(messages.OUT_OF_RANGE.at(span, operation=operation, found="no finite number"))
        if isinstance(result, int) and abs(result) >= LARGEST_INTEGER:
            return self.fail(messages.OUT_OF_RANGE.at(span, operation=operation, found="2**53 or more in magnitude"))
        if not math.isfinite(result):
            return self.fail(messages.OUT_OF_RANGE.at(span, operation=operation, found="no finite number"))
        return result

    def _binary(self, expression: ast.Binary) -> Entity:
        """Goes down the left side in a loop, so that long sums do not nest."""
        value = self.evaluate(left_end(expression))
        for node in left_spine(expression):
            value = self._join(node, value)
        return value

    def _join(self, node: ast.Binary, left: Entity) -> Entity:
        match node.operator:
            case "and" | "or":
                return self._logic(node, left)
            case "then":
                needed = "schedules in `lr`"
                return self.fail(_unfit("then", needed, left, node.operator_span))
        right = self.evaluate(node.right)
        if left is UNKNOWN or right is UNKNOWN:
            return UNKNOWN
        if node.operator in COMPARISONS:
            return self._compare(node, left, right)
        return self.combine(node.operator, left, right, node)

    def _logic(self, node: ast.Binary, left: Entity) -> Entity:
        """`and`, `or`: the right side counts, and is looked at, only where the left one leaves it open."""
        if not (left is UNKNOWN or isinstance(left, bool)):
            return self.fail(_unfit(node.operator, "yes or no", left, node.left.span))
        decides = node.operator == "or"
        if left is decides:
            return left
        right = self.truth(node.right, node.operator)
        return right if left is not UNKNOWN or right is decides else UNKNOWN

    def _compare(self, node: ast.Binary, left: Entity, right: Entity) -> Entity:
        sign = node.operator
        if sign in ("==", "!="):
            return equal(left, right) == (sign == "==")
        for value, span in ((left, node.left.span), (right, node.right.span)):
            if isinstance(value, bool) or not isinstance(value, int | float):
                return self.fail(_unfit(sign, "numbers", value, span))
        assert isinstance(left, int | float)
        assert isinstance(right, int | float)
        return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[sign]

    def _unary(self, expression: ast.Unary) -> Entity:
        if expression.operator == "not":
            value = self.truth(expression.operand, "not")
            return value if value is UNKNOWN else not value
        operand = self.evaluate(expression.operand)
        return operand if operand is UNKNOWN else self.negate(operand, expression)

    def negate(self, operand: Entity, at: ast.Unary) -> Entity:
        """`-operand`, which is known; a quantity below zero is for the setting to refuse."""
        if isinstance(operand, ast.Quantity):
            return replace(operand, value=-operand.value)
        if isinstance(operand, bool) or not isinstance(operand, int | float):
            return self.fail(_unfit("-", "numbers", operand, at.operand.span))
        return -operand

    def _list(self, items: tuple[ast.Expr, ...]) -> Entity:
        values = tuple(self.evaluate(item) for item in items)
        return UNKNOWN if UNKNOWN in values else values

    def _attribute(self, expression: ast.Attribute) -> Entity:
        """`x.channel`: the extent of that axis."""
        value = self.evaluate(expression.value)
        if value is UNKNOWN:
            return UNKNOWN
        if not isinstance(value, Tensor):
            return self.fail(_unfit(f".{expression.name}", "a value with axes", value, expression.value.span))
        if expression.name in value.type.names:
            return value.type.extent(expression.name)
        near = similar(expression.name, value.type.names)
        helps = (f"there is an axis with a similar name: `{near}`",) if near else ()
        return self.fail(shape_messages.NO_AXIS.at(expression.span, axis=expression.name, type=value.type, helps=helps))

    def _index(self, expression: ast.Index) -> Entity:
        value, index = self.evaluate(expression.value), self.evaluate(expression.index)
        if value is UNKNOWN or index is UNKNOWN:
            return UNKNOWN
        if not isinstance(value, tuple):
            return self.fail(_unfit("[ ]", "a list", value, expression.value.span))
        if isinstance(index, bool) or not isinstance(index, int):
            return self.fail(_unfit("[ ]", "an integer", index, expression.index.span))
        if not 0 <= index < len(value):
            return self.fail(messages.NO_ITEM.at(expression.index.span, index=index, found=described(value)))
        return value[index]


def _unfit(operation: str, needed: str, found: Entity, span: Span) -> Diagnostic:
    return messages.WRONG_CONSTANT.at(span, operation=operation, needed=needed, found=described(found))


def left_end(expression: ast.Binary) -> ast.Expr:
    """The leftmost operand of a run of binary operators."""
    end: ast.Expr = expression
    while isinstance(end, ast.Binary):
        end = end.left
    return end


def left_spine(expression: ast.Binary) -> list[ast.Binary]:
    """The binary nodes along the left side, innermost first."""
    spine: list[ast.Binary] = []
    node: ast.Expr = expression
    while isinstance(node, ast.Binary):
        spine.append(node)
        node = node.left
    return spine[::-1]


def equal(left: Entity, right: Entity) -> bool:
    """Equality of constants; a window equals a number where all its extents do, 4096 MiB are 4 GiB."""
    for window, other in ((left, right), (right, left)):
        if isinstance(window, ast.Window) and isinstance(other, int | float):
            return all(extent == other for extent in window.extents)
    if isinstance(left, ast.Quantity) and isinstance(right, ast.Quantity):
        return _amount(left) == _amount(right)
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return left == right


def _amount(quantity: ast.Quantity) -> Amount | ast.Quantity:
    """In SI units; the quantity itself where it is beyond the range of floats."""
    try:
        return in_si(quantity.value, quantity.unit)
    except OverflowError:
        return quantity


def _compute(sign: str, left: int | float, right: int | float) -> int | float:
    match sign:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
    if isinstance(left, int) and isinstance(right, int) and left % right == 0:
        return left // right
    return left / right


COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")

FUNCTIONS: Mapping[str, tuple[Callable[..., int | float], int]] = {
    "sqrt": (math.sqrt, 1),
    "floor": (math.floor, 1),
    "ceil": (math.ceil, 1),
    "min": (min, 2),
    "max": (max, 2),
}
"""Functions of numbers, and how many they take."""

FUNCTION_NAMES = dict.fromkeys(FUNCTIONS, "a function")
