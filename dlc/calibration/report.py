"""What was measured, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from dlc.inspect.tables import table
from dlc.units import format_seconds

if TYPE_CHECKING:
    from backends.numpy_mpi.timing import Timing
    from backends.numpy_mpi.timing.messages import Message
    from dlc.calibration.gpu import GpuFindings
    from dlc.calibration.measure import Findings
    from dlc.cost.profile import Profile

Row = tuple[str, str, str, str]


HEAD = ("what", "figures", "found", "spread")


def report(profile: Profile, found: Findings) -> str:
    """A line for each kind of figure: how many there are, the range, and how far its rounds lay apart."""
    return shown(profile.device, list(_rows(profile, found)), profile, found)


def document(profile: Profile, found: Findings) -> dict[str, Any]:
    """The same as values."""
    return told(_rows(profile, found), profile, found)


def shown(title: str, rows: Sequence[Row], profile: Profile, found: Findings | GpuFindings) -> str:
    """The table of a processor's or a GPU's figures, and what it does not say."""
    lines = [title, "", table(HEAD, rows)]
    if found.kernels:
        lines += [
            "",
            f"kernels of other shapes are predicted within {profile.spread:.0%} in the mean (leaving one out)",
        ]
    if found.left_out:
        lines += ["", f"{found.left_out} figures were left out: rounds lay too far apart, or others held the cores"]
    return "\n".join([*lines, *found.notes])


def told(rows: Iterable[Row], profile: Profile, found: Findings | GpuFindings) -> dict[str, Any]:
    """The same as values."""
    return {
        "device": profile.device,
        "spread": profile.spread,
        "table": [dict(zip(HEAD, row, strict=True)) for row in rows],
        "left_out": found.left_out,
        "notes": found.notes,
        "interrupted": found.interrupted,
    }


def _rows(profile: Profile, found: Findings) -> Iterator[Row]:
    usual = found.usual
    if usual is not None:
        told = ", ".join(map(format_seconds, (usual.products, usual.copies, usual.calls)))
        yield "the machine's speed", "3", f"{told}: a product, a copy, a call", f"{usual.spread:.0%}"
    if found.call is not None:
        yield "a call of NumPy", "1", format_seconds(found.call.seconds), f"{found.call.spread:.0%}"
    if found.own is not None:
        own = found.own
        span = f"{format_seconds(own.call)} to {format_seconds(own.call + own.cold)} a call"
        yield "a step besides its kernels", "5", f"{format_seconds(own.step)} and {span}", f"{own.spread:.0%}"
    if found.copies:
        yield _row("memory, by what lies together", [r / 1e9 for _, r in profile.bandwidth], "GB/s", found.copies)
    for each in profile.gemm:
        rates = [rate / 1e9 for plane in each.rate for row in plane for rate in row]
        name = f"matrix products, {each.dtype}, {_threads(each.threads)}"
        yield _row(name, rates, "GFLOP/s", found.products[each.dtype, each.threads])
    for kernels, threads in dict.fromkeys((timing.case.kernels, count) for count, timing in found.kernels):
        timed = [t for count, t in found.kernels if (t.case.kernels, count) == (kernels, threads)]
        name = f"kernels {'in C' if kernels == 'c' else 'of NumPy'}, {_threads(threads)}"
        yield _row(name, [1e3 * t.seconds for t in timed], "ms", timed)
    for ranks in dict.fromkeys(each.ranks for each in found.messages):
        messages = [each for each in found.messages if each.ranks == ranks]
        exchanged = [each for each in messages if each.kind == "exchange"]
        small, rate = format_seconds(exchanged[0].seconds), exchanged[-1].bytes / exchanged[-1].seconds / 1e9
        yield f"messages, {ranks} ranks", str(len(messages)), f"{small}, {rate:.1f} GB/s", _spread(messages)


def _row(name: str, values: Sequence[float], unit: str, timed: Sequence[Timing]) -> Row:
    return name, str(len(values)), f"{min(values):.3g} to {max(values):.3g} {unit}", _spread(timed)


def _spread(timed: Sequence[Timing] | Sequence[Message]) -> str:
    return f"{median(each.spread for each in timed):.0%}"


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"
