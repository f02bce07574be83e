"""What packing weights moves: the bytes that a call which packs goes over, and those that calls save which need not.

What is packed is written, which reads the lines first, and the weight is read; the call that reads it finds it in
memory. Of direct sums' gradients by images runs are short, one value of each filter: they take twice as long.
"""

from __future__ import annotations

from dlc.cluster.topology import Device
from dlc.cost.c_kernels import CALL
from dlc.cost.compute import priced
from dlc.cost.phases import Phase
from dlc.cost.profile import Profile

SHORT = 2.0
"""How much longer short runs take; direct packing for dx on one AVX2 core: 9 GB/s where it is 17 to 22 forward."""


def packing(kernel: tuple[str, str, str], weights: int, packed: int) -> float:
    """Bytes that a call of such a kernel takes the time of; it packs weights of so many bytes to so many."""
    op, _, algorithm = kernel
    return (weights + 2.0 * packed) * (SHORT if (op, algorithm) == ("conv_dx", "direct") else 1.0)


def saved(kernel: tuple[str, str, str], weights: int, packed: int) -> float:
    """Bytes that a call spares which reads what is packed: that comes from memory then."""
    return packing(kernel, weights, packed) - packed


def gain(
    kernel: tuple[str, str, str],
    weights: int,
    packed: int,
    reads: int,
    dtype: str,
    device: Device,
    profile: Profile | None = None,
) -> float:
    """Seconds of a step by which it is shorter where weights that it reads so often are packed once."""
    once, each = (
        Phase(bytes=packing(kernel, weights, packed), calls=CALL),
        Phase(bytes=saved(kernel, weights, packed), calls=0),
    )
    spent, spared = (priced((phase,), dtype, device, profile).seconds for phase in (once, each))
    return reads * spared - spent
