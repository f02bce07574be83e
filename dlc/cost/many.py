"""Seconds of one kernel for many local shapes at once: what a partition of the op may leave to a rank.

The formulas are those of `dlc.cost.compute`: extents that are NumPy arrays go through them as single ones do
(`dlc.ops.extents`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dlc.cluster.topology import Device
from dlc.cost.compute import crowded, element_type, factors, inner_extent, kernel, summed
from dlc.cost.gpu import BY_LAYOUT
from dlc.cost.profile import Profile
from dlc.ir.tensor import Axis, TensorType
from dlc.ops.operator import Operator, Shapes

Seconds = NDArray[np.float64]


def seconds_many(
    operator: Operator,
    stage: str,
    shapes: Shapes,
    algorithm: str,
    layout: str,
    device: Device,
    profile: Profile | None = None,
) -> Seconds:
    """The time of one pass of an op for each of n candidates, [n]: as `compute.seconds` gives it for each alone.

    Extents of `shapes` are int64 arrays [n] or, where they are the same for all candidates, ints; n is 1 where all are.
    ValueError where the algorithm has no model.
    """
    parts = kernel(operator, stage, shapes, algorithm, layout, device, profile)
    found = summed(parts, element_type(shapes), device, profile)
    known = factors(operator.name, stage, algorithm, layout, device, profile)
    total = np.zeros(candidates(shapes))
    total += found.seconds if known is None else found.seconds * known.at(found.place(inner_extent(shapes, layout)))
    more = np.broadcast_to(crowded(parts, element_type(shapes), device, profile), total.shape)
    total *= more
    if profile is not None and profile.measures(operator.name, stage, algorithm, layout):
        for index in range(len(total)):
            measured = profile.kernel(operator.name, stage, algorithm, layout, candidate(shapes, index), device)
            total[index] = total[index] if measured is None else measured.seconds * more[index]
    return total


def by_layout(algorithm: str, device: Device, profile: Profile | None = None) -> bool:
    """Whether what a kernel takes may depend on the layout of its operands."""
    return device.kind == "cpu" or profile is not None or algorithm.partition("(")[0] in BY_LAYOUT


def candidates(shapes: Shapes) -> int:
    """How many candidates' extents the shapes hold."""
    extents = (extent for type_ in (*shapes.inputs, *shapes.outputs) for extent in type_.shape)
    return max((np.size(extent) for extent in extents), default=1)


def candidate(shapes: Shapes, index: int) -> Shapes:
    """The shapes of one candidate."""
    inputs, outputs = (tuple(_candidate(t, index) for t in types) for types in (shapes.inputs, shapes.outputs))
    return Shapes(inputs, outputs, shapes.attrs)


def _candidate(type_: TensorType, index: int) -> TensorType:
    axes = ((axis.name, np.ravel(axis.extent)) for axis in type_.axes)
    return TensorType(type_.dtype, tuple(Axis(name, int(e[index % e.size])) for name, e in axes))
