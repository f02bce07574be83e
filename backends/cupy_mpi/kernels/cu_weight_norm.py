"""Launches of weight normalisation: a block a row of the weight."""

from __future__ import annotations

from math import prod

from .launch import THREADS, Array, Steps, rows


def weight_norm_forward(direction: Array, *others: Array, **_: object) -> Steps:
    """direction, magnitude, y."""
    return _rows(direction, direction, *others)


def weight_norm_dw(dy: Array, direction: Array, *others: Array, **_: object) -> Steps:
    """dy, direction, magnitude, ddirection, dmagnitude."""
    return _rows(direction, dy, direction, *others)


def _rows(direction: Array, *arrays: Array) -> Steps:
    width = prod(direction.shape[1:])
    return rows(direction.shape[0], *arrays, width, threads=min(THREADS, max(32, -(-width // 128) * 32)))
