"""`dlc validate`: plans for the machine at hand, their programs run, and what was predicted beside what they took.

A network is planned for so many ranks of this machine, whatever cluster its file names; the plan block's other settings
stand. What a step takes does not depend on how many samples there are: synthetic ones are few, and none are for tests.
The time is that of the program's own clock, the median over steps, the first few left out.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from backends.numpy_mpi.timing.process import THREADS
from backends.numpy_mpi.timing.reference import Reading
from backends.numpy_mpi.timing.steps import beside
from dlc.cluster.topology import Cluster
from dlc.data_sets import LOADABLE
from dlc.diagnostics import DiagnosticError
from dlc.driver import Compiled, Options, Source, compile_job, context_of, emit_files
from dlc.folders import write_folder
from dlc.inspect.trials import CHOSEN, Trial
from dlc.ir.plan import Prediction
from dlc.ir.request import Request, Rule
from dlc.ir.training import Choice, Training
from dlc.job import FULL, family_of, in_steps_of, profile_of
from dlc.launch import TIMED_OUT, launch
from dlc.op_times import StepError, op_times
from dlc.ops.operator import LAYOUTS
from passes.options import Rules, candidates, operations, rules_of
from passes.planning.compare import decisions

if TYPE_CHECKING:
    from dlc.expand.spec import Job
    from dlc.ir.graph import Graph
    from passes.context import Context

WARM, LEAST, MOST = 3, 7, 5000
"""Steps that are not counted; and of those that are, the least and the most."""

PATIENCE = 60.0
"""So many times its seconds a program may take, with a minute to begin, before it is given up."""

CLOCK_VARIABLE = "DLC_CLOCK"
"""Tells a program which clock its steps are timed by, as the runtime's clock.py has it."""

BATCHES = 4
"""So many of synthetic samples."""

CLASSES = 1000
"""Of images that programs cannot read."""

FAMILIES = ("direct", "im2col", "winograd", "fft")
STRATEGIES = ("data", "model", "spatial")


@dataclass(frozen=True, slots=True)
class Way:
    """A plan for one network, and what was asked of it."""

    name: str
    compiled: Compiled


class RunError(Exception):
    """A program that did not come to its end; the text says how it ended."""


def chosen(source: Source, options: Options, cluster: Cluster) -> Compiled:
    """The planner's own plan of a network on a cluster; errors: those of `compile_job`."""
    return compile_job(source, *at_hand(source, options, cluster), options)


def first_error(error: DiagnosticError) -> str:
    """The first sentence that is no warning."""
    return next(each.message for each in error.diagnostics if each.is_error)


def ways(source: Source, options: Options, cluster: Cluster, count: int) -> Iterator[Way]:
    """The planner's plan of a network on a cluster, and with `count` above 1 the best others that planning finds when a
    layout, an algorithm or a strategy is asked for; best first by prediction, as many as there are.

    Errors: those of `compile_job`, for the planner's own plan.
    """
    job, context = at_hand(source, options, cluster)
    own = compile_job(source, job, context, options)
    yield Way(CHOSEN, own)
    others = list[Way]()
    for name, request in _asked(own.graph, context) if count > 1 else ():
        try:
            others.append(Way(name, compile_job(source, job, context.with_(request=request), options)))
        except DiagnosticError:
            continue  # no plan does as this one asks
    others.sort(key=lambda way: expected(way.compiled.plan.predicted))
    known = {decisions(own.plan)}
    for way in others:
        if len(known) < count and decisions(way.compiled.plan) not in known:
            known.add(decisions(way.compiled.plan))
            yield way


def at_hand(source: Source, options: Options, cluster: Cluster) -> tuple[Job, Context]:
    """The job and its context on a cluster that the file need not name; `options.cluster` says which plan block."""
    job, context = context_of(source, replace(options, ranks=None))
    family = family_of(options.kernels or context.request.kernels)
    cluster = cluster.computing_with(family if context.compute in FULL else "numpy")
    request = replace(context.request, cluster=cluster.name, mesh=())
    training = replace(context.training, data=_few(context.training, job.graph.batch), checkpoint=None, stop=None)
    known = profile_of(source, cluster, options)
    profile = in_steps_of(job.graph, training, known, cluster.ranks_in_one_memory)
    return job, context.with_(training=training, request=request, cluster=cluster, ranks=cluster.ranks, profile=profile)


def _few(training: Training, batch: int) -> Choice:
    """The data, none of it for tests; of synthetic samples no more than a few batches, which stand in for what programs
    cannot read."""
    kind, arguments = training.data.kind, dict(training.data.arguments)
    if kind not in LOADABLE:
        kind, arguments = "synthetic", {"classes": CLASSES, "shuffle": True, "last": "drop", "test": 0.0}
    arguments |= {"test": 0.0} if "test" in arguments else {}
    if kind == "synthetic":
        arguments["samples"] = BATCHES * batch * training.accumulate
    return Choice(kind, tuple(arguments.items()))


def _asked(graph: Graph, context: Context) -> Iterator[tuple[str, Request]]:
    """What may be asked of a plan besides: one layout for all images, one family of algorithms wherever it is legal,
    and on several ranks one strategy."""
    request, rules = context.request, rules_of(context.request)
    for layout in LAYOUTS:
        yield f"layout = {layout}", replace(request, layout=layout)
    for family in FAMILIES:
        pins = tuple(_pins(graph, family, rules))
        if pins:
            yield f"algorithm = {family}", replace(request, pins=(*request.pins, *pins))
    for strategy in STRATEGIES if context.ranks > 1 else ():
        yield f"strategy = {strategy}", replace(request, strategy=Choice(strategy))


def _pins(graph: Graph, family: str, rules: Rules) -> Iterator[Rule]:
    """A pin for each op of which every pass can be computed by a family of algorithms in one layout."""
    for operation in operations(graph):
        legal = {(c.node.stage, c.layout) for c in candidates(graph, operation, rules, graph.batch)
                 if c.excluded is None and c.algorithm.startswith(family)}  # fmt: skip
        stages = {node.stage for node in operation.passes}
        pinned = rules.pin(operation.address, "algorithm") is not None
        span = operation.forward.span
        if span is None or pinned or not any({(s, layout) for s in stages} <= legal for _, layout in legal):
            continue
        yield Rule("algorithm", family, (operation.address,), operation.address, span, span)


def expected(predicted: Prediction) -> float:
    """Seconds that the Program of a plan takes by simulation, which knows of fused calls; J where it was not made."""
    return predicted.simulated_seconds or predicted.step_seconds


@dataclass(frozen=True, slots=True)
class Measured:
    """The median time of so many steps; what the process of the rank that grew most grew by, and its base; and of one
    rank the medians of readings of the machine's speed meanwhile."""

    seconds: float
    steps: int
    grown_bytes: int | None = None
    base_bytes: int | None = None
    reading: Reading | None = None


def measure(way: Way, seconds: float, clock: str = "", threads: int = 1) -> Measured:
    """Run the program for about so many seconds.

    `clock` "processor" asks for the processor's time in the process. Errors: RunError where the program fails or takes
    many times what was predicted.
    """
    compiled = way.compiled
    steps, patience = _steps(compiled, seconds)
    with tempfile.TemporaryDirectory(prefix="dlc-validate-") as scratch:
        folder = os.path.join(scratch, compiled.plan.network)
        write_folder(emit_files(compiled), folder)
        readings = os.path.join(scratch, "readings.json") if compiled.plan.ranks == threads == 1 else ""
        variables = {CLOCK_VARIABLE: clock, **(dict.fromkeys(THREADS, "1") if readings else {})}
        found = _run(folder, compiled, WARM + steps, patience, variables, readings)
        reading = _medians(readings) if readings else None
    memory = found.get("memory", {})
    return Measured(float(found["step_seconds"]), steps, memory.get("grown"), memory.get("base"), reading)


def _medians(path: str) -> Reading:
    """Of all readings that were made beside a program."""
    with open(path, encoding="utf-8") as stream:
        return Reading(*(median(column) for column in zip(*json.load(stream), strict=True)))


def _steps(compiled: Compiled, seconds: float) -> tuple[int, float]:
    """How many steps are made in so many seconds, and after how many seconds a program is given up."""
    each = max(expected(compiled.plan.predicted), 1e-6)
    steps = min(MOST, max(LEAST, round(seconds / each)))
    return steps, PATIENCE * (1.0 + (WARM + steps) * each)


def with_ops(row: Trial, way: Way, seconds: float) -> Trial:
    """The row with what each call of the program's step took; it runs again, with stopwatches."""
    steps, patience = _steps(way.compiled, seconds)
    try:
        return replace(row, ops=op_times(way.compiled, steps, row.threads, patience))
    except StepError as error:
        return replace(row, why=str(error))


def _run(
    folder: str, compiled: Compiled, steps: int, timeout: float, environment: Mapping[str, str], readings: str
) -> Mapping[str, Any]:
    """What a program says at its end; with readings of the machine's speed beside it where there is a file for them."""
    command = beside(readings, folder) if readings else ()
    root = compiled.source.spec.root or os.curdir
    words = ["--root", root, "--steps", str(steps), "--json", "--profile"]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        status = launch(folder, compiled.plan.ranks, words, environment=environment, timeout=timeout, output=said,
                        command=command)  # fmt: skip
        if status == TIMED_OUT:
            raise RunError(f"it did not make {steps} steps in {timeout:.0f} s")
        if status:
            raise RunError(f"its program ended with status {status}")
        said.seek(0)
        return dict(json.loads(said.read().splitlines()[-1]))


def trial(way: Way, threads: int, seconds: float, clock: str = "") -> Trial:
    """The row of a plan: run, or why it could not be."""
    plan = way.compiled.plan
    predicted = plan.predicted
    times = expected(predicted) / predicted.step_seconds
    row = Trial(
        plan.spec,
        plan.network,
        plan.ranks,
        threads,
        plan.kernels,
        way.name,
        predicted.step_seconds * times,
        predicted.low_seconds * times,
        predicted.high_seconds * times,
        predicted.peak_bytes,
    )
    try:
        found = measure(way, seconds, clock, threads)
    except RunError as error:
        return replace(row, why=str(error))
    except DiagnosticError as error:
        return replace(row, why=first_error(error))
    usual = None if (profile := way.compiled.context.profile) is None else profile.usual
    return replace(
        row,
        measured=found.seconds,
        steps=found.steps,
        measured_bytes=found.grown_bytes,
        base_bytes=found.base_bytes,
        speed=found.reading.products / usual.products if found.reading and usual else None,
    )
