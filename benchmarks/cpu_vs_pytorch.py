"""Whole training steps on CPUs: the emitted program against the best of PyTorch's ways, from the same weights.

    python -m benchmarks.cpu_vs_pytorch [--only lenet5,resnet18] [--threads 1,2] [--repeats 15] [--numpy]
                                        [--peers eager,channels_last,compile] [--profile resnet18] [--json] [--record]
                                        [--plan-by profile.json] [--tune 60]

A step is forward, backward and update, in float32, on synthetic samples. Each way is a process that is kept alive; the
ways take turns, and while one works the others wait. A turn is one step, or where steps are short as many as fill TURN,
behind some that fill LEAD and are not counted: they find the threads asleep and the caches cold. At the first steps the
losses of PyTorch and of dlc are compared, with the same weights, samples and dropout masks, so that the same thing is
timed; these and two more are not counted. Medians; `cpu` is the processor's time in all threads of the process, which a
busy machine disturbs less. The ratio is dlc's time to that of PyTorch's best way: below 1 dlc is faster. A peer that
fails, or whose first step takes longer than `--patience`, is left out of its network's row, which says why; networks
that `--minutes` leave no time for are named. `--profile NETWORK` tells which kernels dlc's time goes to, in place of
comparing. `--record` writes benchmarks/records/cpu_vs_pytorch_ISA.json (`avx2`, `avx512`, ...) after each network, so
that an interrupt leaves those that there are; rows of other networks and numbers of threads stay, so that it can be
made in pieces. Each row says by what dlc planned, and which ways are not in it, and why.

dlc plans by formulas and the rates of peers/networks.py; by figures of this machine with `--plan-by`, a profile of
`dlc calibrate`, or `--tune`, which measures the kernels that a plan may choose, as the option of `dlc compile` does.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, exp, log, nan
from pathlib import Path
from statistics import median
from typing import Any

from backends.numpy_mpi.c.target import target_at_hand
from backends.numpy_mpi.timing.steps import of_steps
from benchmarks import recording
from benchmarks.peers.networks import NETWORKS, Network, compiled, write_program
from benchmarks.peers.ways import TORCH, Turn, Way, WayError, dlc_way, torch_way, write_torch
from dlc.inspect.op_times import text
from dlc.op_times import matched

WARM = 2
"""Steps after the compared ones that are not counted."""

LONGEST = 40
"""Kernels that `--profile` shows one by one."""

TOLERANCES = (1e-4, 1e-2)
"""By how much the first loss may differ, and those behind updates: ResNet-50's first one throws it from 7 to 20."""

COMPARED = 2
"""So many first steps are compared: the second one sees the first update."""

TURN, MOST_STEPS = 0.3, 100
"""Seconds that a turn of short steps lasts, and its most steps."""

LEAD, SHORT = 0.1, 0.5
"""Seconds of a turn that are not counted where a step takes no longer than SHORT: of two threads that have slept one
is slow for some 60 ms (LeNet-5 7 ms a step, then 4), and in training nobody sleeps."""

PAUSE = 0.05
"""Seconds before a turn where ways have several threads: those of the last way wait for work, on a core, for up to
8 ms (OpenMP of PyTorch) or 26 ms (OpenBLAS)."""

OWN = {"c": "dlc", "numpy": "dlc, numpy"}
"""Kernel family -> the name of its way."""


@dataclass(frozen=True, slots=True)
class Row:
    """One network with so many threads, milliseconds; ratios to the best peer by the clock and by processor time.

    `date` is when it was measured, `planned` by what dlc planned: formulas, a profile, kernels that were measured.
    """

    network: str
    threads: int
    date: str
    planned: str
    dlc_ms: float
    peer: str
    peer_ms: float
    ratio: float
    cpu_ratio: float
    loss_error: float
    ways: dict[str, dict[str, float]]
    left_out: dict[str, str]


@dataclass(frozen=True, slots=True)
class Measured:
    """The turns of one way that count, and the losses of its first steps."""

    turns: Sequence[Turn]
    losses: Sequence[float]

    @property
    def wall(self) -> float:
        return median(turn.wall for turn in self.turns)

    @property
    def cpu(self) -> float:
        return median(turn.cpu for turn in self.turns)


def main() -> None:
    options = _arguments()
    names = options.only.split(",") if options.only else [options.profile] if options.profile else list(NETWORKS)
    if unknown := [name for name in names if name not in NETWORKS]:
        sys.exit(f"there is no network `{unknown[0]}` here; there are {', '.join(NETWORKS)}")
    if options.profile:
        _profile(options)
        return
    if importlib.util.find_spec("torch") is None:
        sys.exit("PyTorch is not installed: `pip install torch`")
    peers, left_out = _peers(options.peers.split(","))
    print(f"peers: {', '.join(TORCH[peer] for peer in peers)}")
    for name, reason in left_out.items():
        print(f"without {name}: {reason}")
    print(HEAD)
    rows, late = list[dict[str, Any]](), time.monotonic() + 60 * options.minutes
    for threads in map(int, options.threads.split(",")):
        for name in names:
            if time.monotonic() > late:
                print(f"{name:12} {threads:>7}  left out: the {options.minutes:g} minutes are over")
                continue
            try:
                row = _compare(name, NETWORKS[name], threads, peers, options)
            except WayError as error:
                _say("")
                print(f"{name:12} {threads:>7}  {error}", flush=True)
                continue
            print(_line(row), flush=True)
            rows.append(asdict(replace(row, left_out={**left_out, **row.left_out})))
            if options.record:
                _record(rows[-1])
    for threads, mean in _means(rows).items():
        print(f"geometric mean, {threads} thread{'s' * (threads > 1)}: {mean:.3f}")
    if options.json:
        print(json.dumps({"geomean_ratio": _geomean(row["ratio"] for row in rows), "rows": rows}))


def _record(row: dict[str, Any]) -> None:
    """The record with this row in place of an older one."""
    name = f"cpu_vs_pytorch_{target_at_hand().name}"
    before = recording.before(name).get("rows", [])
    rows = [each for each in before if (each["network"], each["threads"]) != (row["network"], row["threads"])] + [row]
    rows.sort(key=lambda each: (each["threads"], list(NETWORKS).index(each["network"])))
    means = {str(threads): mean for threads, mean in _means(rows).items()}
    recording.write(name, "milliseconds of a training step, medians", geomean_by_threads=means, rows=rows)


def _means(rows: Sequence[dict[str, Any]]) -> dict[int, float]:
    """The geometric mean of the ratios with each number of threads."""
    threads = sorted({row["threads"] for row in rows})
    return {each: _geomean(row["ratio"] for row in rows if row["threads"] == each) for each in threads}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", default="", metavar="NAMES", help=f"some of {', '.join(NETWORKS)}")
    add("--threads", default="1,2", help="numbers of threads (default: 1,2)")
    add("--repeats", type=int, default=15, help="steps of each way that count (default: 15)")
    add("--seconds", type=float, default=60.0, help="stop a network's turns after so long, with 3 at least")
    add("--minutes", type=float, default=60.0, help="begin no network after so long (default: 60)")
    add(
        "--patience", type=float, default=300.0, help="seconds for a way's first step, which may compile (default: 300)"
    )
    add("--peers", default=",".join(TORCH), help="some of PyTorch's ways, of which torch.compile takes minutes")
    add("--numpy", action="store_true", help="time the program with NumPy's kernels too")
    add("--profile", default="", metavar="NAME", help="show where dlc's time of this network goes, and end")
    add("--plan-by", default=None, metavar="PROFILE", help="plan by what `dlc calibrate` measured of this machine")
    add("--tune", type=float, default=0.0, metavar="SECONDS", help="measure kernels that a plan may choose for so long")
    add("--json", action="store_true", help="end with one line of JSON")
    add("--record", action="store_true", help="write benchmarks/records/cpu_vs_pytorch_ISA.json")
    return parser.parse_args()


def _profile(options: argparse.Namespace) -> None:
    """The kernels of one network, by their time."""
    name, threads = options.profile, int(options.threads.partition(",")[0])
    with tempfile.TemporaryDirectory(prefix="dlc-peers-") as temporary:
        folder = Path(temporary) / "c"
        made = compiled(NETWORKS[name], "c", threads, profile=options.plan_by, tune_for=options.tune)
        write_program(made, folder)
        way = dlc_way(OWN["c"], folder, made, threads, profile=True)
        try:
            turns = [way.step() for _ in range(COMPARED + WARM + options.repeats)][COMPARED + WARM :]
        except WayError as error:
            sys.exit(str(error))
        finally:
            way.close()
    # alone on a core both are the same
    step = of_steps([(turn.cpu if threads == 1 else turn.wall, list(turn.calls)) for turn in turns])
    print(f"{name}, {threads} thread{'s' * (threads > 1)}, predicted {made.plan.predicted.step_seconds * 1e3:.2f} ms")
    print(text(tuple(matched(made, step)), longest=LONGEST))


def _peers(asked: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """PyTorch's ways that are compared, and why others are not."""
    if unknown := [way for way in asked if way not in TORCH]:
        sys.exit(f"there is no peer `{unknown[0]}`; there are {', '.join(TORCH)}")
    left_out = {TORCH[way]: "not in --peers" for way in TORCH if way not in asked}
    if "compile" in asked and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        left_out[TORCH["compile"]] = "there is no C++ compiler"
    return [way for way in TORCH if TORCH[way] not in left_out], left_out


def _compare(name: str, network: Network, threads: int, peers: Sequence[str], options: argparse.Namespace) -> Row:
    """All ways on one network, by turns; WayError where dlc's own fails, or all of PyTorch's."""
    with tempfile.TemporaryDirectory(prefix="dlc-peers-") as temporary:
        folder, ways = Path(temporary), list[Way]()
        try:
            for family, title in OWN.items():
                if family == "numpy" and not options.numpy:
                    continue
                _say(f"{name}: compiling for {family}")
                made = compiled(network, family, threads, profile=options.plan_by, tune_for=options.tune)
                write_program(made, folder / family)
                ways.append(dlc_way(title, folder / family, made, threads))
            write_torch(made, folder)
            images = any(node.op == "conv" for node in made.graph.nodes)
            ways += [torch_way(way, folder, threads) for way in peers if images or way != "channels_last"]
            for way in ways:
                way.patience = options.patience
            measured, failed = _by_turns(name, ways, options)
        finally:
            for way in ways:
                way.close()
            _say("")
    planned = (
        f"kernels measured for {options.tune:g} s" if options.tune else "profile" if options.plan_by else "formulas"
    )
    return _row(name, threads, planned, measured, failed)


def _by_turns(
    name: str, ways: Sequence[Way], options: argparse.Namespace
) -> tuple[dict[str, Measured], dict[str, str]]:
    """What each way took, and why some failed."""
    turns: dict[str, list[Turn]] = {way.name: [] for way in ways}
    failed: dict[str, str] = {}
    for way in ways:  # one after the other: dlc's own first, whose samples the others take
        _say(f"{name}: first steps of {way.name}")
        _some(way, COMPARED + WARM, turns, failed)
    if OWN["c"] in failed:
        raise WayError(failed[OWN["c"]])
    spent = 0.0
    for number in range(options.repeats):
        if number >= 3 and spent > options.seconds:
            break
        _say(f"{name}: step {number + 1} of {options.repeats}")
        for way in ways:
            if way.name not in failed:
                spent += _turn(way, turns, failed)
    known = {
        way: Measured(found[COMPARED + WARM :], [turn.loss for turn in found[:COMPARED]])
        for way, found in turns.items()
        if way not in failed
    }
    return known, failed


def _turn(way: Way, turns: dict[str, list[Turn]], failed: dict[str, str]) -> float:
    """A turn of steps that count; its seconds."""
    if way.threads > 1:
        time.sleep(PAUSE)
    begin, step = time.perf_counter(), turns[way.name][-1].wall
    if step < SHORT:
        _some(way, ceil(LEAD / step), {way.name: []}, failed)
    _some(way, max(1, min(MOST_STEPS, int(TURN / step))), turns, failed)
    return time.perf_counter() - begin


def _some(way: Way, count: int, turns: dict[str, list[Turn]], failed: dict[str, str]) -> None:
    try:
        for _ in range(count):
            turns[way.name].append(way.step())
    except WayError as error:
        failed[way.name] = str(error)


def _row(name: str, threads: int, planned: str, measured: dict[str, Measured], failed: dict[str, str]) -> Row:
    own = measured[OWN["c"]]
    peers = {way: found for way, found in measured.items() if way in TORCH.values()}
    if not peers:
        raise WayError("; ".join(failed.values()))
    best = min(peers, key=lambda way: peers[way].wall)
    errors = [
        max(abs(found.losses[at] - loss) / abs(loss) for found in peers.values()) for at, loss in enumerate(own.losses)
    ]
    error = max(errors)
    if errors[0] > TOLERANCES[0] or error > TOLERANCES[1]:
        raise WayError(f"the losses differ by {error:.1e}: dlc {own.losses}, PyTorch {peers[best].losses}")
    return Row(
        name,
        threads,
        datetime.date.today().isoformat(),
        planned,
        round(own.wall * 1e3, 4),
        best,
        round(peers[best].wall * 1e3, 4),
        round(own.wall / peers[best].wall, 4),
        round(own.cpu / min(peer.cpu for peer in peers.values()), 4),
        float(f"{error:.1e}"),
        {way: {"ms": round(m.wall * 1e3, 4), "cpu_ms": round(m.cpu * 1e3, 4)} for way, m in measured.items()},
        failed,
    )


HEAD = (
    f"{'network':12} {'threads':>7} {'dlc':>10} {'cpu':>10} {'best peer':>14} {'':>10} {'cpu':>10}"
    f" {'ratio':>6} {'cpu':>6}   all, milliseconds"
)


def _line(row: Row) -> str:
    ways = ", ".join(f"{way} {found['ms']:.2f}" for way, found in row.ways.items() if way != OWN["c"])
    own, peer = row.ways[OWN["c"]], row.ways[row.peer]
    failed = "".join(f"; {reason}" for reason in row.left_out.values())
    return (
        f"{row.network:12} {row.threads:>7} {own['ms']:10.2f} {own['cpu_ms']:10.2f} {row.peer:>14} {peer['ms']:10.2f}"
        f" {peer['cpu_ms']:10.2f} {row.ratio:6.2f} {row.cpu_ratio:6.2f}   {ways}{failed}"
    )


def _say(text: str) -> None:
    """What is going on, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _geomean(ratios: Iterator[float]) -> float:
    known = list(ratios)
    return round(exp(sum(map(log, known)) / len(known)), 4) if known else nan


if __name__ == "__main__":
    main()
