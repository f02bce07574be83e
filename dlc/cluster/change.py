"""The same cluster with other hardware: one figure of a device or link changed, or the number of devices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf, isfinite, prod
from typing import Any, Literal, TypeVar

from dlc.cluster.topology import MAX_DEVICES, Cluster, Device, Group, Link
from dlc.diagnostics import Diagnostic, DiagnosticError, similar
from dlc.messages import e04_cluster as messages
from dlc.units import KIND_WORDS, UNITS, in_si, symbols

Member = TypeVar("Member", Device, Link)

Quantity = Literal["size", "rate", "time", "compute"]
Plain = Literal["whole number", "number", "flag"]


@dataclass(frozen=True, slots=True)
class Figure:
    """What a setting takes: its kind, an example, and its range (`above` is excluded, the other ends are not)."""

    kind: Quantity | Plain
    example: str
    above: float = -inf
    minimum: float = -inf
    maximum: float = inf

    @property
    def expected(self) -> str:
        """In words: a size."""
        match self.kind:
            case "flag":
                return "`yes` or `no`"
            case "number" | "whole number":
                return f"a {self.kind}"
        return KIND_WORDS[self.kind]

    @property
    def allowed(self) -> str:
        """Its range in words: `at least 0 and at most 1`."""
        bounds = (("at least", self.minimum), ("above", self.above), ("at most", self.maximum))
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds if isfinite(bound)) or "finite"


_COMPUTE: Mapping[str, Figure] = {
    f"compute.{dtype}": Figure("compute", "100 TFLOP/s", above=0) for dtype in ("f32", "f64", "tf32", "f16", "bf16")
}

DEVICE: Mapping[str, Figure] = {
    "memory": Figure("size", "80 GiB", above=0),
    "bandwidth": Figure("rate", "3 TB/s", above=0),
    **_COMPUTE,
    "launch": Figure("time", "4 us", minimum=0),
    "cores": Figure("whole number", "8", minimum=1),
    "overlap": Figure("number", "0.8", minimum=0, maximum=1),
}
"""The settings of a device that can be changed; its kind, instruction set and profile belong to another device."""

LINK: Mapping[str, Figure] = {
    "bandwidth": Figure("rate", "400 Gbit/s", above=0),
    "latency": Figure("time", "2 us", minimum=0),
    "duplex": Figure("flag", "yes"),
    "oversubscription": Figure("number", "2", minimum=1),
    "shared": Figure("flag", "no"),
}
"""The settings of a link that can be changed; its shape belongs to another topology."""

MEASURED = ("bandwidth", "launch")
"""Besides `compute`, what a profile's measured figures depend on: where it changes, the profile no longer holds."""


def changed(cluster: Cluster, path: str, text: str) -> Cluster:
    """The cluster with one setting changed: `changed(pod, "link.infiniband.bandwidth", "400 Gbit/s")`.

    The path is `device.NAME.SETTING` or `link.NAME.SETTING`, the text a value as it stands in a cluster block; the
    blank before a unit may be missing. A device whose speed changes loses its profile of measured figures.

    DiagnosticError: E0402 for a device, link or setting that there is not, E0401 for a value of another kind, E0404
    for one out of range.
    """
    what, _, rest = path.partition(".")
    name, _, key = rest.partition(".")
    if what == "device" and key:
        devices = {device.name: device for device in cluster.devices}
        figure = _find(cluster, what, name, key, devices, DEVICE)
        return replace(
            cluster, devices=_replaced(cluster.devices, _device(devices[name], key, read(key, text, figure)))
        )
    if what == "link" and key:
        links = {link.name: link for link in cluster.links}
        figure = _find(cluster, what, name, key, links, LINK)
        return replace(cluster, links=_replaced(cluster.links, _with(links[name], key, read(key, text, figure))))
    helps = (f"a change names a device or a link and one of its settings, such as `{_example(cluster)}`",)
    raise _refused(
        messages.UNKNOWN_SETTING.at(None, where=_called(cluster), what="setting", key=f"`{path}`", helps=helps)
    )


def _find(
    cluster: Cluster, what: str, name: str, key: str, members: Mapping[str, object], figures: Mapping[str, Figure]
) -> Figure:
    """The figure that `what.name.key` means; E0402 where there is no such member or it has no such setting."""
    if name not in members:
        helps = _helps(name, members, f"a {what}")
        raise _refused(
            messages.UNKNOWN_SETTING.at(None, where=_called(cluster), what=what, key=f"`{name}`", helps=helps)
        )
    if key not in figures:
        helps = _helps(key, figures, "one")
        raise _refused(
            messages.UNKNOWN_SETTING.at(None, where=f"{what} `{name}`", what="setting", key=f"`{key}`", helps=helps)
        )
    return figures[key]


def _helps(name: str, known: Mapping[str, object], what: str) -> tuple[str, ...]:
    near = similar(name, known)
    listed = ", ".join(f"`{each}`" for each in known) or "none"
    return (*((f"there is {what} with a similar name: `{near}`",) if near else ()), f"known names: {listed}")


def _called(cluster: Cluster) -> str:
    return f"cluster `{cluster.name}`"


def _example(cluster: Cluster) -> str:
    link = next((f"link.{link.name}.bandwidth" for link in cluster.links), None)
    return link or f"device.{cluster.devices[0].name}.memory"


def _refused(diagnostic: Diagnostic) -> DiagnosticError:
    return DiagnosticError((diagnostic,))


def _replaced(members: tuple[Member, ...], new: Member) -> tuple[Member, ...]:
    return tuple(new if member.name == new.name else member for member in members)


def _with(member: Member, key: str, value: float) -> Member:
    changes: dict[str, Any] = {key: value}
    return replace(member, **changes)


def _device(device: Device, key: str, value: float) -> Device:
    """The device with one figure changed."""
    kept = None if key in MEASURED or key in _COMPUTE else device.profile
    if key not in _COMPUTE:
        return _with(replace(device, profile=kept), key, value)
    speeds = {**dict(device.compute), key.removeprefix("compute."): float(value)}
    return replace(device, profile=kept, compute=tuple(speeds.items()))


# --- values --------------------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"([+-]?\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*([A-Za-z][A-Za-z/]*)?")


def read(key: str, text: str, figure: Figure) -> float:
    """A value in SI base units; E0401 where the text is of another kind, E0404 where it is out of range."""
    text = text.strip()
    found = _flag(text) if figure.kind == "flag" else _number(key, text, figure)
    if found is None:
        helps = (f"write it as `{key} = {figure.example}`",)
        raise _wrong(key, figure, f"`{text}` is not", helps)
    if not (isfinite(found) and figure.above < found and figure.minimum <= found <= figure.maximum):
        raise _refused(messages.OUT_OF_RANGE.at(None, key=key, allowed=figure.allowed, found=text))
    return found


def _flag(text: str) -> bool | None:
    return {"yes": True, "no": False}.get(text)


def _number(key: str, text: str, figure: Figure) -> float | None:
    match = _NUMBER.fullmatch(text)
    number, unit = match.groups() if match else ("", None)
    match figure.kind:
        case "flag":
            return None
        case "whole number":
            return int(number) if number.isdigit() and unit is None else None
        case "number":
            return float(number) if number and unit is None else None
    return _quantity(key, number, unit, figure.kind, figure) if number else None


def _quantity(key: str, number: str, unit: str | None, kind: Quantity, figure: Figure) -> float:
    """A number and its unit in SI base units."""
    if unit is None:
        raise _wrong(key, figure, f"`{number}` has no unit", (f"write it with its unit, such as `{figure.example}`",))
    if unit not in UNITS:
        near = similar(unit, symbols(kind))
        alike = (f"there is a unit with a similar name: `{near}`",) if near else ()
        raise _wrong(key, figure, f"`{unit}` is no unit", (*alike, f"units: {', '.join(symbols(kind))}"))
    if UNITS[unit].kind != kind:
        raise _wrong(key, figure, f"`{number} {unit}` is {KIND_WORDS[UNITS[unit].kind]}", ())
    try:
        return in_si(float(number), unit).value
    except OverflowError:
        return inf


def _wrong(key: str, figure: Figure, found: str, helps: tuple[str, ...]) -> DiagnosticError:
    return _refused(messages.WRONG_QUANTITY.at(None, key=key, expected=figure.expected, found=found, helps=helps))


# --- sizes ---------------------------------------------------------------------------------------------------------


def scaled(cluster: Cluster, ranks: int) -> Cluster | None:
    """The cluster with so many devices, as one would buy them; None where its nesting is uneven or a link forbids it.

    The outermost group is resized where the number is a multiple of what one of its members holds: more servers of the
    same kind. A number that fits into one member is a part of one, by the same rule. Any other number is what
    `Cluster.resized` makes of it: as many groups as before, the innermost ones of another size.
    """
    levels = cluster.levels
    if not levels or levels[-1].children or not 1 <= ranks <= MAX_DEVICES:
        return None
    counts = _counts([level.count for level in levels], ranks)
    if counts is None or not all(_joins(cluster, level, n) for level, n in zip(levels, counts, strict=True)):
        return cluster.resized(ranks)
    children: tuple[Group, ...] = ()
    for level, count in reversed(list(zip(levels, counts, strict=True))):
        children = (replace(level, count=count, children=children),)
    return replace(cluster, topology=children)


def _counts(counts: list[int], ranks: int) -> list[int] | None:
    """Members of each group, outermost first; None for more than one member of a group and a part of one."""
    inner = prod(counts[1:])
    if ranks % inner == 0:
        return [ranks // inner, *counts[1:]]
    rest = _counts(counts[1:], ranks) if ranks < inner else None
    return None if rest is None else [1, *rest]


def _joins(cluster: Cluster, level: Group, count: int) -> bool:
    """Whether the level's link can join that many members."""
    return count == 1 or (level.link is not None and cluster.link(level.link).members in (None, count))
