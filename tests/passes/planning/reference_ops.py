"""What the ops of a graph are under one strategy: passes, local tensors, algorithms, and the weights that they own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dlc.cluster.fabric import Fabric
from dlc.cost.communication import processing
from dlc.cost.redistribution import Redistributions
from dlc.ir.graph import Graph, Node
from dlc.ir.mesh import PARTIAL, Mesh, largest
from dlc.ir.tensor import BATCH, TensorType
from dlc.ops.indexing import Indexing, Partition, gradient_placement, indexing_of, operand_placement
from passes.add_updates import weight_gradients
from passes.context import Context
from passes.differentiate import operator_of, roles
from passes.options import candidates, operations, rules_of
from passes.planning.space import Space
from passes.planning.strategies import Strategy

FORWARD = ("forward", "loss", "metric")


@dataclass(frozen=True)
class Ops:
    """The ops of a graph, of one microbatch on the rank with most."""

    graph: Graph
    context: Context
    strategy: Strategy
    space: Space

    def __post_init__(self) -> None:
        device = self.context.cluster.slowest(range(self.context.ranks))
        fabric = Fabric(self.context.cluster, self.mesh, processing(device))
        object.__setattr__(self, "device", device)
        object.__setattr__(self, "fabric", fabric)
        object.__setattr__(self, "redistributions", Redistributions(fabric, device))

    @property
    def mesh(self) -> Mesh:
        return self.strategy.inner

    @property
    def samples(self) -> int:
        return self.graph.batch // self.strategy.microbatches

    @property
    def _ops(self) -> list[Node]:
        return [node for node in self.graph.nodes if node.stage in FORWARD]

    def _passes(self, node: Node) -> Iterator[tuple[Node, tuple[str, ...], tuple[str, ...]]]:
        """Each pass with the roles of its inputs and outputs; a gradient has the role of what it is the gradient of."""
        known, operator = roles(node), operator_of(node)
        by_name = {name: role for role, name in known.items()}
        yield node, tuple(by_name[name] for name in node.inputs), tuple(by_name[name] for name in node.outputs)
        for each in self.graph.nodes:
            if each.base != node.address or each.stage not in ("dx", "dw", "dt", "statistics"):
                continue
            if each.stage == "statistics":
                yield each, (next(iter(known)), *operator.saved), operator.statistics
                continue
            rule = next(rule for rule in operator.gradients if rule.suffix == each.stage)
            inputs = [("y" if name.endswith(("@grad", "@seed")) else by_name[name]) for name in each.inputs]
            gives = [role for role in rule.gives if role in known] if "*" not in "".join(rule.gives) else []
            outputs = gives or [role for role, name in known.items() if name in node.inputs]
            yield each, tuple(inputs), tuple(outputs[: len(each.outputs)])

    def _type(self, name: str) -> TensorType:
        return self.graph.type(name).with_extent(BATCH, self.samples)

    def _indexing(self, node: Node) -> Indexing:
        types = {role: self.graph.type(name) for role, name in roles(node).items()}
        return indexing_of(operator_of(node), types, dict(node.attrs))

    def _local(self, node: Node, role: str, partition: Partition) -> TensorType:
        type_ = self._type(roles(node)[role])
        return largest(type_, operand_placement(self._indexing(node), role, type_, partition), self.mesh)

    def _kind(self, node: Node) -> int:
        return self.space.network.variables[self.space.network.addresses.index(node.address)]

    def _algorithms(self, node: Node, each: Node, layout: str) -> list[str]:
        if node.stage != "forward" or not operator_of(node).algorithms:
            return [""]
        rules = rules_of(self.context.request, kernels=self.device.kind)
        (operation,) = (one for one in operations(self.graph) if one.address == node.address)
        return [
            found.algorithm
            for found in candidates(self.graph, operation, rules, self.graph.batch)
            if found.node == each and found.layout == layout and found.excluded is None
        ]

    def _owned(self, node: Node) -> list[str]:
        """The roles of what it is the first to read of weights, statistics and constants."""
        found = []
        for role, name in roles(node).items():
            if self.graph.value(name).kind in ("weight", "statistic", "constant"):
                first = next(each for each in self._ops if name in each.inputs)
                found += [role] if first is node else []
        return found

    def _trained(self, node: Node) -> list[str]:
        trained = {name for name, _ in weight_gradients(self.graph)}
        return [role for role in self._owned(node) if roles(node)[role] in trained]

    def _summed(self, node: Node, role: str, partition: Partition) -> tuple[str, ...]:
        """The mesh axes along which the gradient of a weight is a partial sum."""
        type_ = self._type(roles(node)[role])
        born = gradient_placement(self._indexing(node), role, type_, partition)
        return tuple(name for name, at in zip(self.mesh.names, born, strict=True) if at == PARTIAL)

    def _kept(self) -> set[str]:
        """What the backward pass reads."""
        behind = ("dx", "dw", "dt", "statistics")
        return {name for each in self.graph.nodes if each.stage in behind for name in each.inputs}
