"""From a file to a checked Spec, a Plan, a Program and an emitted folder: the one module that sees every layer.

Functions return values or raise `DiagnosticError`; printing is the command line's business. Everything heavy is
imported where it is first needed, so that `dlc check` starts quickly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from dlc.diagnostics import Diagnostic, DiagnosticError, Sources
from dlc.messages import e07_run as e07

if TYPE_CHECKING:
    from dlc.cluster.topology import Cluster
    from dlc.expand.spec import Job, Spec
    from dlc.ir.graph import Graph
    from dlc.ir.plan import Plan
    from dlc.ir.program import Program
    from passes.context import Context


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

    Errors: E0709 where the file leaves a choice, E0711 where nothing is trained, E0710 for ranks that do not fit.
    """
    from dlc.ir.request import Request
    from passes.context import Context

    spec = source.spec
    trained = [job for job in spec.jobs if job.training is not None]
    if not trained:
        raise SourcedError((e07.E0711.at(None, path=spec.path),), source.texts)
    job = trained[-1]
    requests = [r for r in job.requests if options.cluster in (None, r.cluster)]
    cluster = _cluster(source, requests[0].cluster if requests else options.cluster)
    request = requests[0] if requests else Request(job.graph.name, cluster.name)
    ranks = cluster.ranks if options.ranks is None else options.ranks
    if ranks != cluster.ranks:
        resized = cluster.resized(ranks)
        if resized is None:
            raise SourcedError((e07.E0712.at(cluster.span, ranks=ranks, cluster=cluster.name),), source.texts)
        cluster = resized
        request = replace(request, mesh=())
    assert job.training is not None
    compute = options.precision or job.training.precision.compute
    training = job.training
    if options.precision:
        training = replace(training, precision=replace(training.precision, compute=compute, master=compute))
    return job, Context(training, request, cluster, ranks, compute, options.exact)


def _cluster(source: Source, name: str | None) -> Cluster:
    """The cluster of that name; without one, the only one of the file or else the machine at hand."""
    from dlc.cluster.detect import detect

    clusters = {cluster.name: cluster for cluster in source.spec.clusters}
    if name is not None and name in clusters:
        return clusters[name]
    if name is not None or len(clusters) > 1:
        known = ", ".join(f"`{known}`" for known in clusters) or "none"
        diagnostic = e07.E0709.at(None, path=source.spec.path, what="cluster", helps=(f"its clusters: {known}",))
        raise SourcedError((diagnostic,), source.texts)
    return next(iter(clusters.values())) if clusters else detect()


def training_graph(job: Job, context: Context, options: Options) -> Graph:
    """The graph with its backward pass and updates: every pass of the pipeline, verified one by one."""
    from dlc.ir.verify import verify
    from dlc.ops import operator
    from passes import PIPELINE

    graph = job.graph
    verify(graph, "expand", operator)
    for run in PIPELINE:
        graph = run(graph, context)
        verify(graph, run.__name__, operator)
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

    Errors: all that planning finds, E0701 for what the backend cannot emit, E0509 where memory does not suffice.
    """
    from backends.numpy_mpi.refuse import refusals
    from passes.fit import fit
    from passes.lower import lower
    from passes.review import review

    refused = refusals(job.graph, context.training, context.request)
    if refused:
        raise SourcedError(refused, source.texts)
    graph = training_graph(job, context, options)
    try:
        plan = given or fit(graph, context)
        warnings = () if given else review(graph, context, plan)
    except DiagnosticError as error:
        raise SourcedError(error.diagnostics, source.texts) from None
    if given is None:
        plan = plan.with_(
            spec=source.spec.path,
            parameters=tuple(sorted(options.parameters.items())),
            digests=(*plan.digests, ("spec", source.digest)),
        )
    program = lower(graph, plan, context)
    compiled = Compiled(source, job, context, graph, plan, program, (*source.spec.warnings, *warnings))
    _require_sound(compiled)
    return compiled


def _require_sound(compiled: Compiled) -> None:
    """The static check: E0707 for a program that would deadlock, read what was never written or outgrow its memory."""
    from dlc.ir.check import check
    from passes.fit import memory_of

    problems = check(compiled.program, memory_of(compiled.context).bytes)
    if problems:
        found = tuple(e07.E0707.at(None, problem=str(problem)) for problem in problems)
        raise SourcedError(found, compiled.source.texts)


def serial(compiled: Compiled) -> Compiled:
    """The same network on one rank with the same algorithms and layouts: what a parallel program must equal."""
    from passes.lower import lower

    plan = compiled.plan.with_(
        ranks=1, mesh=(("data", 1),), shards=((0, compiled.plan.batch),), buckets=(), predicted=compiled.plan.predicted
    )
    context = compiled.context.with_(ranks=1)
    return replace(compiled, context=context, plan=plan, program=lower(compiled.graph, plan, context))


def emit_files(compiled: Compiled) -> dict[str, bytes]:
    """File name -> content of the program's folder."""
    from backends.numpy_mpi.emission import Emission
    from backends.numpy_mpi.emit import emit

    return emit(
        Emission(
            compiled.graph, compiled.plan, compiled.program, compiled.context.training, exact=compiled.context.exact
        )
    )


def write_folder(files: Mapping[str, bytes], out: str) -> None:
    """Write a program's folder whole or not at all: beside its place first, then renamed.

    Errors: E0705 where something else stands there, E0702 where it cannot be written; what was there stays.
    """
    import shutil
    import tempfile

    target = os.path.abspath(out)
    if os.path.lexists(target) and not _is_program(target):
        raise SourcedError((e07.E0705.at(None, path=out, what="folder that dlc wrote, so it is left alone"),), {})
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".dlc-", dir=os.path.dirname(target)) as scratch:
            fresh = os.path.join(scratch, "program")
            for name, content in files.items():
                path = os.path.join(fresh, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as stream:
                    stream.write(content)
                if name.endswith(".sh"):
                    os.chmod(path, 0o755)
            if os.path.lexists(target):
                os.rename(target, os.path.join(scratch, "previous"))
            os.rename(fresh, target)
            shutil.rmtree(os.path.join(scratch, "previous"), ignore_errors=True)
    except OSError as error:
        raise SourcedError((e07.E0702.at(None, path=out, cause=error.strerror or str(error)),), {}) from None


def _is_program(path: str) -> bool:
    """Whether a folder was written by dlc, or holds nothing that could be lost."""
    return os.path.isdir(path) and (os.path.isfile(os.path.join(path, "plan.json")) or not os.listdir(path))


def from_plan(path: str) -> tuple[Source, Options, Plan]:
    """A plan.json with the spec that it was made from.

    Errors: E0705 for a file that is no plan, E0706 where the spec has changed since.
    """
    plan = read_plan(path)
    options = Options(parameters=dict(plan.parameters), ranks=plan.ranks)
    source = read(_beside(path, plan.spec), options.parameters)
    if dict(plan.digests).get("spec") != source.digest:
        raise SourcedError((e07.E0706.at(None, path=plan.spec),), {})
    return source, options, plan


def _beside(plan: str, spec: str) -> str:
    """The spec as the plan names it: from here, or from the plan's own folder."""
    other = os.path.join(os.path.dirname(plan), spec)
    return spec if os.path.exists(spec) or not os.path.exists(other) else other


def read_plan(path: str) -> Plan:
    """A plan.json by itself. Errors: E0705 for a file that is no plan."""
    from dlc.ir.plan_json import plan_from_json

    try:
        with open(path, encoding="utf-8") as stream:
            return plan_from_json(stream.read())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise SourcedError((e07.E0705.at(None, path=path, what="plan that dlc wrote"),), {}) from None


def write_plan(plan: Plan, path: str) -> None:
    """Write a plan.json whole or not at all. Errors: E0702 where it cannot be written."""
    from dlc.ir.plan_json import plan_to_json

    write_text(path, plan_to_json(plan))


def write_text(path: str, text: str) -> None:
    """Write a file whole or not at all, through links and with the permissions it had; E0702 where that fails."""
    import shutil
    import tempfile

    target = os.path.realpath(path)
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".dlc-", dir=os.path.dirname(target)) as scratch:
            fresh = os.path.join(scratch, "fresh")
            with open(fresh, "w", encoding="utf-8", newline="") as stream:
                stream.write(text)
            if os.path.exists(target):
                shutil.copymode(target, fresh)
            os.replace(fresh, target)
    except OSError as error:
        raise SourcedError((e07.E0702.at(None, path=path, cause=(error.strerror or str(error)).lower()),), {}) from None


def compile_file(path: str, options: Options) -> Compiled:
    """The program of a .dlspec file, or of a plan.json, which is applied exactly and needs no options."""
    if not path.endswith(".json"):
        return compile_spec(read(path, options.parameters), options)
    source, planned, plan = from_plan(path)
    return compile_spec(source, planned, plan)
