"""What is known of a plan besides the plan itself: what was asked for, the machine, the search and the Program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlc.inspect.communication import Exchange
from dlc.inspect.fusions import Chain
from dlc.inspect.in_place import Takeover
from dlc.inspect.packs import Pack

if TYPE_CHECKING:
    from dlc.cluster.topology import Cluster
    from dlc.ir.request import Request
    from passes.planning.plan import Record


@dataclass(frozen=True, slots=True)
class Background:
    """`limit` are the bytes that a device may use; `record` is None where there was only one strategy to look at.

    `compiler` is False where kernels in C could not be compiled on this machine.
    """

    request: Request
    cluster: Cluster
    limit: int
    exchanges: tuple[Exchange, ...] = ()
    record: Record | None = None
    chains: tuple[Chain, ...] = ()
    compiler: bool = True
    takeovers: tuple[Takeover, ...] = ()
    packs: tuple[Pack, ...] = ()
