"""What the planner's choice of algorithms and layouts is worth, against all of them measured.

    python -m benchmarks.choice [--only lenet5,nin] [--kernels numpy,c] [--repeats 3] [--budget 300] [--record]

For each network, on one rank of one thread, every legal algorithm of every pass of every op is timed in every layout,
and conversions between these. With these figures the planner's joint search, which is exact, gives the best plan that
there is. It is compared with the plan without any measurement, with that of `--tune`, which measures only what may
change the choice, and with the greedy one: each op by itself in the layout in which its own passes are fastest. All
plans are compared by what was measured (kernels and conversions, `model`) and by the steps of their programs, which
take turns step by step (`step`, the processor's time). Ratios are to the best plan, by steps the median over rounds of
a step each: at most 1.05 is the aim, and no more than the greedy one's.

Before that, single convolutions for which another algorithm than direct is the fastest, each with what the planner
chooses by itself for a network of just that convolution: by the formulas alone, by a `--profile`, which has none of
them, and with these measurements. `--record` writes benchmarks/records/choice.json after each network, so that an
interrupt leaves those that there are; rows of other networks and families stay, so that it can be made in pieces.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import recording
from benchmarks.peers.convolutions import cases
from benchmarks.peers.ways import Way, WayError, dlc_way
from dlc import driver
from dlc.cluster.detect import machine
from dlc.cost.compute import seconds
from dlc.cost.price import default_price
from dlc.cost.timeline import makespan
from dlc.driver import Compiled, Options
from dlc.folders import write_folder
from dlc.ir.request import Rule
from dlc.ops import operator
from dlc.tuning import Measured, asks, key_of, tune
from dlc.validation import at_hand
from passes.options import candidates, local_shapes, operations, rules_of

SPECS = Path(__file__).resolve().parent.parent / "specs"

WARM, LEAST = 3, 5
"""Steps of each program that do not count, and the least rounds that do."""

NETWORKS: Mapping[str, dict[str, str]] = {
    "lenet5": {"batch": "16"},
    "nin": {"batch": "4"},
    "alexnet": {"batch": "4", "size": "131", "hidden": "256", "classes": "100"},
    "resnet18": {"batch": "4", "size": "64", "group": "4", "classes": "100"},
    "squeezenet": {"batch": "4", "size": "96", "classes": "100"},
    "treenet": {"batch": "8"},
}
"""Networks of many kinds of convolution, small enough that every way to compute them can be timed."""


@dataclass(frozen=True, slots=True)
class Row:
    """A network: seconds of a step by the measured kernels and by the program's clock, and ratios to the best plan."""

    network: str
    kernels: str
    timed: int
    timed_by_tune: int
    model: dict[str, float]
    step: dict[str, float]
    model_ratio: dict[str, float]
    step_ratio: dict[str, float]


def main() -> None:
    options = _arguments()
    rows, won = list[dict[str, Any]](), list[dict[str, Any]]()
    if options.record:
        rows, won = _before()
    if not options.networks_only:
        won = []
        for case in cases(options.profile):
            times = ", ".join(f"{name} {seconds * 1e3:.2f} ms" for name, seconds in case.seconds.items())
            chosen = ", ".join(f"{name} by {what}" for what, name in case.planned.items())
            print(f"{case.algorithm:8} {case.kernels:6} {case.shape:33} fastest: {case.fastest}; {times}", flush=True)
            print(f"{'':16}the planner chooses {chosen}", flush=True)
            won.append({**asdict(case), "fastest": case.fastest})
    if options.record:
        _write(rows, won)
    if options.cases_only:
        return
    print(f"{'network':12} {'kernels':8} {'timed':>6}   of the best plan's, by model / by steps")
    for name in options.only.split(",") if options.only else NETWORKS:
        for kernels in options.kernels.split(","):
            row = _network(name, kernels, options)
            print(_line(row), flush=True)
            rows = [each for each in rows if (each["network"], each["kernels"]) != (name, kernels)] + [asdict(row)]
            if options.record:
                _write(rows, won)


def _write(rows: list[dict[str, Any]], won: list[dict[str, Any]]) -> None:
    recording.write("choice", "seconds of a step; ratios to the best plan", rows=rows, won=won)


def _before() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the record has by now."""
    told = recording.before("choice")
    return told.get("rows", []), told.get("won", [])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="NAMES", help=f"some of {', '.join(NETWORKS)}")
    parser.add_argument("--kernels", default="numpy,c", help="families (default: numpy,c)")
    parser.add_argument("--repeats", type=int, default=3, help="so many times programs begin anew (default: 3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="each program's steps in one of these (default: 3)")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds to time a network's kernels")
    parser.add_argument("--profile", default="", help="one that `dlc calibrate` wrote on this machine")
    parser.add_argument("--cases-only", action="store_true", help="single convolutions, no networks")
    parser.add_argument("--networks-only", action="store_true", help="networks, no single convolutions")
    parser.add_argument("--record", action="store_true", help="write benchmarks/records/choice.json")
    return parser.parse_args()


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans one network for one thread of this machine."""

    source: driver.Source
    options: Options

    @classmethod
    def of(cls, network: str, kernels: str) -> Planner:
        given = NETWORKS[network]
        options = Options(parameters=given, kernels=kernels, precision="f32")
        return cls(driver.read(str(SPECS / f"{network}.dlspec"), given), options)

    def __call__(self, kernels: Measured, pins: tuple[Rule, ...] = ()) -> Compiled:
        options = replace(self.options, measured=kernels)
        job, context = at_hand(self.source, options, machine(1))
        request = replace(context.request, pins=(*context.request.pins, *pins))
        return driver.compile_job(self.source, job, context.with_(request=request), options)

    def tuned(self, options: argparse.Namespace, *, exhaustive: bool) -> tuple[Measured, int]:
        """The kernels that are measured for it, in a cache of their own."""
        with tempfile.TemporaryDirectory(prefix="dlc-choice-") as cache:
            before = os.environ.get("DLC_CACHE")
            os.environ["DLC_CACHE"] = cache
            try:
                device = self(()).context.cluster.device_of(0)
                found = tune(self, device, options.budget, _timed, exhaustive=exhaustive)
            finally:
                _restore(before)
        if found.left_out:
            sys.exit(f"{found.left_out} kernels are left: --budget allows more time")
        return found.kernels, found.timed


def _restore(cache: str | None) -> None:
    if cache is None:
        del os.environ["DLC_CACHE"]
    else:
        os.environ["DLC_CACHE"] = cache


def _network(name: str, kernels: str, options: argparse.Namespace) -> Row:
    """All plans of a network."""
    planner = Planner.of(name, kernels)
    every, timed = planner.tuned(options, exhaustive=True)
    best = planner(every)
    wanted = {key_of(case) for ask in asks(planner(())) for case in ask.cases}
    few = tuple(sample for sample in every if sample.key in wanted)  # what --tune times, as it was timed
    plans = {
        "best": best,
        "unmeasured": planner(()),
        "tuned": planner(few),
        "greedy": planner(every, tuple(_greedy(best))),
    }
    model = {way: _by_kernels(made, best) for way, made in plans.items()}
    step, step_ratio = _by_turns(plans, options)
    return Row(
        name,
        kernels,
        timed,
        len(few),
        model,
        step,
        {way: round(seconds / model["best"], 4) for way, seconds in model.items()},
        step_ratio,
    )


def _greedy(best: Compiled) -> Iterator[Rule]:
    """A pin of each op to the layout in which its own passes take least, whatever its neighbours have."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    graph, profile = best.graph, best.context.profile
    assert profile is not None
    device, rules = best.context.cluster.device_of(0), rules_of(best.context.request)
    spans = {}
    for operation in operations(graph):
        for each in candidates(graph, operation, rules, graph.batch):
            if each.excluded is None and each.layout and rules.pin(operation.address, "layout") is None:
                op, shapes = operator(each.node.op), local_shapes(graph, each.node, graph.batch)
                assert op is not None
                taken = seconds(op, each.node.stage, shapes, each.algorithm, each.layout, device, profile).seconds
                ways = found.setdefault(operation.address, {}).setdefault(each.layout, {})
                ways[each.node.stage] = min(taken, ways.get(each.node.stage, taken))
                spans[operation.address] = operation.forward.span
    for address, layouts in found.items():
        most = max(len(stages) for stages in layouts.values())
        whole = {layout: sum(stages.values()) for layout, stages in layouts.items() if len(stages) == most}
        layout, span = min(whole, key=lambda name: whole[name]), spans[address]
        if span is not None and len(whole) > 1:
            yield Rule("layout", layout, (address,), address, span, span)


def _by_kernels(made: Compiled, best: Compiled) -> float:
    """Seconds of a plan's simulated step, by everything that was measured."""
    context = best.context
    return makespan(made.program, "train_step", default_price(made.program, context.cluster, context.profile))


def _by_turns(plans: Mapping[str, Compiled], options: argparse.Namespace) -> tuple[dict[str, float], dict[str, float]]:
    """The median step of each plan's program, and its median ratio to the best plan's step of the same round.

    The programs are processes that are kept alive and make a step each in turn, so that what disturbs the machine
    disturbs all of them; `--repeats` times they begin anew, since where a process's arrays lie makes a difference too.
    Equal programs are run once.
    """
    told = {way: driver.emit_files(made) for way, made in plans.items()}
    first = {files["train.py"]: way for way, files in reversed(told.items())}
    times: dict[str, list[float]] = {way: [] for way in first.values()}
    for repeat in range(options.repeats):
        with tempfile.TemporaryDirectory(prefix="dlc-choice-") as folder:
            ways = {}
            for way in times:
                write_folder(told[way], str(Path(folder, way, "program")))
                ways[way] = dlc_way(way, Path(folder, way, "program"), plans[way], 1)
            try:
                for at, spent in enumerate(_rounds(ways, times)):
                    _say(f"repeat {repeat + 1} of {options.repeats}, round {at + 1}")
                    if at >= LEAST and spent > options.seconds * len(ways):
                        break
            except WayError as error:
                sys.exit(str(error))
            finally:
                for each in ways.values():
                    each.close()
    _hush()
    best = times[first[told["best"]["train.py"]]]
    of = {way: times[first[files["train.py"]]] for way, files in told.items()}
    ratios = {way: median(took / least for took, least in zip(turns, best, strict=True)) for way, turns in of.items()}
    return {way: median(turns) for way, turns in of.items()}, {way: round(ratio, 4) for way, ratio in ratios.items()}


def _rounds(ways: Mapping[str, Way], times: Mapping[str, list[float]]) -> Iterator[float]:
    """Rounds of a step of each program, the processor's time; the seconds that all have taken. The order turns."""
    for way in ways.values():
        for _ in range(WARM):
            way.step()
    order, spent = list(ways), 0.0
    while True:
        took = {name: ways[name].step().cpu for name in order}
        for name, cpu in took.items():
            times[name].append(cpu)
        order.append(order.pop(0))
        spent += sum(took.values())
        yield spent


def _line(row: Row) -> str:
    ways = ", ".join(
        f"{way} {row.model_ratio[way]:.3f} / {row.step_ratio[way]:.3f}" for way in row.model if way != "best"
    )
    best = f"best {row.step['best'] * 1e3:.2f} ms"
    return f"{row.network:12} {row.kernels:8} {row.timed:6}   {ways}; {best}; --tune times {row.timed_by_tune}"


def _timed(done: int, of: int) -> None:
    """How many kernels have been timed."""
    _say(f"{done} of {of}")


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _hush() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
