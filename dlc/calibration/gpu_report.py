"""What was measured of a GPU, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from dlc.calibration.report import Row, shown, told
from dlc.units import format_seconds

if TYPE_CHECKING:
    from backends.cupy_mpi.timing import GpuTiming
    from dlc.calibration.gpu import GpuFindings
    from dlc.cost.profile import Profile


def report(profile: Profile, found: GpuFindings) -> str:
    """A line for each kind of figure: how many there are, the range, and how far its rounds lay apart."""
    title = f"{profile.device}, {found.properties['multiprocessors']} multiprocessors"
    return shown(title, list(_rows(profile, found)), profile, found)


def document(profile: Profile, found: GpuFindings) -> dict[str, Any]:
    """The same as values."""
    return told(_rows(profile, found), profile, found)


def _rows(profile: Profile, found: GpuFindings) -> Iterator[Row]:
    for title, timing in zip(("a launch by itself", "a launch in a graph"), found.launches, strict=False):
        yield title, "1", format_seconds(timing.seconds), f"{timing.spread:.0%}"
    ways = (("memory of the device", "inside", 2.0), ("copies to the device", "to", 1.0), ("and from it", "from", 1.0))
    for title, way, times in ways:
        copied = found.copied(way)
        if copied:
            rate = max(times * size / seconds for size, seconds in copied) / 1e9
            shortest = format_seconds(min(seconds for _, seconds in copied))
            timed = [each for each in found.copies if getattr(each.job, "way", "") == way]
            yield title, str(len(copied)), f"{shortest}, {rate:.4g} GB/s", _spread(timed)
    for each in profile.gemm:
        rates = [rate / 1e12 for plane in each.rate for row in plane for rate in row]
        span = f"{min(rates):.3g} to {max(rates):.3g} TFLOP/s"
        yield f"matrix products, {each.dtype}", str(len(rates)), span, _spread(found.products[each.dtype])
    if found.kernels:
        times_ms = [1e3 * each.seconds for each in found.kernels]
        span = f"{min(times_ms):.3g} to {max(times_ms):.3g} ms"
        yield "kernels", str(len(times_ms)), span, _spread(found.kernels)
    for ranks in dict.fromkeys(each.ranks for each in found.messages):
        exchanged = [each for each in found.messages if (each.ranks, each.kind) == (ranks, "exchange")]
        small, rate = format_seconds(exchanged[0].seconds), exchanged[-1].bytes / exchanged[-1].seconds / 1e9
        messages = [each for each in found.messages if each.ranks == ranks]
        spread = f"{median(each.spread for each in messages):.0%}"
        yield f"messages, {ranks} ranks", str(len(messages)), f"{small}, {rate:.2g} GB/s", spread


def _spread(timed: Sequence[GpuTiming]) -> str:
    return f"{median(each.spread for each in timed):.0%}"
