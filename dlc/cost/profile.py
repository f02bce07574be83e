"""Measured figures of a device, and what lies between them. Times in seconds, rates per second, sizes in bytes.

A profile is a JSON file (`dlc calibrate` writes it):

    {"schema": 1, "device": "core", "call": 1.1e-6,
     "bandwidth": [{"run": 4, "rate": 3.1e9}, {"run": 4096, "rate": 1.1e10}],
     "gemm": [{"dtype": "f32", "m": [16, 256], "n": [16, 4096], "k": [32, 512], "rate": [[[…]]]}],
     "kernels": [{"op": "conv", "pass": "forward", "algorithm": "im2col", "layout": "NHWC",
                  "attrs": {"stride": [1, 1], …}, "inputs": ["f32[batch = 32, …]", …], "seconds": 0.0021}, …]}

A kernel measured on these very shapes and attributes counts as `measured`. Else phases are priced from the tables:
`rate` of a matrix product linearly between neighbours in the logarithms of m, n and k, `rate` of memory in that of the
run; outside of a table its nearest edge counts. A table that is missing leaves the analytic formula in place.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, log
from typing import Any

from dlc.ir.graph import Attr
from dlc.ir.plan import Figure
from dlc.ops.operator import Shapes

KernelKey = tuple[str, str, str, str, tuple[str, ...], tuple[tuple[str, Attr], ...]]
"""op, pass, algorithm, layout, input types as printed, attributes sorted by name."""


@dataclass(frozen=True, slots=True)
class GemmTable:
    """Measured FLOP/s of matrix products over a grid: `rate[i][j][l]` belongs to m[i], n[j], k[l]."""

    dtype: str
    m: tuple[int, ...]
    n: tuple[int, ...]
    k: tuple[int, ...]
    rate: tuple[tuple[tuple[float, ...], ...], ...]

    def at(self, m: int, n: int, k: int) -> float:
        """The rate between the eight neighbours of (m, n, k)."""
        along_n = [[_between(self.k, row, k) for row in plane] for plane in self.rate]
        along_m = [_between(self.n, row, n) for row in along_n]
        return _between(self.m, along_m, m)


@dataclass(frozen=True, slots=True)
class Profile:
    """One device's measurements; empty tables say nothing."""

    device: str
    call: float | None = None
    bandwidth: tuple[tuple[float, float], ...] = ()  # (run, rate), by rising run
    gemm: tuple[GemmTable, ...] = ()
    kernels: tuple[tuple[KernelKey, float], ...] = ()
    _kernels: dict[KernelKey, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_kernels", dict(self.kernels))

    @property
    def interpolates(self) -> bool:
        """Whether it has a table to interpolate in."""
        return bool(self.bandwidth or self.gemm)

    def kernel(self, op: str, stage: str, algorithm: str, layout: str, shapes: Shapes) -> Figure | None:
        """The time measured for exactly this kernel, these shapes and attributes."""
        found = self._kernels.get(_key(op, stage, algorithm, layout, [str(t) for t in shapes.inputs], shapes.attrs))
        return None if found is None else Figure(found, "measured", "compute")

    def gemm_rate(self, dtype: str, m: int, n: int, k: int) -> float | None:
        """FLOP/s of a matrix product; None where no table has that element type."""
        return next((table.at(m, n, k) for table in self.gemm if table.dtype == dtype), None)

    def bandwidth_of(self, run: float) -> float | None:
        """Bytes per second where `run` bytes lie together."""
        if not self.bandwidth:
            return None
        runs, rates = zip(*self.bandwidth, strict=True)
        return _between(runs, rates, run)


def read_profile(document: Mapping[str, Any]) -> Profile:
    """A profile from its JSON document; KeyError or ValueError where it has another form."""
    if document["schema"] != 1:
        raise ValueError(f"a profile of schema {document['schema']}, this version of dlc reads schema 1")
    call = document.get("call")
    return Profile(
        str(document["device"]),
        None if call is None else float(call),
        tuple(sorted((float(row["run"]), float(row["rate"])) for row in document.get("bandwidth", ()))),
        tuple(_gemm_table(table) for table in document.get("gemm", ())),
        tuple(_kernel(row) for row in document.get("kernels", ())),
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


def _between(points: Sequence[float], rates: Sequence[float], at: float) -> float:
    """Linear in the logarithm of the point; the first or last rate outside of the points."""
    right = bisect_right(points, at)
    if right == 0 or at == inf:
        return rates[0 if right == 0 else -1]
    if right == len(points):
        return rates[-1]
    low, high = points[right - 1], points[right]
    share = log(at / low) / log(high / low)
    return rates[right - 1] + share * (rates[right] - rates[right - 1])
