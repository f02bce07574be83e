"""Compare what is predicted of a step's time and memory with what it takes on this machine.

Each network is planned for the machine at hand, its program is compiled and run for a few steps, and a row is printed
with prediction, interval, measurement and error; behind the last one stand the mean and the largest error, and how well
predictions rank the networks. With --plans N the best few other plans of each network are run as well, which shows
whether the planner's first choice is the best or within 5 % of it. With --profile a few of its points are timed again
before and behind, which tells whether the machine is as fast as when it was calibrated.

exit status: 0 where every plan was run, whatever the errors are; 1 where one could not be planned or run; 130 when
interrupted, behind the rows that there are by then
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import replace
from textwrap import indent
from typing import TYPE_CHECKING

from dlc import driver
from dlc.commands.answer import Answer, Status, UsageError
from dlc.commands.arguments import (
    add_kernels,
    add_parameters,
    add_tuning,
    budget,
    parameter,
    parameters_of,
    rank_list,
    ranks,
)
from dlc.commands.progress import progress
from dlc.commands.tuning import measured
from dlc.diagnostics import DiagnosticError

if TYPE_CHECKING:
    from dlc.cluster.topology import Cluster
    from dlc.inspect.speeds import Speed
    from dlc.inspect.trials import Trial

EXAMPLES = """\
  dlc validate specs/lenet5.dlspec specs/mlp.dlspec
  dlc validate specs/lenet5.dlspec -P batch=64 -n 1,2 --kernels c
  dlc validate specs/alexnet.dlspec batch=8 specs/resnet18.dlspec batch=8 group=8
  dlc validate specs/resnet18.dlspec --ops           # which kernels are predicted badly?
  dlc validate specs/lenet5.dlspec --plans 4         # is the planner's first the best?
  dlc validate specs/mlp.dlspec --threads 2 --profile profile.json --json"""

FILES = ".dlspec files with a train block, each with NAME=VALUE of its params behind it, where others than -P says"

SECONDS = 3.0
"""How long a program runs by default."""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("files", metavar="FILE [NAME=VALUE]", nargs="+", help=FILES)
    add_parameters(parser)
    parser.add_argument(
        "-n", dest="ranks", metavar="N,N,...", type=rank_list, default=(1,), help="numbers of ranks (default: 1)"
    )
    parser.add_argument("--threads", metavar="N", type=ranks, default=1, help="cores of a rank (default: 1)")
    parser.add_argument("--on", dest="cluster", metavar="CLUSTER", help="take the plan block for that cluster")
    add_kernels(parser)
    add_tuning(parser)
    parser.add_argument("--profile", metavar="profile.json", help="what `dlc calibrate` measured on this machine")
    parser.add_argument(
        "--plans", metavar="N", type=ranks, default=1, help="run so many plans of each network (default: 1)"
    )
    parser.add_argument(
        "--seconds", metavar="S", type=budget, default=SECONDS, help=f"run each program so long (default: {SECONDS:g})"
    )
    parser.add_argument(
        "--ops", action="store_true", help="one rank: also show of each kind of call what it took and was to take"
    )
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="time steps by the processor's time instead of the clock: for busy machines, one rank of one thread",
    )


def run(arguments: Namespace) -> Answer:
    """Rows as they are measured, then what they come to."""
    from dlc.inspect.speeds import speed_document, speed_lines
    from dlc.inspect.trials import document, head, summary

    if arguments.processor_time and (arguments.ranks != (1,) or arguments.threads > 1):
        raise UsageError("`--processor-time` counts what one thread works, not when several are done: use `-n 1`")
    if arguments.ops and arguments.ranks != (1,):
        raise UsageError("`--ops` times the calls of one rank: use `-n 1`")
    talks = arguments.format == "text"
    interrupted = False
    found: list[Trial] = []
    if talks:
        print(head(), flush=True)
    before, after = _speed(arguments.profile), None
    try:
        for each in _trials(arguments):
            found.append(each)
            if talks:
                _print(each)
        after = _speed(arguments.profile)
    except KeyboardInterrupt:
        interrupted = True
    failed = Status.MISTAKES if any(each.measured is None for each in found) else Status.DONE
    status = Status.INTERRUPTED if interrupted else failed
    text = "\n".join([f"\n{summary(found)}", *speed_lines(before, after)])
    return Answer(text, {**document(found, interrupted=interrupted), **speed_document(before, after)}, status)


def _speed(path: str | None) -> Speed | None:
    """How fast this machine is now, where a profile says how fast it was; one that cannot be read is told elsewhere."""
    import json

    from dlc.calibration.speed import speed_now
    from dlc.cost.profile_json import read_profile

    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as stream:
            profile = read_profile(json.load(stream))
        return speed_now(profile) if profile.kind == "cpu" else None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _print(trial: Trial) -> None:
    from dlc.inspect.op_times import text
    from dlc.inspect.trials import line

    print(line(trial), flush=True)
    if trial.ops:
        print(indent(f"\n{text(trial.ops)}\n", "    "), flush=True)


def _trials(arguments: Namespace) -> Iterator[Trial]:
    """A row for each plan of each file on each number of ranks."""
    for file, parameters in _files(arguments):
        for count in arguments.ranks:
            yield from _of_network(file, parameters, count, arguments)


def _tuned(source: driver.Source, options: driver.Options, cluster: Cluster, arguments: Namespace) -> driver.Options:
    """The options with the kernels measured that plans for this cluster ask for."""
    from dlc.validation import at_hand, chosen

    _, context = at_hand(source, options, cluster)
    device = context.cluster.device_of(0)
    kernels = measured(
        lambda kernels: chosen(source, replace(options, measured=kernels), cluster), device, arguments.tune_budget
    )
    return replace(options, measured=kernels)


def _files(arguments: Namespace) -> list[tuple[str, dict[str, str]]]:
    """Each file with its parameters."""
    found = list[tuple[str, dict[str, str]]]()
    for word in arguments.files:
        if word.endswith(".dlspec") or "=" not in word:
            found.append((word, parameters_of(arguments)))
        elif not found:
            raise UsageError(f"`{word}` stands before the file that it is for")
        else:
            found[-1][1].update([parameter(word)])
    return found


def _of_network(file: str, parameters: dict[str, str], count: int, arguments: Namespace) -> Iterator[Trial]:
    from dlc.cluster.detect import machine
    from dlc.inspect.trials import CHOSEN, Trial
    from dlc.validation import first_error, trial, ways, with_ops

    clock = "processor" if arguments.processor_time else ""

    try:
        source = driver.read(file, parameters)
        options = driver.Options(parameters, cluster=arguments.cluster, kernels=arguments.kernels)
        cluster = machine(count, arguments.threads)
        if arguments.profile:
            path = os.path.abspath(arguments.profile)
            cluster = replace(cluster, devices=tuple(replace(device, profile=path) for device in cluster.devices))
        if arguments.tune:
            options = _tuned(source, options, cluster, arguments)
        for way in ways(source, options, cluster, arguments.plans):
            with progress(f"{file}: running {way.name}"):
                row = trial(way, arguments.threads, arguments.seconds, clock)
                if arguments.ops and row.measured is not None:
                    row = with_ops(row, way, arguments.seconds)
            yield row
    except DiagnosticError as error:
        kernels, why = arguments.kernels or "", first_error(error)
        yield Trial(file, file, count, arguments.threads, kernels, CHOSEN, why=why)
