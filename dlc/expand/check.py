"""Names in networks and blocks, checked before anything is expanded, so that unused blocks are checked too.

For each body: every name is bound once and every name read is bound, calls fit what they call, statements have an
order. For all blocks together: none expands itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dlc.diagnostics import Diagnostic, Label, Span
from dlc.expand.arguments import CALLABLE, Bound, Calls, signature
from dlc.expand.evaluate import FUNCTIONS, Scope
from dlc.expand.order import circle_message, in_order
from dlc.expand.report import Report, undefined
from dlc.expand.values import borrowed, listed_axes, no_such_word, words_of
from dlc.messages import e02_names as messages
from dlc.ops.operator import Parameter
from dlc.syntax import ast

DEEPEST_BLOCKS = 32


@dataclass(frozen=True, slots=True)
class Body:
    """A checked network or block: its statements in an order in which each reads earlier ones only."""

    name: str
    where: str
    statements: tuple[ast.Input | ast.Binding, ...]
    targets: tuple[str, ...]
    result: ast.Expr | None = None
    outputs: tuple[ast.Name, ...] = ()


@dataclass(slots=True)
class Reads:
    """What expressions read: names, and whether each must be bound (else the word may stand for itself); blocks.

    `unfit` holds what to say of a word that nothing bears, where that is no missing name but an unknown choice.
    """

    calls: Calls
    where: str
    names: list[tuple[ast.Name, bool]] = field(default_factory=list)
    blocks: list[tuple[str, Span]] = field(default_factory=list)
    unfit: dict[Span, Diagnostic] = field(default_factory=dict)
    _rest: list[tuple[ast.Expr | ast.Link, frozenset[str]]] = field(default_factory=list)

    def collect(self, expression: ast.Expr) -> None:
        """Add what one expression reads. A loop, not a recursion: expressions may be deep."""
        self._rest = [(expression, frozenset())]
        while self._rest:
            node, hidden = self._rest.pop()
            if isinstance(node, ast.Link):
                self._link(node, hidden)
            else:
                self._rest.extend((part, hidden) for part in self._parts(node, hidden))

    def _parts(self, node: ast.Expr, hidden: frozenset[str]) -> Sequence[ast.Expr | ast.Link]:
        match node:
            case ast.Name():
                self._name(node, hidden)
            case ast.Call():
                self._call(node, False, hidden)
            case ast.Chain(head, links):
                return (head, *links)
            case ast.Attribute(value) | ast.Labelled(value):
                return (value,)
            case ast.Unary(operand=operand):
                return (operand,)
            case ast.Index(value, index):
                return (value, index)
            case ast.Binary(left=left, right=right):
                return (left, right)
            case ast.If(condition, then, otherwise):
                return (condition, then, otherwise)
            case ast.ListOf(items):
                return items
        return ()

    def _name(self, name: ast.Name, hidden: frozenset[str], certain: bool = True) -> None:
        if name.text not in hidden and name.text not in ("yes", "no"):
            self.names.append((name, certain))

    def _link(self, link: ast.Link, hidden: frozenset[str]) -> None:
        if isinstance(link.stage, ast.Call):
            self._call(link.stage, True, hidden)
            return
        repeat = link.stage
        self._rest.append((repeat.count, hidden))
        inner = hidden if repeat.variable is None else hidden | {repeat.variable}
        self._rest.extend((step, inner) for step in repeat.body)

    def _call(self, call: ast.Call, piped: bool, hidden: frozenset[str]) -> None:
        if call.callee in FUNCTIONS:
            self._rest.extend((argument.value, hidden) for argument in call.arguments)
            return
        bound = self.calls.bind(call, piped, self.where)
        if bound is None:
            for argument in call.arguments:
                self._argument(argument.value, hidden, maybe_word=True)
            return
        if isinstance(bound.callee, ast.Block):
            self.blocks.append((bound.callee.name, call.callee_span))
            wordy = {formal.name for formal in bound.callee.formals if isinstance(formal.default, ast.Name)}
            for name, argument in bound.arguments.items():
                self._argument(argument.value, hidden, maybe_word=name in wordy)
            return
        self._rest.extend((operand.value, hidden) for operand in bound.operands if operand is not None)
        if bound.layer is not None:
            self._layer(bound, bound.layer.value, hidden)
            return
        for parameter in bound.callee.parameters:
            if parameter.name in bound.arguments:
                self._read_by_kind(parameter, bound.callee.name, bound.arguments[parameter.name].value, hidden)

    def _layer(self, wrapper: Bound, layer: ast.Expr, hidden: frozenset[str]) -> None:
        """A layer in brackets: it is called as what arrives at its wrapper would call it."""
        self.calls.layer(wrapper, self.where)
        if isinstance(layer, ast.Call):
            self._call(layer, True, hidden)
        else:
            self._argument(layer, hidden, maybe_word=True)

    def _argument(self, expression: ast.Expr, hidden: frozenset[str], maybe_word: bool) -> None:
        """An argument that, where it is a bare word, may be the word itself."""
        if isinstance(expression, ast.Name) and maybe_word:
            self._name(expression, hidden, certain=False)
        else:
            self._rest.append((expression, hidden))

    def _read_by_kind(self, parameter: Parameter, callee: str, value: ast.Expr, hidden: frozenset[str]) -> None:
        """The names in an argument, without bare words that its kind takes as such."""
        words = words_of(parameter)
        for branch in branches(value):
            if isinstance(branch, ast.If):
                self._rest.append((branch.condition, hidden))
            elif parameter.kind == "weight":
                self._weight(branch, hidden)
            elif parameter.kind == "axes":
                items = (item for item in listed_axes(branch) if not isinstance(item, ast.Name))
                self._rest.extend((item, hidden) for item in items)
            elif not isinstance(branch, ast.Name) or (parameter.kind != "axis" and branch.text not in words):
                if words and isinstance(branch, ast.Name):
                    self.unfit[branch.span] = no_such_word(parameter, callee, branch)
                self._rest.append((branch, hidden))

    def _weight(self, address: ast.Expr, hidden: frozenset[str]) -> None:
        """An address begins with a statement here or in the network; its indices are expressions."""
        address, _ = borrowed(address)
        while isinstance(address, ast.Attribute | ast.Index):
            if isinstance(address, ast.Index):
                self._rest.append((address.index, hidden))
            address = address.value
        if isinstance(address, ast.Name):
            self._name(address, hidden, certain=False)


def branches(expression: ast.Expr) -> Iterator[ast.Expr]:
    """Each `if` itself, for its condition, and all that it may stand for; else the expression alone."""
    stack = [expression]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, ast.If):
            stack += (node.otherwise, node.then)


class _BodyCheck:
    """The check of one body; `where` says in words which one."""

    def __init__(self, item: ast.Network | ast.Block, parameters: Scope, calls: Calls, report: Report) -> None:
        self.item = item
        self.where = f"{'block' if isinstance(item, ast.Block) else 'network'} `{item.name}`"
        self.calls = calls
        self.report = report
        self.sound = True
        self.known = dict.fromkeys(parameters, "a parameter")  # name in reach -> what it is, in words
        self.bound: dict[str, Span] = {}  # what the formals and statements bind
        self.statements: dict[str, ast.Input | ast.Binding] = {}  # by their first target
        self.owner: dict[str, str] = {}  # target -> first target of its statement
        self.used: set[str] = set()
        self.blocks: list[tuple[str, Span]] = []

    def run(self) -> Body:
        """Check everything; statements without an order are left out of the body."""
        self._bind_formals()
        self._bind_statements()
        returns = [s for s in self.item.body if isinstance(s, ast.Return)]
        outputs = tuple(name for s in self.item.body if isinstance(s, ast.Output) for name in s.names)
        self._check_places(returns, outputs)
        reads = {
            key: self._read(statement.value) if isinstance(statement, ast.Binding) else []
            for key, statement in self.statements.items()
        }
        for statement in returns:
            self._read(statement.value)
        self._check_outputs(outputs)
        order = in_order(reads, lambda circle: self._refuse(circle_message(circle, self.bound[circle[0]])))
        for name in self.owner:
            if self.sound and name not in self.used:
                self.report(messages.UNUSED.at(self.bound[name], name=name, where=self.where))
        result = returns[0].value if returns else None
        statements = tuple(self.statements[key] for key in order)
        return Body(self.item.name, self.where, statements, tuple(self.owner), result, outputs)

    def _refuse(self, mistake: Diagnostic) -> None:
        """Report a mistake; a name that nothing seems to use may be misspelt elsewhere then."""
        self.sound = False
        self.report(mistake)

    def _bind(self, name: str, span: Span, what: str) -> bool:
        if name in self.bound:
            label = Label(self.bound[name], "first defined here")
            self._refuse(messages.DEFINED_TWICE.at(span, name=name, secondary=(label,)))
            return False
        self.bound[name] = span
        self.known[name] = what
        return True

    def _bind_formals(self) -> None:
        if not isinstance(self.item, ast.Block):
            return
        for formal in self.item.formals:
            if formal.default is not None and not isinstance(formal.default, ast.Name):
                self._read(formal.default)
            self._bind(formal.name, formal.span, "an argument")

    def _bind_statements(self) -> None:
        for statement in self.item.body:
            if isinstance(statement, ast.Input):
                targets = [(statement.name, statement.name_span)]
            elif isinstance(statement, ast.Binding):
                targets = [(target.text, target.span) for target in statement.targets]
            else:
                continue
            what = "an input" if isinstance(statement, ast.Input) else "a value"
            fresh = [self._bind(name, span, what) for name, span in targets]
            if all(fresh):
                self.statements[targets[0][0]] = statement
                self.owner |= {name: targets[0][0] for name, _ in targets}

    def _read(self, expression: ast.Expr) -> list[str]:
        """The statements that an expression depends on; names that nothing bears are reported."""
        reads = Reads(self.calls, self.where)
        reads.collect(expression)
        self.blocks += reads.blocks
        read = [name for name, certain in reads.names if self._resolve(name, certain, reads.unfit.get(name.span))]
        return [self.owner[name.text] for name in read]

    def _resolve(self, name: ast.Name, certain: bool = True, unfit: Diagnostic | None = None) -> bool:
        """Whether a statement of this body binds the name; one that nothing bears is reported."""
        self.used.add(name.text)
        if certain and name.text not in self.known:
            self._refuse(unfit or self._undefined(name))
        return name.text in self.owner

    def _undefined(self, name: ast.Name) -> Diagnostic:
        callee = CALLABLE.get(name.text) or self.calls.blocks.get(name.text)
        if callee is not None:
            helps = (f"it is an operator or a block, called as {signature(callee)}",)
            return messages.UNDEFINED.at(name.span, name=name.text, where=self.where, helps=helps)
        return undefined(name.text, name.span, self.where, self.known)

    def _check_outputs(self, outputs: Sequence[ast.Name]) -> None:
        """Each is bound, and named once."""
        first: dict[str, Span] = {}
        for output in outputs:
            self._resolve(output)
            if first.setdefault(output.text, output.span) is not output.span:
                label = Label(first[output.text], "first named here")
                fault = f"names the output `{output.text}` twice"
                self._refuse(messages.MISPLACED.at(output.span, where=self.where, fault=fault, secondary=(label,)))

    def _check_places(self, returns: Sequence[ast.Return], outputs: Sequence[ast.Name]) -> None:
        """Networks have inputs and outputs, blocks one return."""
        if isinstance(self.item, ast.Block):
            wrong: list[ast.Statement] = [s for s in self.item.body if isinstance(s, ast.Input | ast.Output)]
            wrong_fault, missing = (
                "takes arguments and returns values: `input` and `output` stand in networks",
                not returns,
            )
            missing_fault = "has no `return`"
        else:
            wrong = list(returns)
            wrong_fault = "names its results with `output`: `return` stands in blocks"
            inputs = any(isinstance(s, ast.Input) for s in self.item.body)
            missing, missing_fault = not (inputs and outputs), f"has no `{'output' if inputs else 'input'}`"
        for statement in wrong:
            self._refuse(messages.MISPLACED.at(statement.span, where=self.where, fault=wrong_fault))
        if missing:
            self._refuse(messages.MISPLACED.at(self.item.name_span, where=self.where, fault=missing_fault))
        if isinstance(self.item, ast.Block) and len(returns) > 1:
            label = Label(returns[0].span, "the first one")
            fault = "returns twice"
            self.report(messages.MISPLACED.at(returns[1].span, where=self.where, fault=fault, secondary=(label,)))


@dataclass(frozen=True, slots=True)
class Checked:
    """All bodies that can be expanded, by name; a block that expands itself, or uses one that does, is missing."""

    calls: Calls
    parameters: Scope
    blocks: Mapping[str, Body]
    networks: Mapping[str, Body]


def check(networks: Mapping[str, ast.Network], calls: Calls, parameters: Scope) -> Checked:
    """Check all networks and blocks, used or not."""
    blocks, report = calls.blocks, calls.report
    bodies: dict[str, Body] = {}
    uses: dict[str, dict[str, Span]] = {}
    for name, block in blocks.items():
        checker = _BodyCheck(block, parameters, calls, report)
        bodies[name] = checker.run()
        uses[name] = dict(reversed(checker.blocks))
    sound = _without_recursion(blocks, uses, report)
    found = {name: _BodyCheck(item, parameters, calls, report).run() for name, item in networks.items()}
    return Checked(calls, parameters, {name: bodies[name] for name in sound}, found)


def _without_recursion(
    blocks: Mapping[str, ast.Block], uses: Mapping[str, Mapping[str, Span]], report: Report
) -> list[str]:
    """The blocks whose expansion ends, callees first."""

    def report_circle(circle: list[str]) -> None:
        through = " -> ".join(f"`{name}`" for name in [*circle[:6], circle[0]])
        notes = (f"through {through}",) if len(circle) > 1 else ()
        span = uses[circle[0]][circle[1 % len(circle)]]
        report(messages.RECURSION.at(span, name=circle[0], notes=notes))

    heights: dict[str, int] = {}
    for name in in_order(uses, report_circle):
        if all(callee in heights for callee in uses[name]):
            height = 1 + max((heights[callee] for callee in uses[name]), default=0)
            if height <= DEEPEST_BLOCKS:
                heights[name] = height
            elif height == DEEPEST_BLOCKS + 1:
                report(messages.TOO_DEEP.at(blocks[name].name_span, what="blocks", limit=DEEPEST_BLOCKS))
    return list(heights)
