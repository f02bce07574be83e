"""The Plan: every decision, keyed by address, and nothing else. `plan.json` is this, and no timings of the compiler.

A plan applied to its graph gives the Program, with nothing left to decide.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from dlc.ir.request import Split


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a decision fell as it did: `chosen` by cost, `pinned` by the user at `place`, or the `only` legal one."""

    kind: Literal["chosen", "pinned", "only"]
    place: str = ""  # file:line of the pin

    def __str__(self) -> str:
        return {"chosen": "cheapest", "pinned": f"pinned at {self.place}", "only": "the only one"}[self.kind]


ANALYTIC_SPREAD = 0.7
"""The spread where nothing was measured: networks by seven libraries on a Titan X took what is predicted from its peak
figures within a factor of 1.7 (`tests/published/test_convnet_benchmarks.py`)."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A predicted time with its source: measured, interpolated or analytic, what bounds it, and its spread."""

    seconds: float
    source: Literal["measured", "interpolated", "analytic"] = "analytic"
    bound: Literal["compute", "memory", "launch"] = "compute"
    spread: float = ANALYTIC_SPREAD

    @property
    def interval(self) -> tuple[float, float]:
        """From when to when it may come true."""
        return self.seconds / (1.0 + self.spread), self.seconds * (1.0 + self.spread)


@dataclass(frozen=True, slots=True)
class PassPlan:
    """How one pass (`forward`, `dx`, `dw`) of an op is computed; the algorithm is "" where the op has just one."""

    stage: str
    algorithm: str
    figure: Figure


@dataclass(frozen=True, slots=True)
class OpPlan:
    """The decisions for one forward op and its gradients.

    `layout` is the order in memory of its image-like operands and results, "" where it has none. `partition` splits its
    forward iteration space; the placements of gradients follow. A conversion stands on every edge whose two ends
    disagree in layout; it is not stored, since it follows.
    """

    address: str
    layout: str
    passes: tuple[PassPlan, ...]
    partition: tuple[Split, ...]
    reason: Reason
    layout_reason: Reason
    stage: int = 0
    recompute: bool = False
    microbatch: int = 1  # parts that its share of a microbatch is computed in, to fit a workspace
    partition_reason: Reason = Reason("only")
    checkpoint: bool = False  # of ops in a row that are computed again, what this one reads is kept: they begin here

    def algorithm(self, stage: str) -> str:
        """The algorithm of a pass; "" where there is no choice."""
        return next((p.algorithm for p in self.passes if p.stage == stage), "")


@dataclass(frozen=True, slots=True)
class Bucket:
    """Values summed over the ranks of `group` in one collective, in this order, back to back in one flat buffer.

    Members are gradients by value name, the loss, metrics and the sums behind running averages. The collective is an
    allreduce, or, where ZeRO leaves its members in shards, a reduce-scatter, by `algorithm`. `stage` is the device of
    a pipeline whose ranks sum it.
    """

    name: str
    group: str
    members: tuple[str, ...]
    bytes: int
    algorithm: str
    figure: Figure
    reason: Reason
    stage: int = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a pipeline: the ranks from `first` on, as a mesh of their own (`mesh` lists (axis, extent)).

    With c chunks a device, stage i runs on the ranks of stage i mod p. Seconds are of one microbatch: `forward`,
    `backward` (by inputs) and `weights` (by weights, apart where the schedule does them apart), `send` to the next.
    """

    index: int
    first: int
    mesh: tuple[tuple[str, int], ...]
    forward: float = 0.0
    backward: float = 0.0
    weights: float = 0.0
    send: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Lower bounds in seconds on one training step of any plan: cost-models.md §5, last line."""

    work: float
    memory_traffic: float
    communication: float
    depth: float

    @property
    def step(self) -> float:
        """The largest of them: no plan's step is shorter."""
        return max(self.work, self.memory_traffic, self.communication, self.depth)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the cost model says of a plan: seconds a step, and bytes at the peak of the worst rank."""

    step_seconds: float
    peak_bytes: int
    objective: float  # J of cost-models.md §7
    compute_seconds: float = 0.0
    conversion_seconds: float = 0.0
    communication_seconds: float = 0.0
    bubble_seconds: float = 0.0
    simulated_seconds: float = 0.0  # of the Program, 0 where it was not simulated
    low_seconds: float = 0.0  # the interval that the device's measurements leave, 0 where it has none
    high_seconds: float = 0.0
    own_seconds: float = 0.0  # of the step itself, besides its ops


@dataclass(frozen=True, slots=True)
class Alternative:
    """A plan that was not taken, in a line: what differs, and its objective."""

    description: str
    objective: float
    simulated_seconds: float = 0.0
    peak_bytes: int = 0
    note: str = ""  # why it cannot be had, where that is so


@dataclass(frozen=True, slots=True)
class Plan:
    """All decisions for one network on one cluster.

    `mesh` lists (axis, extent), major first; a serial plan has the axis `data` of extent 1. `shards` is the table of
    batch extents: (start, stop) of the global batch for each coordinate of the data axis. `sources` names every
    constant's origin; `digests` the sha256 of spec, cluster and profile.
    """

    network: str
    cluster: str
    ranks: int
    batch: int
    mesh: tuple[tuple[str, int], ...]
    shards: tuple[tuple[int, int], ...]
    ops: tuple[OpPlan, ...]
    buckets: tuple[Bucket, ...]
    predicted: Prediction
    bounds: Bounds
    runner_up: Alternative | None = None
    baselines: tuple[Alternative, ...] = ()
    digests: tuple[tuple[str, str], ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    spec: str = ""  # path of the spec as given, and the -P overrides it was expanded with
    parameters: tuple[tuple[str, str], ...] = ()
    threads: int = 1  # of a rank's BLAS: the cores of its device
    stages: tuple[Stage, ...] = ()  # of a pipeline, in order; () where there is none
    schedule: str = ""  # gpipe, one_f_one_b, interleaved or zero_bubble; "" without a pipeline
    microbatches: int = 1
    chunks: int = 1  # stages a device, with `interleaved`
    shard: str = "none"  # none, optimizer, gradients or weights: ZeRO 0 to 3
    batches: int = 1  # behind an update: `accumulate`
    kernels: str = "numpy"  # the family that CPUs compute with: numpy or c
    gap: float = 0.0  # (objective - proven lower bound of the search) / objective
    _ops: dict[str, OpPlan] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ops", {op.address: op for op in self.ops})

    def op(self, address: str) -> OpPlan:
        """The decisions for the forward op at that address."""
        return self._ops[address]

    def with_(self, **changes: object) -> Plan:
        """A copy with some fields replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def serial(self) -> Plan:
        """The same algorithms and layouts on one rank, all of a batch at once, with NumPy's kernels."""
        ops = (replace(op, partition=(), stage=0, recompute=False, checkpoint=False, microbatch=1) for op in self.ops)
        return replace(
            self,
            ranks=1,
            mesh=(("data", 1),),
            shards=((0, self.batch),),
            ops=tuple(ops),
            buckets=(),
            stages=(),
            schedule="",
            microbatches=1,
            chunks=1,
            shard="none",
            kernels="numpy",
        )
