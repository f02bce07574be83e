"""Selectors: which ops `stage3[1].main.**.conv where window == 3x3` reaches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dlc.diagnostics import Diagnostic, Diagnostics, Span, similar
from dlc.expand.arguments import listed
from dlc.expand.evaluate import UNKNOWN, Entity, Evaluator, Scope, Unknown
from dlc.ir.graph import Attr, Graph, Node
from dlc.messages import e02_names as messages
from dlc.ops import operator
from dlc.ops.operator import Cost, Shapes
from dlc.syntax import ast

Segment = tuple[str, tuple[int, ...]]
"""One segment of an address: its name and its indices."""

COUNTED = ("params", "macs", "flops")
"""What `where` knows of every op besides its attributes and the extents of its result."""


def matches(
    selector: ast.Selector, graph: Graph, scope: Scope | None = None, diagnostics: Diagnostics | None = None
) -> tuple[str, ...]:
    """The addresses of the forward ops at or below what the selector matches, in the order of the graph.

    `where` sees an op's attributes, the extents of its result by axis name, `params`, `macs`, `flops` (2·macs, or where
    there are none the operations W), and the names of `scope`. An attribute that an op does not have keeps it out; one
    that no op at hand has is a mistake.
    Mistakes are collected, or raised as DiagnosticError where there are no `diagnostics`.
    """
    reaches = _Reach(selector.segments)
    nodes = [node for node in graph.forward if reaches(node.address)]
    if selector.where is None or not nodes:
        return tuple(node.address for node in nodes)
    collected = Diagnostics() if diagnostics is None else diagnostics
    chosen = _chosen(selector.where, nodes, graph, scope or Scope("this file"), collected)
    if diagnostics is None:
        collected.raise_errors()
    return chosen


class _Reach:
    """Tells which addresses a pattern matches, or one above them.

    After some segments of an address the pattern may have been read up to several places, as `**` stands for any
    number of segments. What the segments above have led to is kept: the ops of a network share most of them.
    """

    def __init__(self, pattern: Sequence[ast.SelectorSegment]) -> None:
        self.pattern = pattern
        self.end = len(pattern)
        self._above: dict[str, frozenset[int]] = {"": self._skipping({0})}
        self._steps: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def __call__(self, address: str) -> bool:
        above, _, last = address.rpartition(".")
        return self.end in self._step(self._places(above), last)

    def _places(self, address: str) -> frozenset[int]:
        found = self._above.get(address)
        if found is None:
            above, _, last = address.rpartition(".")
            found = self._above[address] = self._step(self._places(above), last)
        return found

    def _step(self, places: frozenset[int], segment: str) -> frozenset[int]:
        """The places one segment on; a pattern that is read to its end matches all that follows."""
        found = self._steps.get((places, segment))
        if found is None:
            found = places if self.end in places else self._following(places, _segment(segment))
            self._steps[places, segment] = found
        return found

    def _following(self, places: frozenset[int], segment: Segment) -> frozenset[int]:
        following: set[int] = set()
        for place in places:
            if self.pattern[place].name == "**":
                following.add(place)
            elif _fits(self.pattern[place], segment, last=place == self.end - 1):
                following.add(place + 1)
        return self._skipping(following)

    def _skipping(self, places: set[int]) -> frozenset[int]:
        """The places, and those behind any `**` there, which may stand for nothing."""
        found = set(places)
        for place in range(self.end):
            if place in found and self.pattern[place].name == "**":
                found.add(place + 1)
        return frozenset(found)


def _segment(text: str) -> Segment:
    """`stage3[2]` -> ("stage3", (2,))."""
    name, *indices = text.replace("]", "").split("[")
    return name, tuple(int(index) for index in indices)


def _fits(pattern: ast.SelectorSegment, segment: Segment, last: bool) -> bool:
    """Whether one segment matches; the last one of a pattern may leave indices open, and so may `*`."""
    name, indices = segment
    if pattern.name not in ("*", name):
        return False
    open_ended = last or (pattern.name == "*" and not pattern.indices)
    if len(pattern.indices) > len(indices) or (len(pattern.indices) < len(indices) and not open_ended):
        return False
    return all(_holds(chosen, index) for chosen, index in zip(pattern.indices, indices, strict=False))


def _holds(chosen: ast.IndexSet, index: int) -> bool:
    return (chosen.start is None or index >= chosen.start) and (chosen.stop is None or index < chosen.stop)


# --- where ------------------------------------------------------------------------------------------------------


def _chosen(
    where: ast.Expr, nodes: Sequence[Node], graph: Graph, scope: Scope, diagnostics: Diagnostics
) -> tuple[str, ...]:
    """The ops for which the condition holds."""
    valid = _valid(nodes, graph)
    chosen: list[str] = []
    for node in nodes:
        evaluator = WhereEvaluator(node, graph, valid, scope, diagnostics)
        if evaluator.truth(where, "where") is True:
            chosen.append(node.address)
        if evaluator.failed:
            return ()
    return tuple(chosen)


def _valid(nodes: Iterable[Node], graph: Graph) -> tuple[str, ...]:
    """The attributes that at least one of the ops has."""
    names: dict[str, None] = {}
    for node in nodes:
        names |= dict.fromkeys(key for key, _ in node.attrs)
        names |= dict.fromkeys(graph.type(node.outputs[0]).names)
    return (*sorted(names), *COUNTED)


class WhereEvaluator(Evaluator):
    """Evaluates a condition about one op; stops at the first mistake, which would be the same for each op."""

    __slots__ = ("failed", "graph", "node", "valid")

    def __init__(
        self, node: Node, graph: Graph, valid: tuple[str, ...], scope: Scope, diagnostics: Diagnostics
    ) -> None:
        super().__init__(scope, diagnostics.add)
        self.node, self.graph, self.valid = node, graph, valid
        self.failed = False

    def fail(self, diagnostic: Diagnostic) -> Unknown:
        """Report a mistake, and remember that there was one."""
        self.failed = True
        return super().fail(diagnostic)

    def name(self, name: ast.Name) -> Entity:
        """An attribute of the op, else a name of the file."""
        if name.text in self.valid:
            return attribute(name.text, self.node, self.graph)
        if name.text in ("yes", "no", "same", "valid") or self.scope.find(name.text) is not None:
            return super().name(name)
        notes = (f"`where` knows {listed(self.valid)} of these ops",)
        near = similar(name.text, self.valid)
        helps = (f"there is an attribute with a similar name: `{near}`",) if near else ()
        where = "this selector"
        return self.fail(messages.UNDEFINED.at(name.span, name=name.text, where=where, notes=notes, helps=helps))


def attribute(name: str, node: Node, graph: Graph) -> Entity:
    """What `where` compares: an attribute, an extent of the result, a count; UNKNOWN where the op has none."""
    if name in COUNTED:
        return _counted(name, node, graph)
    if node.has(name):
        return _constant(node.attr(name))
    result = graph.type(node.outputs[0])
    return result.extent(name) if name in result.names else UNKNOWN


def _counted(name: str, node: Node, graph: Graph) -> int:
    if name == "params":
        weights = (graph.value(name) for name in dict.fromkeys(node.inputs))
        return sum(weight.type.elements for weight in weights if weight.kind == "weight")
    counts = cost(node, graph)
    if name == "macs":
        return counts.macs
    return 2 * counts.macs or counts.work


def cost(node: Node, graph: Graph) -> Cost:
    """Work of a forward op on the whole batch."""
    op = operator(node.op)
    if op is None:
        raise ValueError(f"no operator {node.op}")
    inputs = tuple(graph.type(name) for name in node.inputs)
    outputs = tuple(graph.type(name) for name in node.outputs)
    return op.cost("forward", Shapes(inputs, outputs, dict(node.attrs)))


def _constant(attr: Attr) -> Entity:
    """An attribute as the language writes it: windows with `x`, a pad of equal sides as one number for each axis."""
    if isinstance(attr, str):
        return ast.Name(attr, NOWHERE)
    if not isinstance(attr, tuple):
        return attr
    extents = [item[0] if isinstance(item, tuple) and len(set(item)) == 1 else item for item in attr]
    numbers = tuple(item for item in extents if isinstance(item, int))
    return ast.Window(numbers, NOWHERE) if len(numbers) == len(attr) else UNKNOWN


NOWHERE = Span("", 0, 0, 0, 0)
