"""`dlc plan --devices` and `dlc plan --what-if`: the same network planned for one machine after another."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from dlc import driver
from dlc.cluster.change import changed, scaled
from dlc.commands.answer import Answer, Status
from dlc.commands.arguments import effort_of, options_of
from dlc.commands.progress import progress
from dlc.diagnostics import Diagnostic, DiagnosticError
from dlc.inspect.machines import Machine, scaling_document, scaling_text, sensitivity_document, sensitivity_text

if TYPE_CHECKING:
    from dlc.cluster.topology import Cluster
    from dlc.expand.spec import Job
    from dlc.ir.request import Request
    from passes.context import Context
    from passes.planning.search import Effort


def scaling(arguments: Namespace) -> Answer:
    """A row for each size of the cluster; status 3 where none of them has a plan."""
    options, effort = options_of(arguments), effort_of(arguments)
    source = driver.read(arguments.file, dict(options.parameters))
    job, context = driver.context_of(source, options)
    found = list[Machine]()
    for number, devices in enumerate(arguments.devices, 1):
        with progress(f"planning for {devices:,} devices, {number} of {len(arguments.devices)}"):
            found.append(_sized(source, job, context, devices, effort))
    document = scaling_document(job.graph.name, context.cluster.name, found)
    text = scaling_text(job.graph.name, context.cluster.name, found)
    return Answer(text, document, _status(found), source.spec.warnings, source.texts)


def _sized(source: driver.Source, job: Job, context: Context, devices: int, effort: Effort) -> Machine:
    """The plan for so many devices, or why there is none."""
    title, cluster = f"{devices:,}", scaled(context.cluster, devices)
    if cluster is None:
        return Machine(title, devices, why=f"cluster `{context.cluster.name}` cannot be made of {devices:,} devices")
    request, why = _for_size(context.request, devices)
    if why:
        return Machine(title, devices, why=why)
    return _planned(_on(source, job, cluster, request), title, devices, effort)


def _for_size(request: Request, devices: int) -> tuple[Request, str]:
    """The plan block for so many devices: a mesh of the batch alone is made again, any other has to hold them."""
    if {axis.name for axis in request.mesh} <= {"data"}:
        request = replace(request, mesh=())
    held = prod(axis.extent for axis in request.mesh)
    if request.mesh and held != devices:
        return request, f"the mesh of the plan block has {held:,} ranks"
    fixed = [extent for _, extent in request.strategy.arguments if type(extent) is int]
    if devices % prod(fixed):
        return request, f"the plan block's `{request.strategy.kind}` has a multiple of {prod(fixed):,} ranks"
    return request, ""


def sensitivity(arguments: Namespace) -> Answer:
    """A row for the machine as it is, and one for each change; status 3 where none of them has a plan."""
    options, effort = options_of(arguments), effort_of(arguments)
    source = driver.read(arguments.file, dict(options.parameters))
    job, context = driver.context_of(source, options)
    machines = [("as it is", context.cluster), *_changes(arguments.what_if, context.cluster)]
    found = list[Machine]()
    for number, (title, cluster) in enumerate(machines, 1):
        with progress(f"planning for {title}, {number} of {len(machines)}"):
            found.append(_planned(_on(source, job, cluster, context.request), title, cluster.ranks, effort))
    base, *others = found
    document = sensitivity_document(job.graph.name, context.cluster.name, base, others)
    text = sensitivity_text(job.graph.name, context.cluster.name, base, others)
    return Answer(text, document, _status(found), source.spec.warnings, source.texts)


def _changes(asked: list[tuple[tuple[str, str], ...]], cluster: Cluster) -> Iterator[tuple[str, Cluster]]:
    """What is changed in each, and the changed cluster."""
    for together in asked:
        other = cluster
        for path, value in together:
            other = changed(other, path, value)
        yield ", ".join(f"{path} = {value}" for path, value in together), other


def _on(source: driver.Source, job: Job, cluster: Cluster, request: Request) -> driver.Source:
    """The source as if it named this cluster, and nothing else to choose from."""
    alone = replace(job, requests=(replace(request, cluster=cluster.name),))
    return replace(source, spec=replace(source.spec, jobs=(alone,), clusters=(cluster,)))


def _planned(source: driver.Source, title: str, devices: int, effort: Effort) -> Machine:
    """The plan for a source's one cluster, or the message that there is none."""

    try:
        made = driver.plan_spec(source, driver.Options(), effort)
    except DiagnosticError as error:
        return Machine(title, devices, why=_why(error.diagnostics))
    return Machine(title, devices, made.plan, made.context.memory.bytes)


def _why(diagnostics: tuple[Diagnostic, ...]) -> str:
    return next(diagnostic.message for diagnostic in diagnostics if diagnostic.is_error)


def _status(found: list[Machine]) -> Status:
    return Status.DONE if any(machine.plan is not None for machine in found) else Status.INFEASIBLE
