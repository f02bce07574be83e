"""Measured figures of a device, and what lies between them. Times in seconds, rates per second, sizes in bytes.

A profile is a JSON file (`dlc calibrate` writes it):

    {"schema": 1, "device": "core", "call": 1.1e-6, "spread": 0.12,
     "bandwidth": [{"run": 4, "rate": 3.1e9}, {"run": 4096, "rate": 1.1e10}],
     "gemm": [{"dtype": "f32", "m": [16, 256], "n": [16, 4096], "k": [32, 512], "rate": [[[…]]]}],
     "kernels": [{"op": "conv", "pass": "forward", "algorithm": "im2col", "layout": "NHWC",
                  "attrs": {"stride": [1, 1], …}, "inputs": ["f32[batch = 32, …]", …], "seconds": 0.0021}, …]}

A kernel measured on these very shapes and attributes counts as `measured`. Else phases are priced from the tables:
`rate` of a matrix product linearly between neighbours in the logarithms of m, n and k, `rate` of memory in that of the
run; outside of a table its nearest edge counts. A table that is missing leaves the analytic formula in place.

`spread` says how far kernels of other shapes were from what the profile gives for them: a prediction of t seconds
stands for t/(1 + spread) to t·(1 + spread). The interval of a sum is the sum of the intervals, the worst case: the same
formulas and tables price every kernel of a network, so their errors are no independent draws that would cancel out.
With one spread for all terms that is the interval of the sum itself.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from dlc.ir.graph import Attr
from dlc.ir.plan import Figure
from dlc.ops.extents import entry, following, larger, log2, smaller
from dlc.ops.operator import Shapes

KernelKey = tuple[str, str, str, str, tuple[str, ...], tuple[tuple[str, Attr], ...]]
"""op, pass, algorithm, layout, input types as printed, attributes sorted by name."""


ANALYTIC_SPREAD = 0.7
"""The spread where no profile says another: networks by seven libraries on a Titan X took what is predicted from its
peak figures within a factor of 1.7 (`tests/published/test_convnet_benchmarks.py`)."""


@dataclass(frozen=True, slots=True)
class GemmTable:
    """Measured FLOP/s of matrix products over a grid: `rate[i][j][l]` belongs to m[i], n[j], k[l]."""

    dtype: str
    m: tuple[int, ...]
    n: tuple[int, ...]
    k: tuple[int, ...]
    rate: tuple[tuple[tuple[float, ...], ...], ...]
    _flat: array[float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_flat", array("d", (r for plane in self.rate for row in plane for r in row)))

    def at(self, m: int, n: int, k: int) -> float:
        """The rate between the eight neighbours of (m, n, k)."""
        along = [_neighbours(points, at) for points, at in ((self.m, m), (self.n, n), (self.k, k))]
        found = 0.0
        for (i, a), (j, b), (l, c) in product(*along):
            found += a * b * c * entry(self._flat, (i * len(self.n) + j) * len(self.k) + l)
        return found


@dataclass(frozen=True, slots=True)
class Profile:
    """One device's measurements; empty tables say nothing."""

    device: str
    call: float | None = None
    bandwidth: tuple[tuple[float, float], ...] = ()  # (run, rate), by rising run
    gemm: tuple[GemmTable, ...] = ()
    kernels: tuple[tuple[KernelKey, float], ...] = ()
    spread: float = ANALYTIC_SPREAD
    _kernels: dict[KernelKey, float] = field(init=False, repr=False, compare=False)
    _measured: frozenset[tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_kernels", dict(self.kernels))
        object.__setattr__(self, "_measured", frozenset(key[:4] for key, _ in self.kernels))

    @property
    def interpolates(self) -> bool:
        """Whether it has a table to interpolate in."""
        return bool(self.bandwidth or self.gemm)

    def kernel(self, op: str, stage: str, algorithm: str, layout: str, shapes: Shapes) -> Figure | None:
        """The time measured for exactly this kernel, these shapes and attributes."""
        found = self._kernels.get(_key(op, stage, algorithm, layout, [str(t) for t in shapes.inputs], shapes.attrs))
        return None if found is None else Figure(found, "measured", "compute")

    def measures(self, op: str, stage: str, algorithm: str, layout: str) -> bool:
        """Whether this kernel was measured on any shapes."""
        return (op, stage, algorithm, layout) in self._measured

    def interval(self, seconds: float) -> tuple[float, float]:
        """From when to when a prediction of so many seconds may come true."""
        return interval(seconds, self)

    def gemm_rate(self, dtype: str, m: int, n: int, k: int) -> float | None:
        """FLOP/s of a matrix product; None where no table has that element type."""
        return next((table.at(m, n, k) for table in self.gemm if table.dtype == dtype), None)

    def bandwidth_of(self, run: float) -> float | None:
        """Bytes per second where `run` bytes lie together."""
        if not self.bandwidth:
            return None
        runs, rates = ([row[column] for row in self.bandwidth] for column in (0, 1))
        return sum(share * entry(rates, index) for index, share in _neighbours(runs, run))


def interval(seconds: float, profile: Profile | None = None) -> tuple[float, float]:
    """From when to when a prediction of so many seconds may come true, by a profile or without one."""
    spread = ANALYTIC_SPREAD if profile is None else profile.spread
    return seconds / (1.0 + spread), seconds * (1.0 + spread)


def read_profile(document: Mapping[str, Any]) -> Profile:
    """A profile from its JSON document; KeyError or ValueError where it has another form."""
    if document["schema"] != 1:
        raise ValueError(f"a profile of schema {document['schema']}, this version of dlc reads schema 1")
    call, spread = document.get("call"), float(document.get("spread", ANALYTIC_SPREAD))
    if spread < 0:
        raise ValueError(f"a spread of {spread} is below 0")
    return Profile(
        str(document["device"]),
        None if call is None else float(call),
        tuple(sorted((float(row["run"]), float(row["rate"])) for row in document.get("bandwidth", ()))),
        tuple(_gemm_table(table) for table in document.get("gemm", ())),
        tuple(_kernel(row) for row in document.get("kernels", ())),
        spread,
    )


def _gemm_table(table: Mapping[str, Any]) -> GemmTable:
    m, n, k = (tuple(int(extent) for extent in table[name]) for name in "mnk")
    rate = tuple(tuple(tuple(float(r) for r in row) for row in plane) for plane in table["rate"])
    if len(rate) != len(m) or any(len(plane) != len(n) or any(len(row) != len(k) for row in plane) for plane in rate):
        raise ValueError(f"the rates of a gemm table are not {len(m)} x {len(n)} x {len(k)}")
    return GemmTable(str(table["dtype"]), m, n, k, rate)


def _kernel(row: Mapping[str, Any]) -> tuple[KernelKey, float]:
    attrs = {name: _tuples(value) for name, value in row.get("attrs", {}).items()}
    return _key(row["op"], row["pass"], row["algorithm"], row["layout"], row["inputs"], attrs), float(row["seconds"])


def _key(
    op: str, stage: str, algorithm: str, layout: str, inputs: Sequence[str], attrs: Mapping[str, Attr]
) -> KernelKey:
    return (op, stage, algorithm, layout, tuple(inputs), tuple(sorted(attrs.items(), key=lambda item: item[0])))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _neighbours(points: Sequence[float], at: float) -> tuple[tuple[int, float], ...]:
    """The indices of the points around one, each with its share: linear in the logarithm, the edge's alone outside."""
    if len(points) == 1:
        return ((0, 1.0),)
    at = smaller(larger(at, points[0]), points[-1])
    right = larger(1, following(points, at))
    low, high = entry(points, right - 1), entry(points, right)
    share = log2(at / low) / log2(high / low)
    return ((right - 1, 1.0 - share), (right, share))
