"""What the `plan` block insists on, resolved against a network and a cluster: orders, not decisions."""

from __future__ import annotations

from dataclasses import dataclass, field

from dlc.diagnostics import Span
from dlc.ir.training import Choice


@dataclass(frozen=True, slots=True)
class Split:
    """`split(feature, over = v100)`: an axis of the forward iteration space over a mesh axis or group."""

    axis: str
    over: str


Setting = str | bool | int | tuple[Split, ...]
"""A pinned value: an algorithm or layout by name, recompute yes or no, a stage or microbatch number, a partition
(an empty tuple is `replicate`)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One setting of one pin or forbid: the addresses it reached, what it sets, and where it stands.

    `key` is algorithm, layout, partition, stage, recompute or microbatch. `addresses` are forward ops that have a use
    for the key. `selector` is the text as written, for reports of how many ops it reached.
    """

    key: str
    value: Setting
    addresses: tuple[str, ...]
    selector: str
    span: Span = field(compare=False)
    value_span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class MeshAxis:
    """A named mesh axis of that many ranks, made from a group of the topology."""

    name: str
    extent: int
    group: str


@dataclass(frozen=True, slots=True)
class Limit:
    """`limit memory <= 28 GiB`: subject memory, bubble, communication or workspace; bound in SI units."""

    subject: str
    bound: float
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Request:
    """The whole `plan` block. `auto` means that the planner decides.

    `strategy` is a Choice: auto, data, model, spatial, pipeline, or hybrid with its extents. `kernels` is the family
    that CPUs compute with: numpy, or c, which is compiled where the program runs.
    """

    network: str
    cluster: str
    objective: str = "step_time"
    strategy: Choice = Choice("auto")
    mesh: tuple[MeshAxis, ...] = ()
    allreduce: str = "auto"
    layout: str = "auto"
    schedule: str = "auto"
    microbatches: int | None = None
    shard: str = "none"
    recompute: str = "auto"
    overlap: str = "auto"
    fusion: str = "auto"
    pack: str = "auto"
    kernels: str = "auto"
    limits: tuple[Limit, ...] = ()
    pins: tuple[Rule, ...] = ()
    forbids: tuple[Rule, ...] = ()
    spans: tuple[tuple[str, Span], ...] = field(default=(), compare=False)

    def span(self, key: str) -> Span | None:
        """Where a setting stands; None where it is a default."""
        return dict(self.spans).get(key)
