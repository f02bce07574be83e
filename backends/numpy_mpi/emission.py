"""What the text of one program depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from backends.numpy_mpi.kernels import EXACT, EXACT_SHARE, KERNELS, PACKED, PACKING, Kernel
from dlc.ir.graph import Graph
from dlc.ir.plan import Plan
from dlc.ir.program import Compute, Instruction, Program
from dlc.ir.training import Training
from dlc.ops.fusion import main_of
from dlc.ops.halves import HALVES
from dlc.ops.packing import PACK

ADD = ("sum", "add", "")
"""What adds the gradients of a microbatch to those of the microbatches before it."""


def accumulates(made: Instruction) -> bool:
    """Whether an instruction adds one array to another."""
    if not isinstance(made, Compute) or made.kernel != ("sum", "sum", "") or len(made.inputs) != 2:
        return False
    return made.outputs == made.inputs[:1]


@dataclass(frozen=True, slots=True)
class Emission:
    """All that the text of a program depends on. `exact` asks for the integer stand-ins of `dlc verify --exact`.

    `library` has the arrays: NumPy or CuPy.
    """

    graph: Graph
    plan: Plan
    program: Program
    training: Training
    exact: bool = False
    library: str = "NumPy"

    @property
    def kernels(self) -> Mapping[tuple[str, str, str], Kernel]:
        """The backend's kernels by (op, pass, algorithm)."""
        return {**KERNELS, **EXACT} if self.exact else KERNELS

    @property
    def scaled(self) -> bool:
        """Whether gradients are those of a scaled loss, and steps with an overflow are skipped."""
        return any(node.stage == "unscale" for node in self.graph.nodes)

    def kernel(self, compute: Compute) -> Kernel:
        """The kernel that an instruction calls; KeyError where the backend has none."""
        if accumulates(compute):
            return self.kernels[ADD]
        if compute.packs or compute.kernel[1] == PACK:
            return (PACKED if compute.packs else PACKING)[compute.kernel]
        if HALVES in dict(compute.attrs):
            op, stage, algorithm = compute.kernel
            return self.kernels[f"{op}_{HALVES}", stage, algorithm]
        return EXACT_SHARE if self.exact and self._passes_a_share(compute) else self.kernels[compute.kernel]

    def packing(self, compute: Compute) -> Kernel:
        """The kernel that packs the weights that a call reads so."""
        op, stage, algorithm = main_of(compute).kernel
        return PACKING[f"{op}_{stage}", PACK, algorithm]

    def _passes_a_share(self, compute: Compute) -> bool:
        """Whether it makes one gradient from another of the same type, of which each rank has a share: no batch."""
        if compute.kernel[1] != "dx" or compute.kernel not in EXACT or len(compute.outputs) != 1:
            return False
        made = self.graph.node(compute.address)  # buffers may hold parts of its values, under other names
        dy, dx = self.graph.type(made.inputs[0]), self.graph.type(made.outputs[0])
        return dy == dx and bool(dy.axes) and not dy.batched
