"""Networks: from checked bodies to a Graph of stage `network`.

A `BodyExpander` evaluates the statements of one body (a network, one use of a block, one iteration of a repeat): what
the `Evaluator` knows of constants, and besides it chains, calls, repeats and arithmetic on values, each op under its
address. `expand_network` ties them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dlc.diagnostics import Diagnostic, Frame, Span
from dlc.expand.addresses import Position, assign, at, below, report_clash
from dlc.expand.arguments import Bound, Calls
from dlc.expand.check import Body, Checked, check
from dlc.expand.count import Counter, TooManyOpsError
from dlc.expand.evaluate import FUNCTIONS, UNKNOWN, Entity, Evaluator, Scope, Tensor, Unknown, described
from dlc.expand.inputs import input_type
from dlc.expand.nodes import Nodes
from dlc.expand.refusals import not_a_value, operand_message
from dlc.expand.report import Report
from dlc.expand.survey import Survey, is_value
from dlc.expand.templates import Templates
from dlc.expand.ties import Ties
from dlc.expand.values import read
from dlc.ir.graph import Attr, Graph
from dlc.ir.tensor import BATCH
from dlc.messages import e02_names as messages
from dlc.ops import SIGNS, operator
from dlc.ops.operator import OperandError, Operator
from dlc.syntax import ast

BLOCK_DEPTH = 4
"""Levels that a block or iteration counts for besides those of its expressions: its expansion nests as many calls."""

Placed = tuple[Entity, Span]
"""Something that a name or expression stands for, and where it is written."""


def expand_networks(networks: Mapping[str, ast.Network], calls: Calls, parameters: Scope) -> list[Graph]:
    """The Graphs of the networks without mistakes; blocks are checked even where no network uses them."""
    checked = check(networks, calls, parameters)
    graphs = [expand_network(body, checked, calls.report) for body in checked.networks.values()]
    return [graph for graph in graphs if graph is not None]


def expand_network(body: Body, checked: Checked, report: Report) -> Graph | None:
    """The Graph of a checked network; None where it has mistakes."""
    nodes = Nodes()
    scope = Scope(body.where, dict.fromkeys(body.targets, UNKNOWN), checked.parameters)
    expander = BodyExpander(checked, Templates(nodes), scope, report)
    try:
        Counter(checked).least(body, {})
        expander.run(body)
    except TooManyOpsError as error:
        report(error.diagnostic)
        return None
    outputs = [(name.text, expander.output(name)) for name in body.outputs]
    found = [(name, value) for name, value in outputs if value is not None]
    return nodes.graph(body.name, found) if len(found) == len(outputs) else None


class BodyExpander(Evaluator):
    """Expands one body below the address `prefix`.

    `parent` is the body that uses this one, at `called_at`; `what` says in words what this one is. They make the chain
    of expansions in messages.
    """

    __slots__ = ("_addresses", "called_at", "checked", "nodes", "parent", "prefix", "templates", "told", "what")

    def __init__(
        self,
        checked: Checked,
        templates: Templates,
        scope: Scope,
        told: Report,
        *,
        prefix: str = "",
        parent: BodyExpander | None = None,
        what: str = "",
        called_at: Span | None = None,
    ) -> None:
        super().__init__(scope, self._report_with_chain, 0 if parent is None else parent.depth + BLOCK_DEPTH)
        self.checked, self.templates, self.nodes, self.told = checked, templates, templates.nodes, told
        self.prefix, self.parent, self.what, self.called_at = prefix, parent, what, called_at
        self._addresses: dict[Position, str] = {}

    def _report_with_chain(self, diagnostic: Diagnostic) -> None:
        """Report with each expansion that led here, outermost first, and the line that it had come to."""
        chain: list[Frame] = []
        span = diagnostic.primary.span if diagnostic.primary else None
        body: BodyExpander = self
        while body.parent is not None and span is not None:
            chain.append(Frame(body.what, span))
            span = body.called_at
            if body.parent.parent is None and body.what != body.prefix and span is not None:
                chain.append(Frame(body.prefix, span))
            body = body.parent
        self.nodes.messages += 1
        self.told(diagnostic.within(reversed(chain)))

    def _inside(self, scope: Scope, prefix: str, what: str, called_at: Span) -> BodyExpander:
        """The expander of a body that this one uses."""
        self.nodes.step(called_at)
        return BodyExpander(
            self.checked, self.templates, scope, self.told, prefix=prefix, parent=self, what=what, called_at=called_at
        )

    # --- statements ---

    def run(self, body: Body) -> Entity:
        """Expand all statements; what the body returns."""
        for statement in body.statements:
            if isinstance(statement, ast.Input):
                self._input(statement)
            else:
                self._bind(statement)
        return UNKNOWN if body.result is None else self._statement(body.result, self.prefix)

    def output(self, name: ast.Name) -> str | None:
        """The value that an output names; None after a mistake."""
        entity = self.scope.find(name.text)
        if isinstance(entity, Tensor):
            return entity.name
        if entity is not None and entity is not UNKNOWN:
            self.report(not_a_value("output", entity, name.span))
        return None

    def _input(self, item: ast.Input) -> None:
        extents = Scope(self.scope.where, {}, self.checked.parameters)  # statements may bear a parameter's name
        type_ = input_type(item, Evaluator(extents, self.report))
        if type_ is None:
            return
        batch = type_.extent(BATCH)
        if self.nodes.batch not in (None, batch):
            fault = f"its batch is {batch}, that of the inputs before it {self.nodes.batch}"
            self.report(messages.WRONG_INPUT.at(item.span, name=item.name, fault=fault))
            return
        self.scope.names[item.name] = self.nodes.input(item.name, type_)

    def _bind(self, binding: ast.Binding) -> None:
        targets = [target.text for target in binding.targets]
        value = self._statement(binding.value, below(self.prefix, targets[0]))
        if len(targets) == 1:
            self.scope.names[targets[0]] = value
        elif isinstance(value, tuple) and len(value) == len(targets):
            self.scope.names.update(zip(targets, value, strict=True))
        elif value is not UNKNOWN:
            self.report(messages.WRONG_TARGETS.at(binding.span, names=len(targets), found=described(value)))

    def _statement(self, expression: ast.Expr, stem: str) -> Entity:
        """What a statement's right side stands for; its ops are added below the address `stem`."""
        survey = Survey(self, self.checked.calls)
        survey.expression(expression)
        self._addresses = assign(survey.sites, stem, self.report)
        return self.evaluate(expression)

    def iterate(self, links: Sequence[ast.Link], arriving: Placed) -> Entity:
        """One iteration of a repeat: a chain without a head."""
        survey = Survey(self, self.checked.calls)
        for link in links:
            survey.link(link)
        self._addresses = assign(survey.sites, self.prefix, self.report)
        return self._links(links, arriving)

    # --- chains, calls, blocks and repeats ---

    def chain(self, expression: ast.Expr) -> Entity:
        """`head -> link -> link`, or a call with a label."""
        if isinstance(expression, ast.Labelled):
            return self.evaluate(expression.value)
        assert isinstance(expression, ast.Chain)
        return self._links(expression.links, (self.evaluate(expression.head), expression.head.span))

    def _links(self, links: Sequence[ast.Link], arriving: Placed) -> Entity:
        for link in links:
            if isinstance(link.stage, ast.Repeat):
                value = self._repeat(link.stage, arriving)
            else:
                value = self._apply(link.stage, arriving)
            arriving = (value, link.span)
        return arriving[0]

    def call(self, call: ast.Call) -> Entity:
        """A call that nothing arrives at."""
        return self.function(call) if call.callee in FUNCTIONS else self._apply(call, None)

    def _apply(self, call: ast.Call, arriving: Placed | None) -> Entity:
        bound = self.checked.calls.bind(call, arriving is not None, self.scope.where)
        if bound is None:
            return UNKNOWN
        if bound.layer is not None:
            return self._wrap(call, bound, arriving)
        if at(call.callee_span) not in self._addresses:
            return self.fail(messages.NEEDS_STATEMENT.at(call.callee_span, callee=call.callee))
        if isinstance(bound.callee, ast.Block):
            return self._block(call, bound, bound.callee, arriving)
        return self._operate(call, bound, bound.callee, arriving)

    def _block(self, call: ast.Call, bound: Bound, block: ast.Block, arriving: Placed | None) -> Entity:
        body = self.checked.blocks.get(block.name)
        if body is None:
            return UNKNOWN
        names: dict[str, Entity] = {}
        defaults = Evaluator(Scope(body.where, names, self.checked.parameters, words=True), self.report, self.depth)
        for index, formal in enumerate(block.formals):
            if index == 0 and arriving is not None:
                names[formal.name] = arriving[0]
            elif formal.name in bound.arguments:
                names[formal.name] = self._block_argument(formal, bound.arguments[formal.name].value)
            elif formal.default is not None:
                names[formal.name] = defaults.evaluate(formal.default)
        if UNKNOWN in names.values():
            return UNKNOWN
        scope = Scope(body.where, {**dict.fromkeys(body.targets, UNKNOWN), **names}, self.checked.parameters)
        address = self._addresses[at(call.callee_span)]
        self.nodes.blocks.setdefault(address, block.name)
        inside = self._inside(scope, address, f"block {block.name}", call.callee_span)
        return self.templates.expand((block.name, self.depth), tuple(names.values()), address, lambda: inside.run(body))

    def _block_argument(self, formal: ast.Formal, value: ast.Expr) -> Entity:
        """A bare word stands for itself where the default is one too, and nothing bears its name."""
        if isinstance(value, ast.Name) and isinstance(formal.default, ast.Name) and self.scope.find(value.text) is None:
            return value
        return self.evaluate(value)

    def _repeat(self, repeat: ast.Repeat, arriving: Placed) -> Entity:
        count = self.evaluate(repeat.count)
        value, span = arriving
        if count is UNKNOWN or value is UNKNOWN:
            return UNKNOWN
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            needed = "an integer from 0 up"
            found = described(count)
            return self.fail(
                messages.WRONG_CONSTANT.at(repeat.count.span, operation="repeat", needed=needed, found=found)
            )
        if at(repeat.span) not in self._addresses:
            return self.fail(messages.NEEDS_STATEMENT.at(repeat.span, callee="repeat"))
        address = self._addresses[at(repeat.span)]
        for index in range(count):
            prefix = f"{address}[{index}]"
            scope = self.scope.inner(repeat.variable, index)
            value = self._iteration(repeat, self._inside(scope, prefix, prefix, repeat.span), (value, span))
            if value is UNKNOWN:
                return UNKNOWN
        return value

    def _iteration(self, repeat: ast.Repeat, inside: BodyExpander, arriving: Placed) -> Entity:
        """One iteration; those of a repeat that does not count differ in nothing but what arrives."""
        if repeat.variable is not None:
            return inside.iterate(repeat.body, arriving)
        what = inside.prefix.rpartition("[")[0]  # it reads other names too, so it is like its siblings only
        return self.templates.expand(what, (arriving[0],), inside.prefix, lambda: inside.iterate(repeat.body, arriving))

    # --- operators ---

    def _operate(self, call: ast.Call, bound: Bound, op: Operator, arriving: Placed | None) -> Entity:
        operands = self._operands(bound, arriving)
        attrs = self._attrs(op, bound.arguments)
        if attrs is None or any(value is UNKNOWN for value, _ in operands):
            return UNKNOWN
        if op.name in SIGNS.values():
            operands, attrs = _without_number(operands)
        return self._emit(op, call.callee, call.callee_span, operands, attrs, bound.arguments)

    def _operands(self, bound: Bound, arriving: Placed | None) -> list[Placed]:
        """What an op computes with, in order."""
        operands: list[Placed] = []
        for operand in bound.operands:
            if operand is not None:
                operands.append((self.evaluate(operand.value), operand.value.span))
            elif arriving is not None:
                operands.append(arriving)
        return operands

    def _wrap(self, call: ast.Call, bound: Bound, arriving: Placed | None) -> Entity:
        """The layer in brackets, with a weight that a node of its own makes of two others."""
        layer = self.checked.calls.layer(bound, self.scope.where)
        if layer is None or bound.layer is None or not isinstance(layer.callee, Operator):
            return UNKNOWN
        operands, attrs = self._operands(bound, arriving), self._attrs(layer.callee, layer.arguments)
        if attrs is None or any(value is UNKNOWN for value, _ in operands):
            return UNKNOWN
        inner = bound.layer.value
        assert isinstance(inner, ast.Call)
        assert isinstance(bound.callee, Operator)
        return self._emit(
            layer.callee, inner.callee, inner.callee_span, operands, attrs, layer.arguments, wrapper=bound.callee
        )

    def _attrs(self, op: Operator, given: Mapping[str, ast.Argument]) -> dict[str, Attr] | None:
        """All arguments of an operator, defaults filled in; None after a mistake."""
        attrs: dict[str, Attr] = {}
        sound = True
        for parameter in op.parameters:
            value: Attr | Unknown | None = parameter.default
            if parameter.name in given:
                argument = given[parameter.name]
                if parameter.kind == "weight":
                    value, transposed = self._ties.weight(op.name, argument)
                    attrs |= {"transposed": True} if transposed else {}
                else:
                    value = read(parameter, argument, op.name, self)
            elif parameter.like is not None:
                value = attrs.get(parameter.like)
            if value is UNKNOWN:
                sound = False
            elif value is not None:
                attrs[parameter.name] = value
        return attrs if sound else None

    @property
    def _ties(self) -> Ties:
        """How ops borrow weights here: by addresses below the block or network that this body stands in."""
        body = self
        while body.parent is not None and body.what == body.prefix:  # iterations of repeats are called as they lie
            body = body.parent
        return Ties(self, self.nodes, body.prefix)

    def combine(self, sign: str, left: Entity, right: Entity, at: ast.Binary) -> Entity:
        """Arithmetic on two values, or on a value and a number; on numbers as ever."""
        if not (is_value(left) or is_value(right)):
            return super().combine(sign, left, right, at)
        return self._sign(sign, at.operator_span, [(left, at.left.span), (right, at.right.span)])

    def negate(self, operand: Entity, at: ast.Unary) -> Entity:
        """`-x` is `0 - x`."""
        if not is_value(operand):
            return super().negate(operand, at)
        return self._sign("-", at.span, [(0, at.span), (operand, at.operand.span)])

    def _sign(self, sign: str, span: Span, placed: list[Placed]) -> Entity:
        op = operator(SIGNS[sign])
        if op is None:
            raise ValueError(f"no operator for {sign}")
        if sign == "/" and placed[1][0] == 0:
            return self.fail(messages.DIVISION_BY_ZERO.at(span))
        operands, attrs = placed, dict[str, Attr]()
        if sign != "@":
            operands, attrs = _without_number(placed)
        return self._emit(op, sign, span, operands, attrs, {})

    def _emit(
        self,
        op: Operator,
        written: str,
        span: Span,
        operands: Sequence[Placed],
        attrs: Mapping[str, Attr],
        arguments: Mapping[str, ast.Argument],
        wrapper: Operator | None = None,
    ) -> Entity:
        """Add a node; what it computes. Its weight comes from a node of `wrapper`, if that is given."""
        address = self._addresses.get(at(span))
        if address is None:
            return self.fail(messages.NEEDS_STATEMENT.at(span, callee=written))
        tensors: list[Tensor] = []
        for value, place in operands:
            if not isinstance(value, Tensor):
                return self.fail(not_a_value(written, value, place))
            tensors.append(value)
        try:
            inferred = op.infer(tuple(tensor.type for tensor in tensors), attrs)
        except OperandError as error:
            return self.fail(operand_message(error, span, [place for _, place in operands], arguments))
        if inferred.tied and not self._ties.fit(written, inferred, arguments["tied"].value):
            return UNKNOWN
        clash = self.nodes.clash(op, address, inferred)
        if clash is not None:
            report_clash(clash, span, self.nodes.places.get(clash), self.report)
            return UNKNOWN
        if wrapper is not None:
            inferred = self.nodes.wrap(wrapper, address, inferred, span)
        results = self.nodes.add(op, address, [tensor.name for tensor in tensors], inferred, span)
        return results[0] if len(results) == 1 else results


def _without_number(operands: list[Placed]) -> tuple[list[Placed], dict[str, Attr]]:
    """The operands of arithmetic without the one that is a number, which becomes an attribute."""
    for index, (value, _) in enumerate(operands):
        if isinstance(value, int | float) and not isinstance(value, bool) and len(operands) == 2:
            rest = [operands[1 - index]]
            return rest, {"scalar": value, "scalar_first": index == 0}
    return operands, {}
