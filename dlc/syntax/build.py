"""From lark's tree to the syntax tree: one small function per rule of the grammar."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import isinf
from typing import Any, TypeVar, cast

from lark import Token, Tree

from dlc.diagnostics import Diagnostics, Label, Span, similar
from dlc.messages import e01_syntax as e01
from dlc.syntax import ast
from dlc.syntax.source import shown
from dlc.units import KIND_WORDS, UNITS, Kind, symbols

T = TypeVar("T")
Node = Tree[Token]

MAX_LEVELS = 100
EXACT_BELOW = 2**53

_QUANTITY = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)[ \t]*([A-Za-z/]+)")

_EXPRESSIONS = frozenset({"if", "binary", "unary", "chain", "labelled", "repeat", "call", "attribute", "index", "list"})


def build_file(tree: Node, path: str) -> ast.File:
    """The syntax tree of a file that follows the grammar.

    Raises DiagnosticError for expressions nested too deep, unknown units, numbers out of range, a label on what is no
    call, and a second topology.
    """
    builder = _Builder(path)
    builder.check_levels(tree)
    builder.found.raise_errors()
    file: ast.File = builder.build(tree)
    builder.found.raise_errors()
    return file


class _Builder:
    """Has a method `_rule` for each rule of the grammar."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.found = Diagnostics()

    def check_levels(self, tree: Node) -> None:
        """Find the first expression that nests too deep for recursive functions to read; without recursion itself."""
        stack = [(tree, 0)]
        while stack:
            node, level = stack.pop()
            level += node.data in _EXPRESSIONS
            if level > MAX_LEVELS:
                self.found.add(e01.TOO_DEEP.at(self.span(node), what="expressions", limit=MAX_LEVELS))
                return
            stack.extend((child, level) for child in reversed(node.children) if isinstance(child, Tree))

    def span(self, node: Node | Token) -> Span:
        """Where a token or a rule's text stands; a rule without text has no place of its own."""
        place: Any = node if isinstance(node, Token) else node.meta
        return Span(self.path, place.line, place.column, place.end_line, place.end_column)

    def build(self, node: Any) -> Any:
        """The syntax of a rule's text."""
        rule: Callable[[Node], Any] = getattr(self, f"_{node.data}")
        return rule(node)

    def all(self, nodes: list[Any]) -> tuple[Any, ...]:
        """The syntax of each, without the placeholders for optional parts that are absent."""
        return tuple(self.build(node) for node in nodes if node is not None)

    def named(self, kind: Callable[..., T], tree: Node) -> T:
        """An item that is a name and what stands in its braces."""
        name, content = tree.children
        return kind(str(name), self.build(content), self.span(name), self.span(tree))

    # --- items ---

    def _file(self, tree: Node) -> ast.File:
        version, *items = tree.children
        return ast.File(self.path, int(cast(Token, version)), self.all(items), self.span(tree))

    def _import(self, tree: Node) -> ast.Import:
        (path,) = _tokens(tree)
        return ast.Import(path[1:-1], self.span(path), self.span(tree))

    def _param(self, tree: Node) -> ast.Param:
        name, default = tree.children
        return ast.Param(str(name), self.build(default), self.span(name), self.span(tree))

    def _block(self, tree: Node) -> ast.Block:
        name, formals, body = tree.children
        return ast.Block(str(name), self.build(formals), self.build(body), self.span(name), self.span(tree))

    def _network(self, tree: Node) -> ast.Network:
        return self.named(ast.Network, tree)

    def _device(self, tree: Node) -> ast.Device:
        return self.named(ast.Device, tree)

    def _link_item(self, tree: Node) -> ast.LinkItem:
        return self.named(ast.LinkItem, tree)

    def _train(self, tree: Node) -> ast.Train:
        return self.named(ast.Train, tree)

    def _cluster(self, tree: Node) -> ast.Cluster:
        name, *nodes = tree.children
        parts = self.all(nodes)
        devices = tuple(part for part in parts if isinstance(part, ast.Device))
        links = tuple(part for part in parts if isinstance(part, ast.LinkItem))
        topologies = [node for node in nodes if isinstance(node, Tree) and node.data == "topology"]
        for second in topologies[1:]:
            first = Label(self.span(topologies[0]), "the first one")
            self.found.add(e01.SECOND_TOPOLOGY.at(self.span(second), cluster=name, secondary=[first]))
        groups = self.build(topologies[0]) if topologies else ()
        return ast.Cluster(str(name), devices, links, groups, self.span(name), self.span(tree))

    def _plan(self, tree: Node) -> ast.Plan:
        network, cluster, rules = tree.children
        names = str(network), str(cluster)
        return ast.Plan(*names, self.build(rules), self.span(network), self.span(cluster), self.span(tree))

    # --- networks and blocks ---

    def _formals(self, tree: Node) -> tuple[ast.Formal, ...]:
        return self.all(tree.children)

    def _formal(self, tree: Node) -> ast.Formal:
        name, default = tree.children
        return ast.Formal(str(name), self.build(default) if default else None, self.span(tree))

    def _body(self, tree: Node) -> tuple[ast.Statement, ...]:
        return self.all(tree.children)

    def _input(self, tree: Node) -> ast.Input:
        name, type_ = tree.children
        return ast.Input(str(name), self.build(type_), self.span(name), self.span(tree))

    def _type(self, tree: Node) -> ast.TypeExpression:
        dtype, *axes = tree.children
        return ast.TypeExpression(str(dtype), self.all(axes), self.span(tree))

    def _named_axis(self, tree: Node) -> ast.AxisDeclaration:
        name, extent = tree.children
        return ast.AxisDeclaration(str(name), self.build(extent), self.span(tree))

    def _axis(self, tree: Node) -> ast.AxisDeclaration:
        extent = self.build(tree.children[0])
        if isinstance(extent, ast.Name):
            return ast.AxisDeclaration(extent.text, None, self.span(tree))
        return ast.AxisDeclaration(None, extent, self.span(tree))

    def _binding(self, tree: Node) -> ast.Binding:
        targets, value = tree.children
        return ast.Binding(self.build(targets), self.build(value), self.span(tree))

    def _targets(self, tree: Node) -> tuple[ast.Name, ...]:
        return tuple(ast.Name(str(name), self.span(name)) for name in tree.children)

    def _output(self, tree: Node) -> ast.Output:
        return ast.Output(self._targets(tree), self.span(tree))

    def _return(self, tree: Node) -> ast.Return:
        return ast.Return(self.build(tree.children[0]), self.span(tree))

    # --- clusters ---

    def _topology(self, tree: Node) -> tuple[ast.Group, ...]:
        return self.all(tree.children)

    _groups = _topology

    def _group(self, tree: Node) -> ast.Group:
        name, count, over, groups = tree.children
        return ast.Group(
            str(name),
            self.build(count) if count else None,
            str(over) if over else None,
            self.build(groups) if groups else (),
            self.span(name),
            self.span(over) if over else None,
            self.span(tree),
        )

    # --- settings and plan rules ---

    def _settings(self, tree: Node) -> tuple[ast.Setting, ...]:
        return self.all(tree.children)

    def _setting(self, tree: Node) -> ast.Setting:
        key, value = tree.children
        name = ".".join(_tokens(cast(Node, key)))
        return ast.Setting(name, self.build(value), self.span(key), self.span(tree))

    def _rules(self, tree: Node) -> tuple[ast.PlanRule, ...]:
        return self.all(tree.children)

    def _pin(self, tree: Node) -> ast.Pin:
        selector, *settings = self.all(tree.children)
        return ast.Pin(selector, tuple(settings), self.span(tree))

    def _forbid(self, tree: Node) -> ast.Forbid:
        selector, *settings = self.all(tree.children)
        return ast.Forbid(selector, tuple(settings), self.span(tree))

    def _limit(self, tree: Node) -> ast.Limit:
        subject, comparison, bound = tree.children
        return ast.Limit(str(subject), str(comparison), self.build(bound), self.span(subject), self.span(tree))

    def _mesh(self, tree: Node) -> ast.MeshRule:
        return ast.MeshRule(self.all(tree.children), self.span(tree))

    def _selector(self, tree: Node) -> ast.Selector:
        *segments, where = tree.children
        condition = self.build(where) if where else None
        return ast.Selector(self.all(segments), condition, self.span(tree))

    def _segment(self, tree: Node) -> ast.SelectorSegment:
        name, *indices = tree.children
        return ast.SelectorSegment(str(name), self.all(indices))

    def _index_set(self, tree: Node) -> ast.IndexSet:
        ends = [self.integer(token) for token in _tokens(tree) if token.type == "INT"]
        if not ends:
            return ast.IndexSet(None, None)
        return ast.IndexSet(ends[0], ends[-1] if len(ends) == 2 else ends[0] + 1)

    # --- expressions ---

    def _if(self, tree: Node) -> ast.If:
        condition, then, otherwise = self.all(tree.children)
        return ast.If(condition, then, otherwise, self.span(tree))

    def _binary(self, tree: Node) -> ast.Binary:
        left, operator, right = tree.children
        parts = self.build(left), self.build(right)
        return ast.Binary(str(operator), *parts, self.span(operator), self.span(tree))

    def _unary(self, tree: Node) -> ast.Unary:
        operator, operand = tree.children
        return ast.Unary(str(operator), self.build(operand), self.span(tree))

    def _chain(self, tree: Node) -> ast.Chain:
        head, *links = self.all(tree.children)
        return ast.Chain(head, tuple(links), self.span(tree))

    def _labelled(self, tree: Node) -> ast.Labelled:
        node, label = tree.children
        value = self.build(node)
        if not isinstance(value, ast.Call):
            where = Label(self.span(node), "this is no call")
            self.found.add(e01.LABEL_WITHOUT_CALL.at(self.span(label), name=label, secondary=[where]))
        return ast.Labelled(value, str(label), self.span(label), self.span(tree))

    def _link(self, tree: Node) -> ast.Link:
        stage, label = tree.children
        if not label:
            return ast.Link(self.build(stage), None, None, self.span(tree))
        return ast.Link(self.build(stage), str(label), self.span(label), self.span(tree))

    def _bare_call(self, tree: Node) -> ast.Call:
        return ast.Call(str(tree.children[0]), (), self.span(tree), self.span(tree))

    def _call(self, tree: Node) -> ast.Call:
        name, *arguments = tree.children
        return ast.Call(str(name), self.all(arguments), self.span(name), self.span(tree))

    def _named_argument(self, tree: Node) -> ast.Argument:
        name, value = tree.children
        return ast.Argument(str(name), self.build(value), self.span(tree))

    def _argument(self, tree: Node) -> ast.Argument:
        return ast.Argument(None, self.build(tree.children[0]), self.span(tree))

    def _repeat(self, tree: Node) -> ast.Repeat:
        count, variable, *links = tree.children
        name = str(variable) if variable else None
        return ast.Repeat(self.build(count), name, self.all(links), self.span(tree))

    def _attribute(self, tree: Node) -> ast.Attribute:
        value, name = tree.children
        return ast.Attribute(self.build(value), str(name), self.span(tree))

    def _index(self, tree: Node) -> ast.Index:
        value, index = self.all(tree.children)
        return ast.Index(value, index, self.span(tree))

    def _list(self, tree: Node) -> ast.ListOf:
        return ast.ListOf(self.all(tree.children), self.span(tree))

    def _name(self, tree: Node) -> ast.Name:
        return ast.Name(str(tree.children[0]), self.span(tree))

    def _text(self, tree: Node) -> ast.Text:
        return ast.Text(str(tree.children[0])[1:-1], self.span(tree))

    def _number(self, tree: Node) -> ast.Number:
        (token,) = _tokens(tree)
        return ast.Number(self.value(token, str(token)), self.span(tree))

    def _window(self, tree: Node) -> ast.Window:
        (token,) = _tokens(tree)
        extents = tuple(int(self.value(token, extent)) for extent in token.split("x"))
        return ast.Window(extents, self.span(tree))

    def _quantity(self, tree: Node) -> ast.Quantity:
        (token,) = _tokens(tree)
        digits, symbol = split_quantity(token)
        value = self.value(token, digits)
        unit = UNITS.get(symbol)
        if unit is None:
            whole = self.span(token)
            where = replace(whole, column=whole.end_column - len(symbol))
            self.found.add(e01.UNKNOWN_UNIT.at(where, unit=shown(symbol, 40), helps=_unit_helps(symbol)))
        elif unit.kind == "size" and value * unit.times >= EXACT_BELOW:
            value = self.too_large(token, "2^53 bytes or more")
        elif isinf(value * unit.times):
            value = self.too_large(token, "beyond the range of numbers")
        return ast.Quantity(value, symbol, self.span(tree))

    # --- numbers ---

    def integer(self, token: Token) -> int:
        return int(self.value(token, str(token)))

    def value(self, token: Token, digits: str) -> int | float:
        """A number within bounds; one beyond them is reported, and stands as 1."""
        if digits.isdigit():
            if len(digits.lstrip("0")) <= 16 and int(digits) < EXACT_BELOW:
                return int(digits)
            return self.too_large(token, "2^53 or more")
        value = float(digits)
        mantissa = digits.lower().partition("e")[0]
        if isinf(value) or (value == 0 and mantissa.strip("0.")):
            return self.too_large(token, "beyond the range of numbers")
        return value

    def too_large(self, token: Token, fault: str) -> int:
        self.found.add(e01.NUMBER_TOO_LARGE.at(self.span(token), number=shown(token, 24), fault=fault))
        return 1


def split_quantity(token: str) -> tuple[str, str]:
    """The digits and the unit of a quantity: `900 GB/s` is `900` and `GB/s`."""
    parts = _QUANTITY.fullmatch(token)
    assert parts is not None
    return parts[1], parts[2]


def _tokens(tree: Node) -> list[Token]:
    return [child for child in tree.children if isinstance(child, Token)]


def _unit_helps(unit: str) -> Iterator[str]:
    near = similar(unit, UNITS)
    kinds: tuple[Kind, ...] = ("rate", "compute") if "/" in unit else ("size", "time", "count")
    if near:
        yield f"there is a unit with a similar name: `{near}`"
        kinds = (UNITS[near].kind,)
    for kind in kinds:
        yield f"{KIND_WORDS[kind].split(' ', 1)[1]}s: {', '.join(symbols(kind))}"
    if not near:
        yield f"if `{shown(unit, 40)}` is no unit, an operator or a comma is missing before it"
