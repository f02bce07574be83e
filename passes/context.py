"""What every pass may look at besides the graph: the job's train block, plan block and cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dlc.cluster.topology import Cluster
from dlc.cost.profile import Profile
from dlc.diagnostics import Span
from dlc.ir.program import Compute, Role
from dlc.ir.request import Request
from dlc.ir.tensor import NARROW
from dlc.ir.training import Training

Room = Callable[[Compute, Role, str, int], int | None]
"""(call, role, element type of the program, threads) -> bytes that a kernel in C works in; None for NumPy's kernels."""

Pack = Callable[[Compute, Role, str, int], int | None]
"""(call, role, element type of the program, threads) -> elements of what its kernel in C reads packed; None where it
has none, or packs in each call."""

FUSED_TYPES = ("f32", "f64")
"""Element types that kernels compute with as they are."""

FIRST_SCALE = 2.0**16
"""The first dynamic loss scale, as PyTorch's GradScaler has it."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The bytes that a rank may use, and where that is written."""

    bytes: int
    span: Span | None


@dataclass(frozen=True, slots=True)
class Context:
    """One compilation: `request` is the plan block or a default one, `ranks` how many processes will run.

    `compute` is the element type of activations and gradients, `exact` asks for the integer stand-ins of
    `dlc verify --exact`. `profile` holds measured figures of the device. `widens` asks for a
    Program whose kernels work in f32 where values are kept in half precision. `room` tells what kernels in C
    work in, `pack` how large weights are that are packed for them.
    """

    training: Training
    request: Request
    cluster: Cluster
    ranks: int
    compute: str = "f32"
    exact: bool = False
    profile: Profile | None = None
    widens: bool = False
    room: Room | None = field(default=None, compare=False)
    pack: Pack | None = field(default=None, compare=False)

    @property
    def hides(self) -> bool:
        """Whether communication goes on behind computing: where devices hide some of it, or the plan says so."""
        able = any(device.overlap > 0 for device in self.cluster.devices)
        return self.request.overlap == "yes" or (self.request.overlap == "auto" and able)

    def gains_by_fusion(self, kernels: str) -> bool:
        """Whether fused kernels are faster than those they are of: in C and on devices of other kinds, not in NumPy."""
        return kernels == "c" or self.cluster.device_of(0).kind != "cpu"

    def fuses(self, kernels: str) -> bool:
        """Whether kernels of a program are fused: where that gains, unless the plan forbids or asks for it."""
        wanted = {"yes": True, "no": False}.get(self.request.fusion, self.gains_by_fusion(kernels))
        return wanted and self.compute in FUSED_TYPES and not self.exact

    def packs(self, kernels: str) -> bool:
        """Whether weights that several calls of a step read are packed once: for kernels in C, unless the plan
        forbids it."""
        able = kernels == "c" and self.pack is not None and self.compute in FUSED_TYPES and not self.exact
        return able and self.request.pack != "no"

    @property
    def memory(self) -> Memory:
        """The tightest of the devices' memories and the plan's limit."""
        limits = [limit for limit in self.request.limits if limit.subject == "memory"]
        found = [Memory(int(limit.bound), limit.span) for limit in limits]
        found.extend(Memory(device.memory, device.span) for device in self.cluster.devices)
        return min(found, key=lambda memory: memory.bytes)

    @property
    def scales(self) -> bool:
        """Whether gradients are computed of the loss times a scale: those of half precision would vanish."""
        return self.compute in NARROW and self.training.precision.loss_scale is not None

    @property
    def first_scale(self) -> float:
        """What the gradient of the loss begins with."""
        scale = self.training.precision.loss_scale if self.scales else None
        return FIRST_SCALE if scale == "dynamic" else float(scale or 1.0)

    def with_(self, **changes: object) -> Context:
        """A copy with some fields replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]
