"""By how much kernels take longer than their phases say: measured at some shapes, interpolated at others.

A kernel is placed by what its phases come to, the logarithms of their seconds and of arithmetic over memory traffic,
and by how long the innermost loop over an image is, up to what fills a vector. The factor at a place is the geometric
mean of those of the samples, each with the weight 1/(d² + s²)² of its distance d (Shepard, *A two-dimensional
interpolation function for irregularly-spaced data*, 1968), with a softening s of half an octave, since a sample has its
own error. Far from all samples it is their mean.

The spread is what leaving one sample out shows: how far the others' prediction of it is off, in the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from typing import NamedTuple

from dlc.ops import extents

SOFTENING = 0.5
"""Octaves within which samples are as good as each other."""

LANES = 16
"""Values of f32 in the widest vectors."""

LEAST = 1e-7
"""Seconds below which arithmetic or traffic is as good as none."""


class Place(NamedTuple):
    """Octaves: the seconds of a kernel's phases, those of arithmetic over those of memory traffic, the inner extent."""

    seconds: float
    intensity: float
    inner: float = 0.0


def place(seconds: float, arithmetic: float, traffic: float, inner: int = LANES) -> Place:
    """Where a kernel stands whose phases take so long, with an innermost extent; numbers or arrays of them."""
    filled = extents.log2(extents.smaller(inner, LANES))
    return Place(extents.log2(seconds + LEAST), extents.log2((arithmetic + LEAST) / (traffic + LEAST)), filled)


@dataclass(frozen=True, slots=True)
class Factors:
    """The samples of one kernel: where they stand, the logarithm of their factor, and how far each is off.

    `errors` are in octaves, by what the others say of a sample.
    """

    places: tuple[Place, ...]
    logarithms: tuple[float, ...]
    errors: tuple[float, ...]

    @property
    def spread(self) -> float:
        """What leaving one out shows, in the mean; 1, a factor of two, for a single sample."""
        return 2.0 ** (sum(self.errors) / len(self.errors)) - 1.0 if self.errors else 1.0

    def at(self, where: Place) -> float:
        """The factor of a kernel that stands there; arrays give one for each."""
        factor: float = 2.0 ** _mean(self.places, self.logarithms, where)
        return factor


def fitted(places: Sequence[Place], factors: Sequence[float]) -> Factors:
    """What samples with these factors say; ValueError where there are none."""
    if not places:
        raise ValueError("there are no samples")
    logarithms = [log2(factor) for factor in factors]
    errors = [
        abs(_mean([*places[:at], *places[at + 1 :]], [*logarithms[:at], *logarithms[at + 1 :]], here) - logarithms[at])
        for at, here in enumerate(places)
        if len(places) > 1
    ]
    return Factors(tuple(places), tuple(logarithms), tuple(errors))


def _mean(places: Sequence[Place], values: Sequence[float], where: Place) -> float:
    weights = [
        1.0
        / (
            (there.seconds - where.seconds) ** 2
            + (there.intensity - where.intensity) ** 2
            + (there.inner - where.inner) ** 2
            + SOFTENING**2
        )
        ** 2
        for there in places
    ]
    total = sum(weight * value for weight, value in zip(weights, values, strict=True))
    return total / sum(weights)
