"""Passes: Graph to Graph, Graph to Plan, and (Graph, Plan) to Program.

The compiler runs PIPELINE in this order, then `planning.plan`, then `lower`; the verifier runs after each of the first.
"""

from __future__ import annotations

from collections.abc import Callable

from dlc.ir.graph import Graph
from passes.add_updates import add_updates
from passes.context import Context
from passes.differentiate import differentiate
from passes.set_initialisation import set_initialisation
from passes.set_precision import set_precision

GraphPass = Callable[[Graph, Context], Graph]

PIPELINE: tuple[GraphPass, ...] = (set_precision, set_initialisation, differentiate, add_updates)
