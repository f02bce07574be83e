"""Where a rank of a program on a mesh stands, and what it says to the others along the mesh's axes.

The ranks are a mesh in the order of its axes, those of the last axis next to each other. Those with the same place
along `pipeline`, which is the first axis if there is one, are a stage. Arrays are recognised: what `Arrays` makes of a
table, the place knows by its spec, and so which part of a tensor each rank of a group has of it.

What is begun goes on whenever the program calls into the place, whatever for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import device
from .by_rows import Rows, rows_of
from .collectives import Array, Steps, broadcast
from .data import Loader
from .exchange import Exchange, Known, Pool, planned
from .groups import PIPELINE, Groups, axes_of
from .registry import Arrays, Registry, several
from .spec import Grid, Spec, extents, unclipped
from .sums import Sums
from .traffic import Running, Traffic
from .wholes import Wholes
from .world import World


@dataclass(frozen=True, slots=True)
class At:
    """Where a step is: `count` samples in the whole batch, `samples` in this microbatch, whose first is `first`.

    With several batches behind an update all their samples count, one batch behind the other; `microbatch` is the
    number in its own batch.
    """

    place: Place
    loader: Loader | None
    indices: Array
    count: int
    samples: int
    first: int
    microbatch: int
    step: int
    lr: float

    @property
    def updates(self) -> int:
        """How many updates there were: one a step, but for those that were skipped."""
        return self.step - self.place.skipped

    @property
    def end(self) -> int:
        """How many samples there are up to the end of this microbatch's own batch."""
        size = self.place.batch_size
        return min(self.count, (self.first // size + 1) * size)

    def groups(self, size: int) -> int:
        """How many groups of so many samples there are in all batches, each of which may end in a smaller one."""
        whole, rest = divmod(self.count, self.place.batch_size)
        return whole * -(-self.place.batch_size // size) - (-rest // size)

    def position(self, over: str = "") -> int:
        """The number in the batch of this rank's first sample, where samples are split over these mesh axes."""
        return self.first + self.place.grid.samples(axes_of(over), self.place.number, self.samples)[0]

    def batch(self, over: str = "") -> dict[str, int]:
        """`count`, `position` and `first`, as kernels that work on groups of samples are told them.

        Their count ends with this microbatch's own batch, which may end in a smaller group.
        """
        return {"count": self.end, "position": self.position(over), "first": self.first}


class Place:
    """This rank on the mesh. `stage` is its place along the pipeline, `number` that in the mesh of its stage.

    `batch` counts the samples of a whole batch, which is cut into `microbatches`. `levels` has, by mesh axes such as
    `data+model`, how the ranks along them are nested in the machine, outermost first: (4, 8) for four nodes of eight.
    All ranks must make their places at the same time.
    """

    def __init__(
        self,
        world: World,
        mesh: Mapping[str, int],
        *,
        batch: int,
        microbatches: int = 1,
        levels: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.world, self.batch_size, self.microbatches = world, batch, microbatches
        self.skipped = 0  # steps that made no update
        axes = tuple((name, extent) for name, extent in mesh.items() if name != PIPELINE)
        self.grid = Grid(axes, -(-batch // microbatches))
        self.stages, rest = divmod(world.size, self.grid.size)
        if rest or mesh.get(PIPELINE, self.stages) != self.stages:
            raise ValueError(f"{world.size} ranks are no mesh of {dict(mesh)}")
        self.stage, self.number = divmod(world.rank, self.grid.size)
        self.traffic = Traffic(world)
        self._groups = Groups(world, self.grid)
        nested = {self._groups.axes(over): extents for over, extents in (levels or {}).items()}
        self._sums = Sums(self._groups.worlds, nested, self.traffic.pool)
        self._arrays = Registry()
        self._rooms = Pool()  # none of that of messages, which a device's own stream works on
        self.wholes = Wholes(self.traffic, self.grid)
        self._zeros: dict[int, Array] = {}
        self._plans: dict[tuple[object, ...], Exchange] = {}
        self._cuts: dict[tuple[object, ...], tuple[Rows, ...]] = {}
        self._begun: dict[int, list[Running]] = {}
        self._sends: dict[int, list[Running]] = {}
        self._serials: dict[tuple[str, ...], int] = {}

    # --- where it is ---------------------------------------------------------------------------------------------

    @property
    def first(self) -> int:
        """The rank of the job that is number 0 of this stage."""
        return self.stage * self.grid.size

    def group(self, over: str) -> World:
        """The ranks that differ from this one along these mesh axes only, such as `data+model`."""
        return self._groups.worlds[self._groups.axes(over)]

    def index(self, over: str) -> int:
        """Which part this rank has of what is split over these mesh axes."""
        return self.grid.index(axes_of(over), self.number)[1]

    def batch(
        self, loader: Loader | None, indices: Array, *, step: int = 0, lr: float = 0.0, batches: int = 1
    ) -> tuple[At, ...]:
        """The microbatches of so many batches of these samples, of which the last ones may have fewer, or none."""
        size, count, parts = self.grid.batch, len(indices), self.microbatches
        starts = [number * self.batch_size + min(at * size, self.batch_size)
                  for number in range(batches) for at in range(parts)]  # fmt: skip
        firsts = [min(start, count) for start in (*starts, batches * self.batch_size)]
        return (
            *[
                At(self, loader, indices, count, firsts[at + 1] - firsts[at], firsts[at], at % parts, step, lr)
                for at in range(batches * parts)
            ],
        )

    def fill(self, at: At, arrays: Mapping[str, Array]) -> None:
        """This rank's part of the samples of a microbatch, by the names of the data set."""
        assert at.loader is not None
        for name, array in arrays.items():
            spec = self._arrays.of(array).spec
            box = self.grid.box(spec, self.number, at.samples)
            axis = spec.batch
            assert axis is not None
            start, stop = box[axis][0] if box[axis] else (0, 0)
            part = (*[slice(runs[0][0], runs[-1][1]) if runs else slice(0, 0) for runs in box],)
            room = device.staging(array)
            at.loader.fill_part(at.indices[at.first + start : at.first + stop], name, room, axis, part)
            if room is not array:
                device.copy(array, room)

    def pads(self, array: Array, pad: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """The pads of this rank's part of an array with halos: those of the whole, `pad`, at its outer borders."""
        spec, found = self._arrays.of(array).spec, list(pad)
        for halo in spec.halos:
            first, last = unclipped(self.grid, spec, halo, self.number)
            before, after = pad[halo.window]
            beyond = last - spec.axes[halo.axis].extent
            found[halo.window] = (min(before, max(0, -first)), min(after, max(0, beyond)))
        return tuple(found)

    def needed(self, pad: Sequence[tuple[int, int]], room: Array) -> tuple[Array, ...]:
        """The room for a padded image, which a kernel takes where there are pads."""
        return (room,) if any(map(any, pad)) else ()

    def origin(self, *arrays: Array, layout: str = "") -> tuple[tuple[tuple[int, int], ...], ...]:
        """(where this rank's part begins, extent of the whole) of each axis of each array; of samples (0, how many).

        Axes come in logical order: those of arrays with four axes lie in memory as `layout` says.
        """
        return (*[self._origin(self._arrays.of(array), layout) for array in arrays],)

    def _origin(self, known: Known, layout: str) -> tuple[tuple[int, int], ...]:
        box, whole = self.grid.box(known.spec, self.number, known.samples), self.grid.whole(known.spec, known.samples)
        found = [
            (0, extents((runs,))[0]) if axis.per else (runs[0][0] if runs else 0, extent)
            for axis, runs, extent in zip(known.spec.axes, box, whole, strict=True)
        ]
        return (
            (*[found[layout[:4].index(letter)] for letter in "NCHW"],) if layout and len(found) == 4 else tuple(found)
        )

    def interior(self, kernel: Callable[..., None], *arguments: Any, **attrs: Any) -> None:
        """A window's kernel for those rows of its results that read no rows of others, whose halo may be on its way."""
        self._by_rows(kernel, arguments, attrs, inner=True)

    def border(self, kernel: Callable[..., None], *arguments: Any, **attrs: Any) -> None:
        """The same for all other rows: those beside the neighbours."""
        self._by_rows(kernel, arguments, attrs, inner=False)

    def _by_rows(
        self, kernel: Callable[..., None], arguments: Sequence[Any], attrs: dict[str, Any], inner: bool
    ) -> None:
        known = {at: found for at, each in enumerate(arguments) if (found := self._arrays.find(each)) is not None}
        wide = next(each.array for each in known.values() if each.spec.halos)
        key = (inner, *((at, id(each.array)) for at, each in known.items()))
        if key not in self._cuts:
            self._cuts[key] = rows_of(self.grid, self.number, known, inner)
        pads = self.pads(wide, attrs["pad"]) if "pad" in attrs else ()
        for rows in self._cuts[key]:
            rows.call(kernel, arguments, attrs, pads, self._rooms)

    def once(self, array: Array, over: str) -> Array:
        """The array on the first rank along these mesh axes, zeros elsewhere: for what is added to a sum just once."""
        if self.index(over) == 0:
            return array
        if id(array) not in self._zeros:
            self._zeros[id(array)] = np.zeros_like(array)
        return self._zeros[id(array)]

    # --- collectives along mesh axes ------------------------------------------------------------------------------

    def allgather(self, source: Arrays, target: Arrays | None = None, *, over: str, begin: bool = False) -> None:
        """The parts that the ranks hold, put together on each. Of a bucket alone: each member of its own part."""
        self._move("allgather", source, target, over, begin)

    def reduce_scatter(self, source: Arrays, target: Arrays | None = None, *, over: str, begin: bool = False) -> None:
        """To each rank its part of the sum. Of a bucket alone: each member to its own part."""
        self._move("reduce_scatter", source, target, over, begin, sums=True)

    def all_to_all(self, source: Arrays, target: Arrays, *, over: str, begin: bool = False) -> None:
        """From parts along one axis to parts along another."""
        self._move("all_to_all", source, target, over, begin)

    def halo(self, source: Arrays, target: Arrays, *, over: str, begin: bool = False) -> None:
        """A rank's own rows and those of others that its windows read."""
        self._move("halo", source, target, over, begin)

    def halo_sum(self, source: Arrays, target: Arrays, *, over: str, begin: bool = False) -> None:
        """What is held for the rows of others goes to them, who add it to their own."""
        self._move("halo_sum", source, target, over, begin, sums=True)

    def allreduce(
        self,
        source: Arrays,
        target: Arrays | None = None,
        *,
        over: str,
        algorithm: str = "rabenseifner",
        begin: bool = False,
    ) -> None:
        """The sum on all ranks, in place where there is no target, with the same bits on each."""
        sources = several(source)
        targets = sources if target is None else several(target)
        steps = self._sums.steps(sources, targets, self._groups.axes(over), algorithm)
        self._begin("allreduce", self._arrays.name(sources[0]), over, steps, (*sources, *targets), begin)

    def largest(self, array: Array, *, over: str, begin: bool = False) -> None:
        """The largest of each element over the ranks, in place: of a small table, by one message to each other rank."""
        steps = self._sums.largest(array.reshape(-1), self._groups.axes(over))
        self._begin("largest", self._arrays.name(array), over, steps, (array,), begin)

    def wait(self, array: Array) -> None:
        """Returns when what was begun with this array is over."""
        for running in self._begun.pop(id(array), ()):
            self.traffic.end(running)

    def settle(self) -> None:
        """Returns when everything that was begun is over."""
        self.traffic.settle()

    def slice(self, source: Array, target: Array) -> None:
        """A rank's own part of what it holds."""
        plan = self._cached(("slice", id(source), id(target)), (self.number,), 0, [(source, target)], False)
        self.traffic.run(plan.steps(self.traffic.pool), "a copy")

    # --- from stage to stage --------------------------------------------------------------------------------------

    def send(self, array: Array, *, to: int, name: str) -> None:
        """Begins to send to the rank at the same place of the stage `to` further on; `sent` waits.

        Messages of one name arrive in order.
        """
        steps = self.traffic.sent(array, self.world.rank + to * self.grid.size)
        running = self.traffic.start(self.world, steps, f"`{name}`", size=array.nbytes)
        waiting = [other for other in self._sends.get(id(array), ()) if not other.done]
        self._sends[id(array)] = [*waiting, running]

    def sent(self, array: Array) -> None:
        """Returns when the array may be written again, all that was sent of it having gone."""
        for running in self._sends.pop(id(array), ()):
            self.traffic.end(running)

    def receive(self, array: Array, *, source: int, name: str) -> None:
        """What the rank at the same place of the stage `source` further on sends."""
        steps = self.traffic.received(array, self.world.rank + source * self.grid.size)
        self.traffic.end(self.traffic.start(self.world, steps, f"`{name}`", size=array.nbytes))

    def share(self, value: Any, stage: int = 0) -> Any:
        """A number, or a list of some, that the first rank of a stage has, on all ranks.

        A float, of which the others have one too, is one message down a tree; a list, None elsewhere, is two.
        """
        if self.stages == 1:
            return value
        if isinstance(value, float):
            return float(self._shared(np.full(1, value), stage, "a number for all")[0])
        known = self.world.rank == stage * self.grid.size
        length = self._shared(np.array([len(value) if known else 0]), stage, "how many numbers for all")
        numbers = np.array(value, np.float64) if known else np.empty(int(length[0]))
        return self._shared(numbers, stage, "numbers for all").tolist()

    def _shared(self, array: Array, stage: int, name: str) -> Array:
        self.traffic.run(broadcast(self.world.rank, self.world.size, array, stage * self.grid.size), name)
        return array

    # --- whole tensors --------------------------------------------------------------------------------------------

    def gather(self, array: Array) -> Array | None:
        """The whole of an array on number 0 of this stage, all of whose ranks call it; None on the others."""
        known = self._arrays.of(array)
        return self.wholes.assemble(known.spec, known.samples, self.stage, array, array.dtype, self.first)

    def collect(self, rows: Mapping[str, Sequence[Array | None]]) -> dict[str, Array] | None:
        """What `gather` gave, one behind the other, on rank 0 of the job; all ranks call it, with the same names."""
        found: dict[str, Array] = {}
        for name, parts in rows.items():
            mine = [part for part in parts if part is not None]
            joined = np.concatenate(mine) if mine else None
            for stage in range(self.stages):
                taken = self.wholes.handed(joined, stage)
                if taken is not None:
                    found[name] = taken
        return found if self.world.rank == 0 else None

    # --- what arrays are ------------------------------------------------------------------------------------------

    def know(
        self, name: str, array: Array, spec: Spec, samples: int, parent: Array | None = None, offset: int = -1
    ) -> None:
        """Remember what an array holds; of what it is a part, or, with an offset, a member of a bucket."""
        self._arrays.know(name, array, spec, samples, parent, offset)

    def shared_memory(self, name: str, elements: int, dtype: npt.DTypeLike, over: str) -> Array:
        """Zeroed flat memory for allreduce by `shared` along these mesh axes; all ranks of the group call it."""
        return self._sums.memory(name, elements, dtype, self._groups.axes(over))

    # --- how it goes ----------------------------------------------------------------------------------------------

    def _move(
        self, kind: str, source: Arrays, target: Arrays | None, over: str, begin: bool, sums: bool = False
    ) -> None:
        axes = self._groups.axes(over)
        pairs = self._arrays.pairs(kind, source, target)
        key = (kind, axes, *((id(one), id(other)) for one, other in pairs))
        members = self.grid.group(axes, self.number)
        plan = self._cached(key, members, members.index(self.number), pairs, sums)
        given = (*several(source), *(() if target is None else several(target)))
        self._begin(kind, self._arrays.name(given[-1]), over, plan.steps(self.traffic.pool), given, begin)

    def _cached(
        self,
        key: tuple[object, ...],
        members: tuple[int, ...],
        me: int,
        pairs: Sequence[tuple[Array, Array]],
        sums: bool,
    ) -> Exchange:
        if key not in self._plans:
            known = [(self._arrays.of(source), self._arrays.of(target)) for source, target in pairs]
            parts = {"reduce_scatter": len(members), "halo_sum": 0}.get(str(key[0]), 1)
            self._plans[key] = planned(self.grid, members, me, known, sums, parts, key[0] in ("halo", "halo_sum"))
        return self._plans[key]

    # --- what is under way ----------------------------------------------------------------------------------------

    def _begin(self, kind: str, name: str, over: str, steps: Steps, arrays: Sequence[Array], begin: bool) -> None:
        axes = self._groups.axes(over)
        serial = self._serials[axes] = self._serials.get(axes, 0) + 1
        size = sum(array.nbytes for array in arrays)
        running = self.traffic.start(self._groups.worlds[axes], steps, f"{kind} of `{name}` over {over}", serial, size)
        if not begin:
            self.traffic.end(running)
            return
        for array in arrays:
            waiting = [other for other in self._begun.get(id(array), ()) if not other.done]
            self._begun[id(array)] = [*waiting, running]
