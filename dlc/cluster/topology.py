"""A cluster: devices, the links between them, and how they nest. SI units: bytes, bytes per second, seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod

from dlc.diagnostics import Span

MAX_DEVICES = 65_536
"""The language's bound on a cluster's size."""

KERNEL_FAMILIES = ("auto", "numpy", "c")
"""What the programs of CPUs compute with."""


@dataclass(frozen=True, slots=True)
class Device:
    """One processing element. `compute` maps an element type to its peak in FLOP/s; `launch` is seconds per kernel.

    `overlap` is the share of communication that computing can hide (0 to 1): 0 where ranks fill the cores.
    """

    name: str
    kind: str = "cpu"
    memory: int = 0
    bandwidth: float = 0.0
    compute: tuple[tuple[str, float], ...] = ()
    launch: float = 0.0
    cores: int = 1
    isa: str = ""
    overlap: float = 0.0
    profile: str | None = None
    kernels: str = "numpy"  # of a CPU: the family that its programs compute with
    span: Span | None = field(default=None, compare=False)

    def peak(self, dtype: str) -> float:
        """Peak FLOP/s for an element type; f64 falls back to half of f32, tf32 to f32."""
        figures = dict(self.compute)
        if dtype in figures:
            return figures[dtype]
        fallback = {"f64": 0.5, "tf32": 1.0, "f16": 1.0, "bf16": 1.0}
        return figures["f32"] * fallback.get(dtype, 1.0)


@dataclass(frozen=True, slots=True)
class Link:
    """A kind of connection: bytes per second per endpoint and direction, seconds of latency for one message."""

    name: str
    bandwidth: float
    latency: float
    duplex: bool = True
    shape: str = "all_to_all"  # all_to_all, switch, ring, torus, fat_tree, edges
    dimensions: tuple[int, ...] = ()  # of a torus
    edges: tuple[tuple[int, int], ...] = ()
    oversubscription: float = 1.0
    shared: bool = False
    span: Span | None = field(default=None, compare=False)

    @property
    def members(self) -> int | None:
        """How many members it joins, where its shape says: a torus or a list of edges; None where any number fits."""
        if self.dimensions:
            return prod(self.dimensions)
        return 1 + max(max(edge) for edge in self.edges) if self.edges else None


@dataclass(frozen=True, slots=True)
class Group:
    """`count` members over a link; a member is the children in turn, or one device where there are none."""

    name: str
    count: int
    link: str | None
    children: tuple[Group, ...] = ()
    device: str | None = None
    span: Span | None = field(default=None, compare=False)

    @property
    def ranks(self) -> int:
        """How many devices it holds."""
        return self.count * (sum(child.ranks for child in self.children) if self.children else 1)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Named devices and links and the nested groups; ranks are row-major through the nesting."""

    name: str
    devices: tuple[Device, ...]
    links: tuple[Link, ...]
    topology: tuple[Group, ...]
    span: Span | None = field(default=None, compare=False)

    @property
    def ranks(self) -> int:
        """How many devices, and so ranks, it has."""
        return sum(group.ranks for group in self.topology)

    @property
    def ranks_in_one_memory(self) -> int:
        """How many processors, one a rank, the innermost group holds that rank 0 is in."""
        group = self.topology[0]
        while group.children:
            group = group.children[0]
        return group.count

    def device(self, name: str) -> Device:
        """The device of that name."""
        return next(device for device in self.devices if device.name == name)

    def link(self, name: str) -> Link:
        """The link of that name."""
        return next(link for link in self.links if link.name == name)

    def device_of(self, rank: int) -> Device:
        """The device that a rank runs on; IndexError for a rank that there is not."""
        groups, position = self.topology, rank
        while groups and position >= 0:
            for group in groups:
                if position < group.ranks:
                    break
                position -= group.ranks
            else:
                break
            if not group.children:
                return self.device(group.device or group.name)
            position %= group.ranks // group.count
            groups = group.children
        raise IndexError(rank)

    def slowest(self, ranks: Iterable[int]) -> Device:
        """The device with the lowest float32 peak among those of ranks, of equals the first."""
        names = self.device_names
        found = dict.fromkeys(names[rank] for rank in ranks)
        return min(map(self.device, found), key=lambda device: device.peak("f32"))

    @property
    def device_names(self) -> tuple[str, ...]:
        """The name of each rank's device."""

        def of(group: Group) -> tuple[str, ...]:
            inside = tuple(name for child in group.children for name in of(child))
            return group.count * (inside or (group.device or group.name,))

        return tuple(name for group in self.topology for name in of(group))

    @property
    def levels(self) -> tuple[Group, ...]:
        """The nested groups, outermost first, where the nesting is even (one child everywhere)."""
        found: list[Group] = []
        groups = self.topology
        while len(groups) == 1:
            found.append(groups[0])
            groups = groups[0].children
        return tuple(found)

    def link_between(self, first: int, second: int) -> Link | None:
        """The link of the innermost group that holds both ranks as different members; None for a rank and itself."""
        groups, base = self.topology, 0
        found: Link | None = None
        while first != second:
            for group in groups:
                if base <= first < base + group.ranks and base <= second < base + group.ranks:
                    break
                base += group.ranks
            else:
                return found
            size = group.ranks // group.count
            one, two = (first - base) // size, (second - base) // size
            if one != two:
                return self.link(group.link) if group.link else None
            base += one * size
            groups = group.children
            found = self.link(group.link) if group.link else found
        return None

    def computing_with(self, kernels: str) -> Cluster:
        """The same cluster, whose CPUs compute with kernels of that family."""
        if all(device.kernels == kernels for device in self.devices if device.kind == "cpu"):
            return self
        devices = (replace(each, kernels=kernels) if each.kind == "cpu" else each for each in self.devices)
        return replace(self, devices=tuple(devices))

    def resized(self, ranks: int) -> Cluster | None:
        """The cluster with its innermost group resized to hold that many ranks in all; None where it cannot.

        Fewer ranks than there are innermost groups stand in one of them. It cannot where the nesting is uneven, where
        the innermost groups would differ in size, and where their link joins no such number of members: no link for
        more than one, or a torus or list of edges for another number.
        """
        levels = self.levels
        if ranks == self.ranks:
            return self
        if not levels or levels[-1].children or not 1 <= ranks <= MAX_DEVICES:
            return None
        outer = prod(level.count for level in levels[:-1])
        if ranks % outer and ranks > outer:
            return None
        spread = ranks >= outer
        innermost = replace(levels[-1], count=ranks // outer if spread else ranks)
        if not self._joins(innermost):
            return None
        group = innermost
        for level in reversed(levels[:-1]):
            group = replace(level, count=level.count if spread else 1, children=(group,))
        return replace(self, topology=(group,))

    def _joins(self, group: Group) -> bool:
        """Whether the group's link can join that many members."""
        if group.count == 1:
            return True
        return group.link is not None and self.link(group.link).members in (None, group.count)


MeshAxes = Mapping[str, int]
"""Mesh axis name -> extent, major first."""
