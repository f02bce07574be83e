"""Seconds of communication in a step: what a message costs on a device, and what computing hides of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dlc.cluster.collectives import Measured, Processing, lower_bound, shares_memory
from dlc.cluster.topology import Cluster, Device
from dlc.cost.profile import Profile

PYTHON_EXCHANGE = 4e-6
"""Seconds that one exchange of mpi4py costs a Python program besides the wire (kind `cpu`): measured, 2 ranks."""


def processing(device: Device, profile: Profile | None = None) -> Processing:
    """What a device adds to a message: adding reads two bytes and writes one, copying reads and writes one.

    With the allreduces that were measured, among processes of one machine.
    """
    call = PYTHON_EXCHANGE if device.kind == "cpu" else device.launch
    messages = profile.messages if profile is not None and device.kind == profile.kind else ()
    measured = (Measured(m.algorithm, m.ranks, m.seconds, m.spread) for m in messages if m.kind == "allreduce")
    return Processing(call, 3.0 / device.bandwidth, 2.0 / device.bandwidth, tuple(measured))


def allreduce_bound(size: float, ranks: tuple[int, ...], cluster: Cluster, device: Device) -> float:
    """No algorithm is faster: the bound over links, or, where memory is shared, one pass over the data."""
    bound = lower_bound(size, ranks, cluster)
    return min(bound, size * processing(device).copy) if shares_memory(ranks, cluster) else bound


@dataclass(frozen=True, slots=True)
class Transfer:
    """A collective that may begin `ready` seconds into the backward pass and then takes `seconds`."""

    ready: float
    seconds: float


def exposed(transfers: Sequence[Transfer], backward: float, overlap: float) -> float:
    """What is left of the transfers when the backward pass behind them ends (cost-models.md §5).

    They go one after another. While the backward pass of `backward` seconds computes, communication advances at the
    rate `overlap` (0 to 1, a property of the device), afterwards at full speed.
    """
    now = 0.0
    for transfer in transfers:
        start = max(now, transfer.ready)
        hidden = min(transfer.seconds, overlap * max(0.0, backward - start))
        if hidden < transfer.seconds:
            now = max(start, backward) + transfer.seconds - hidden
        elif hidden > 0:
            now = start + hidden / overlap
    return max(0.0, now - backward)
