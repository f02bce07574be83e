"""Plans written by hand: a mesh, a rule that says how each op is split, and what else the plan decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod

from dlc.cluster.topology import Cluster
from dlc.driver import Options, context_of, read, training_graph
from dlc.ir.graph import Graph, Node
from dlc.ir.mesh import shards
from dlc.ir.plan import Bounds, Figure, OpPlan, PassPlan, Plan, Prediction, Reason, Stage
from dlc.ir.request import Split
from dlc.ops.indexing import Indexing, indexing_of
from passes.add_updates import add_updates
from passes.context import Context
from passes.differentiate import differentiate, operator_of, roles
from tests.passes.sample_networks import Network, context, laptop
from tests.specs.reduced import REDUCED

FREE, ONLY = Figure(0.0), Reason("only")
FORWARD = ("forward", "loss", "metric")

Rule = Callable[[Node, Indexing], Mapping[str, str]]
"""(forward node, its iteration space) -> mesh axis: the iteration axis that it splits."""


def by(**wanted: str) -> Rule:
    """`by(data="batch", model="channel feature")`: for each mesh axis the first of these axes that an op has."""

    def rule(_node: Node, space: Indexing) -> dict[str, str]:
        found: dict[str, str] = {}
        for over, names in wanted.items():
            free = (name for name in names.split() if name in space.axes and name not in found.values())
            found[over] = next(free, "")
        return found

    return rule


def megatron(node: Node, space: Indexing) -> Mapping[str, str]:
    """Samples over `data`; over `model` heads and features, and what is summed where a projection goes back."""
    back = node.op == "linear" and node.address.split(".")[-2] in ("proj", "down", "out")
    wanted = "reduce" if back else "heads feature"
    return by(data="batch", model=wanted)(node, space)


def plan_of(
    graph: Graph,
    mesh: Mapping[str, int],
    rule: Rule,
    *,
    recompute: str = "",
    layouts: Mapping[str, str] | None = None,
    stages: int = 0,
    parts: int = 1,
    losses: str = "",
    **more: object,
) -> Plan:
    """A plan on a mesh (major axis first). Metrics are split by samples alone, and losses that are not in `losses`.

    `recompute` lists operators, `layouts` has the layouts of some; `stages` cut the ops into as many even runs; ops
    with workspaces go through their samples in `parts`.
    """
    nodes = [node for node in graph.nodes if node.stage in FORWARD]
    ops = []
    for at, node in enumerate(nodes):
        everywhere = node.stage == "forward" or node.op in losses.split()
        split = _splits(graph, node, mesh, rule, int(more.get("microbatches", 1)), everywhere)  # type: ignore[call-overload]
        algorithm = "im2col" if operator_of(node).algorithms else ""
        ops.append(
            OpPlan(
                node.address,
                (layouts or {}).get(node.op, "NCHW"),
                tuple(PassPlan(stage, algorithm, FREE) for stage in ("forward", "dx", "dw")),
                split,
                ONLY,
                ONLY,
                at * stages // len(nodes),
                node.op in recompute.split() or recompute == "all",
                parts if algorithm else 1,
            )
        )
    inner = {name: extent for name, extent in mesh.items() if name != "pipeline"}
    devices, size = mesh.get("pipeline", 1), prod(inner.values())
    return Plan(
        graph.name,
        "laptop",
        prod(mesh.values()),
        graph.batch,
        tuple(mesh.items()),
        shards(graph.batch, inner.get("data", 1)),
        tuple(ops),
        (),
        Prediction(0, 0, 0),
        Bounds(0, 0, 0, 0),
        stages=tuple(Stage(at, at % devices * size, tuple(inner.items())) for at in range(stages)),
        **more,  # type: ignore[arg-type]
    )


def _splits(
    graph: Graph, node: Node, mesh: Mapping[str, int], rule: Rule, microbatches: int, everywhere: bool
) -> tuple[Split, ...]:
    types = {role: graph.type(name) for role, name in roles(node).items()}
    if types and microbatches > 1:
        types = {
            r: t.with_extent("batch", t.extent("batch") // microbatches) if t.batched else t for r, t in types.items()
        }
    space = indexing_of(operator_of(node), types, dict(node.attrs))
    wanted = {over: axis for over, axis in rule(node, space).items() if axis and over in mesh}
    if not everywhere:
        wanted = {over: axis for over, axis in wanted.items() if axis == "batch"}
    parts = {axis: prod(mesh[over] for over, other in wanted.items() if other == axis) for axis in wanted.values()}
    return tuple(Split(axis, over) for over, axis in wanted.items() if space.fits(axis, parts[axis]))


def on(ranks: int, base: Context | None = None, overlap: float = 0.0) -> Context:
    """A context of so many cores, with the train block of another one."""
    cluster = laptop(ranks, overlap=overlap)
    doubled = tuple(replace(d, compute=(*d.compute, ("f64", 25e9))) for d in cluster.devices)
    cluster = Cluster(cluster.name, doubled, cluster.links, cluster.levels)
    return (base or context(ranks)).with_(cluster=cluster, ranks=ranks)


def trained(net: Network, x: str, classes: int = 4, base: Context | None = None) -> Graph:
    """A network's training graph, with float64 in place of float32."""
    return in_double(net.classified(x, classes), base)


def in_double(graph: Graph, base: Context | None = None) -> Graph:
    """The training graph of a graph with a loss, with float64 in place of float32."""
    values = (replace(v, type=v.type.with_dtype("f64")) if v.type.dtype == "f32" else v for v in graph.values)
    graph = graph.with_(values=tuple(values))
    return add_updates(differentiate(graph, base or context()), base or context())


def reduced(name: str, precision: str = "f64", **other: object) -> tuple[Graph, Context]:
    """The training graph of a reduced spec, and its context."""
    given = {key: str(value).replace(" ", "") for key, value in (REDUCED[name] | other).items()}
    options = Options(ranks=1, precision=precision)
    job, found = context_of(read(f"specs/{name}.dlspec", given), options)
    return training_graph(job, found, options), found
