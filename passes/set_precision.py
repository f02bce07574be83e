"""Element types by `precision`: every floating-point value gets the type that the run computes in."""

from __future__ import annotations

from dataclasses import replace

from dlc.ir.graph import Graph, Value
from passes.context import Context


def set_precision(graph: Graph, context: Context) -> Graph:
    """`c1.conv: f32[…]` becomes `c1.conv: f64[…]` under `precision = f64`; labels and masks keep their types."""
    return graph.with_(values=tuple(_converted(value, context.compute) for value in graph.values))


def _converted(value: Value, dtype: str) -> Value:
    return replace(value, type=value.type.with_dtype(dtype)) if value.type.dtype == "f32" != dtype else value
