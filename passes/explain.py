"""Every candidate for one op with its costs, and the rule that excludes each other one: data for `dlc explain`."""

from __future__ import annotations

from dataclasses import dataclass

from dlc.ir.plan import Figure, OpPlan
from dlc.ir.request import Split


@dataclass(frozen=True, slots=True)
class Priced:
    """One way to compute one pass: its figure where it is legal, else why it is not; whether the plan takes it."""

    stage: str
    layout: str
    algorithm: str
    figure: Figure | None
    excluded: str | None
    taken: bool


@dataclass(frozen=True, slots=True)
class Option:
    """One way to divide an op among the ranks and to lay out its images, each pass by its cheapest algorithm.

    Seconds a step: of the kernels of each pass, of halos and sums `inside` the op, of `moves` of its tensors from and
    to its neighbours as the plan has them, of `sums` of the weights' gradients, of which `hidden` are hidden behind
    computing, and of the weights' `update`. `bytes` are held throughout a step.
    """

    partition: tuple[Split, ...]
    layout: str
    algorithms: tuple[tuple[str, str], ...]  # (pass, algorithm), of passes that have several
    forward: float
    dx: float
    dw: float
    inside: float
    moves: float
    sums: float
    hidden: float
    update: float
    bytes: int
    taken: bool

    @property
    def total(self) -> float:
        """What it counts in J, in seconds."""
        return self.forward + self.dx + self.dw + self.inside + self.moves + self.sums - self.hidden + self.update


@dataclass(frozen=True, slots=True)
class Excluded:
    """Partitions that an op cannot have, all for the same reason: `by line 41`, `because …`."""

    why: str
    partitions: tuple[tuple[Split, ...], ...]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An op, or a value that several ops read, which a tensor goes `to` or comes `from`, and what the way costs."""

    way: str
    name: str
    partition: tuple[Split, ...]
    layout: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """An op's decisions, every way to divide and lay it out, and every algorithm of its passes.

    `options` are all that the op has, cheap before dear, `excluded` what it cannot have, and `neighbours` say what its
    tensors' ways cost. `candidates` are the algorithms for the partition that is taken, and one of the `microbatches`
    of a step.
    """

    op: OpPlan
    candidates: tuple[Priced, ...]
    options: tuple[Option, ...]
    excluded: tuple[Excluded, ...]
    neighbours: tuple[Neighbour, ...]
    microbatches: int
