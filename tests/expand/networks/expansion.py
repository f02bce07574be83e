"""Networks from text, for tests: parsed and expanded without clusters, training and plans."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent, indent

from dlc.diagnostics import Diagnostic, DiagnosticError, Diagnostics, render_all
from dlc.expand.arguments import Calls
from dlc.expand.network import expand_networks
from dlc.expand.parameters import parameters
from dlc.expand.report import OncePerPlace
from dlc.ir.graph import Graph
from dlc.syntax import ast
from dlc.syntax.parser import parse


@dataclass(frozen=True)
class Expansion:
    """What one text expands to."""

    graphs: tuple[Graph, ...]
    diagnostics: tuple[Diagnostic, ...]
    text: str

    @property
    def graph(self) -> Graph:
        assert not self.errors, render_all(self.errors, {"test.dlspec": self.text})
        (graph,) = self.graphs
        return graph

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self.diagnostics if d.is_error)

    @property
    def codes(self) -> list[str]:
        return [d.code for d in self.diagnostics]

    @property
    def error(self) -> Diagnostic:
        """The only message."""
        (diagnostic,) = self.diagnostics
        return diagnostic

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self.graph.nodes]


def expansion(text: str, **overrides: str) -> Expansion:
    """Expand a text; the first line `dlspec 1` is added."""
    text = "dlspec 1\n" + dedent(text)
    diagnostics = Diagnostics()
    graphs: list[Graph] = []
    try:
        items = parse(text, "test.dlspec").items
        report = OncePerPlace(diagnostics)
        scope = parameters([i for i in items if isinstance(i, ast.Param)], overrides, report)
        networks = {i.name: i for i in items if isinstance(i, ast.Network)}
        blocks = {i.name: i for i in items if isinstance(i, ast.Block)}
        graphs = expand_networks(networks, Calls(blocks, report), scope)
    except DiagnosticError as error:
        return Expansion((), error.diagnostics, text)
    return Expansion(tuple(graphs), tuple(diagnostics.items), text)


IMAGE = "f32[4, channel = 3, height = 8, width = 8]"
VECTOR = "f32[4, feature = 8]"


def network(body: str, blocks: str = "", type_: str = VECTOR, **overrides: str) -> Expansion:
    """Expand a network with the input `x` and the output `y`, below some other items."""
    body = indent(dedent(body).strip(), "  ")
    return expansion(f"{dedent(blocks)}\nnetwork net {{\n  input x: {type_}\n{body}\n  output y\n}}\n", **overrides)
