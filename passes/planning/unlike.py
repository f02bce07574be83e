"""The line of ops as each stage of a pipeline takes it where devices are unlike: every op at its device's own price."""

from __future__ import annotations

from dataclasses import replace

from passes.planning.evaluate import Line, line
from passes.planning.solve import Solved
from passes.planning.space import Space
from passes.planning.traffic import among


def stage_lines(found: Space, solved: Solved) -> tuple[Line, ...]:
    """One line for each stage, by the slowest device in it; () where all devices are alike."""
    strategy = solved.strategy
    if not found.stage_speeds(strategy):
        return ()
    whole = found.tables(strategy.with_(schedule=strategy.schedule and "one_f_one_b", chunks=1))
    values, size = among(found, solved, whole), strategy.inner.ranks
    made: dict[str, Line] = {}
    lines = []
    for stage in range(strategy.stages):
        rank = min(range(stage * size, (stage + 1) * size), key=lambda rank: found.speeds[rank])
        device = found.cluster.device_of(rank)
        if device.name not in made:
            if device.name not in found.others:
                found.others[device.name] = replace(found.prices, device=device, spent={}, least={}, known_legal={})
            tables = replace(whole, prices=found.others[device.name], ops={}, homes={}, _exposure=whole.exposure)
            made[device.name] = line(found.network, tables, values)
        lines.append(made[device.name])
    return tuple(lines)
