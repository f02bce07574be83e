"""Steps of recurrent networks: a product for the whole sequence, then for each element a product and all gates at once.

Everything is time-major within, as in NumPy's kernels; the gates of a projection lie side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from .cu_sums import columns_of_blocks, parts_of_rows
from .launch import (
    BLOCKS,
    MOST_COUNTED,
    THREADS,
    Array,
    Launch,
    Matrices,
    Product,
    Room,
    Step,
    Steps,
    each,
    reciprocal,
    rows,
)


class Cell(NamedTuple):
    """A cell: its kernels, how many gates it has, whether it adds the projections of input and state to each other."""

    forward: str
    back: str
    gates: int
    adds: bool = True
    before_is_state: bool = False  # what a cell reads of the element before: its state, or what it kept


class Sizes(NamedTuple):
    """Extents of a call."""

    batch: int
    seq: int
    hidden: int
    gates: int
    ways: int

    @property
    def items(self) -> int:
        """Samples by elements."""
        return self.seq * self.batch

    @property
    def wide(self) -> int:
        """Numbers of a projection."""
        return self.gates * self.hidden

    @property
    def numbers(self) -> tuple[int, ...]:
        """What cells are told: size, hidden and its reciprocal, how far gates and rows of states are apart."""
        size = self.batch * self.hidden
        return size, self.hidden, reciprocal(self.hidden), self.items * self.hidden, self.ways * self.hidden


class Way(NamedTuple):
    """One direction of a layer: its weights (or their gradients) and its part of the history, flat."""

    backwards: bool
    weights: tuple[Array, ...]  # of input and state, and the biases of both where there are any
    gates: Array
    kept: Array
    states: Array  # of all directions, [seq, batch, ways·hidden]

    @property
    def biases(self) -> tuple[Array | None, ...]:
        """Of input and state."""
        return self.weights[2:] or (None, None)

    def order(self, seq: int) -> list[int]:
        """The elements as this direction reads them."""
        return list(range(seq))[:: -1 if self.backwards else 1]

    def columns(self, sizes: Sizes) -> slice:
        """This direction's part of a state."""
        return slice(self.backwards * sizes.hidden, (self.backwards + 1) * sizes.hidden)

    def state(self, element: int, sizes: Sizes) -> Array:
        """[batch, hidden] at an element."""
        return self.states[element][:, self.columns(sizes)]


def forward(
    cell: Cell, *arrays: Array, layers: int, bidirectional: bool, bias: bool, returns: str, **_: object
) -> Steps | None:
    """x [batch, seq, width], weights -> y, history."""
    x, *weights, y, history = arrays
    sizes = _sizes(cell, x, weights, bidirectional)
    if max(x.size, history.size, sizes.items * sizes.wide) >= MOST_COUNTED:
        return None
    room, product = Room(sizes.items * sizes.wide), Room(sizes.batch * sizes.wide)
    below: Array | Matrices = Matrices(Room(x.size), (sizes.items, x.shape[2]))
    steps = _turned(x, None, below.room, sizes.seq, sizes.batch, x.shape[2])
    states: Any = None
    for layer in _stack(weights, history, sizes, layers, bias):
        for way in layer:
            steps += (Product(below, way.weights[0].T, Matrices(room, (sizes.items, sizes.wide))),)
            steps += tuple(_walk(cell, way, sizes, room, product))
            if returns == "last":
                steps += _last(way, sizes, y)
        states = layer[0].states
        below = states.reshape(sizes.items, sizes.ways * sizes.hidden)
    if returns == "sequence":
        steps += _turned(states, None, y, sizes.batch, sizes.seq, sizes.ways * sizes.hidden)
    return steps


def backward(
    cell: Cell, *arrays: Array, layers: int, bidirectional: bool, bias: bool, returns: str, truncate: int, **_: object
) -> Steps | None:
    """dy, x, weights, history -> dx and the gradients of the weights."""
    count = layers * (1 + bidirectional) * (2 + 2 * bias)
    dy, x, *weights = arrays[: 2 + count]
    history, dx, *gradients = arrays[2 + count :]
    sizes, width = _sizes(cell, x, weights, bidirectional), x.shape[2]
    if max(x.size, history.size, sizes.items * sizes.wide) >= MOST_COUNTED:
        return None
    made, asked = _stack(weights, history, sizes, layers, bias), _stack(gradients, history, sizes, layers, bias)
    first = Matrices(Room(x.size), (sizes.items, width))
    across = (sizes.items, sizes.ways * sizes.hidden)
    belows = (first, *(layer[0].states.reshape(across) for layer in made[:-1]))
    above = _Above((dy, None), across[1], returns)
    steps = _turned(x, None, first.room, sizes.seq, sizes.batch, width)
    back = _Back(cell, sizes, truncate)
    for layer, into, below in zip(reversed(made), reversed(asked), belows[::-1], strict=True):
        found = list[Room]()
        for way, gradient in zip(layer, into, strict=True):
            reached = Room(sizes.items * way.weights[0].shape[1])
            steps += tuple(back.walk(way, above))
            steps += back.gradients(way, gradient, below, reached)
            found.append(reached)
        above = _Above((found[0], found[1] if len(found) > 1 else None), across[1], "")
    return (*steps, *_turned(*above.arrays, dx, sizes.batch, sizes.seq, width))


class _Above(NamedTuple):
    """Where the gradients of states come from: dy, or rooms [seq, batch, width] of the layer above."""

    arrays: tuple[Any, Any]
    width: int
    returns: str  # "sequence" or "last" of dy

    def at(self, way: Way, element: int, sizes: Sizes) -> tuple[Any, ...]:
        """What a cell is told of it: both arrays, where rows begin, how far they are apart."""
        column = way.backwards * sizes.hidden
        if self.returns == "sequence":
            return *self.arrays, element * self.width + column, sizes.seq * self.width
        if self.returns == "last":
            given = self.arrays if element == way.order(sizes.seq)[-1] else (None, None)
            return *given, column, self.width
        return *self.arrays, element * sizes.batch * self.width + column, self.width


class _Back:
    """The backward pass of layers, with what they work in."""

    def __init__(self, cell: Cell, sizes: Sizes, truncate: int) -> None:
        self._cell, self._sizes, self._truncate = cell, sizes, truncate
        self._dinputs = Room(sizes.items * sizes.wide)
        self._dproducts = self._dinputs if cell.adds else Room(sizes.items * sizes.wide)
        self._carry, self._product = Room(sizes.batch * sizes.hidden), Room(sizes.batch * sizes.hidden)

    def walk(self, way: Way, above: _Above) -> Iterator[Step]:
        """From the last element that is read to the first."""
        sizes, order, passes = self._sizes, way.order(self._sizes.seq), False
        for number in reversed(range(sizes.seq)):
            element = order[number]
            yield from _launched(
                sizes,
                self._cell.back,
                *above.at(way, element, sizes),
                self._product if passes else None,
                *_history(self._cell, way, sizes, element, order[number - 1] if number else None),
                _from(way.state(element, sizes)),
                self._carry,
                self._dinputs,
                self._dproducts,
                element * sizes.batch * sizes.wide,
                *sizes.numbers,
                int(passes),
            )
            passes = number > 0 and not (self._truncate > 0 and number % self._truncate == 0)
            if passes:
                left = Matrices(self._dproducts, (sizes.batch, sizes.wide), element * sizes.batch * sizes.wide)
                yield Product(left, way.weights[1], Matrices(self._product, (sizes.batch, sizes.hidden)))

    def gradients(self, way: Way, gradient: Way, below: Array | Matrices, reached: Room) -> Steps:
        """Of the weights, and of what the layer reads."""
        sizes = self._sizes
        later, earlier = (sizes.seq - 1) * sizes.batch, 0 if way.backwards else sizes.batch
        states = way.states.reshape(sizes.items, sizes.ways * sizes.hidden)
        before = states[sizes.batch :] if way.backwards else states[:later]
        whole = (sizes.items, sizes.wide)
        products = Matrices(self._dproducts, (later, sizes.wide), earlier * sizes.wide, turned=True)
        steps: Steps = (
            Product(Matrices(self._dinputs, whole, turned=True), below, gradient.weights[0]),
            Product(products, before[:, way.columns(sizes)], gradient.weights[1]),
            Product(
                Matrices(self._dinputs, whole),
                way.weights[0],
                Matrices(reached, (sizes.items, way.weights[0].shape[1])),
            ),
        )
        return (*steps, *self._biases(gradient)) if gradient.weights[2:] else steps

    def _biases(self, gradient: Way) -> Steps:
        sizes = self._sizes
        parts = parts_of_rows(sizes.wide, sizes.items)
        room, blocks = Room(2 * parts * sizes.wide), (columns_of_blocks(sizes.wide), parts)
        return (
            Launch((self._dinputs, self._dproducts, room, sizes.items, sizes.wide), blocks, kernel="lstm_dx_bias"),
            *rows(sizes.wide, room, *gradient.biases, parts, kernel="lstm_dx_bias_finish", threads=32),
        )


def _walk(cell: Cell, way: Way, sizes: Sizes, room: Room, product: Room) -> Iterator[Step]:
    """Along the sequence."""
    earlier: int | None = None
    for element in way.order(sizes.seq):
        if earlier is not None:
            out = Matrices(product, (sizes.batch, sizes.wide))
            yield Product(way.state(earlier, sizes), way.weights[1].T, out)
        gates, kept, before = _history(cell, way, sizes, element, earlier)
        projections = (room, element * sizes.batch * sizes.wide, None if earlier is None else product)
        written = (before, gates, kept, _from(way.state(element, sizes)))
        yield from _launched(sizes, cell.forward, *projections, *way.biases, *written, *sizes.numbers)
        earlier = element


def _history(cell: Cell, way: Way, sizes: Sizes, element: int, earlier: int | None) -> tuple[Array | None, ...]:
    """(gates, kept numbers, what is read of the element before) from where they begin."""
    size = sizes.batch * sizes.hidden
    kept = way.kept[element * size :] if way.kept.size else None
    before = None
    if earlier is not None:
        before = _from(way.state(earlier, sizes)) if cell.before_is_state else way.kept[earlier * size :]
    return way.gates[element * size :], kept, before


def _from(state: Array) -> Array | None:
    """A view, from its first element on."""
    return state if state.size else None


def _launched(sizes: Sizes, kernel: str, *arguments: Any) -> Steps:
    """A thread for each hidden number of each sample."""
    size = sizes.batch * sizes.hidden
    return (Launch(arguments, (min(-(-size // THREADS), BLOCKS),), kernel=kernel),) if size else ()


def _last(way: Way, sizes: Sizes, y: Array) -> Steps:
    """y's part of a direction."""
    states = way.state(way.order(sizes.seq)[-1], sizes)
    numbers = (sizes.hidden, reciprocal(sizes.hidden), sizes.ways * sizes.hidden)
    part = y[:, way.columns(sizes)]
    return each(sizes.batch * sizes.hidden, states, part, numbers=numbers, kernel="lstm_forward_last")


def _turned(x: Any, also: Any, y: Any, outer: int, inner: int, width: int) -> Steps:
    """y [outer, inner, width] of x [inner, outer, width]."""
    numbers = (outer, inner, width, reciprocal(inner), reciprocal(width))
    return each(outer * inner * width, x, also, y, numbers=numbers, kernel="lstm_forward_turned")


def _sizes(cell: Cell, x: Array, weights: list[Array], bidirectional: bool) -> Sizes:
    return Sizes(x.shape[0], x.shape[1], weights[1].shape[1], cell.gates, 1 + bidirectional)


def _stack(weights: list[Array], history: Array, sizes: Sizes, layers: int, bias: bool) -> list[tuple[Way, ...]]:
    """The layers, as views of weights (or of their gradients) and of the history."""
    each_way, ways, one = 2 + 2 * bias, sizes.ways, sizes.items * sizes.hidden
    slots = history.shape[1] // (layers * ways * sizes.seq * sizes.hidden) - 1
    flat, found = history.reshape(-1), list[tuple[Way, ...]]()
    for layer in range(layers):
        room = flat[layer * ways * (slots + 1) * one : (layer + 1) * ways * (slots + 1) * one]
        states = room[ways * slots * one :].reshape(sizes.seq, sizes.batch, ways * sizes.hidden)
        made = list[Way]()
        for way in range(ways):
            at = (layer * ways + way) * each_way
            slot = room[way * slots * one : (way + 1) * slots * one]
            given = tuple(weights[at : at + each_way])
            made.append(Way(bool(way), given, slot[: sizes.gates * one], slot[sizes.gates * one :], states))
        found.append(tuple(made))
    return found
