"""Addresses: what each op, block and repeat of a statement is called.

A statement's first target is one segment. Each op, block or repeat in it adds one: its label, else its own name,
numbered `_2`, `_3` in text order. A repeat without a label adds its `[i]` to the segment before it; a block without a
label adds nothing where it stands alone. A repeat's body counts for itself, as a statement does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dlc.diagnostics import Label, Span
from dlc.expand.report import Report
from dlc.messages import e02_names as messages

Position = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Site:
    """Something in a statement that adds to addresses; `span` is its name's, or its sign's."""

    kind: Literal["op", "block", "repeat"]
    name: str
    span: Span
    label: str | None = None


def at(span: Span) -> Position:
    """Where a site stands; within one statement no two stand at one place."""
    return (span.line, span.column)


def below(prefix: str, segment: str) -> str:
    """The address of a segment below another address, which may be empty."""
    return f"{prefix}.{segment}" if prefix else segment


def assign(sites: Sequence[Site], stem: str, report: Report) -> dict[Position, str]:
    """The address of each site of one statement or repeat body, whose own address is `stem`.

    Equal addresses are reported (E0217), a second repeat without a label too (E0218).
    """
    counts: dict[str, int] = {}
    first: dict[str, Site] = {}
    found: dict[Position, str] = {}
    repeats = 0
    for site in sorted(sites, key=lambda site: at(site.span)):
        if site.label is not None:
            address = below(stem, site.label)
        elif site.kind == "repeat":
            address = stem
            repeats += 1
            if repeats == 2:
                report(messages.SECOND_REPEAT.at(site.span))
        elif site.kind == "block" and len(sites) == 1:
            address = stem
        else:
            counts[site.name] = count = counts.get(site.name, 0) + 1
            address = below(stem, site.name if count == 1 else f"{site.name}_{count}")
        found[at(site.span)] = address
        if address != stem and first.setdefault(address, site) is not site:
            report_clash(address, site.span, first[address].span, report)
    return found


def report_clash(address: str, span: Span, first: Span | None, report: Report) -> None:
    """E0217, with the place of the first op of that address."""
    secondary = () if first is None else (Label(first, "the first one"),)
    helps = ("a label sets them apart: `… as NAME`",)
    report(messages.SAME_ADDRESS.at(span, address=address, secondary=secondary, helps=helps))
