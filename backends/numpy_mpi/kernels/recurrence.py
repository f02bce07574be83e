"""Recurrent networks: what is one product for the whole sequence, around the cells that walk along it.

Everything is time-major within: arrays [seq, batch, …], and with a gate in front [gate, seq, batch, hidden], so that at
each element the numbers of a gate lie together. The product with the state is one for each gate, with the weight
transposed beforehand: in OpenBLAS up to a third faster than one product of all gates with the weight as it lies. The
projections of the input and the gradients of the weights are products over all elements at once.

The history [batch, numbers] gives room for each sample; the forward pass lays out in it, layer by layer, the gates and
kept numbers of each direction and the states of the layer, and only the backward pass reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from .layout import Array


@dataclass(frozen=True, slots=True)
class Track:
    """What the history holds of one direction: gates and kept numbers [number, seq, batch, hidden], states."""

    gates: Array
    kept: Array
    states: Array


class Walk(Protocol):
    """Along the sequence: makes gates, kept numbers and states of the projections of the input, which `gates` holds.

    The track is in the order of reading; the state starts at zero. `weight` [gate, state, hidden] is laid out for
    products with the state; `biases` are those of input and state [gate, hidden].
    """

    def __call__(self, track: Track, weight: Array, biases: Sequence[Array]) -> None:
        """From the first element that is read to the last."""


class WalkBack(Protocol):
    """Back along the sequence: the gradients of the projections of input and state, `dinputs` and `dproducts`.

    They are one array for cells that add the projections. `weight` is [gate, hidden, state]; `dstates` holds the
    gradients that reach each state from above, and is spoilt. No gradient passes from an element whose number is a
    multiple of `truncate` to the one before.
    """

    def __call__(
        self, track: Track, weight: Array, dstates: Array, dinputs: Array, dproducts: Array, truncate: int
    ) -> None:
        """From the last element to the first."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What is computed at one element; `adds` whether the projections of input and state are added to each other."""

    gates: int
    walk: Walk
    walk_back: WalkBack
    adds: bool = True


@dataclass(frozen=True, slots=True)
class Way:
    """One direction of a layer: weights and biases by gate, and its track in the order of the sequence."""

    backwards: bool
    weight_ih: Array
    weight_hh: Array
    biases: tuple[Array, ...]
    track: Track

    def read(self, array: Array) -> Array:
        """A view of an array [..., seq, batch, hidden] in the order in which this direction reads."""
        return array[..., ::-1, :, :] if self.backwards else array

    def reading(self) -> Track:
        """The track in that order."""
        return Track(self.read(self.track.gates), self.read(self.track.kept), self.read(self.track.states))

    def columns(self, array: Array) -> Array:
        """The part of an array [..., directions·hidden] that belongs to this direction."""
        hidden = self.weight_hh.shape[-1]
        return array[..., hidden:] if self.backwards else array[..., :hidden]


@dataclass(frozen=True, slots=True)
class Layer:
    """The directions of a layer and its states [seq, batch, directions·hidden]."""

    ways: tuple[Way, ...]
    states: Array


def forward(
    cell: Cell,
    *arrays: Array,
    layers: int,
    bidirectional: bool,
    bias: bool,
    returns: Literal["sequence", "last"],
    **_: object,
) -> None:
    """x [batch, seq, width], weights -> y, history."""
    x, *weights, y, history = arrays
    below = time_major(x)
    for layer in stack(cell, weights, history, x.shape[1], layers, bidirectional, bias):
        for way in layer.ways:
            np.matmul(rows(below), way.weight_ih.swapaxes(1, 2), out=rows(way.track.gates))
            cell.walk(way.reading(), np.ascontiguousarray(way.weight_hh.swapaxes(1, 2)), way.biases or zeros(way))
            if returns == "last":
                np.copyto(way.columns(y), way.reading().states[-1])
        below = layer.states
    if returns == "sequence":
        np.copyto(y, below.swapaxes(0, 1))


def backward(
    cell: Cell,
    *arrays: Array,
    layers: int,
    bidirectional: bool,
    bias: bool,
    returns: Literal["sequence", "last"],
    truncate: int,
    **_: object,
) -> None:
    """dy, x, weights, history -> dx and the gradients of the weights."""
    count = layers * (1 + bidirectional) * (2 + 2 * bias)
    dy, x, *weights = arrays[: 2 + count]
    history, dx, *gradients = arrays[2 + count :]
    made = stack(cell, weights, history, x.shape[1], layers, bidirectional, bias)
    asked = stack(cell, gradients, history, x.shape[1], layers, bidirectional, bias)
    belows = (time_major(x), *(layer.states for layer in made))
    dstates = arriving(dy, made[-1], returns)
    for layer, into, below in zip(reversed(made), reversed(asked), belows[-2::-1], strict=True):
        dstates = layer_back(cell, layer, into, below, dstates, truncate)
    np.copyto(dx, dstates.swapaxes(0, 1))


def layer_back(cell: Cell, layer: Layer, into: Layer, below: Array, dstates: Array, truncate: int) -> Array:
    """The gradient of what a layer reads; `into` has those of the weights in the weights' places, and fills them."""
    dbelow = np.zeros_like(below)
    dinputs = np.empty_like(layer.ways[0].track.gates)
    dproducts = dinputs if cell.adds else np.empty_like(dinputs)
    for way, gradient in zip(layer.ways, into.ways, strict=True):
        given, inputs, products = (way.read(array) for array in (way.columns(dstates), dinputs, dproducts))
        cell.walk_back(way.reading(), way.weight_hh, given, inputs, products, truncate)
        np.matmul(rows(dinputs).swapaxes(1, 2), rows(below), out=gradient.weight_ih)
        later, earlier = (np.s_[:-1], np.s_[1:]) if way.backwards else (np.s_[1:], np.s_[:-1])
        before = rows(way.track.states[earlier])
        np.matmul(rows(dproducts[:, later]).swapaxes(1, 2), before, out=gradient.weight_hh)
        for total, part in zip(gradient.biases, (dinputs, dproducts), strict=False):
            np.add.reduce(part, axis=(1, 2), out=total)
        for part, weight in zip(rows(dinputs), way.weight_ih, strict=True):
            np.add(rows(dbelow), part @ weight, out=rows(dbelow))
    return dbelow


def arriving(dy: Array, top: Layer, returns: str) -> Array:
    """The gradients that reach the states of the highest layer, time-major, a new array."""
    if returns == "sequence":
        return np.array(dy.swapaxes(0, 1), order="C")
    dstates = np.zeros_like(top.states)
    for way in top.ways:
        np.copyto(way.read(way.columns(dstates))[-1], way.columns(dy))
    return dstates


def stack(
    cell: Cell, weights: Sequence[Array], history: Array, seq: int, layers: int, bidirectional: bool, bias: bool
) -> tuple[Layer, ...]:
    """The layers, as views of weights (or of their gradients) and of the history."""
    batch, hidden, each, ways = len(history), weights[1].shape[1], 2 + 2 * bias, 1 + bidirectional
    groups = iter(by_gate(weights[at : at + each], cell.gates) for at in range(0, len(weights), each))
    slots = history.shape[1] // (layers * ways * seq * hidden) - 1  # of the type: a rank may have no sample at all
    rooms = history.reshape(layers, -1)
    return (*[_layer(cell, groups, room, (slots, seq, batch, hidden), ways) for room in rooms],)


def _layer(
    cell: Cell, weights: Iterator[tuple[Array, ...]], room: Array, extents: tuple[int, int, int, int], ways: int
) -> Layer:
    """A layer whose numbers lie in `room`: gates and kept numbers of each direction, then the states side by side."""
    _, seq, batch, hidden = extents
    slots, states = np.split(room, [room.size - ways * seq * batch * hidden])
    slots, states = slots.reshape(ways, *extents), states.reshape(seq, batch, ways * hidden)
    sides = np.split(states, ways, axis=-1)
    made = list[Way]()
    for backwards, (slot, side) in enumerate(zip(slots, sides, strict=True)):
        weight_ih, weight_hh, *biases = next(weights)
        track = Track(slot[: cell.gates], slot[cell.gates :], side)
        made.append(Way(bool(backwards), weight_ih, weight_hh, tuple(biases), track))
    return Layer(tuple(made), states)


def by_gate(arrays: Sequence[Array], gates: int) -> tuple[Array, ...]:
    """Views [gate, hidden, …] of weights and biases [gate·hidden, …]."""
    return (*[array.reshape(gates, -1, *array.shape[1:]) for array in arrays],)


def zeros(way: Way) -> tuple[Array, Array]:
    """The biases of a cell that has none."""
    nothing = np.zeros(way.weight_hh.shape[:2], way.weight_hh.dtype)
    return nothing, nothing


def rows(array: Array) -> Array:
    """A view [..., seq·batch, features] of an array [..., seq, batch, features]."""
    *leading, seq, batch, features = array.shape
    return array.reshape(*leading, seq * batch, features)


def time_major(x: Array) -> Array:
    """x [batch, seq, width] as [seq, batch, width], without gaps."""
    return np.ascontiguousarray(x.swapaxes(0, 1))


def previous(dstates: Array, products: Array, t: int) -> None:
    """Add the gradients that come from element t to those of the state before it: the sum of products over gates."""
    np.add(dstates[t - 1], np.add.reduce(products, axis=0), out=dstates[t - 1])


def stops(t: int, truncate: int) -> bool:
    """Whether no gradient passes from element t to the one before."""
    return t == 0 or (truncate > 0 and t % truncate == 0)
