"""What dlc's cost model predicts for a network on a machine under data parallelism: computing and communication."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from operator import attrgetter
from pathlib import Path
from typing import Any

from dlc.cluster.topology import Cluster, Device
from dlc.diagnostics import Span
from dlc.driver import Options, read, training_graph
from dlc.ir.graph import Graph
from dlc.ir.request import Request, Rule
from passes.context import Context
from passes.lower import with_buckets
from passes.planning.apply import apply
from passes.planning.finish import finish
from passes.planning.solve import solve
from passes.planning.space import space
from passes.planning.strategies import strategy

HERE = Path(__file__).parent
SPECS = HERE.parents[1] / "specs"
NOWHERE = Span("", 1, 1, 1, 1)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Seconds of a step: computing, the sums of all buckets by themselves, and what is left of sums behind computing.

    `backward` is the part of computing behind which sums go on.
    """

    compute: float
    communication: float
    exposed: float
    backward: float

    @property
    def step(self) -> float:
        """All of it."""
        return self.compute + self.exposed


@dataclass(frozen=True, slots=True)
class Network:
    """A network of specs/, or of tests/published/networks/, with its parameters but for the batch."""

    name: str
    parameters: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> Path:
        """Where its spec is."""
        own = HERE / "networks" / f"{self.name}.dlspec"
        return own if own.exists() else SPECS / f"{self.name}.dlspec"


def cluster(name: str, **parameters: Any) -> Cluster:
    """A machine of tests/published/machines/."""
    path = HERE / "machines" / f"{name}.dlspec"
    (found,) = read(str(path), {key: str(value) for key, value in parameters.items()}).spec.clusters
    return found


def predict(
    network: Network,
    machine: Cluster,
    batch: int,
    *,
    ranks: int | None = None,
    allreduce: str = "",
    overlap: float | None = None,
    without: tuple[str, ...] = (),
) -> Prediction:
    """One step of `batch` samples in all, over the machine's first `ranks` devices or all of them.

    `overlap` overrides the devices'. The fastest algorithm is taken for every op, but for those that the library of
    the measurement went `without`, and for every sum unless one is named.
    """
    ranks = machine.ranks if ranks is None else ranks
    if overlap is not None:
        machine = with_devices(machine, overlap=overlap)
    graph, context = trained(network, batch, machine, ranks)
    convolutions = tuple(node.address for node in graph.nodes if node.op == "conv" and node.stage == "forward")
    forbids = tuple(Rule("algorithm", name, convolutions, "**.conv", NOWHERE, NOWHERE) for name in without)
    context = context.with_(request=replace(context.request, forbids=forbids, allreduce=allreduce or "auto"))
    chosen = strategy(data=ranks, families=("data", "any"))
    everything = space(graph, context, [chosen])
    solved = solve(everything, chosen)
    assert solved is not None
    found = finish(everything, solved, inf)
    assert found is not None
    parts, line = found.parts, solved.line
    computing = parts.compute + parts.moves + parts.update
    backward = line.backward.sum() + line.weights.sum()
    buckets = with_buckets(graph, apply(everything, found, 0.0), context).buckets
    return Prediction(computing, sum(bucket.figure.seconds for bucket in buckets), parts.sums, float(backward))


def trained(network: Network, batch: int, machine: Cluster, ranks: int) -> tuple[Graph, Context]:
    """The training graph of a network, and the context of its plan, without fused calls: what was measured had none."""
    (job,) = read(str(network.path), {**dict(network.parameters), "batch": str(batch)}).spec.jobs
    assert job.training is not None
    context = Context(job.training, Request(job.graph.name, machine.name, fusion="no"), machine, ranks)
    return training_graph(job, context, Options()), context


def published(name: str) -> Any:
    """A table of tests/published/data/, which says itself where it comes from."""
    return json.loads((HERE / "data" / f"{name}.json").read_text(encoding="utf-8"))


def print_table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Predicted beside published, for `pytest -s`."""
    lines = [tuple(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    print(f"\n{title}")
    for line in (heads, *lines):
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def with_devices(machine: Cluster, **changes: Any) -> Cluster:
    """The machine with other figures for its devices."""
    return replace(machine, devices=tuple(replace(device, **changes) for device in machine.devices))


def with_links(machine: Cluster, share: float) -> Cluster:
    """The machine with links that reach that share of their bandwidths."""
    return replace(machine, links=tuple(replace(link, bandwidth=link.bandwidth * share) for link in machine.links))


def slowed(machine: Cluster, efficiency: float) -> Cluster:
    """The machine with devices that reach that share of their arithmetic and memory rates."""

    def slow(device: Device) -> Device:
        compute = tuple((name, rate * efficiency) for name, rate in device.compute)
        return replace(device, compute=compute, bandwidth=device.bandwidth * efficiency)

    return replace(machine, devices=tuple(map(slow, machine.devices)))


def calibrated(
    machine: Cluster,
    network: Network,
    batch: int,
    seconds: float,
    of: Callable[[Prediction], float] = attrgetter("compute"),
    **how: Any,
) -> tuple[Cluster, float]:
    """The machine and its efficiency, so that on one device a part of a step of the network takes so many seconds.

    It takes a/e + b: launches, b, stay as they are. Two predictions tell a and b. `how` goes to `predict`.
    """
    whole, half = (of(predict(network, slowed(machine, e), batch, ranks=1, **how)) for e in (1.0, 0.5))
    work, launches = half - whole, 2 * whole - half
    efficiency = work / (seconds - launches)
    return slowed(machine, efficiency), efficiency
