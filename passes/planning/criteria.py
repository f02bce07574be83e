"""Two additive costs of the same assignments, and what is wanted: one within a limit, or the larger of both least.

Both goals are relaxed in the same way. Where `excess` is what should not be positive (bytes above the limit; how far
the second cost is above the first), the least of first + λ·excess over all assignments is a lower bound for every λ ≥ 0
(up to 1 for the larger of two), and is a constant and a sum of tables again: what elimination solves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Protocol, TypeAlias

from passes.planning.elimination import total
from passes.planning.structure import Structure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Indices = NDArray[np.int64]
    Costs: TypeAlias = tuple[Sequence[Array], Sequence[Array]]


@dataclass(frozen=True, slots=True)
class Criteria:
    """Two costs, each (unary tables by kind, pair tables by edge kind), infinite in the same places."""

    structure: Structure
    first: Costs
    second: Costs

    def weighted(self, first: float, second: float) -> Costs:
        """The tables of first · the one + second · the other."""
        return (
            [_weighted(a, b, first, second) for a, b in zip(self.first[0], self.second[0], strict=True)],
            [_weighted(a, b, first, second) for a, b in zip(self.first[1], self.second[1], strict=True)],
        )

    def both(self, values: Indices) -> tuple[float, float]:
        """The two costs of an assignment."""
        return total(self.structure, *self.first, values), total(self.structure, *self.second, values)


def criteria(structure: Structure, first: Costs, second: Costs) -> Criteria:
    """Two costs; what is infinite in one is made so in the other."""
    unary = [_alike(a, b) for a, b in zip(first[0], second[0], strict=True)]
    pair = [_alike(a, b) for a, b in zip(first[1], second[1], strict=True)]
    return Criteria(
        structure,
        ([a for a, _ in unary], [a for a, _ in pair]),
        ([b for _, b in unary], [b for _, b in pair]),
    )


def _alike(first: Array, second: Array) -> tuple[Array, Array]:
    import numpy as np

    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    out = np.isinf(first) | np.isinf(second)
    return (np.where(out, inf, first), np.where(out, inf, second)) if out.any() else (first, second)


def _weighted(first: Array, second: Array, one: float, other: float) -> Array:
    import numpy as np

    with np.errstate(invalid="ignore"):
        found = one * first + other * second
    # Zero times infinity is what is forbidden still.
    return np.where(np.isnan(found), inf, found)


class Goal(Protocol):
    """What is minimised, and how it is relaxed; the methods take numbers or arrays."""

    @property
    def most(self) -> float:
        """The largest multiplier that gives a bound."""

    def value(self, first: Array, second: Array) -> Array:
        """What is minimised: infinite where it is not allowed."""

    def excess(self, first: float, second: float) -> float:
        """What should not be positive."""

    def weights(self, multiplier: float) -> tuple[float, float]:
        """The weights of both costs in the relaxation; only the second's at infinity."""

    def offset(self, multiplier: float) -> float:
        """The constant of the relaxation."""


@dataclass(frozen=True, slots=True)
class Within:
    """The first cost is minimised where the second is at most `limit`."""

    limit: float
    most: float = inf

    def value(self, first: Array, second: Array) -> Array:
        """The first cost, infinite above the limit."""
        import numpy as np

        return np.where(np.asarray(second) <= self.limit, first, inf)

    def excess(self, first: float, second: float) -> float:
        """How far the second is above the limit."""
        return second - self.limit

    def weights(self, multiplier: float) -> tuple[float, float]:
        """First + λ · second."""
        return (0.0, 1.0) if multiplier == inf else (1.0, multiplier)

    def offset(self, multiplier: float) -> float:
        """- λ · limit."""
        return -multiplier * self.limit


@dataclass(frozen=True, slots=True)
class Larger:
    """The larger of both costs is minimised."""

    most: float = 1.0

    def value(self, first: Array, second: Array) -> Array:
        """The larger one."""
        import numpy as np

        return np.maximum(first, second)

    def excess(self, first: float, second: float) -> float:
        """How far the second is above the first."""
        return second - first

    def weights(self, multiplier: float) -> tuple[float, float]:
        """First + λ · (second - first)."""
        return 1.0 - multiplier, multiplier

    def offset(self, multiplier: float) -> float:
        """Nothing is added."""
        return 0.0
