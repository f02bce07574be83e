"""Recurrent networks in C: what their functions are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .c_room import ROOM, TILE, table
from .layout import Array
from .native import Numbers


def forward(gates: int, arrays: Sequence[Array], **attrs: Any) -> Numbers | None:
    """x, weights, y, history."""
    return _numbers(gates, arrays[0], arrays[2], arrays, False, **attrs)


def backward(gates: int, arrays: Sequence[Array], **attrs: Any) -> Numbers | None:
    """dy, x, weights, history, dx, gradients of the weights."""
    return _numbers(gates, arrays[1], arrays[3], arrays, True, **attrs)


def _numbers(
    gates: int,
    x: Array,
    weight_hh: Array,
    arrays: Sequence[Array],
    back: bool,
    *,
    layers: int,
    bidirectional: bool,
    bias: bool,
    returns: str,
    truncate: int = 0,
    nonlinearity: str = "tanh",
    **_: object,
) -> Numbers | None:
    (batch, seq, width), hidden, ways = x.shape, weight_hh.shape[1], 1 + bidirectional
    items, padded = seq * batch, hidden + TILE
    scratch = items * width + hidden * (1 + gates) + gates * padded * hidden + ROOM
    scratch += (batch + TILE) * ((gates if back else 1) * hidden + TILE)
    if back:
        scratch += 2 * items * max(width, ways * hidden) + (gates + 1) * items * hidden + batch * hidden
    told = (batch, seq, width, hidden, layers, ways, int(bias), int(returns == "last"), truncate)
    return Numbers((table(arrays), *told, int(nonlinearity == "relu")), scratch, arrays=0)
