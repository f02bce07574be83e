"""All ways to cut an op into parts over the inner axes of a strategy's mesh, legal or not."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from dlc.ir.tensor import BATCH
from passes.planning.network import OpKind
from passes.planning.strategies import Family, Strategy, allowed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cuts:
    """All ways to cut an op with these iteration axes under one strategy, legal or not.

    `codes[o, i]` is the iteration axis that option o splits over inner mesh axis i, -1 for none; `parts[o, a]` into how
    many parts iteration axis a is cut; `rows[o]` the row of the price tables.
    """

    codes: Integers
    parts: Integers
    rows: Integers


Signature = tuple[tuple[str, ...], bool]
"""What decides the cuts of an op: its iteration axes, and whether it is linear."""


def key_of(found: Signature, strategy: Strategy) -> tuple[object, ...]:
    """What all strategies under which an op may be cut alike have in common."""
    return found, strategy.inner.extents, strategy.families, strategy.microbatches, strategy.effective


def signature(kind: OpKind) -> Signature:
    """What decides how an op may be cut."""
    return kind.indexing.axes, kind.example.op == "linear"


def codes_of(found: Signature, strategy: Strategy) -> tuple[Integers, Integers]:
    """Every assignment of iteration axes to inner mesh axes, none first, and the parts that come of it."""
    import numpy as np

    axes, linear = found
    extents = strategy.inner.extents
    families = strategy.families
    choices = [[-1, *(a for a, name in enumerate(axes) if _may(family, name, linear))] for family in families]
    found_codes = list(product(*choices))
    codes = np.array(found_codes, dtype=np.int64).reshape(len(found_codes), len(extents))
    parts = np.ones((len(codes), len(axes)), dtype=np.int64)
    for i, extent in enumerate(extents):
        for a in range(len(axes)):
            parts[:, a] *= np.where(codes[:, i] == a, extent, 1)
    return codes, parts


def _may(family: Family, axis: str, linear: bool) -> bool:
    return allowed(family, axis, "linear" if linear else "")


def local_extents(kind: OpKind, role: str, rows: Integers) -> dict[str, int | Integers]:
    """Tensor axis -> extents on the rank with most of it, for rows of (parts of each iteration axis, samples)."""
    type_, along, axes = kind.types[role], kind.indexing.tensors.get(role), kind.indexing.axes
    found: dict[str, int | Integers] = {}
    for at, axis in enumerate(type_.axes):
        extent: int | Integers = rows[:, -1] if axis.name == BATCH else axis.extent
        runs = along[at] if along is not None else ""
        if runs in axes:
            extent = -(-extent // rows[:, axes.index(runs)])
        found[axis.name] = extent
    return found
