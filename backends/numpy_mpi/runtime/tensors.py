"""The tensors that a program keeps, by their names in the network, whole on rank 0 and in parts on all ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .arrays import found
from .collectives import Array
from .place import Place
from .spec import Box, Shape, Spec, spec_of
from .tables import Array as Row
from .tables import Bucket, Init, Member, Part, Table, Tables, View


class Held(NamedTuple):
    """Where a tensor is: the stages that have it, each with its spec and, on this stage, the array."""

    stages: tuple[tuple[int, Spec], ...]
    own: Array | None
    dtype: np.dtype[Any]


class Tensors:
    """Weights, statistics, states and summed gradients of all stages, in the order of the stages' tables.

    A gradient is called `NAME@grad`. A tensor that several stages have is the same on each. All ranks of the job must
    call the same methods in the same order.
    """

    def __init__(
        self,
        place: Place,
        stages: Sequence[Tables],
        w: SimpleNamespace,
        s: SimpleNamespace,
        g: SimpleNamespace,
        dtype: npt.DTypeLike,
    ) -> None:
        self.place = place
        self.w, self.s, self.g = w, s, g
        arrays = {"w": w, "s": s, "g": g}
        self._dtype = np.dtype(dtype)
        self._held: dict[str, Held] = {}
        self._initial = {name: init for stage in stages for name, init in stage.initial.items()}
        for name in dict.fromkeys(name for stage in stages for name in stage.tensors):
            self._held[name] = self._find(name, stages, arrays)

    def names(self, gradients: bool = False) -> list[str]:
        """All that is kept from step to step; or the gradients."""
        return [name for name in self._held if name.endswith("@grad") == gradients]

    def shape(self, name: str) -> Shape:
        """The shape of the whole."""
        return self.place.grid.whole(self._held[name].stages[0][1])

    def dtype(self, name: str) -> np.dtype[Any]:
        """The element type."""
        return self._held[name].dtype

    def own(self, name: str) -> Array | None:
        """This rank's part; None where its stage has none."""
        return self._held[name].own

    def part(self, name: str) -> Box:
        """The indices that this rank holds of a tensor, none of one that its stage does not have."""
        specs = [spec for stage, spec in self._held[name].stages if stage == self.place.stage]
        return self.place.grid.box(specs[0], self.place.number, 0) if specs else ()

    def gather(self, name: str) -> Array | None:
        """The whole on rank 0, None on the others."""
        held, place = self._held[name], self.place
        place.settle()
        stage, spec = held.stages[0]
        if place.stage != stage and place.world.rank:
            return None
        return place.wholes.assemble(spec, 0, stage, held.own if place.stage == stage else None, held.dtype)

    def scatter(self, name: str, whole: Array | None) -> None:
        """The parts of what rank 0 has to all ranks that hold one; it is cast to the tensor's element type."""
        held, place = self._held[name], self.place
        cast = None if whole is None else np.asarray(whole, held.dtype).reshape(self.shape(name))
        for stage, spec in held.stages:
            if place.stage == stage or place.world.rank == 0:
                place.wholes.spread(spec, 0, stage, held.own if place.stage == stage else None, cast)

    def gathered(self, names: Sequence[str]) -> Iterator[tuple[str, Array | None]]:
        """One whole after the other."""
        for name in names:
            yield name, self.gather(name)

    def fill(self, name: str, value: float) -> None:
        """One value everywhere."""
        own = self._held[name].own
        if own is not None:
            own.fill(value)

    def initial(self) -> Iterator[tuple[str, Init]]:
        """How each tensor starts that the tables say it of: a number, or what `initialise` is told.

        Those that are made of others come last. Where only a kind is told, an output has as many connections as all
        axes but the first have elements.
        """
        made = [name for name, init in self._initial.items() if isinstance(init, dict) and "of" in init]
        for name in (*(name for name in self._initial if name not in made), *made):
            init = self._initial[name]
            yield name, {"kind": init, "fan_in": prod(self.shape(name)[1:])} if isinstance(init, str) else init

    def start(self, initialise: Callable[..., None], key: Callable[[int, str], tuple[int, int]], seed: int) -> None:
        """Weights as training starts with them: they depend on the seed and their names alone."""
        for name, init in self.initial():
            if isinstance(init, Mapping):
                self.draw(name, initialise, key=key(seed, name), **init)
            elif isinstance(init, int | float):
                self.fill(name, init)

    def draw(self, name: str, initialise: Callable[..., None], *, of: str = "", **keywords: Any) -> None:
        """What `initialise` writes into a whole array, whatever the parts: each rank that has one draws it itself.

        `of` names a tensor whose whole it takes, too.
        """
        held, place = self._held[name], self.place
        if of:
            self._draw_of(name, initialise, of, keywords)
        elif held.own is not None:
            whole = np.empty(self.shape(name), held.dtype)
            initialise(whole, **keywords)
            spec = next(spec for stage, spec in held.stages if stage == place.stage)
            place.wholes.take_part(spec, whole, held.own)

    def _draw_of(self, name: str, initialise: Callable[..., None], of: str, keywords: Mapping[str, Any]) -> None:
        """On rank 0, which then gives the others their parts."""
        given = self.gather(of)
        whole = None
        if given is not None:
            whole = np.empty(self.shape(name), self._held[name].dtype)
            initialise(whole, of=given, **keywords)
        self.scatter(name, whole)

    def _find(self, name: str, stages: Sequence[Tables], arrays: Mapping[str, SimpleNamespace]) -> Held:
        specs: list[tuple[int, Spec]] = []
        own, dtype = None, self._dtype
        for number, stage in enumerate(stages):
            if name in stage.tensors:
                space, _, array = stage.tensors[name].partition(".")
                table = {"w": stage.weights, "s": stage.states, "g": stage.gradients}[space]
                specs.append((number, _spec(table, array)))
                dtype = _dtype(table, array, self._dtype)
                if number == self.place.stage:
                    own = found(arrays[space], array)
        return Held(tuple(specs), own, dtype)


def _spec(table: Table, name: str) -> Spec:
    row = table[name]
    if not isinstance(row, Row | View | Part | Member):
        raise TypeError(f"`{name}` is no tensor")
    return spec_of(row.shape)


def _dtype(table: Table, name: str, default: np.dtype[Any]) -> np.dtype[Any]:
    """The element type of an array of a table: its own, or that of what it lies in."""
    row = table.get(name)
    if isinstance(row, Part | Member) or (isinstance(row, View) and row.dtype is None):
        return _dtype(table, row.of, default)
    return np.dtype(row.dtype) if isinstance(row, Row | View | Bucket) and row.dtype is not None else default
