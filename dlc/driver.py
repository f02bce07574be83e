"""From a file to a checked Spec, a Plan, a Program and an emitted folder: the one module that sees every layer.

Functions return values or raise `DiagnosticError`; printing is the command line's business. Everything heavy is
imported where it is first needed, so that `dlc check` starts quickly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from math import prod
from typing import TYPE_CHECKING

from dlc.diagnostics import Diagnostic, DiagnosticError, Sources
from dlc.messages import e07_run as e07
from dlc.messages import e08_onnx as e08

if TYPE_CHECKING:
    from onnx import ModelProto

    from dlc.cluster.topology import Cluster
    from dlc.cost.profile import Profile
    from dlc.expand.spec import Job, Spec
    from dlc.ir.graph import Graph
    from dlc.ir.plan import Plan
    from dlc.ir.program import Program
    from dlc.ir.request import MeshAxis, Request
    from passes.context import Context
    from passes.lowering.program import Lowered
    from passes.planning.plan import Planned
    from passes.planning.search import Effort


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line adds to a spec: `-P` overrides, ranks, the cluster, and what `verify` changes."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    ranks: int | None = None
    cluster: str | None = None
    precision: str | None = None
    exact: bool = False
    dump_after: str | None = None
    dump: Callable[[str], None] = print


@dataclass(frozen=True, slots=True)
class Source:
    """A checked file with the texts that its spans point into."""

    spec: Spec
    texts: Sources

    @property
    def digest(self) -> str:
        """sha256 over the names and texts of all files."""
        text = "\0".join(f"{os.path.basename(name)}\0{self.texts[name]}" for name in sorted(self.texts))
        return sha256(text.encode()).hexdigest()


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


def read(path: str, parameters: Mapping[str, str] | None = None) -> Source:
    """Parse and expand a file; DiagnosticError with all its mistakes, `texts` in the error's `sources`."""
    from dlc.expand.build import expand

    texts: dict[str, str] = {}
    try:
        spec = expand(path, parameters or {}, sources=texts)
    except DiagnosticError as error:
        raise SourcedError(error.diagnostics, texts) from None
    return Source(spec, texts)


class SourcedError(DiagnosticError):
    """Mistakes in the input together with the texts that they point into."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...], sources: Sources) -> None:
        super().__init__(diagnostics)
        self.sources = sources


def check_file(path: str, parameters: Mapping[str, str] | None = None) -> tuple[tuple[Diagnostic, ...], Sources]:
    """Every message about a file, errors and warnings, and the texts that they point into."""
    try:
        source = read(path, parameters)
    except SourcedError as error:
        return error.diagnostics, error.sources
    return source.spec.warnings, source.texts


def context_of(source: Source, options: Options) -> tuple[Job, Context]:
    """The job that the command works on, with its plan block, its cluster and the number of ranks.

    Errors: E0709 where the file leaves a choice, E0711 where nothing is trained, E0712 for ranks that do not fit, E0714
    for a cluster that is not there.
    """
    from passes.context import Context

    job = _trained_job(source)
    request, cluster = _request(source, job, options.cluster)
    ranks = cluster.ranks if options.ranks is None else options.ranks
    if ranks != cluster.ranks:
        resized = cluster.resized(ranks)
        if resized is None:
            raise SourcedError((_not_resized(cluster, ranks),), source.texts)
        request = replace(request, mesh=_resized_mesh(request.mesh, cluster, resized))
        cluster = resized
    assert job.training is not None
    compute = options.precision or job.training.precision.compute
    training = job.training
    if options.precision:
        training = replace(training, precision=replace(training.precision, compute=compute, master=compute))
    return job, Context(training, request, cluster, ranks, compute, options.exact, _profile(source, cluster))


def _not_resized(cluster: Cluster, ranks: int) -> Diagnostic:
    """E0712: what is in the way of that many ranks, and what to do."""
    levels = cluster.levels
    if not levels or levels[-1].children:
        uneven = ("its groups differ from member to member",)
        other = (f"write another cluster with {ranks} devices, and name it with `--on`",)
        return e07.E0712.at(cluster.span, notes=uneven, helps=other, ranks=ranks, cluster=cluster.name)
    *outside, inner = levels
    groups, outer = ", ".join(f"`{level.name}` of {level.count}" for level in levels), prod(g.count for g in outside)
    link = cluster.link(inner.link) if inner.link else None
    notes, helps = [f"its groups: {groups}"], list[str]()
    if link is None:
        notes.append(f"the members of `{inner.name}` are joined by no link")
        helps.append(f"name a link: `{inner.name}[{ranks}] over …`")
    elif link.members is not None and (ranks % outer == 0 or ranks < outer):
        drawn = "its shape is a torus" if link.dimensions else "it lists the edges between them"
        notes.append(f"`{link.name}` joins {link.members} members, neither more nor fewer: {drawn}")
        helps.append(
            f"write `{link.name}` anew for the number of `{inner.name}` that is wanted, or as `shape = switch`"
        )
        if outside and ranks % (cluster.ranks // outside[0].count) == 0:
            count = ranks * outside[0].count // cluster.ranks
            helps.append(f"for {ranks} ranks take another number of the outermost group: `{outside[0].name}[{count}]`")
    else:
        near = [n for n in (ranks // outer * outer, (ranks // outer + 1) * outer) if n]
        helps.append(f"the next numbers that can be had are {' and '.join(str(n) for n in near)}")
    return e07.E0712.at(cluster.span, notes=tuple(notes), helps=tuple(helps), ranks=ranks, cluster=cluster.name)


def _resized_mesh(mesh: tuple[MeshAxis, ...], before: Cluster, after: Cluster) -> tuple[MeshAxis, ...]:
    """The mesh with the groups as large as they are now: an axis that took a group whole still does."""
    sizes = {level.name: level.count for level in after.levels}
    whole = {level.name: level.count for level in before.levels}
    return tuple(replace(axis, extent=sizes[axis.group]) if axis.extent == whole[axis.group] else axis for axis in mesh)


def _profile(source: Source, cluster: Cluster) -> Profile | None:
    """The measured figures that the cluster's device names; E0416 where its file is none."""
    import json

    from dlc.cost.profile import read_profile
    from dlc.messages.e04_cluster import UNREADABLE_PROFILE

    device = cluster.device_of(0)
    if device.profile is None:
        return None
    try:
        with open(os.path.join(source.spec.root, device.profile), encoding="utf-8") as stream:
            return read_profile(json.load(stream))
    except OSError as error:
        cause = error.strerror or str(error)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        cause = f"it has no {error}" if isinstance(error, KeyError) else str(error)
    raise SourcedError((UNREADABLE_PROFILE.at(device.span, path=device.profile, cause=cause),), source.texts)


def _trained_job(source: Source) -> Job:
    """The one network that is trained: E0711 where there is none, E0709 where there are several."""
    spec = source.spec
    trained = [job for job in spec.jobs if job.training is not None]
    if not trained:
        helps = ("a `train` block says on what data, to what end and how long a network is trained",)
        raise SourcedError((e07.E0711.at(None, path=spec.path, helps=helps),), source.texts)
    if len(trained) > 1:
        names = ", ".join(f"`{job.graph.name}`" for job in trained)
        helps = (f"it trains {names}: keep one `train` block in a file, it can import the networks",)
        raise SourcedError((e07.E0709.at(None, path=spec.path, what="network", helps=helps),), source.texts)
    return trained[0]


def _request(source: Source, job: Job, on: str | None) -> tuple[Request, Cluster]:
    """The job's plan block for the cluster that is asked for, a default one where there is none, and the cluster."""
    from dlc.ir.request import Request

    if on is not None and on not in {cluster.name for cluster in source.spec.clusters}:
        helps = (f"its clusters: {_quoted(cluster.name for cluster in source.spec.clusters)}",)
        raise SourcedError((e07.E0714.at(None, path=source.spec.path, cluster=on, helps=helps),), source.texts)
    requests = [request for request in job.requests if on in (None, request.cluster)]
    if len(requests) > 1:
        raise _unsettled(source, "plan", [request.cluster for request in requests])
    cluster = _cluster(source, requests[0].cluster if requests else on)
    return (requests[0] if requests else Request(job.graph.name, cluster.name)), cluster


def _cluster(source: Source, name: str | None) -> Cluster:
    """The cluster of that name; without one, the only one of the file or else the machine at hand."""
    from dlc.cluster.detect import detect

    clusters = {cluster.name: cluster for cluster in source.spec.clusters}
    if name is not None:
        return clusters[name]
    if len(clusters) > 1:
        raise _unsettled(source, "cluster", list(clusters))
    return next(iter(clusters.values())) if clusters else detect()


def _unsettled(source: Source, what: str, clusters: list[str]) -> SourcedError:
    """E0709 for a choice between clusters, or between plans for them."""
    names = list(dict.fromkeys(clusters))
    way_out = f"name one of {_quoted(names)} with `--on`" if len(names) > 1 else f"keep one plan on `{names[0]}`"
    return SourcedError((e07.E0709.at(None, path=source.spec.path, what=what, helps=(way_out,)),), source.texts)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


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
        compiled = _allocated(source, job, context, options)
    else:
        compiled = _applied(source, job, context, options, given)
    _require_sound(compiled, None if given else context.memory.bytes)
    return compiled


def _allocated(source: Source, job: Job, context: Context, options: Options) -> Compiled:
    """The best plan whose Program, too, keeps within the memory."""
    from dlc.cost.memory import peak_bytes
    from passes.planning.allocated import allocating_within

    def planned(asked: Context) -> Compiled:
        return plan_job(source, job, asked, options)

    def sizes(made: Compiled) -> tuple[int, int]:
        return made.plan.predicted.peak_bytes, peak_bytes(made.program)

    try:
        return replace(allocating_within(context, planned, sizes), context=context)
    except SourcedError:
        raise
    except DiagnosticError as error:
        raise SourcedError(error.diagnostics, source.texts) from None


def plan_spec(source: Source, options: Options, effort: Effort | None = None) -> Compiled:
    """The best plan for a spec on its cluster, of any strategy, whether or not a backend emits it; and its Program.

    Errors: all that planning finds, E0509 where memory does not suffice, E0711 where the loss depends on no weight.
    """
    job, context = context_of(source, options)
    return plan_job(source, job, context, options, effort)


def plan_job(source: Source, job: Job, context: Context, options: Options, effort: Effort | None = None) -> Compiled:
    """The best plan for one job under one context, and its Program; errors as of `plan_spec`."""
    from passes.lower import lower, with_buckets
    from passes.planning.pinned import inexact_pins, review_pins
    from passes.planning.plan import decisions
    from passes.planning.unpriced import unpriced

    graph = _trainable(source, job, context, options)
    programs: list[tuple[Plan, Lowered]] = []
    try:
        planned = _searched(graph, context, effort, lambda changed: training_graph(job, changed, options), programs)
        plan = with_buckets(graph, planned.plan, context)
        warnings = (*review_pins(planned), *inexact_pins(graph, context.request), *unpriced(context))
    except DiagnosticError as error:
        raise SourcedError(error.diagnostics, source.texts) from None
    plan = plan.with_(
        spec=source.spec.path,
        parameters=tuple(sorted(options.parameters.items())),
        digests=(*plan.digests, ("spec", source.digest)),
    )
    known = next((made for simulated, made in programs if decisions(simulated) == decisions(plan)), None)
    program = known.program() if known else lower(graph, plan, context)
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


def _searched(
    graph: Graph,
    context: Context,
    effort: Effort | None,
    regraph: Callable[[Context], Graph],
    programs: list[tuple[Plan, Lowered]],
) -> Planned:
    """The plan of the search over all strategies, simulated beside the best few others and the baselines.

    `regraph` makes the training graph for another precision, which may be a way out where nothing fits. `programs`
    takes up those that are simulated.
    """
    from dlc.cost.price import default_price
    from dlc.cost.timeline import makespan
    from passes.lower import lower, lower_apart
    from passes.planning.plan import plan
    from passes.planning.search import Effort
    from passes.planning.traffic import keeping_to_it, sent_by

    def seconds(candidate: Plan) -> float:
        made = lower_apart(graph, candidate, context)
        programs.append((candidate, made))
        program = made.apart
        price = default_price(program, context.cluster, context.profile)
        overlap = 0.0 if context.request.overlap == "no" else context.cluster.device_of(0).overlap
        return makespan(program, "train_step", price, overlap)

    def planned(asked: Context) -> Planned:
        return plan(graph, asked, asked.memory.bytes, effort or Effort(), seconds, regraph)

    def bytes_sent(made: Planned) -> float:
        return sent_by(lower(graph, made.plan, context), context.cluster)

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
    """The same network on one rank with the same algorithms and layouts: what a parallel program must equal."""
    from passes.lower import lower

    plan = compiled.plan.serial()
    context = compiled.context.with_(ranks=1)
    return replace(compiled, context=context, plan=plan, program=lower(compiled.graph, plan, context))


def emit_files(compiled: Compiled) -> dict[str, bytes]:
    """File name -> content of the program's folder."""
    from backends.numpy_mpi.emission import Emission
    from backends.numpy_mpi.emit import emit

    program, context = emitted_program(compiled), compiled.context
    return emit(Emission(compiled.graph, compiled.plan, program, context.training, exact=context.exact))


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
        rows = [names[row.segment] for row in schedule(role, "train_step")]
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
        names = _quoted(job.graph.name for job in jobs)
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
