"""Units: read from specs and printed for humans, in one place.

Inside dlc every figure is in SI base units: bytes, seconds, bytes per second, floating-point operations (per second),
and counts. Sizes in bytes are exact integers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Bytes = int
Seconds = float
Flops = int


Kind = Literal["size", "rate", "time", "compute", "count"]
"""What a quantity measures: bytes, bytes per second, seconds, FLOP per second, or epochs and steps."""

KIND_WORDS: Mapping[Kind, str] = {
    "size": "a size",
    "rate": "a rate",
    "time": "a time",
    "compute": "a compute rate",
    "count": "a count",
}
"""How messages call each kind."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: one of it is `times / over` of its base unit. Two integers keep sizes exact and times well rounded."""

    symbol: str
    kind: Kind
    base: str
    times: int = 1
    over: int = 1


@dataclass(frozen=True, slots=True)
class Amount:
    """A quantity in its base unit (`B`, `B/s`, `s`, `FLOP/s`, `epoch` or `step`); sizes and counts stay integers."""

    value: int | float
    kind: Kind
    base: str


_K, _M, _G, _T, _P = (10**exponent for exponent in (3, 6, 9, 12, 15))

_ALL = (
    Unit("B", "size", "B"),
    Unit("KiB", "size", "B", 2**10),
    Unit("MiB", "size", "B", 2**20),
    Unit("GiB", "size", "B", 2**30),
    Unit("KB", "size", "B", _K),
    Unit("MB", "size", "B", _M),
    Unit("GB", "size", "B", _G),
    Unit("TiB", "size", "B", 2**40),
    Unit("TB", "size", "B", _T),
    Unit("B/s", "rate", "B/s"),
    Unit("KB/s", "rate", "B/s", _K),
    Unit("MB/s", "rate", "B/s", _M),
    Unit("GB/s", "rate", "B/s", _G),
    Unit("TB/s", "rate", "B/s", _T),
    Unit("bit/s", "rate", "B/s", 1, 8),
    Unit("Kbit/s", "rate", "B/s", _K, 8),
    Unit("Mbit/s", "rate", "B/s", _M, 8),
    Unit("Gbit/s", "rate", "B/s", _G, 8),
    Unit("Tbit/s", "rate", "B/s", _T, 8),
    Unit("ns", "time", "s", 1, _G),
    Unit("us", "time", "s", 1, _M),
    Unit("ms", "time", "s", 1, _K),
    Unit("s", "time", "s"),
    Unit("FLOP/s", "compute", "FLOP/s"),
    Unit("KFLOP/s", "compute", "FLOP/s", _K),
    Unit("MFLOP/s", "compute", "FLOP/s", _M),
    Unit("GFLOP/s", "compute", "FLOP/s", _G),
    Unit("TFLOP/s", "compute", "FLOP/s", _T),
    Unit("PFLOP/s", "compute", "FLOP/s", _P),
    Unit("epoch", "count", "epoch"),
    Unit("epochs", "count", "epoch"),
    Unit("step", "count", "step"),
    Unit("steps", "count", "step"),
)

UNITS = {unit.symbol: unit for unit in _ALL}


def symbols(kind: Kind) -> tuple[str, ...]:
    """The units of one kind, the common ones first."""
    return tuple(unit.symbol for unit in _ALL if unit.kind == kind)


def in_si(value: int | float, unit: str) -> Amount:
    """A number and the symbol of its unit, in the base unit.

    A size is rounded to whole bytes. Raises KeyError for a symbol that is not in `UNITS` (the parser lets none
    pass), OverflowError for a size beyond the range of floats.
    """
    known = UNITS[unit]
    if known.kind == "size":
        return Amount(round(value * known.times), known.kind, known.base)
    scaled = value * known.times / known.over if known.over > 1 else value * known.times
    return Amount(scaled, known.kind, known.base)


def format_bytes(size: float) -> str:
    """`1.5 GiB`, `2 KiB`, `17 B`: three digits and the largest binary unit of at least one."""
    return _scaled(size, "B", 1024, ("", "Ki", "Mi", "Gi", "Ti"))


def format_seconds(seconds: float) -> str:
    """`1.31 ms`, `2 us`, `90 s`: three digits; seconds are the largest unit."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if abs(seconds) * factor >= 0.9995:
            return f"{_digits(seconds * factor)} {unit}"
    return f"{_digits(seconds * 1e9)} ns" if seconds else "0 s"


def format_flops(operations: float) -> str:
    """`4.09 GFLOP`: a number of floating-point operations."""
    return _scaled(operations, "FLOP", 1000, ("", "K", "M", "G", "T", "P", "E"))


def format_compute(rate: float) -> str:
    """`125 TFLOP/s`: floating-point operations per second."""
    return f"{format_flops(rate)}/s"


def format_rate(rate: float) -> str:
    """`900 GB/s`: bytes per second, in decimal units as vendors give them."""
    return _scaled(rate, "B", 1000, ("", "K", "M", "G", "T")) + "/s"


def format_count(count: float) -> str:
    """`61,706`: whole numbers in full, with commas."""
    return f"{count:,}" if isinstance(count, int) else _digits(count)


def _scaled(value: float, unit: str, step: int, prefixes: tuple[str, ...]) -> str:
    power = 0
    while power + 1 < len(prefixes) and abs(value) / step**power >= step - 0.5:
        power += 1
    return f"{_digits(value / step**power)} {prefixes[power]}{unit}"


def _digits(value: float) -> str:
    """Three significant digits, more before the point where there are more, no trailing zeros."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
