"""Whole tensors on one rank, out of the parts that the ranks of a stage hold, and back."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
import numpy.typing as npt

from . import device
from .collectives import Array
from .spec import Box, Grid, Shape, Slices, Spec, blocks, extents, view
from .traffic import Traffic


class Wholes:
    """Whole tensors lie in the processor's memory, and so does what is sent of them: both ends of a message lie alike.

    Ranks are those of the job; those of a stage are as many as `grid` has, one stage behind the other.
    """

    def __init__(self, traffic: Traffic, grid: Grid) -> None:
        self.traffic, self.world, self.grid = traffic, traffic.world, grid

    def assemble(
        self, spec: Spec, samples: int, stage: int, own: Array | None, dtype: npt.DTypeLike, root: int = 0
    ) -> Array | None:
        """A tensor of a stage on rank `root` of the job; the stage's ranks and `root` call it, `own` is their part."""
        whole = np.empty(self.grid.whole(spec, samples), dtype) if self.world.rank == root else None
        for rank, places in self._pieces(spec, samples, stage, every=False):
            if self.world.rank == rank and rank != root:
                assert own is not None
                self.traffic.run(self.traffic.sent(device.host(own), root), "a part of a tensor")
            elif whole is not None:
                part = own if rank == root else np.empty(self.grid.shape(spec, rank % self.grid.size, samples), dtype)
                assert part is not None
                if rank != root:
                    self.traffic.run(self.traffic.received(part, rank), "a part of a tensor")
                for here, there in places:
                    device.copy(whole[view(there)], part[view(here)])
        return whole

    def spread(self, spec: Spec, samples: int, stage: int, own: Array | None, whole: Array | None) -> None:
        """The parts of a tensor, which rank 0 of the job has, to all ranks of a stage; these and rank 0 call it."""
        for rank, places in self._pieces(spec, samples, stage, every=True):
            if self.world.rank == rank and rank:
                assert own is not None
                room = device.host(own)
                self.traffic.run(self.traffic.received(room, 0), "a part of a tensor")
                if room is not own:
                    device.copy(own, room)
            elif whole is not None and self.world.rank == 0:
                part = (
                    own if rank == 0 else np.empty(self.grid.shape(spec, rank % self.grid.size, samples), whole.dtype)
                )
                assert part is not None
                for here, there in places:
                    device.copy(part[view(here)], whole[view(there)])
                if rank:
                    self.traffic.run(self.traffic.sent(part, rank), "a part of a tensor")

    def take_part(self, spec: Spec, whole: Array, own: Array) -> None:
        """This rank's part of a whole tensor."""
        box = self.grid.box(spec, self.world.rank % self.grid.size, 0)
        for here, there in blocks(box, _whole(self.grid.whole(spec))):
            device.copy(own[view(here)], whole[view(there)])

    def handed(self, array: Array | None, stage: int) -> Array | None:
        """On rank 0 what number 0 of a stage has, or None where that has nothing."""
        source = stage * self.grid.size
        if source == 0 or self.world.rank not in (0, source):
            return array if self.world.rank == source == 0 else None
        about = np.zeros(10, np.int64)  # how many axes and one; extents; the element type's letter
        if array is not None:
            about[: array.ndim + 2] = [array.ndim + 1, *array.shape, ord(array.dtype.char)]
        if self.world.rank == source:
            self.traffic.run(self.traffic.sent(about, 0), "what there is")
            if array is not None:
                self.traffic.run(self.traffic.sent(array, 0), "rows")
            return None
        self.traffic.run(self.traffic.received(about, source), "what there is")
        if not about[0]:
            return None
        found = np.empty(tuple(about[1 : about[0]].tolist()), chr(about[about[0]]))
        self.traffic.run(self.traffic.received(found, source), "rows")
        return found

    def _pieces(
        self, spec: Spec, samples: int, stage: int, every: bool
    ) -> Iterator[tuple[int, list[tuple[Slices, Slices]]]]:
        """(rank of the job, where its part lies in its array and in the whole), of those that have one.

        Of ranks with the same part the first alone, unless it is to be `every` one.
        """
        whole = _whole(self.grid.whole(spec, samples))
        seen = set[Box]()
        for rank in range(self.grid.size):
            box = self.grid.box(spec, rank, samples)
            if prod(extents(box)) and (every or box not in seen):
                seen.add(box)
                yield stage * self.grid.size + rank, list(blocks(box, whole))


def _whole(shape: Shape) -> Box:
    return tuple(((0, extent),) if extent else () for extent in shape)
