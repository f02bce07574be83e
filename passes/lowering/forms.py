"""The form in which a value is held: placement, layout and halo, and what a rank holds of it."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from dlc.ir.mesh import PARTIAL, REPLICATED, Mesh, Placement, largest, parts, shards
from dlc.ir.tensor import TensorType
from dlc.ops.indexing import Halo, fringe


class Margin(NamedTuple):
    """The rows of an axis that a part of a window's results reads, where it has not just those of its own shard.

    The part that has result rows a to b - 1 of `results` reads those of `halo.reads(a, b)` that the axis has; `rows` is
    the most that any part reads, `before` and `behind` the most that come from other parts.
    """

    axis: str
    results: int
    halo: Halo
    rows: int
    before: int
    behind: int


class Form(NamedTuple):
    """How a value is held: where on the mesh, in which order in memory ("" where it has no choice), with what halo."""

    placement: Placement
    layout: str = ""
    margins: tuple[Margin, ...] = ()

    @property
    def plain(self) -> Form:
        """The same without a halo."""
        return Form(self.placement, self.layout) if self.margins else self

    @property
    def partial(self) -> bool:
        """Whether ranks hold parts of a sum."""
        return PARTIAL in self.placement


def summed_axes(placement: Placement, mesh: Mesh) -> tuple[str, ...]:
    """The mesh axes along which ranks hold parts of a sum."""
    return tuple(name for name, at in zip(mesh.names, placement, strict=True) if at == PARTIAL)


def whole(placement: Placement) -> Placement:
    """The placement once its sums are done."""
    return tuple(REPLICATED if at == PARTIAL else at for at in placement)


@lru_cache(maxsize=65536)
def local(type_: TensorType, form: Form, mesh: Mesh) -> TensorType:
    """What the rank with most of a value holds of it in a form."""
    held = largest(type_, form.placement, mesh)
    for margin in form.margins:
        held = held.with_extent(margin.axis, margin.rows)
    return held


@lru_cache(maxsize=65536)
def spread(type_: TensorType, form: Form, mesh: Mesh) -> TensorType:
    """The type of a buffer in a form: with a halo, that of all its parts one behind the other."""
    for margin in form.margins:
        type_ = type_.with_extent(margin.axis, margin.rows * parts(form.placement, mesh, margin.axis))
    return type_


@lru_cache(maxsize=4096)
def margin(axis: str, halo: Halo, operand: int, results: int, count: int) -> Margin | None:
    """The margin of an operand axis of which a window makes so many results, in `count` parts; None without one.

    Where parts read just their own rows and some read pads as well there is one of no rows: it says who has which pads.
    """
    if count == 1:
        return None
    own, cut = shards(operand, count), shards(results, count)
    around = tuple(halo.reads(*each) for each in cut)
    read = tuple((max(0, first), min(operand, last)) for first, last in around)
    if read == own == around:
        return None
    before, behind = fringe(halo, operand, results, count)
    return Margin(axis, results, halo, max(stop - start for start, stop in read), max(before, 0), max(behind, 0))
