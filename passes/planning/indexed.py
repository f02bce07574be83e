"""The iteration spaces of a graph's forward nodes, found once for nodes of one kind."""

from __future__ import annotations

from functools import lru_cache

from dlc.expand.pins import operator_of
from dlc.ir import schema
from dlc.ir.graph import Attrs, Graph, Node
from dlc.ir.tensor import TensorType
from dlc.ops import operator
from dlc.ops.indexing import Indexing, indexing_of

Roles = tuple[tuple[str, TensorType], ...]


def typed_roles(graph: Graph, node: Node) -> Roles:
    """(role, type) of everything around a forward node: operands, weights, statistics, results, saved."""
    found = schema.roles(operator_of(node), node)
    if found is None:
        raise ValueError(f"{node.address} has another number of inputs or outputs than {node.op} declares")
    return tuple((role, graph.type(value)) for role, value in found.items())


def node_indexing(graph: Graph, node: Node) -> Indexing:
    """The iteration space of a forward node; nodes of one operator, attributes and types share it."""
    return _of_kind(node.op, node.attrs, typed_roles(graph, node))


@lru_cache(maxsize=4096)
def _of_kind(op: str, attrs: Attrs, types: Roles) -> Indexing:
    found = operator(op)
    assert found is not None
    return indexing_of(found, dict(types), dict(attrs))
