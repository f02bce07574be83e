"""A network's training step on a GPU: dlc's program and PyTorch's ways, from the same weights, by turns."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gpu.networks import compiled, write_program
from benchmarks.peers.dlc_worker import BATCHES
from benchmarks.peers.ways import TORCH, Turn, Way, WayError, write_torch
from dlc.cost.profile import Profile
from dlc.driver import Compiled

OWN = "dlc"
TOLERANCE = 2e-3
"""Relative, of losses at the first steps: both round in another order."""

WARM = 2
"""Turns after the compared ones that do not count: they capture graphs, and PyTorch compiles."""

LEAST = 3
"""So many turns count at least."""


def timed(name: str, emulate: bool, seconds: float, profile: Profile | None = None) -> dict[str, Any]:
    """The row of a network, which takes about so many seconds; WayError where dlc's program fails or differs.

    With a profile the program is planned by it, and its step predicted.
    """
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="dlc-gpu-") as temporary:
        folder = Path(temporary)
        made = compiled(name, emulate, profile=profile)
        write_program(made, folder / OWN)
        ways = _ways(made, folder, emulate)
        try:
            row = _row(made, folder, *_by_turns(ways, until, most=LEAST if emulate else 30))
            return row if profile is None else {**row, **_predicted(made, row["dlc_ms"])}
        finally:
            for way in ways:
                way.close()


def _ways(made: Compiled, folder: Path, emulate: bool) -> list[Way]:
    """dlc's program, and PyTorch where it is installed."""
    steps, threads = ["--steps", "2" if emulate else "5"], 1 if emulate else min(8, os.cpu_count() or 1)
    own = ["--batches", str(folder / "batches.npz"), *steps]
    ways = [Way(OWN, "benchmarks.gpu.dlc_worker", [str(folder / OWN), made.source.spec.root, *own], threads)]
    if importlib.util.find_spec("torch") is not None:
        write_torch(made, folder)
        images = any(node.op == "conv" for node in made.graph.nodes)
        device = ["--device", "cpu" if emulate else "cuda"]
        taken = ("eager",) if emulate else [each for each in TORCH if images or each != "channels_last"]
        module, given = "benchmarks.gpu.torch_worker", [*steps, *device]
        ways += [Way(TORCH[way], module, [str(folder), way, *given], threads) for way in taken]
    return ways


def _by_turns(ways: Sequence[Way], until: float, most: int) -> tuple[dict[str, list[Turn]], dict[str, str]]:
    """All turns of each way, and why some failed. dlc's own is first, whose samples the others take."""
    turns: dict[str, list[Turn]] = {way.name: [] for way in ways}
    failed: dict[str, str] = {}

    def make(way: Way, count: int) -> None:
        try:
            for _ in range(count):
                way.patience = max(1.0, until - time.monotonic())
                turns[way.name].append(way.step())
        except WayError as error:
            failed[way.name] = str(error)

    make(ways[0], BATCHES + WARM)
    if OWN in failed:
        raise WayError(failed[OWN])
    with ThreadPoolExecutor() as side_by_side:  # they compile
        list(side_by_side.map(_each(make, BATCHES + WARM), ways[1:]))
    for number in range(most):
        if number >= LEAST and time.monotonic() > until - 2:
            break
        for way in ways:
            if way.name not in failed:
                make(way, 1)
    if OWN in failed:
        raise WayError(failed[OWN])
    return turns, failed


def _each(make: Callable[[Way, int], None], count: int) -> Callable[[Way], None]:
    return lambda way: make(way, count)


def _row(made: Compiled, folder: Path, turns: dict[str, list[Turn]], failed: dict[str, str]) -> dict[str, Any]:
    """Medians, and dlc's time over that of PyTorch's best way: below 1 dlc is faster."""
    known = {way: found for way, found in turns.items() if way not in failed}
    ways = {way: round(1e3 * median(turn.wall for turn in found[BATCHES + WARM :]), 4) for way, found in known.items()}
    ours = [turn.loss for turn in turns[OWN][:BATCHES]]
    row: dict[str, Any] = {
        "batch": made.graph.batch,
        "dlc_ms": ways[OWN],
        "losses": ours,
        "ways_ms": ways,
        "left_out": failed,
        "on_processor": _on_processor(folder / OWN / "compiled.py"),
    }
    peers = {way: ms for way, ms in ways.items() if way != OWN}
    if not peers:
        return {**row, "left_out": failed or {"PyTorch": "it is not installed"}}
    best = min(peers, key=lambda way: peers[way])
    theirs = [turn.loss for way in peers for turn in turns[way][:BATCHES]]
    error = max(abs(one - right) / abs(right) for one, right in zip(theirs, ours * len(peers), strict=True))
    if not error <= TOLERANCE:
        raise WayError(f"the losses differ by {error:.1e}: dlc {ours}, PyTorch {theirs}")
    return {**row, "peer": best, "peer_ms": peers[best], "ratio": round(ways[OWN] / peers[best], 4), "error": error}


def _predicted(made: Compiled, took: float) -> dict[str, float]:
    """Milliseconds that the plan says a step takes, and by which share of the time that it took they are off."""
    predicted = 1e3 * made.plan.predicted.step_seconds
    return {"predicted_ms": round(predicted, 4), "prediction_error": round(predicted / took - 1, 4)}


def _on_processor(module: Path) -> list[str]:
    """The kernels that have none in CUDA: their calls work on copies."""
    lines = module.read_text(encoding="utf-8").splitlines()
    return [line.partition(" = ")[0] for line in lines if " = KERNELS.on_processor(" in line]
