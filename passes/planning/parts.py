"""Ops that go through their samples in parts: to fit a workspace into its limit, or because a pin says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dlc.ir.tensor import BATCH, TensorType
from dlc.ops.operator import Operator, Shapes
from passes.layouts import DEFAULT_LAYOUT
from passes.options import Rules
from passes.planning.network import OpKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]
    Integers = NDArray[np.int64]


def parts_of(rules: Rules, kind: OpKind, samples: Integers) -> Iterator[tuple[Integers, Flags]]:
    """([row] numbers of parts that ops of a kind may go through their samples in, [row] whether no forbid is broken).

    One; as many as make parts of the pinned number of samples; or, where workspaces or forbidden numbers of samples may
    ask for it, powers of two up to one sample each.
    """
    import numpy as np

    address = kind.example.address if kind.example.stage == "forward" else ""
    pin = rules.pins.get((address, "microbatch"))
    if kind.operator.view:
        yield np.ones_like(samples), np.ones(len(samples), dtype=bool)
        return
    rules_against = rules.forbids.get((address, "microbatch"), ())
    forbidden = {rule.value for rule in rules_against if isinstance(rule.value, int)}
    scarce = rules.workspace is not None and bool(kind.operator.algorithms)
    most = int(samples.max(initial=1)) if scarce or forbidden else 1
    if pin is not None and isinstance(pin.value, int):
        choices = [-(-samples // pin.value)]
    else:
        powers = range(most.bit_length() + (most & (most - 1) > 0))
        choices = [np.minimum(2**power, samples) for power in powers]
    for parts in choices:
        yield parts, ~np.isin(-(-samples // parts), sorted(forbidden))


def in_parts(type_: TensorType, parts: Integers) -> TensorType:
    """A type with the samples of the largest part."""
    import numpy as np

    if not type_.batched or (parts == 1).all():
        return type_
    extents = -(-np.asarray(type_.extent(BATCH)) // parts)
    return type_.with_extent(BATCH, extents)  # type: ignore[arg-type]


def scratch_bytes(operator: Operator, stage: str, shapes: Shapes, algorithm: str, layout: str, count: int) -> Array:
    """[row]: bytes of an algorithm's workspaces; 0 for ops that have one algorithm alone."""
    import numpy as np

    found = next((each for each in operator.algorithms if each.name == algorithm), None)
    if found is None:
        return np.zeros(count)
    sizes = (each.type.bytes for each in found.workspaces(stage, shapes, layout or DEFAULT_LAYOUT))
    return np.broadcast_to(np.asarray(sum(sizes), dtype=float), (count,))
