"""Element types by `precision`: every floating-point value gets the type that the run computes in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dlc.ir.graph import Graph, Value
from dlc.ir.tensor import NARROW
from passes.context import Context

NORMS = ("bn", "layernorm", "rmsnorm", "groupnorm")
"""Operators whose by-products are means and deviations."""


def set_precision(graph: Graph, context: Context) -> Graph:
    """`c1.conv: f32[…]` becomes `c1.conv: f64[…]` under `precision = f64`; labels and masks keep their types.

    In half precision what is summed over many values stays in f32: losses, metrics, and what norms make of samples; so
    do weights that are not trained, which have no masters.
    """
    kept = _sums(graph) if context.compute in NARROW else frozenset()
    return graph.with_(
        values=tuple(value if value.name in kept else _converted(value, context.compute) for value in graph.values)
    )


def _sums(graph: Graph) -> frozenset[str]:
    """The values that stay in f32 where the rest is half as wide."""
    scalars = (value.name for value in graph.values if not value.type.axes)
    saved = (name for node in graph.nodes if node.op in NORMS for name in node.outputs[1:])
    kept = (value.name for value in graph.of_kind("statistic"))
    return frozenset((*scalars, *saved, *kept, *_untrained(graph)))


def _untrained(graph: Graph) -> Iterator[str]:
    """The weights that the loss does not depend on."""
    leading = {graph.loss}
    for node in reversed(graph.nodes):
        if leading.intersection(node.outputs):
            leading.update(node.inputs)
    return (weight.name for weight in graph.of_kind("weight") if weight.name not in leading)


def _converted(value: Value, dtype: str) -> Value:
    return replace(value, type=value.type.with_dtype(dtype)) if value.type.dtype == "f32" != dtype else value
