"""The groups of ranks along the axes of a mesh, and along all combinations of these."""

from __future__ import annotations

from itertools import combinations

from . import device
from .spec import Grid
from .world import Serial, World

PIPELINE = "pipeline"


def axes_of(over: str) -> tuple[str, ...]:
    """The axes that `data+model` names."""
    return tuple(over.split("+")) if over else ()


class Groups:
    """`worlds` has by axes, as `axes` gives them, the ranks that differ from this one along these only.

    All are made at once: later nobody could wait for others to come. All ranks must make theirs at the same time.
    """

    def __init__(self, world: World, grid: Grid) -> None:
        self.grid, self.worlds = grid, dict[tuple[str, ...], World]()
        stage, number = divmod(world.rank, grid.size)
        stages = world.size // grid.size
        names = [name for name, extent in grid.mesh if extent > 1]
        for count in range(len(names) + 1):
            for axes in combinations(names, count):
                members = [stage * grid.size + rank for rank in grid.group(axes, number)]
                whole = members == list(range(world.size))
                alone = Serial(world.position) if len(members) == 1 else None
                self.worlds[axes] = alone or (world if whole else world.subworld(members))
        if stages > 1:
            along = [each * grid.size + number for each in range(stages)]
            self.worlds[PIPELINE,] = world if grid.size == 1 else world.subworld(along)
        for group in (world, *self.worlds.values()):
            if stages == 1 or group is not world:  # from stage to stage, the order of messages has circles
                device.join(group)

    def axes(self, over: str) -> tuple[str, ...]:
        """Those of some axes along which there are several ranks, in the order of the mesh."""
        axes = axes_of(over)
        if axes == (PIPELINE,):
            return axes
        return (*[name for name, extent in self.grid.mesh if extent > 1 and name in axes],)
