"""Cluster blocks: devices, links and the nested groups, checked, in SI units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from dlc.cluster.topology import MAX_DEVICES, Cluster, Device, Group, Link
from dlc.diagnostics import Diagnostics, Label, Message
from dlc.expand.evaluate import UNKNOWN, Entity, Scope
from dlc.expand.fields import Field
from dlc.expand.settings import Reader, Wording, similar_help
from dlc.messages import e04_cluster as messages
from dlc.messages.e02_names import DEFINED_TWICE
from dlc.syntax import ast

WORDING = Wording(
    unknown=messages.UNKNOWN_SETTING,
    missing=messages.MISSING_SETTING,
    twice=messages.SET_TWICE,
    kind=messages.WRONG_QUANTITY,
    choice=messages.UNKNOWN_CHOICE,
    range=messages.OUT_OF_RANGE,
    outside=messages.OUTSIDE_ROOT,
)

DEVICE = (
    Field("kind", "word", "cpu", choices=("cpu", "gpu", "accelerator")),
    Field("memory", "size", required=True, above=0),
    Field("bandwidth", "rate", required=True, above=0),
    Field("compute.f32", "compute", required=True, above=0),
    Field("compute.f64", "compute", above=0),
    Field("compute.tf32", "compute", above=0),
    Field("compute.f16", "compute", above=0),
    Field("compute.bf16", "compute", above=0),
    Field("launch", "time", 0.0, minimum=0),
    Field("cores", "count", 1, minimum=1),
    Field("isa", "name", ""),
    Field("overlap", "number", 0.0, minimum=0, maximum=1),
    Field("profile", "path"),
)
"""`compute.TYPE` is the peak for one element type, `launch` the seconds that one kernel costs before it starts,
`overlap` the share of communication that computing can hide."""

LINK = (
    Field("bandwidth", "rate", required=True, above=0),
    Field("latency", "time", required=True, minimum=0),
    Field("duplex", "flag", True),
    Field("oversubscription", "number", 1.0, minimum=1),
    Field("shared", "flag", False),
)
"""Besides `shape` and `edges`. `bandwidth` is per endpoint and direction."""

SHAPES: Mapping[str, tuple[Field, ...]] = {
    "all_to_all": (),
    "switch": (),
    "ring": (),
    "torus": (Field("extents", "window", required=True, minimum=1),),
    "fat_tree": (),
}
"""Shapes of a link, with the arguments that they take; `edges` is a setting of its own."""


Shared = ast.Device | ast.LinkItem
"""What may stand alone in a file, for all its clusters."""


def expand_cluster(
    item: ast.Cluster, scope: Scope, shared: Iterable[Shared], diagnostics: Diagnostics
) -> Cluster | None:
    """The cluster that a block describes; None where it has mistakes, which are then in `diagnostics`.

    `shared` are the devices and links that stand alone in the file and its imports. The cluster keeps those that its
    topology names; its own take precedence over them.
    """
    before = len(diagnostics.errors)
    reader = Reader(scope, diagnostics, WORDING)
    alone = tuple(member for member in shared if member.name in set(_names(item.topology)))
    shared_devices = tuple(member for member in alone if isinstance(member, ast.Device))
    shared_links = tuple(member for member in alone if isinstance(member, ast.LinkItem))
    devices = _members(item.devices, shared_devices, expand_device, reader)
    links = _members(item.links, shared_links, expand_link, reader)
    topology = _Topology(item, devices, links, (*item.devices, *item.links, *shared), reader).expand()
    if len(diagnostics.errors) > before:
        return None
    return Cluster(item.name, _expanded(devices), _expanded(links), topology, item.span)


def _names(groups: Iterable[ast.Group]) -> Iterator[str]:
    """The devices and links that a topology names."""
    for group in groups:
        yield from (group.name,) if group.over is None else (group.name, group.over)
        yield from _names(group.children)


def check_standalone(items: Iterable[Shared], scope: Scope, diagnostics: Diagnostics) -> None:
    """Find the mistakes in devices and links that stand alone, used or not."""
    reader = Reader(scope, diagnostics, WORDING)
    for item in items:
        if isinstance(item, ast.Device):
            expand_device(item, reader)
        else:
            expand_link(item, reader)


def expand_device(item: ast.Device, reader: Reader) -> Device | None:
    """A device from its settings; None where one is wrong."""
    where = f"device `{item.name}`"
    given = reader.collect(item.settings, [field.key for field in DEVICE], where)
    values = reader.fill(DEVICE, {key: setting.value for key, setting in given.items()}, where, item.name_span)
    if values is None:
        return None
    compute = tuple(
        (key.removeprefix(_COMPUTE), value)
        for key, value in values
        if key.startswith(_COMPUTE) and isinstance(value, int | float)
    )
    others: dict[str, Any] = {key: value for key, value in values if not key.startswith(_COMPUTE)}
    return Device(item.name, compute=compute, span=item.name_span, **others)


def expand_link(item: ast.LinkItem, reader: Reader) -> Link | None:
    """A link from its settings; None where one is wrong."""
    where = f"link `{item.name}`"
    given = reader.collect(item.settings, (*(field.key for field in LINK), "shape", "edges"), where)
    values = reader.fill(LINK, {key: setting.value for key, setting in given.items()}, where, item.name_span)
    shape = _shape(item, given, reader)
    if values is None or shape is None:
        return None
    others: dict[str, Any] = dict(values)
    return Link(item.name, span=item.name_span, **others, **shape)


def _shape(item: ast.LinkItem, given: Mapping[str, ast.Setting], reader: Reader) -> dict[str, Any] | None:
    """What `shape` and `edges` say, as fields of Link; None where it is wrong."""
    if "edges" in given:
        setting = given["edges"]
        edges = _edges(reader.evaluate(setting.value))
        fault = "stand beside `shape`, which says the same" if "shape" in given else edges
        if isinstance(fault, str):
            reader.diagnostics.add(messages.BAD_EDGES.at(setting.span, link=item.name, fault=fault))
            return None
        return {"shape": "edges", "edges": edges} if edges is not None else None
    if "shape" not in given:
        return {}
    choice = reader.choice("a shape of a link", given["shape"].value, SHAPES)
    if choice is None:
        return None
    return {"shape": choice.kind, "dimensions": choice.get("extents") if choice.arguments else ()}


def _edges(value: Entity) -> tuple[tuple[int, int], ...] | str | None:
    """Pairs of members; a text that says what is wrong with them; None where that has been said."""
    if value is UNKNOWN:
        return None
    edges: list[tuple[int, int]] = []
    for pair in value if isinstance(value, tuple) else ((),):
        match pair:
            case (bool(), _) | (_, bool()):
                return _NO_PAIRS
            case (int(first), int(second)) if first != second and min(first, second) >= 0:
                edges.append((first, second))
            case _:
                return _NO_PAIRS
    if max(map(max, edges), default=0) >= MAX_DEVICES:
        return f"name a member beyond the {MAX_DEVICES:,} that a cluster may have"
    if len({frozenset(edge) for edge in edges}) < len(edges):
        return "hold a pair twice"
    if not edges or not _connected(edges):
        return "do not join all members to each other"
    return tuple(edges)


def _connected(edges: Iterable[tuple[int, int]]) -> bool:
    """Whether every member up to the largest can be reached from member 0."""
    neighbours: dict[int, list[int]] = {}
    for first, second in edges:
        neighbours.setdefault(first, []).append(second)
        neighbours.setdefault(second, []).append(first)
    reached, waiting = {0}, [0]
    while waiting:
        new = [member for member in neighbours.get(waiting.pop(), ()) if member not in reached]
        reached.update(new)
        waiting.extend(new)
    return len(reached) == max(neighbours) + 1


_NO_PAIRS = "are no list of pairs of different members, such as `[[0, 1], [1, 2]]`"

Written = TypeVar("Written", ast.Device, ast.LinkItem)
Expanded = TypeVar("Expanded", Device, Link)


def _members(
    own: Iterable[Written],
    shared: Iterable[Written],
    expand: Callable[[Written, Reader], Expanded | None],
    reader: Reader,
) -> dict[str, Expanded | None]:
    """The devices or the links of a cluster by name, its own first; None for one that has mistakes."""
    first: dict[str, Written] = {}
    for item in own:
        if item.name in first:
            label = Label(first[item.name].name_span, "first here")
            reader.diagnostics.add(DEFINED_TWICE.at(item.name_span, secondary=(label,), name=item.name))
        first.setdefault(item.name, item)
    for item in shared:
        first.setdefault(item.name, item)
    return {name: expand(item, reader) for name, item in first.items()}


def _expanded(members: Mapping[str, Expanded | None]) -> tuple[Expanded, ...]:
    return tuple(member for member in members.values() if member is not None)


@dataclass(slots=True)
class _Topology:
    """Expands and checks the nested groups of one cluster."""

    item: ast.Cluster
    devices: Mapping[str, Device | None]
    links: Mapping[str, Link | None]
    in_reach: tuple[Shared, ...]
    reader: Reader

    def expand(self) -> tuple[Group, ...]:
        """The groups; what is wrong with them is reported."""
        if not self.item.topology:
            self.refuse(messages.NO_TOPOLOGY, self.item.name_span)
        elif len(self.item.topology) > 1:
            second = self.item.topology[1]
            helps = ("put them into one group with a link: `machine over LINK { … }`",)
            self.refuse(messages.NO_COMMON_LINK, second.name_span, name=second.name, helps=helps)
        groups = tuple(self.group(group) for group in self.item.topology)
        ranks = sum(group.ranks for group in groups)
        if ranks > MAX_DEVICES:
            self.refuse(
                messages.TOO_MANY_DEVICES, self.item.topology[0].span, count=f"{ranks:,}", limit=f"{MAX_DEVICES:,}"
            )
        return groups

    def group(self, item: ast.Group) -> Group:
        """One group with its children."""
        count = 1 if item.count is None else self.reader.read(_count(item), item.count)
        count = count if isinstance(count, int) else 1
        link = self.link(item, count)
        if not item.children and item.name not in self.devices:
            known = dict.fromkeys(member.name for member in self.in_reach if isinstance(member, ast.Device))
            helps = similar_help(item.name, known, "a device")
            self.refuse(messages.UNKNOWN_DEVICE, item.name_span, name=item.name, helps=helps)
        children = tuple(self.group(child) for child in item.children)
        return Group(item.name, count, link, children, None if children else item.name, item.span)

    def link(self, item: ast.Group, count: int) -> str | None:
        """The name of the link between a group's members, and between its children where they are several."""
        if item.over is None:
            if count > 1:
                helps = (f"say which link joins them: `{item.name}[{count}] over LINK`",)
                self.refuse(messages.NO_LINK, item.name_span, name=item.name, count=count, helps=helps)
            elif len(item.children) > 1:
                second = item.children[1]
                helps = (f"say which link joins them: `{item.name} over LINK {{ … }}`",)
                self.refuse(messages.NO_COMMON_LINK, second.name_span, name=second.name, helps=helps)
            return None
        if item.over not in self.links:
            known = dict.fromkeys(member.name for member in self.in_reach if isinstance(member, ast.LinkItem))
            similar = similar_help(item.over, known, "a link")
            self.refuse(messages.UNKNOWN_LINK, item.over_span, name=item.over, helps=similar)
            return None
        self.check_shape(item, count, self.links[item.over])
        return item.over

    def check_shape(self, item: ast.Group, count: int, link: Link | None) -> None:
        """Refuse a torus or list of edges that joins another number of members."""
        if link is None or count == 1 or link.members in (None, count):
            return
        labels = (Label(link.span, f"joins {link.members}"),) if link.span is not None else ()
        facts = {"link": link.name, "joined": link.members, "group": item.name, "count": count}
        self.refuse(messages.SHAPE_MISMATCH, item.name_span, secondary=labels, **facts)

    def refuse(self, message: Message, span: Any, **values: Any) -> None:
        """Report a mistake in the topology."""
        self.reader.diagnostics.add(message.at(span, cluster=self.item.name, **values))


_COMPUTE = "compute."


def _count(item: ast.Group) -> Field:
    """How many members a group has; messages call it `core[n]`."""
    return Field(f"{item.name}[n]", "count", minimum=1)
