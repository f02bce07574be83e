"""From a file to a checked Spec, a Plan, a Program and an emitted folder: the one module that sees every layer.

Functions return values or raise `DiagnosticError`; printing is the command line's business. Everything heavy is
imported where it is first needed, so that `dlc check` starts quickly.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dlc.diagnostics import Diagnostic, DiagnosticError
from dlc.ir.program import TRAIN_STEP
from dlc.job import context_of, measured_elsewhere, quoted, unused_kernels
from dlc.messages import e07_run as e07
from dlc.messages import e08_onnx as e08
from dlc.source import Options, Source, SourcedError, check_file, read

if TYPE_CHECKING:
    from onnx import ModelProto

    from dlc.expand.spec import Job
    from dlc.ir.graph import Graph
    from dlc.ir.plan import Plan
    from dlc.ir.program import Program
    from passes.context import Context
    from passes.planning.plan import Planned
    from passes.planning.programs import Programs
    from passes.planning.search import Effort


__all__ = [
    "Compiled",
    "Options",
    "Source",
    "SourcedError",
    "check_file",
    "compile_file",
    "compile_job",
    "compile_spec",
    "context_of",
    "emit_files",
    "emitted_program",
    "export_onnx",
    "from_plan",
    "plan_file",
    "plan_job",
    "plan_spec",
    "predicted_seconds",
    "read",
    "serial",
    "training_graph",
]


@dataclass(frozen=True, slots=True)
class Compiled:
    """One job on its way to a program. `graph` is the training graph that `plan` decides about."""

    source: Source
    job: Job
    context: Context
    graph: Graph
    plan: Plan
    program: Program
    warnings: tuple[Diagnostic, ...] = ()
    planned: Planned | None = None  # what the search over strategies found, where there was one


def training_graph(job: Job, context: Context, options: Options) -> Graph:
    """The graph with its backward pass and updates: every pass of the pipeline, verified one by one."""
    from dlc.ir.verify import verify
    from dlc.ops import operator
    from passes import PIPELINE

    graph = job.graph
    verify(graph, "expand", operator)
    for run in PIPELINE:
        before, graph = graph, run(graph, context)
        verify(graph, run.__name__, operator, before)
        if options.dump_after == run.__name__:
            from dlc.ir.text import to_text

            options.dump(to_text(graph))
    return graph


def compile_spec(source: Source, options: Options, given: Plan | None = None) -> Compiled:
    """Plan a spec and lower it to a checked Program; a plan that is given is applied and nothing is decided."""
    job, context = context_of(source, options)
    return compile_job(source, job, context, options, given)


def compile_job(source: Source, job: Job, context: Context, options: Options, given: Plan | None = None) -> Compiled:
    """One job under one context, to a checked Program.

    Errors: all that planning finds, E0701 for what the backend cannot emit, E0308 for a text of more characters than
    the network has classes, E0509 where memory does not suffice, E0711
    where the loss depends on no weight, E0719 where a given plan is not for this network.
    """
    from backends.numpy_mpi.refuse import refusals
    from dlc.vocabulary import too_few_classes

    refused = refusals(job.graph, context.training, context.request, context.cluster)
    refused = refused or tuple(too_few_classes(job.graph, context.training, source.spec.root))
    if refused:
        raise SourcedError(refused, source.texts)
    if given is None:
        compiled = plan_job(source, job, context, options)
    else:
        compiled = _applied(source, job, context, options, given)
    _require_sound(compiled, None if given or _computes_half(context) else context.memory.bytes)
    return compiled


def _computes_half(context: Context) -> bool:
    """Whether the devices compute half precision as it is, in no arrays of f32 as the printed program does."""
    from dlc.ir.tensor import NARROW
    from passes.planning.programs import widens

    return context.compute in NARROW and not widens(context)


def plan_spec(source: Source, options: Options, effort: Effort | None = None) -> Compiled:
    """The best plan for a spec on its cluster, of any strategy, whether or not a backend emits it; and its Program.

    Errors: all that planning finds, E0509 where memory does not suffice, E0711 where the loss depends on no weight.
    """
    job, context = context_of(source, options)
    return plan_job(source, job, context, options, effort)


def plan_job(source: Source, job: Job, context: Context, options: Options, effort: Effort | None = None) -> Compiled:
    """The best plan for one job under one context, and its Program, which keeps within the memory; errors as of
    `plan_spec`."""
    from passes.lower import with_buckets
    from passes.planning.pinned import inexact_pins, review_pins
    from passes.planning.programs import Programs
    from passes.planning.unpriced import unpriced

    graph = _trainable(source, job, context, options)
    programs = Programs(graph, context)
    try:
        planned = _searched(programs, effort, lambda changed: training_graph(job, changed, options))
        plan = with_buckets(graph, planned.plan, context)
        warnings = (
            *review_pins(planned),
            *inexact_pins(graph, context.request),
            *unpriced(context),
            *measured_elsewhere(context),
            *unused_kernels(context, options),
        )
    except DiagnosticError as error:
        raise SourcedError(error.diagnostics, source.texts) from None
    plan = plan.with_(
        spec=source.spec.path,
        parameters=tuple(sorted(options.parameters.items())),
        digests=(*plan.digests, ("spec", source.digest)),
    )
    program = programs.program(plan)
    return Compiled(source, job, context, graph, plan, program, (*source.spec.warnings, *warnings), planned)


def _trainable(source: Source, job: Job, context: Context, options: Options) -> Graph:
    """The training graph; E0711 where the loss depends on no weight."""
    from passes.add_updates import weight_gradients

    graph = training_graph(job, context, options)
    if not any(weight_gradients(graph)):
        notes = (f"the loss of `{graph.name}` depends on no weight",)
        raise SourcedError((e07.E0711.at(None, path=source.spec.path, notes=notes),), source.texts)
    return graph


def _applied(source: Source, job: Job, context: Context, options: Options, plan: Plan) -> Compiled:
    """A given plan with its Program; E0719 for each fault of one that is not for this network."""
    from passes.accept import accept
    from passes.lower import lower

    graph = _trainable(source, job, context, options)
    problems = accept(graph, plan, context)
    if problems:
        raise SourcedError(tuple(e07.E0719.at(None, problem=problem) for problem in problems), {})
    return Compiled(source, job, context, graph, plan, lower(graph, plan, context), source.spec.warnings)


def _searched(programs: Programs, effort: Effort | None, regraph: Callable[[Context], Graph]) -> Planned:
    """The plan of the search over all strategies, simulated beside the best few others and the baselines, whose Program
    is within the memory.

    `regraph` makes the training graph for another precision, which may be a way out where nothing fits.
    """
    from passes.planning.plan import plan
    from passes.planning.program_traffic import keeping_to_it, sent_by
    from passes.planning.search import Effort

    graph, context = programs.graph, programs.context

    def planned(asked: Context) -> Planned:
        limit = asked.memory.bytes
        return plan(graph, asked, limit, effort or Effort(), programs.seconds, regraph, programs.allocated)

    def bytes_sent(made: Planned) -> float:
        return sent_by(programs.program(made.plan), context.cluster)

    return keeping_to_it(context, planned, bytes_sent)


def _require_sound(compiled: Compiled, memory: int | None) -> None:
    """The static check of the Program as it is printed: E0707 where it would deadlock, outgrow its memory or not
    compute its network."""
    from dlc.proof import check

    problems = check(emitted_program(compiled), compiled.graph, memory)
    if problems:
        found = tuple(e07.E0707.at(None, problem=str(problem)) for problem in problems)
        raise SourcedError(found, compiled.source.texts)


def serial(compiled: Compiled) -> Compiled:
    """The same network on one rank with the same algorithms and layouts, each kernel by itself: what a parallel
    program must equal."""
    from passes.lower import lower

    plan = compiled.plan.serial()
    context = compiled.context.with_(ranks=1, request=replace(compiled.context.request, fusion="no"))
    return replace(compiled, context=context, plan=plan, program=lower(compiled.graph, plan, context))


def emit_files(compiled: Compiled, backend: str = "numpy") -> dict[str, bytes]:
    """File name -> content of the program's folder; the backend is `numpy` or `cupy`.

    Errors: E0701 for what a plan holds and the backend `cupy` has no kernels for.
    """
    from backends.cupy_mpi.emit import emit as emit_cupy
    from backends.cupy_mpi.refuse import refusals
    from backends.numpy_mpi.emission import Emission
    from backends.numpy_mpi.emit import emit

    if backend == "cupy" and (refused := refusals(compiled.plan, compiled.context.request)):
        raise SourcedError(refused, compiled.source.texts)
    program, context = emitted_program(compiled), compiled.context
    emission = Emission(compiled.graph, compiled.plan, program, context.training, exact=context.exact)
    return emit_cupy(emission) if backend == "cupy" else emit(emission)


def emitted_program(compiled: Compiled) -> Program:
    """The Program as the backend prints it: NumPy's kernels compute half precision in f32."""
    from dlc.ir.tensor import NARROW
    from passes.lower import lower

    if compiled.context.compute not in NARROW:
        return compiled.program
    return lower(compiled.graph, compiled.plan, compiled.context.with_(widens=True))


def predicted_seconds(compiled: Compiled) -> bytes:
    """`seconds.json`: how long each function of each stage takes; waiting for others is counted with the last one."""
    import json

    from backends.numpy_mpi.mesh.roles import function_name
    from dlc.cost.price import default_price
    from dlc.ir.ranks import schedule

    program, plan = emitted_program(compiled), compiled.plan
    price = default_price(program, compiled.context.cluster, compiled.context.profile)
    stages: list[dict[str, float]] = []
    for index, role in enumerate(program.roles):
        samples = role.largest_shard
        names = {segment.name: function_name(program, index, segment.name) for segment in role.segments}
        seconds = {
            names[segment.name]: sum(price(instruction, role, samples) for instruction in segment.instructions)
            for segment in role.segments
        }
        rows = [names[row.segment] for row in schedule(role, TRAIN_STEP)]
        waiting = plan.predicted.step_seconds - sum(seconds[name] for name in rows)
        seconds[rows[-1]] += max(0.0, waiting)
        stages.append(seconds)
    return json.dumps(stages, indent=1).encode()


def export_onnx(source: Source, weights: str | None) -> ModelProto:
    """The network as a model of ONNX, with the weights of a file or those that training starts with.

    Errors: E0716 for weights of another network, E0803 without the package onnx, E0805 for ops that ONNX cannot
    express, E0806 where the file leaves a choice.
    """
    from dlc.frontends.onnx.counterparts import COUNTERPARTS
    from dlc.frontends.onnx.exporting import export_model
    from dlc.weights import first_weights, read_weights
    from passes.set_initialisation import initialised

    job = _exported_job(source)
    graph, seed = job.graph, 0
    try:
        if job.training is not None:
            graph, seed = initialised(graph, job.training.init), job.training.seed
        known = first_weights(graph, seed) if weights is None else read_weights(weights, graph)
        return export_model(graph, known, COUNTERPARTS)
    except DiagnosticError as error:
        raise SourcedError(error.diagnostics, source.texts) from None


def _exported_job(source: Source) -> Job:
    """The only network, or the only one that is trained; E0806 where there is neither."""
    jobs = source.spec.jobs
    trained = [job for job in jobs if job.training is not None]
    found = jobs if len(jobs) == 1 else trained
    if len(found) != 1:
        names = quoted(job.graph.name for job in jobs)
        refused = e08.UNSETTLED_NETWORK.at(None, path=source.spec.path, notes=(f"its networks: {names}",))
        raise SourcedError((refused,), source.texts)
    return found[0]


def from_plan(path: str) -> tuple[Source, Options, Plan]:
    """A plan.json with the spec that it was made from.

    Errors: E0705 for a file that is no plan, E0706 where the spec has changed since.
    """
    from dlc.folders import read_plan

    plan = read_plan(path)
    options = Options(parameters=dict(plan.parameters), ranks=plan.ranks)
    source = read(_beside(path, plan.spec), options.parameters)
    if dict(plan.digests).get("spec") != source.digest:
        raise SourcedError((e07.E0706.at(None, path=plan.spec),), {})
    written = plan.cluster in {cluster.name for cluster in source.spec.clusters}
    return source, replace(options, cluster=plan.cluster if written else None), plan


def _beside(plan: str, spec: str) -> str:
    """The spec as the plan names it: from here, or from the plan's own folder."""
    other = os.path.join(os.path.dirname(plan), spec)
    return spec if os.path.exists(spec) or not os.path.exists(other) else other


def compile_file(path: str, options: Options) -> Compiled:
    """The program of a .dlspec file, or of a plan.json, which is applied exactly and needs no options."""
    if not path.endswith(".json"):
        return compile_spec(read(path, options.parameters), options)
    source, planned, plan = from_plan(path)
    return compile_spec(source, planned, plan)


def plan_file(path: str, options: Options) -> Compiled:
    """The Program of a .dlspec file by its best plan, or of a plan.json, whether or not a backend emits it.

    Errors: those of `plan_spec` or `from_plan`, E0719 where a given plan is not for this network.
    """
    if not path.endswith(".json"):
        return plan_spec(read(path, options.parameters), options)
    source, planned, plan = from_plan(path)
    job, context = context_of(source, planned)
    return _applied(source, job, context, planned, plan)
