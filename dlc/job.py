"""Which network of a file is trained, on which cluster, with how many ranks and by which plan block."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from dlc.messages import e07_run as e07
from dlc.ops.operands import FLOATING
from dlc.source import Options, Source, SourcedError

if TYPE_CHECKING:
    from dlc.cluster.topology import Cluster, Device
    from dlc.cost.profile import Profile
    from dlc.diagnostics import Diagnostic
    from dlc.expand.spec import Job
    from dlc.ir.graph import Graph
    from dlc.ir.program import Compute, Role
    from dlc.ir.request import MeshAxis, Request
    from dlc.ir.training import Training
    from passes.context import Context


FULL = ("f32", "f64")
"""The element types that there are kernels in C for."""


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
    if compute in FULL and not options.exact:
        cluster = cluster.computing_with(family_of(options.kernels or request.kernels))
    if options.precision:
        training = replace(training, precision=replace(training.precision, compute=compute, master=compute))
    if options.fused and request.fusion == "auto":
        request = replace(request, fusion="yes")
    profile = in_steps_of(job.graph, training, profile_of(source, cluster, options), cluster.ranks_in_one_memory)
    return job, Context(training, request, cluster, ranks, compute, options.exact, profile, room=_room, pack=_pack)


def _room(made: Compute, role: Role, dtype: str, threads: int) -> int | None:
    """What a kernel in C works in; its generators are loaded for plans that have such kernels alone."""
    from backends.numpy_mpi.c.rooms import room

    return room(made, role, dtype, threads)


def _pack(made: Compute, role: Role, dtype: str, threads: int) -> int | None:
    """How many elements weights have that are packed for a kernel in C."""
    from backends.numpy_mpi.c.packs import pack

    return pack(made, role, dtype, threads)


def family_of(kernels: str) -> str:
    """The family of kernels: of `auto` what `$DLC_KERNELS` says, else C where this machine has a compiler."""
    from backends.numpy_mpi.kernels.native import find_compiler

    if kernels == "auto":
        kernels = os.environ.get("DLC_KERNELS", "auto")
    if kernels != "auto":
        return kernels
    return "c" if find_compiler() else "numpy"


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


def profile_of(source: Source, cluster: Cluster, options: Options) -> Profile | None:
    """The measured figures that the cluster's device names, E0416 where its file is none; and those of `options`.

    It says how many of the cluster's ranks share a machine's memory.
    """
    from dlc.cost.profile import with_samples

    device = cluster.device_of(0)
    profile = with_samples(_file(source, device), options.measured, device.name)
    return profile and replace(profile, beside=cluster.ranks_in_one_memory)


BYTES_STORED = ("digits", "mnist", "cifar10", "images")
"""Data sets whose images are stored as bytes."""


def in_steps_of(graph: Graph, training: Training, profile: Profile | None, ranks: int) -> Profile | None:
    """The profile for steps of a network on so many ranks, which share what there is to go over: every value of the
    graph forward, and for about each of them a gradient."""
    if profile is None or profile.kind != "cpu":
        return profile
    moved = 2.0 * sum(value.type.bytes for value in graph.values) / ranks
    inputs = graph.of_kind("input") if training.data.kind in BYTES_STORED else ()
    stored = [value.type.elements for value in inputs if value.type.dtype in FLOATING]
    arrays = max(1, len(graph.of_kind("input", "field")))
    return profile.in_steps(moved, len(stored) / arrays, sum(stored) / arrays / ranks)


def measured_elsewhere(context: Context) -> Iterator[Diagnostic]:
    """W0401 where the profile is that of another machine."""
    if context.profile is None:
        return
    from dlc.cluster.fingerprint import differences
    from dlc.messages.e04_cluster import OTHER_MACHINE

    device, other = context.cluster.device_of(0), differences(context.profile.fingerprint)
    if other:
        way_out = ("`dlc calibrate` measures this one",)
        yield OTHER_MACHINE.at(device.span, path=device.profile, notes=other, helps=way_out)


def unused_kernels(context: Context, options: Options) -> Iterator[Diagnostic]:
    """W0505 where kernels in C are asked for and no device computes with them."""
    from dlc.messages.e05_plan import NO_KERNELS

    asked, devices = options.kernels or context.request.kernels, context.cluster.devices
    if asked != "c" or context.exact or any(device.kernels == "c" for device in devices):
        return
    others = [device for device in devices if device.kind != "cpu"]
    why, way_out = f"kernels in C compute in f32 and f64, not in {context.compute}", "leave it away, or train in f32"
    if len(others) == len(devices):
        why = f"kernels in C are for processors, `{others[0].name}` is a {others[0].kind}"
        way_out = "leave it away: `dlc compile --backend cupy` writes a program with kernels in CUDA"
    yield NO_KERNELS.at(context.request.span("kernels"), family=asked, why=why, helps=(way_out,))


def _file(source: Source, device: Device) -> Profile | None:
    """The measured figures of a device's file; E0416 where it is none."""
    import json

    from dlc.cost.profile_json import read_profile
    from dlc.messages.e04_cluster import UNREADABLE_PROFILE

    if device.profile is None:
        return None
    try:
        with open(os.path.join(source.spec.root, device.profile), encoding="utf-8") as stream:
            found = read_profile(json.load(stream))
        if found.fingerprint and found.kind != device.kind:
            raise ValueError(f"it is of a {found.kind}, the device is of kind {device.kind}")
        return found
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
        helps = (f"its clusters: {quoted(cluster.name for cluster in source.spec.clusters)}",)
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
    way_out = f"name one of {quoted(names)} with `--on`" if len(names) > 1 else f"keep one plan on `{names[0]}`"
    return SourcedError((e07.E0709.at(None, path=source.spec.path, what=what, helps=(way_out,)),), source.texts)


def quoted(names: Iterable[str]) -> str:
    """Names in backticks, with commas; "none" where there are none."""
    return ", ".join(f"`{name}`" for name in names) or "none"
