"""Plans of networks under what tests ask for."""

from __future__ import annotations

from math import inf

from dlc.diagnostics import Span
from dlc.ir.graph import Graph
from dlc.ir.plan import Plan
from passes.context import Context
from passes.planning.plan import Planned
from passes.planning.plan import plan as search_plan
from passes.planning.search import Effort

PLACE = Span("net.dlspec", 41, 3, 41, 9)
ROOMY = {"memory": 2**32}


def searched(graph: Graph, asked: Context) -> Planned:
    return search_plan(graph, asked, asked.memory.bytes or inf, Effort())


def planned(graph: Graph, asked: Context) -> Plan:
    return searched(graph, asked).plan
