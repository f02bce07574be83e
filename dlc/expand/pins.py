"""Pins and forbids: which ops each reaches, and what each of its settings says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dlc.cluster.topology import Cluster
from dlc.diagnostics import Label, Span, similar
from dlc.expand.fields import Field, listed
from dlc.expand.report import MOST_CANDIDATES, MOST_MISTAKES
from dlc.expand.select import matches
from dlc.expand.settings import Reader, shown, similar_help
from dlc.ir.graph import Graph, Node
from dlc.ir.request import MeshAxis, Rule, Setting, Split
from dlc.messages import e05_plan as messages
from dlc.ops import operator
from dlc.ops.blocks import BLOCKED, EVERY_LAYOUT, takes_blocks
from dlc.ops.nodes import node_indexing
from dlc.ops.operator import Operator
from dlc.syntax import ast

KEYS = ("algorithm", "layout", "partition", "stage", "recompute", "microbatch")

VALUES: Mapping[str, Field] = {
    "layout": Field("layout", "word", choices=EVERY_LAYOUT),
    "stage": Field("stage", "count", minimum=0),
    "recompute": Field("recompute", "flag"),
    "microbatch": Field("microbatch", "count", minimum=1),
}
"""The settings of pins that are plain values."""

_TILE = Field("tile", "count", required=True, minimum=2, maximum=8)

ALGORITHMS: Mapping[str, tuple[Field, ...]] = {
    "direct": (),
    "im2col": (),
    "implicit_gemm": (),
    "cudnn": (),
    "winograd": (_TILE,),
    "fft": (),
    "fft_tiled": (),
}
"""Algorithms of convolution, whether a backend has kernels for them or not."""

FAMILIES: Mapping[str, tuple[Field, ...]] = {**ALGORITHMS, "winograd": (Field("tile", "count", minimum=2, maximum=8),)}
"""As a forbid names them: `winograd` with any tile, `fft` plain and tiled."""

PARTITIONS: Mapping[str, tuple[Field, ...]] = {
    "split": (Field("axis", "name", required=True), Field("over", "name", required=True)),
    "replicate": (),
}

HEADS = "heads"

MOST_LOOKS = 1_000_000
"""How often a plan may look at an op: rules times ops. It bounds the time that a file can take, at some seconds."""


def split_axes(op: Operator, node: Node, graph: Graph) -> tuple[str, ...]:
    """The axes that a partition of this op may split: those of its result, and the ones that it sums over.

    `feature` is the last axis of what is no image, whatever its name (`dlc.ops.indexing`).
    """
    axes = node_indexing(graph, node).axes
    return tuple(axis for axis in op.splits if axis in axes)


def is_image(names: Iterable[str]) -> bool:
    """Whether a value has the axes that a layout orders."""
    return tuple(names) == ("batch", "channel", "height", "width")


@dataclass(slots=True)
class PinReader:
    """Reads the pins and forbids of one plan against its network, cluster and mesh.

    `refused` are the axes of a mesh that has mistakes: what is split over them is left out without a further message.
    """

    graph: Graph
    cluster: Cluster
    mesh: tuple[MeshAxis, ...]
    refused: frozenset[str]
    reader: Reader

    def rules(self, items: Sequence[ast.Pin | ast.Forbid]) -> tuple[Rule, ...]:
        """One Rule for each setting, with the ops that it reached and that have a use for it.

        Raises DiagnosticError where there are more mistakes than anybody reads.
        """
        diagnostics, found = self.reader.diagnostics, list[Rule]()
        before = len(diagnostics.items)
        if len(items) * len(self.graph.nodes) > MOST_LOOKS:
            diagnostics.add(messages.TOO_MANY_LOOKS.at(items[0].span, rules=len(items), limit=MOST_LOOKS))
            return ()
        for item in items:
            found.extend(self._rules(item))
            if len(diagnostics.items) - before > MOST_MISTAKES:
                diagnostics.raise_errors()
        return tuple(found)

    def _rules(self, item: ast.Pin | ast.Forbid) -> Iterator[Rule]:
        where = "a pin" if isinstance(item, ast.Pin) else "a forbid"
        settings = self.reader.collect(item.settings, KEYS, where)
        found = self.reader.diagnostics.items
        before = len(found)
        addresses = matches(item.selector, self.graph, self.reader.scope, self.reader.diagnostics)
        reached = [self.graph.node(address) for address in addresses]
        selector = selector_text(item.selector)
        if not reached:
            if not any(diagnostic.is_error for diagnostic in found[before:]):
                self._refuse_selector(item.selector, selector)
            return
        for setting in settings.values():
            for value, nodes in self._values(setting, reached, isinstance(item, ast.Forbid)):
                if not nodes:
                    message = messages.NO_USE.at(setting.span, selector=selector, key=setting.key)
                    self.reader.diagnostics.add(message)
                    continue
                addresses = tuple(node.address for node in nodes)
                yield Rule(setting.key, value, addresses, selector, setting.span, setting.value.span)

    def _refuse_selector(self, selector: ast.Selector, text: str) -> None:
        """E0502, with the nearest address where one is near, or what the selector matches without its condition."""
        if selector.where is not None and (found := matches(replace(selector, where=None), self.graph)):
            without = f"without its `where` it matches {len(found)} op{'s' * (len(found) > 1)}"
            self.reader.diagnostics.add(messages.NO_MATCH.at(selector.span, notes=(without,)))
            return
        addresses = [node.address for node in self.graph.forward]
        near = similar(text.partition(" where ")[0], addresses) if len(addresses) <= MOST_CANDIDATES else None
        helps = (f"there is an op with a similar address: `{near}`",) if near else ()
        notes = () if near else ("`dlc inspect FILE --ops` lists the addresses of all ops",)
        self.reader.diagnostics.add(messages.NO_MATCH.at(selector.span, notes=notes, helps=helps))

    # --- values --------------------------------------------------------------------------------------------------

    def _values(
        self, setting: ast.Setting, reached: list[Node], forbids: bool
    ) -> Iterator[tuple[Setting, tuple[Node, ...]]]:
        """What a setting says, and the reached ops that have a use for it; nothing where it is refused."""
        match setting.key:
            case "algorithm":
                nodes = tuple(node for node in reached if operator_of(node).algorithms)
                yield from ((name, nodes) for name in self._algorithms(setting.value, nodes, forbids))
            case "partition":
                splits = self._partition(setting.value)
                nodes = () if splits is None else self._splittable(setting, splits, reached)
                if splits is not None and nodes:
                    yield splits, nodes
            case key:
                value = self.reader.read(VALUES[key], setting.value)
                if isinstance(value, int | str) and self._in_pipeline(setting, value):
                    yield value, tuple(n for n in reached if key != "layout" or self._has_layout(n, value))

    def _has_layout(self, node: Node, layout: object) -> bool:
        """Whether an op reads or writes images in any order of memory; in a blocked one, whether they fill blocks."""
        types = (self.graph.type(name) for name in (*node.inputs, *node.outputs))
        op, images = operator_of(node), [type_ for type_ in types if is_image(type_.names)]
        if isinstance(layout, str) and layout in BLOCKED and not takes_blocks(op, images, dict(node.attrs), layout):
            return False
        return bool(op.layout_free or op.elementwise) and bool(images)

    def _algorithms(self, expr: ast.Expr, nodes: tuple[Node, ...], forbids: bool) -> tuple[str, ...]:
        """The algorithm by name; a forbid of a family names all its members."""
        choice = self.reader.choice("an algorithm of convolution", expr, FAMILIES if forbids else ALGORITHMS)
        if choice is None:
            return ()
        tile = dict(choice.arguments).get("tile")
        if tile is not None:
            return (f"{choice.kind}({tile})",)
        if not forbids:
            return (choice.kind,)
        known = dict.fromkeys(a.name for node in nodes for a in operator_of(node).algorithms)
        return tuple(name for name in known if family(name) == choice.kind) or (choice.kind,)

    def _in_pipeline(self, setting: ast.Setting, value: int | str) -> bool:
        """Refuse a stage beyond the mesh's pipeline axis."""
        stages = next((axis.extent for axis in self.mesh if axis.name == "pipeline"), None)
        if setting.key != "stage" or stages is None or (isinstance(value, int) and value < stages):
            return True
        allowed = f"below the {stages} of the mesh axis `pipeline`"
        message = messages.OUT_OF_RANGE.at(setting.value.span, key="stage", allowed=allowed, found=value)
        self.reader.diagnostics.add(message)
        return False

    # --- partitions ----------------------------------------------------------------------------------------------

    def _partition(self, expr: ast.Expr) -> tuple[Split, ...] | None:
        """`split(…)`, a list of them, or `replicate`, which splits nothing; None where it is refused."""
        taken = self.reader.taken(expr)
        if taken is None:
            return None
        items = taken.items if isinstance(taken, ast.ListOf) else (taken,)
        splits: list[Split] = []
        for item in items:
            choice = self.reader.choice("a partition", item, PARTITIONS)
            if choice is None:
                return None
            if choice.kind == "split":
                split = Split(str(choice.get("axis")), str(choice.get("over")))
                if self.degree(split.over, item.span) is None:
                    return None
                if any(split.over == other.over for other in splits):
                    self.reader.diagnostics.add(messages.SPLIT_TWICE.at(item.span, over=split.over))
                    return None
                splits.append(split)
        return tuple(splits)

    def degree(self, over: str, span: Span) -> int | None:
        """How many parts a split over a mesh axis or group has; None, reported once, where there is no such group."""
        extents = {level.name: level.count for level in self.cluster.levels}
        extents |= {axis.name: axis.extent for axis in self.mesh}
        if over in self.refused:
            return None
        if over not in extents:
            helps = similar_help(over, extents, "one")
            what = "a mesh axis or group" if self.mesh else "a group"
            message = messages.UNKNOWN_GROUP.at(span, name=over, what=what, cluster=self.cluster.name, helps=helps)
            self.reader.diagnostics.add(message)
        return extents.get(over)

    def _splittable(self, setting: ast.Setting, splits: tuple[Split, ...], reached: list[Node]) -> tuple[Node, ...]:
        """The ops that have all the axes; where there is none, that is refused (E0514)."""
        axes = {node.address: split_axes(operator_of(node), node, self.graph) for node in reached}
        nodes = tuple(node for node in reached if all(split.axis in axes[node.address] for split in splits))
        if nodes:
            self._check_heads(setting, splits, nodes)
            return nodes
        first = reached[0].address
        missing = next(split.axis for split in splits if split.axis not in axes[first])
        notes = (f"nor can the other {len(reached) - 1} that the selector reaches",) if len(reached) > 1 else ()
        helps = (f"it can be split by {listed(axes[first])}",) if axes[first] else ()
        self.reader.diagnostics.add(
            messages.NO_SUCH_AXIS.at(setting.value.span, address=first, axis=missing, notes=notes, helps=helps)
        )
        return ()

    def _check_heads(self, setting: ast.Setting, splits: tuple[Split, ...], nodes: tuple[Node, ...]) -> None:
        """E0506: heads are split evenly."""
        for over in (split.over for split in splits if split.axis == HEADS):
            degree = self.degree(over, setting.value.span) or 1
            found = ((node, dict(node_indexing(self.graph, node).extents)[HEADS]) for node in nodes)
            node, heads = next((pair for pair in found if pair[1] % degree), (None, 0))
            if node is not None:
                labels = (Label(node.span, f"{heads} heads here"),) if node.span else ()
                self.reader.diagnostics.add(
                    messages.HEADS.at(setting.value.span, secondary=labels, heads=heads, degree=degree, over=over)
                )


def operator_of(node: Node) -> Operator:
    """The operator of a node; every node past expansion has one."""
    found = operator(node.op)
    if found is None:
        raise ValueError(f"{node.address} has the unknown operator {node.op}")
    return found


def family(algorithm: str) -> str:
    """The word by which a forbid names an algorithm: `winograd` for winograd(4), `fft` for fft_tiled."""
    return algorithm.partition("(")[0].removesuffix("_tiled")


def selector_text(selector: ast.Selector) -> str:
    """A selector as it is written, in house style."""
    text = ".".join(segment.name + "".join(map(_index_text, segment.indices)) for segment in selector.segments)
    return text if selector.where is None else f"{text} where {written(selector.where)}"


def _index_text(index: ast.IndexSet) -> str:
    if index.start is None or index.stop is None:
        return "[*]"
    return f"[{index.start}]" if index.stop == index.start + 1 else f"[{index.start}..{index.stop}]"


def written(expr: ast.Expr) -> str:
    """A condition as it may be written; brackets stand around every operand that is an operation itself."""
    match expr:
        case ast.Name(text):
            return text
        case ast.Number() | ast.Quantity() | ast.Window():
            return shown(expr.value if isinstance(expr, ast.Number) else expr)
        case ast.Text(value):
            return f'"{value}"'
        case ast.Attribute(value, name):
            return f"{written(value)}.{name}"
        case ast.Unary(sign, operand):
            return f"{sign} {_operand(operand)}"
        case ast.Binary(sign, left, right):
            return f"{_operand(left)} {sign} {_operand(right)}"
        case ast.Call(callee, arguments):
            return f"{callee}({', '.join(written(argument.value) for argument in arguments)})"
    return "…"


def _operand(expr: ast.Expr) -> str:
    return f"({written(expr)})" if isinstance(expr, ast.Binary | ast.Unary) and _loose(expr) else written(expr)


def _loose(expr: ast.Binary | ast.Unary) -> bool:
    """Whether an operand needs brackets: `and` and `or` do, comparisons under them do not."""
    return expr.operator in ("and", "or", "then")
