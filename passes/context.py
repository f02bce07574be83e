"""What every pass may look at besides the graph: the job's train block, plan block and cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dlc.cluster.topology import Cluster
from dlc.cost.profile import Profile
from dlc.ir.request import Request
from dlc.ir.training import Training


@dataclass(frozen=True, slots=True)
class Context:
    """One compilation: `request` is the plan block or a default one, `ranks` how many processes will run.

    `compute` is the element type of activations and gradients, `exact` asks for the integer stand-ins of
    `dlc verify --exact`. `profile` holds measured figures of the device.
    """

    training: Training
    request: Request
    cluster: Cluster
    ranks: int
    compute: str = "f32"
    exact: bool = False
    profile: Profile | None = None

    @property
    def hides(self) -> bool:
        """Whether communication goes on behind computing: where devices hide some of it, or the plan says so."""
        able = any(device.overlap > 0 for device in self.cluster.devices)
        return self.request.overlap == "yes" or (self.request.overlap == "auto" and able)

    def with_(self, **changes: object) -> Context:
        """A copy with some fields replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]
