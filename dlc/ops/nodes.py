"""The iteration spaces of a graph's forward nodes, found once for nodes of one kind."""

from __future__ import annotations

from functools import lru_cache

from dlc.ir import schema
from dlc.ir.graph import Attrs, Graph, Node
from dlc.ir.tensor import TensorType
from dlc.ops import operator
from dlc.ops.indexing import Indexing, indexing_of

Roles = tuple[tuple[str, TensorType], ...]


def typed_roles(graph: Graph, node: Node) -> Roles:
    """(role, type) of everything around a forward node: operands, weights, statistics, results, saved.

    ValueError for a node whose operator is unknown, or declares other inputs and outputs.
    """
    op = operator(node.op)
    found = None if op is None else schema.roles(op, node)
    if found is None:
        raise ValueError(f"{node.address} is no node of the operator {node.op}")
    return tuple((role, graph.type(value)) for role, value in found.items())


def node_indexing(graph: Graph, node: Node) -> Indexing:
    """The iteration space of a forward node; nodes of one operator, attributes and types share it."""
    return _of_kind(node.op, node.attrs, typed_roles(graph, node))


@lru_cache(maxsize=4096)
def _of_kind(op: str, attrs: Attrs, types: Roles) -> Indexing:
    found = operator(op)
    assert found is not None
    return indexing_of(found, dict(types), dict(attrs))
