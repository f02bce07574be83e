"""From the path of a .dlspec file to its Spec: everything read, expanded and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import TypeVar

from dlc.cluster.topology import Cluster
from dlc.collection import no_collection
from dlc.diagnostics import Diagnostics, Label, Span
from dlc.expand.arguments import Calls
from dlc.expand.clusters import check_standalone, expand_cluster
from dlc.expand.evaluate import Scope
from dlc.expand.files import read_files
from dlc.expand.network import expand_networks
from dlc.expand.parameters import parameters
from dlc.expand.report import OncePerPlace, Report, undefined
from dlc.expand.requests import expand_request
from dlc.expand.spec import Job, Spec
from dlc.expand.training import expand_training
from dlc.ir.graph import Graph
from dlc.ir.request import Request
from dlc.messages import e02_names as messages
from dlc.ops import operator
from dlc.syntax import ast


def expand(
    path: str, overrides: Mapping[str, str] | None = None, *, sources: MutableMapping[str, str] | None = None
) -> Spec:
    """The Spec of a file; `overrides` are the texts of `-P name=value`.

    Raises DiagnosticError with all messages where there are errors. `sources` receives the text of every file that was
    read, by its name in spans, so that messages can show source lines.
    """
    with no_collection():
        return _expand(path, overrides or {}, {} if sources is None else sources)


def _expand(path: str, overrides: Mapping[str, str], sources: MutableMapping[str, str]) -> Spec:
    diagnostics = Diagnostics()
    root, items = read_files(path, sources, diagnostics)
    diagnostics.raise_errors()
    report = OncePerPlace(diagnostics)
    definitions = Definitions.of(items, report)
    scope = parameters([item for item in items if isinstance(item, ast.Param)], overrides, report)
    clusters = _clusters(definitions, scope, diagnostics)
    jobs = _jobs(definitions, clusters, scope, report)
    diagnostics.raise_errors()
    values = tuple((name, value) for name, value in scope.names.items())
    return Spec(path, root, values, jobs, tuple(clusters.values()), diagnostics.warnings)


Named = TypeVar("Named", ast.Block, ast.Network, ast.Device, ast.LinkItem, ast.Cluster)


@dataclass(frozen=True, slots=True)
class Definitions:
    """The items of all files, those with names by their names."""

    blocks: Mapping[str, ast.Block]
    networks: Mapping[str, ast.Network]
    clusters: Mapping[str, ast.Cluster]
    shared: tuple[ast.Device | ast.LinkItem, ...]
    trains: Mapping[str, ast.Train]
    plans: tuple[ast.Plan, ...]

    @classmethod
    def of(cls, items: Iterable[ast.Item], report: Report) -> Definitions:
        """Sort the items; a name that is defined twice is reported (E0202)."""
        items = tuple(items)
        blocks = _by_name((item for item in items if isinstance(item, ast.Block)), report)
        for block in blocks.values():
            if operator(block.name) is not None:
                notes = (f"`{block.name}` is an operator of the language",)
                report(messages.DEFINED_TWICE.at(block.name_span, name=block.name, notes=notes))
        devices = _by_name((item for item in items if isinstance(item, ast.Device)), report)
        links = _by_name((item for item in items if isinstance(item, ast.LinkItem)), report)
        return cls(
            blocks,
            _by_name((item for item in items if isinstance(item, ast.Network)), report),
            _by_name((item for item in items if isinstance(item, ast.Cluster)), report),
            (*devices.values(), *links.values()),
            _trains((item for item in items if isinstance(item, ast.Train)), report),
            tuple(item for item in items if isinstance(item, ast.Plan)),
        )


def _by_name(items: Iterable[Named], report: Report) -> dict[str, Named]:
    found: dict[str, Named] = {}
    for item in items:
        if item.name in found:
            _defined_twice(item.name, item.name_span, found[item.name].name_span, report)
        found.setdefault(item.name, item)
    return found


def _trains(items: Iterable[ast.Train], report: Report) -> dict[str, ast.Train]:
    found: dict[str, ast.Train] = {}
    for item in items:
        if item.network in found:
            first = found[item.network].network_span
            _defined_twice(f"train {item.network}", item.network_span, first, report)
        found.setdefault(item.network, item)
    return found


def _defined_twice(name: str, span: Span, first: Span, report: Report) -> None:
    report(messages.DEFINED_TWICE.at(span, name=name, secondary=(Label(first, "first defined here"),)))


def _clusters(definitions: Definitions, scope: Scope, diagnostics: Diagnostics) -> dict[str, Cluster]:
    """The clusters without mistakes, by name."""
    check_standalone(definitions.shared, scope, diagnostics)
    found: dict[str, Cluster] = {}
    for name, item in definitions.clusters.items():
        cluster = expand_cluster(item, scope, definitions.shared, diagnostics)
        if cluster is not None:
            found[name] = cluster
    return found


def _jobs(
    definitions: Definitions, clusters: Mapping[str, Cluster], scope: Scope, report: OncePerPlace
) -> tuple[Job, ...]:
    """One job for each network without mistakes."""
    diagnostics = report.diagnostics
    calls = Calls(definitions.blocks, report)
    graphs = expand_networks(definitions.networks, calls, scope)
    jobs = [_job(graph, definitions.trains.get(graph.name), scope, diagnostics) for graph in graphs]
    by_network = {job.graph.name: job for job in jobs}
    requests = [
        request
        for plan in definitions.plans
        if (request := _request(plan, definitions, by_network, clusters, calls, scope, diagnostics)) is not None
    ]
    for train in definitions.trains.values():
        _check_known(train.network, train.network_span, "a network", definitions.networks, diagnostics)
    return tuple(replace(job, requests=tuple(r for r in requests if r.network == job.graph.name)) for job in jobs)


def _job(graph: Graph, train: ast.Train | None, scope: Scope, diagnostics: Diagnostics) -> Job:
    """A network with its training; without it where the train block has mistakes."""
    expanded = None if train is None else expand_training(train, graph, scope, diagnostics)
    if expanded is None:
        return Job(graph, None, ())
    return Job(expanded[0], expanded[1], ())


def _request(
    plan: ast.Plan,
    definitions: Definitions,
    jobs: Mapping[str, Job],
    clusters: Mapping[str, Cluster],
    calls: Calls,
    scope: Scope,
    diagnostics: Diagnostics,
) -> Request | None:
    """What a plan block asks for; None where it, its network or its cluster has mistakes."""
    _check_known(plan.network, plan.network_span, "a network", definitions.networks, diagnostics)
    _check_known(plan.cluster, plan.cluster_span, "a cluster", definitions.clusters, diagnostics)
    if plan.network not in jobs or plan.cluster not in clusters:
        return None
    return expand_request(plan, jobs[plan.network].graph, clusters[plan.cluster], calls, scope, diagnostics)


def _check_known(name: str, span: Span, what: str, known: Mapping[str, object], diagnostics: Diagnostics) -> None:
    if name not in known:
        diagnostics.add(undefined(name, span, "this file or what it imports", dict.fromkeys(known, what)))
