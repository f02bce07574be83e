"""Loss and metrics: nodes appended to a network under the addresses `loss.…` and `metrics.…`.

They see the network's outputs, the fields of the data set as `data.label`, and the parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from dlc.data_sets import DataSet, data_set
from dlc.diagnostics import Diagnostic, DiagnosticError, Diagnostics, Label, Span
from dlc.expand.arguments import Bound, bind, signature
from dlc.expand.evaluate import FUNCTIONS, UNKNOWN, Entity, Evaluator, Scope, Tensor, described
from dlc.expand.settings import similar_help
from dlc.expand.values import read
from dlc.ir.graph import Attr, Graph, Node, Pass, Value
from dlc.ir.tensor import TensorType
from dlc.ir.training import Choice
from dlc.messages import MESSAGES
from dlc.messages import e06_train as messages
from dlc.messages.e02_names import NOT_A_VALUE, SAME_ADDRESS, UNDEFINED
from dlc.messages.e03_shapes import WRONG_CLASSES
from dlc.ops import LOSSES, METRICS, SIGNS, operator
from dlc.ops.operator import OperandError, Operator
from dlc.syntax import ast

_PREFIX = {"loss": "loss", "metric": "metrics"}

DATA = "data"
"""The name by which the train block reads fields: `data.label`."""


Placed = tuple[Entity, Span]
"""What an expression stands for, and where it stands."""


@dataclass(slots=True)
class Objective:
    """A network's graph with loss and metrics, as far as they are set."""

    graph: Graph
    data: Choice | None
    scope: Scope
    diagnostics: Diagnostics

    def set_loss(self, expr: ast.Expr) -> None:
        """Append the loss, one number; what it is otherwise is refused (E0612)."""
        expander = _Expander(self, "loss", LOSSES)
        value = expander.evaluate(expr)
        if value is UNKNOWN:
            return
        if not isinstance(value, Tensor) or value.type.axes:
            self.diagnostics.add(messages.NOT_A_LOSS.at(expr.span, found=_described(value)))
            return
        self.graph = expander.graph().with_(stage="loss", loss=value.name)

    def set_metrics(self, expr: ast.Expr) -> None:
        """Append the metrics of a list, or a single one; each is printed under a name of its own."""
        expander = _Expander(self, "metric", METRICS)
        known: dict[object, str] = {}
        names = _Names()
        taken = expander.branch(expr)
        for item in taken.items if isinstance(taken, ast.ListOf) else (expr,):
            value = expander.evaluate(item)
            if value is UNKNOWN:
                continue
            node = expander.made.get(value.name) if isinstance(value, Tensor) else None
            if node is None:
                self.diagnostics.add(messages.NOT_A_METRIC.at(item.span, found=_described(value)))
                continue
            meaning = (node.op, node.inputs, node.attrs)
            if meaning in known:
                self.diagnostics.add(messages.SHARED_METRIC.at(item.span, metric=_printed(node)))
            known.setdefault(meaning, node.address)
        metrics = tuple((names.free(_printed(expander.made[address])), address) for address in known.values())
        self.graph = expander.graph().with_(metrics=metrics)


class _Names:
    """Gives out names, each once: `name`, `name_2`, `name_3`."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = set(taken)
        self.counts: dict[str, int] = {}

    def free(self, name: str) -> str:
        """The name itself, or the first numbered one that is not taken."""
        number = self.counts.get(name, 0) + 1
        while (free := name if number == 1 else f"{name}_{number}") in self.taken:
            number += 1
        self.counts[name] = number
        self.taken.add(free)
        return free


def _printed(node: Node) -> str:
    """`accuracy`, `accuracy_top5`: the metric, and the arguments that are not its defaults."""
    op = operator(node.op)
    defaults = {parameter.name: parameter.default for parameter in op.parameters} if op else {}
    return "".join((node.op, *(f"_{name}{value}" for name, value in node.attrs if defaults.get(name) != value)))


class _Expander(Evaluator):
    """Evaluates one setting; each call and sign in it becomes a node below `loss` or `metrics`."""

    __slots__ = ("addresses", "allowed", "data", "data_set", "fields", "inner", "made", "network", "stage", "values")

    def __init__(self, objective: Objective, stage: Pass, allowed: Sequence[Operator]) -> None:
        outputs = {name: Tensor(value, objective.graph.type(value)) for name, value in objective.graph.outputs}
        names: dict[str, Entity] = {**outputs}
        super().__init__(Scope(objective.scope.where, names, objective.scope), objective.diagnostics.add)
        self.network = objective.graph
        self.data = objective.data
        self.data_set: DataSet | None = None if self.data is None else data_set(self.data.kind)
        self.addresses = _Names(node.address for node in self.network.nodes)
        self.inner = {node.address.partition(".")[0] for node in self.network.nodes} | set(self.network.inputs)
        self.stage: Pass = stage
        self.allowed = {op.name: op for op in allowed}
        self.made: dict[str, Node] = {}
        self.values: dict[str, Value] = {}
        self.fields: dict[str, None] = dict.fromkeys(objective.graph.fields)

    def graph(self) -> Graph:
        """The network with the nodes made so far."""
        return self.network.with_(
            nodes=(*self.network.nodes, *self.made.values()),
            values=(*self.network.values, *self.values.values()),
            fields=tuple(self.fields),
        )

    # --- names -----------------------------------------------------------------------------------------------------

    def name(self, name: ast.Name) -> Entity:
        """Outputs and parameters; another name of the network is refused (E0611)."""
        if name.text in self.inner and self.scope.find(name.text) is None:
            helps = (f"make it one: `output {', '.join((*dict(self.network.outputs), name.text))}`",)
            if name.text in self.network.inputs:
                helps = (f"what the data set feeds to it is `{DATA}.{name.text}`",)
            return self.fail(
                messages.OUTPUTS_ONLY.at(name.span, name=name.text, network=self.network.name, helps=helps)
            )
        if name.text in self.allowed and self.scope.find(name.text) is None:
            helps = (f"it is called as {signature(self.allowed[name.text])}",)
            return self.fail(UNDEFINED.at(name.span, name=name.text, where=self.scope.where, helps=helps))
        known = self.scope.find(name.text) is not None
        if not known and self.data_set is not None and name.text in self.data_set.fields:
            helps = (f"the field of the data set is `{DATA}.{name.text}`",)
            return self.fail(UNDEFINED.at(name.span, name=name.text, where=self.scope.where, helps=helps))
        return super().name(name)

    def evaluate(self, expression: ast.Expr) -> Entity:
        """Fields of the data set besides what every expression may hold."""
        if _is_field(expression):
            return self.field(expression, None)
        return super().evaluate(expression)

    def field(self, expression: ast.Attribute, like: TensorType | None) -> Entity:
        """`data.label` as a value; a field of a file whose type is open is of the type `like`.

        The name of an input of the network means that input.
        """
        if self.data_set is None or not self.network.inputs:
            return UNKNOWN
        if expression.name in self.network.inputs:
            if expression.name in self.data_set.fields and not self.data_set.any_field:
                return self.fail(messages.FIELD_IS_INPUT.at(expression.span, field=expression.name))
            return Tensor(expression.name, self.network.type(expression.name))
        first = self.network.type(self.network.inputs[0])
        try:
            type_ = self.data_set.field_type(expression.name, first) or like
        except KeyError:
            helps = similar_help(expression.name, (*self.data_set.fields, *self.network.inputs), "a field")
            return self.fail(
                messages.UNKNOWN_FIELD.at(expression.span, data=self.data_set.name, field=expression.name, helps=helps)
            )
        if type_ is None:
            return self.fail(messages.OPEN_FIELD.at(expression.span, field=expression.name))
        if expression.name not in self.fields:
            self.fields[expression.name] = None
            self.values[expression.name] = Value(expression.name, type_, "field")
        return Tensor(expression.name, type_)

    # --- calls -----------------------------------------------------------------------------------------------------

    def call(self, call: ast.Call) -> Entity:
        """A loss or metric, or a function of numbers."""
        return self.function(call) if call.callee in FUNCTIONS else self.apply(call, None, None)

    def chain(self, expression: ast.Expr) -> Entity:
        """`logits -> cross_entropy(data.label) as main`."""
        if isinstance(expression, ast.Labelled) and isinstance(expression.value, ast.Call):
            return self.apply(expression.value, None, expression.label)
        if not isinstance(expression, ast.Chain):
            return super().chain(expression)
        value, place = self.evaluate(expression.head), expression.head.span
        for link in expression.links:
            if value is UNKNOWN:
                return UNKNOWN
            if not isinstance(link.stage, ast.Call):
                return super().chain(expression)
            value, place = self.apply(link.stage, (value, place), link.label), link.span
        return value

    def apply(self, call: ast.Call, piped: Placed | None, label: str | None) -> Entity:
        """Append the node of one loss or metric."""
        op = self.allowed.get(call.callee)
        if op is None:
            return self._refuse(call)
        try:
            bound = bind(call, op, piped is not None)
        except DiagnosticError as error:
            for diagnostic in error.diagnostics:
                self.report(diagnostic)
            return UNKNOWN
        operands = self._operands(op, bound, piped)
        attrs = self._attrs(op, bound)
        if operands is None or attrs is None:
            return UNKNOWN
        arguments = {name: argument.value.span for name, argument in bound.arguments.items()}
        return self.emit(op, label, operands, attrs, call.callee_span, arguments)

    def _operands(self, op: Operator, bound: Bound, piped: Placed | None) -> list[tuple[Tensor, Span]] | None:
        """The values that a call computes with, and their places; None after a mistake."""
        found: list[tuple[Tensor, Span]] = []
        for role, argument in zip(op.operands, bound.operands, strict=True):
            if argument is not None:
                value, place = self._operand(argument, role, found[0][0].type if found else None)
            elif piped is not None:
                value, place = piped
            else:
                raise ValueError(f"`{op.name}` was bound without its {role}")
            if isinstance(value, Tensor):
                found.append((value, place))
                continue
            if value is not UNKNOWN:
                self.report(NOT_A_VALUE.at(place, callee=op.name, found=described(value)))
            return None
        return found

    def _attrs(self, op: Operator, bound: Bound) -> dict[str, Attr] | None:
        """The arguments of a call, defaults filled in; None after a mistake."""
        attrs: dict[str, Attr] = {}
        for parameter in op.parameters:
            given = bound.arguments.get(parameter.name)
            attr = parameter.default if given is None else read(parameter, given, op.name, self)
            if attr is UNKNOWN:
                return None
            if attr is not None:
                attrs[parameter.name] = attr
        return attrs

    def _operand(self, argument: ast.Argument, role: str, like: TensorType | None) -> tuple[Entity, Span]:
        """An operand and its place; labels of open type count the classes of the operand before them."""
        expression = argument.value
        if not _is_field(expression):
            return self.evaluate(expression), expression.span
        if like is not None and role == "label":
            like = TensorType("i32", like.axes[:-1])
        return self.field(expression, like), expression.span

    def _refuse(self, call: ast.Call) -> Entity:
        what = "a loss" if self.stage == "loss" else "a metric"
        helps = similar_help(call.callee, self.allowed, what)
        return self.fail(messages.UNKNOWN_CHOICE.at(call.callee_span, found=f"`{call.callee}`", what=what, helps=helps))

    # --- weighted sums ---------------------------------------------------------------------------------------------

    def combine(self, sign: str, left: Entity, right: Entity, at: ast.Binary) -> Entity:
        """Sums of losses, and losses times numbers; on numbers as ever."""
        if not (isinstance(left, Tensor) or isinstance(right, Tensor)):
            return super().combine(sign, left, right, at)
        placed = ((left, at.left.span), (right, at.right.span))
        return self.join(sign, at.operator_span, placed)

    def negate(self, operand: Entity, at: ast.Unary) -> Entity:
        """`-x` is `-1 * x`."""
        if not isinstance(operand, Tensor):
            return super().negate(operand, at)
        return self.join("*", at.span, ((-1, at.span), (operand, at.operand.span)))

    def join(self, sign: str, span: Span, placed: tuple[Placed, Placed]) -> Entity:
        """One arithmetic node of a weighted sum.

        Losses are sums over the samples at hand, so that shards add up. Only what is linear keeps them so: sums of
        losses, a loss times or divided by a number.
        """
        if self.stage == "metric":
            return self.fail(messages.NOT_A_METRIC.at(span, found=f"what `{sign}` makes"))
        for value, place in placed:
            if isinstance(value, Tensor) and value.type.axes:
                return self.fail(messages.NOT_A_LOSS.at(place, found=_described(value)))
        (left, _), (right, _) = placed
        number = next((value for value in (left, right) if _is_number(value)), None)
        op = operator(SIGNS[sign])
        linear = ("*",) if number is left else ("*", "/") if number is right else ("+", "-")
        if op is None or sign not in linear or not all(isinstance(v, Tensor) or _is_number(v) for v in (left, right)):
            return self.fail(messages.NOT_A_LOSS.at(span, found=f"what `{sign}` makes of these"))
        tensors = [(value, place) for value, place in placed if isinstance(value, Tensor)]
        attrs: dict[str, Attr] = {}
        if isinstance(number, int | float):
            attrs = {"scalar": number, "scalar_first": number is left}
        return self.emit(op, None, tensors, attrs, span, {})

    # --- nodes -----------------------------------------------------------------------------------------------------

    def emit(
        self,
        op: Operator,
        label: str | None,
        operands: Sequence[tuple[Tensor, Span]],
        attrs: Mapping[str, Attr],
        span: Span,
        arguments: Mapping[str, Span],
    ) -> Entity:
        """Append a node, if its operands fit; its first result."""
        try:
            inferred = op.infer(tuple(tensor.type for tensor, _ in operands), attrs)
        except OperandError as error:
            return self.fail(_operand_message(error, span, [place for _, place in operands], arguments))
        self._check_classes(op, operands)
        wanted = f"{_PREFIX[self.stage]}.{label or op.name}"
        if label is not None and wanted in self.addresses.taken:
            return self.fail(SAME_ADDRESS.at(span, address=wanted))
        address = self.addresses.free(wanted)
        types = {address: inferred.results[0]} | {f"{address}.{role}": type_ for role, type_ in inferred.saved}
        for name, type_ in types.items():
            self.values[name] = Value(name, type_, "activation" if name == address else "saved")
        inputs = tuple(tensor.name for tensor, _ in operands)
        self.made[address] = Node(address, op.name, self.stage, inputs, tuple(types), inferred.attrs, span)
        return Tensor(address, inferred.results[0])

    def _check_classes(self, op: Operator, operands: Sequence[tuple[Tensor, Span]]) -> None:
        """E0308 where an output has not one number for each class of the data set's labels."""
        if op.operands != ("logits", "label") or self.data_set is None or self.data is None:
            return
        (logits, place), (label, _) = operands
        classes = self.data_set.classes(dict(self.data.arguments)) if label.name == "label" else None
        found = logits.type.axes[-1].extent
        if classes is not None and classes != found:
            labels = (Label(self.data.span, f"{classes} classes"),) if self.data.span else ()
            names = [name for name, value in self.network.outputs if value == logits.name]
            self.fail(
                WRONG_CLASSES.at(
                    place, secondary=labels, output=names[0] if names else logits.name, found=found, needed=classes
                )
            )


def _described(value: Entity) -> str:
    return f"a value of type {value.type}" if isinstance(value, Tensor) else described(value)


def _is_number(value: Entity) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_field(expression: ast.Expr) -> TypeGuard[ast.Attribute]:
    """Whether it reads `data.NAME`."""
    return (
        isinstance(expression, ast.Attribute)
        and isinstance(expression.value, ast.Name)
        and expression.value.text == DATA
    )


def _operand_message(
    error: OperandError, span: Span, operands: Sequence[Span], arguments: Mapping[str, Span]
) -> Diagnostic:
    """A shape rule's refusal, at the argument or operand at fault."""
    place = arguments.get(error.argument or "", span)
    if error.operand is not None and error.operand < len(operands):
        place = operands[error.operand]
    message = MESSAGES[error.code]
    sentence = message.sentence.format(**error.values)
    return Diagnostic(message.code, sentence, Label(place, error.label), notes=error.notes, helps=error.helps)
