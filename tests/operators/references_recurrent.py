"""Recurrent networks in PyTorch; where the gradient of the state stops, layer by layer in pieces of the sequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tests.operators.case import Reference

Tensors = Mapping[str, Tensor]
Attrs = Mapping[str, Any]
Run = Callable[..., tuple[Tensor, ...]]
"""PyTorch's functions: (x, states, weights, …) -> states of the highest layer, last states."""


def rnn(tensors: Tensors, attrs: Attrs) -> Tensor:
    return recurrent(torch.rnn_tanh if attrs["nonlinearity"] == "tanh" else torch.rnn_relu, 1, tensors, attrs)


def lstm(tensors: Tensors, attrs: Attrs) -> Tensor:
    return recurrent(torch.lstm, 2, tensors, attrs)


def gru(tensors: Tensors, attrs: Attrs) -> Tensor:
    return recurrent(torch.gru, 1, tensors, attrs)


def recurrent(run: Run, kinds: int, tensors: Tensors, attrs: Attrs) -> Tensor:
    """`kinds` of states: of an lstm the cell's too."""
    x, *weights = tensors.values()
    ways = 1 + attrs["bidirectional"]
    if attrs["truncate"]:
        y, last = by_pieces(run, kinds, x, weights, attrs)
    else:
        start = x.new_zeros(attrs["layers"] * ways, len(x), attrs["hidden"])
        sides = (attrs["bias"], attrs["layers"], 0.0, False, attrs["bidirectional"], True)
        y, all_last, *_ = run(x, (start, start) if kinds == 2 else start, weights, *sides)
        last = torch.cat(tuple(all_last[-ways:]), dim=-1)
    return y if attrs["returns"] == "sequence" else last


def by_pieces(run: Run, kinds: int, x: Tensor, weights: Sequence[Tensor], attrs: Attrs) -> tuple[Tensor, Tensor]:
    """One layer and direction at a time; a piece of the sequence begins with the detached state of the one before."""
    each, ways = 2 + 2 * attrs["bias"], 1 + attrs["bidirectional"]
    groups = iter([weights[at : at + each] for at in range(0, len(weights), each)])
    for _ in range(attrs["layers"]):
        sides, lasts = [], []
        for way in range(ways):
            group, states, found = next(groups), [x.new_zeros(1, len(x), attrs["hidden"])] * kinds, []
            for piece in (x.flip(1) if way else x).split(attrs["truncate"], dim=1):
                before = tuple(state.detach() for state in states)
                y, *states = run(
                    piece, before if kinds == 2 else before[0], group, attrs["bias"], 1, 0.0, False, False, True
                )
                found.append(y)
            whole = torch.cat(found, dim=1)
            sides.append(whole.flip(1) if way else whole)
            lasts.append(whole[:, -1])
        x = torch.cat(sides, dim=-1)
    return x, torch.cat(lasts, dim=-1)


REFERENCES: dict[str, Reference] = {"rnn": rnn, "lstm": lstm, "gru": gru}
