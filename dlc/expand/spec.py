"""The result of expansion: everything that one .dlspec file says, resolved and checked."""

from __future__ import annotations

from dataclasses import dataclass

from dlc.cluster.topology import Cluster
from dlc.diagnostics import Diagnostic
from dlc.ir.graph import Graph
from dlc.ir.request import Request
from dlc.ir.training import Training


@dataclass(frozen=True, slots=True)
class Job:
    """One network to compile: its graph, how it is trained, and the plan blocks that speak of it.

    `graph` has stage `loss` where there is a train block (loss and metrics appended under the addresses `loss.…` and
    `metrics.…`), else `network`. `requests` holds one Request per plan block for this network, in text order.
    """

    graph: Graph
    training: Training | None
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Spec:
    """A checked file. `path` is as given, `root` the folder that imports and data paths stay inside."""

    path: str
    root: str
    parameters: tuple[tuple[str, object], ...]
    jobs: tuple[Job, ...]
    clusters: tuple[Cluster, ...]
    warnings: tuple[Diagnostic, ...] = ()
