"""One network on several machines: a scaling curve, and what other hardware would change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

from dlc.inspect.decisions import division, per_second, strategy
from dlc.inspect.difference import differences, in_short
from dlc.inspect.plan_document import ratio
from dlc.inspect.plan_table import times
from dlc.inspect.tables import percent, table
from dlc.ir.plan import Plan
from dlc.units import format_bytes, format_seconds


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine with the plan for it; where there is none, `why` says so. `limit` are the bytes of a device."""

    title: str
    devices: int
    plan: Plan | None = None
    limit: int = 0
    why: str = ""

    @property
    def step(self) -> float:
        """Predicted seconds a step; 0 where there is no plan."""
        return 0.0 if self.plan is None else self.plan.predicted.step_seconds

    @property
    def strategy(self) -> str:
        """How the ranks share the work."""
        return "" if self.plan is None else division(self.plan)


def _document(machine: Machine) -> dict[str, object]:
    """What both tables say of a machine, as JSON."""
    plan = machine.plan
    if plan is None:
        return {"devices": machine.devices, "feasible": False, "why": machine.why}
    return {
        "devices": machine.devices,
        "feasible": True,
        "strategy": strategy(plan),
        "step_seconds": machine.step,
        "simulated_seconds": plan.predicted.simulated_seconds,
        "samples_per_second": plan.batch / machine.step,
        "peak_bytes": plan.predicted.peak_bytes,
        "memory_limit_bytes": machine.limit,
        "lower_bound_seconds": plan.bounds.step,
        "gap": plan.gap,
    }


# --- more devices --------------------------------------------------------------------------------------------------


def speed_ups(machines: Sequence[Machine]) -> dict[int, tuple[float, float]]:
    """Devices -> (how many times faster than the first machine that has a plan, the share of the ideal)."""
    first = next((machine for machine in machines if machine.plan is not None), None)
    if first is None:
        return {}
    gains = {machine.devices: first.step / machine.step for machine in machines if machine.plan is not None}
    return {devices: (gain, gain * first.devices / devices) for devices, gain in gains.items()}


def scaling_document(network: str, cluster: str, machines: Sequence[Machine]) -> dict[str, object]:
    """The curve as JSON; `speed_up` and `efficiency` are those over the first size that has a plan."""
    gains = speed_ups(machines)
    rows = []
    for machine in machines:
        gain, share = gains.get(machine.devices, (None, None))
        rows.append({**_document(machine), "speed_up": gain, "efficiency": share})
    return {"network": network, "cluster": cluster, "sizes": rows}


def scaling_text(network: str, cluster: str, machines: Sequence[Machine]) -> str:
    """A row for each number of devices, and the speed-up as bars."""
    gains = speed_ups(machines)
    header = ("devices", "step", "samples/s", "speed-up", "efficiency", "memory", "lower bound", "strategy")
    body = table(header, [_scaling_row(machine, gains) for machine in machines], right=range(7))
    head = f"{network} on {cluster}: the same batch on more devices"
    return "\n\n".join([head, body, *([_bars(machines, gains)] if len(gains) > 1 else [])])


def _scaling_row(machine: Machine, gains: dict[int, tuple[float, float]]) -> tuple[str, ...]:
    plan = machine.plan
    if plan is None:
        return (machine.title, "-", "-", "-", "-", "-", "-", machine.why)
    gain, share = gains[machine.devices]
    return (
        machine.title,
        format_seconds(machine.step),
        per_second(plan),
        f"{gain:.3g}",
        percent(share),
        format_bytes(plan.predicted.peak_bytes),
        format_seconds(plan.bounds.step),
        machine.strategy,
    )


WIDTH = 48
"""Characters of the longest bar."""


def _bars(machines: Sequence[Machine], gains: dict[int, tuple[float, float]]) -> str:
    """Speed-ups on a logarithmic scale: `#` what the plan has, `.` up to as many times as there are more devices."""
    ideals = {devices: gain / share for devices, (gain, share) in gains.items()}
    most = max(*ideals.values(), *(gain for gain, _ in gains.values()), 2.0)
    width = max(len(machine.title) for machine in machines)
    lines = [f"{'':>{width}}  speed-up (#) and as much as there are more devices (.), logarithmic"]
    for machine in machines:
        if machine.devices not in gains:
            lines.append(f"{machine.title:>{width}}  no plan")
            continue
        gain, ideal = gains[machine.devices][0], ideals[machine.devices]
        bar = "#" * _length(gain, most)
        lines.append(f"{machine.title:>{width}}  {bar.ljust(_length(ideal, most), '.')} {gain:.3g}")
    return "\n".join(lines)


def _length(gain: float, most: float) -> int:
    """A bar of one character for no gain, of `WIDTH` for the most."""
    return 1 + round((WIDTH - 1) * max(0.0, log2(gain)) / log2(most))


# --- other hardware ------------------------------------------------------------------------------------------------


def sensitivity_document(network: str, cluster: str, base: Machine, others: Sequence[Machine]) -> dict[str, object]:
    """The table as JSON; `ratio` is the changed machine's step as a multiple of the present one's."""
    return {
        "network": network,
        "cluster": cluster,
        "base": _document(base),
        "changes": [
            {
                "change": other.title,
                **_document(other),
                "ratio": ratio(other.step, base.step),
                "plan_changes": _plan_changes(base, other),
            }
            for other in others
        ],
    }


def sensitivity_text(network: str, cluster: str, base: Machine, others: Sequence[Machine]) -> str:
    """A row for the machine as it is, and for each change what it would bring."""
    rows = [_sensitivity_row(base, base), *(_sensitivity_row(base, other) for other in others)]
    header = ("change", "step", "ratio", "memory", "strategy", "changes in the plan")
    return f"{network} on {cluster}: other hardware\n\n{table(header, rows, right=(1, 2, 3))}"


def _sensitivity_row(base: Machine, other: Machine) -> tuple[str, ...]:
    if other.plan is None:
        return (other.title, "-", "-", "-", other.why, "")
    return (
        other.title,
        format_seconds(other.step),
        times(other.step, base.step),
        format_bytes(other.plan.predicted.peak_bytes),
        other.strategy,
        "" if other is base else _plan_changes(base, other),
    )


def _plan_changes(base: Machine, other: Machine) -> str:
    """What the plan for the changed machine decides otherwise, in a line."""
    if base.plan is None or other.plan is None:
        return ""
    return in_short(differences(base.plan, other.plan))
