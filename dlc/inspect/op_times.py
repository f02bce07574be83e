"""A step's calls with their seconds, measured and predicted, as a table: by kind of kernel, and the longest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from dlc.inspect.tables import table

BESIDES = "besides"
"""How what a step does besides its calls is called: Python's own work between them, its loss, its clock."""

SHARE = 0.98
"""Kinds are shown that together make up so much of what was measured, or of what was predicted of others too long."""


@dataclass(frozen=True, slots=True)
class OpTime:
    """One call of a step: seconds measured and predicted, work in multiply-adds and bytes.

    `family` is c or numpy, by what was called in fact; `source` says where the prediction comes from.
    """

    address: str
    op: str
    stage: str
    way: str
    family: str
    seconds: float
    predicted: float = 0.0
    source: str = ""
    macs: int = 0
    bytes: int = 0

    @property
    def kind(self) -> str:
        """Op, pass, algorithm, layout and family."""
        return ", ".join(filter(None, (" ".join(filter(None, (self.op, self.stage, self.way))), self.family)))

    @property
    def rate(self) -> str:
        """What it computes or moves in a second."""
        if self.macs and self.bytes < self.macs:
            return f"{2e-9 * self.macs / self.seconds:.1f} GFLOP/s"
        return f"{1e-9 * self.bytes / self.seconds:.1f} GB/s" if self.bytes and self.seconds > 0.0 else ""


def by_kind(found: Iterable[OpTime]) -> tuple[tuple[str, tuple[OpTime, ...]], ...]:
    """The calls of each kind, those that differ most from their prediction first."""
    groups: dict[str, list[OpTime]] = {}
    for each in found:
        groups.setdefault(each.kind, []).append(each)
    return tuple(sorted(((kind, tuple(each)) for kind, each in groups.items()), key=lambda group: -abs(_off(group[1]))))


def _off(group: Sequence[OpTime]) -> float:
    """Seconds by which the prediction is too long."""
    return sum(each.predicted for each in group) - sum(each.seconds for each in group)


def text(found: Sequence[OpTime], longest: int = 0) -> str:
    """A row for each kind of call, by how far its prediction is off, and so many of the longest calls."""
    step = sum(each.seconds for each in found)
    rows = [(kind, str(len(group)), _sources(group), *_columns(group, step)) for kind, group in _shown(found, step)]
    header = ("calls of a kind", "calls", "by", "predicted", "measured", "error", "of the step")
    parts = [table(header, rows, right=(1, 3, 4, 5, 6))]
    if longest:
        singles = sorted(found, key=lambda each: -each.seconds)[:longest]
        rows = [(each.address, each.kind, each.rate, *_columns([each], step)) for each in singles]
        header = ("call", "kind", "rate", "predicted", "measured", "error", "of the step")
        parts.append(table(header, rows, right=(2, 3, 4, 5, 6)))
    return "\n\n".join(parts)


def _shown(found: Sequence[OpTime], step: float) -> Iterator[tuple[str, tuple[OpTime, ...]]]:
    """Kinds that are not all of them so short, and so well predicted, that they say nothing."""
    for kind, group in by_kind(found):
        if max(abs(_off(group)), sum(each.seconds for each in group)) > (1.0 - SHARE) * step / 4:
            yield kind, group


def _sources(group: Iterable[OpTime]) -> str:
    return " ".join(dict.fromkeys(each.source for each in group if each.source))


def _columns(group: Sequence[OpTime], step: float) -> tuple[str, str, str, str]:
    """Milliseconds predicted and measured, the error, and the share of the step: the digits of all rows line up."""
    seconds, predicted = sum(each.seconds for each in group), sum(each.predicted for each in group)
    error = f"{100 * (predicted / seconds - 1):+.0f} %" if seconds > 0.0 else ""
    return f"{predicted * 1e3:.3f} ms", f"{seconds * 1e3:.3f} ms", error, f"{seconds / step:.1%}"


def rows(found: Iterable[OpTime]) -> list[dict[str, object]]:
    """All calls as JSON: seconds and bytes."""
    return [asdict(each) for each in found]
