"""What weights cost: their sums and updates in a step, and the bytes of a rank."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from dlc.cost.compute import overhead, seconds
from dlc.ir.graph import Node
from dlc.ir.tensor import TensorType, tensor
from dlc.ops.fusion import ELEMENT_RULES
from dlc.ops.indexing import Partition
from dlc.ops.operator import Shapes
from passes.differentiate import operator_of, roles
from tests.passes.planning.reference_ops import Ops

BUCKET = 25 * 2**20


@dataclass(slots=True)
class Costs:
    """Seconds of one microbatch, but for `update` and `sums`, which are those of a step; bytes of a rank."""

    forward: float = 0.0
    backward: float = 0.0  # both kinds of gradients, and what adds them up
    moves: float = 0.0
    update: float = 0.0
    sums: float = 0.0
    late: float = 0.0  # of the sums, what the backward pass may leave
    hiding: float = 0.0  # seconds of communication that it hides
    fixed: float = 0.0
    saved: float = 0.0
    transient: float = 0.0

    def objective(self, microbatches: int) -> float:
        """J without a pipeline (cost-models.md §7): the backward pass hides sums of gradients."""
        work = microbatches * (self.forward + self.backward + self.moves)
        return work + self.update + max(0.0, self.late - self.hiding)

    @property
    def peak(self) -> float:
        return self.fixed + self.saved + self.transient


@dataclass(frozen=True)
class Weights(Ops):
    """Adds to costs what the weights of an op take, and its memory."""

    def _weights(self, total: Costs, node: Node, partition: Partition) -> None:
        shard, often = self.strategy.shard, self.strategy.microbatches
        for role in self._trained(node):
            local, names = self._local(node, role, partition), self._summed(node, role, partition)
            sharers = prod(self.mesh.extent(name) for name in names)
            if often > 1:  # the gradient is added to those of the microbatches before
                total.backward += 3 * local.bytes / self.device.bandwidth + overhead(self.device)
            total.update += self._update(node, role, local) / (1 if shard == "none" else self._sharers(node, partition))
            if sharers == 1:
                continue
            allreduce, scatter, gather = (
                local.bytes * self.fabric.seconds(kind, float(BUCKET), names) / BUCKET
                for kind in ("allreduce", "reduce_scatter", "allgather")
            )
            total.sums += self._share(node, role, names) * (often if shard in ("gradients", "weights") else 1)
            match shard:
                case "none":
                    total.sums += allreduce
                case "optimizer":
                    total.sums += scatter + gather
                case "gradients":
                    total.sums += often * scatter + gather
                case "weights":
                    total.sums += often * scatter
                    total.forward += gather
                    total.backward += gather

    def _share(self, node: Node, role: str, names: tuple[str, ...]) -> float:
        """What a gradient bears of what its bucket takes besides its bytes: the mean over ops of its kind."""
        kinds = ("allreduce",) if self.strategy.shard == "none" else ("reduce_scatter", "allgather")

        def seconds(size: float) -> float:
            return sum(self.fabric.seconds(kind, size, names) for kind in kinds)

        variables = self.space.network.variables
        members = [(at, r) for at, each in reversed([*enumerate(self._ops)]) for r in self._trained(each)]
        found: list[list[tuple[int, str, float]]] = [[]]
        for at, each in members:
            size = float(self.graph.type(roles(self._ops[at])[each]).bytes)
            capacity = 2**20 if len(found) == 1 else BUCKET
            if found[-1] and sum(s for _, _, s in found[-1]) + size > capacity:
                found.append([])
            found[-1].append((at, each, size))
        shares = []
        for bucket in found:
            whole = sum(size for _, _, size in bucket)
            share = max(0.0, seconds(whole) - whole * seconds(float(BUCKET)) / BUCKET) / len(bucket)
            mine = variables[self._ops.index(node)]
            shares += [share for at, each, _ in bucket if variables[at] == mine and each == role]
        return sum(shares) / len(shares)

    def _calls(self) -> float:
        """Calls of a step that are for no weight alone: of updates of all together, and of running averages."""
        joint = {each.stage for each in self.graph.nodes if self._joint(each)}
        averages = sum(any(each.stage == "statistics" for each, _, _ in self._passes(node)) for node in self._ops)
        together = {each.stage: self._of_nothing(each) for each in self.graph.nodes if self._together(each)}
        return (len(joint) + averages) * overhead(self.device) + sum(together.values())

    def _together(self, node: Node) -> bool:
        """Whether a node updates a weight in one call with the others'."""
        alone = node.stage == "update" and node.address.endswith("@update")
        return alone and node.op in ELEMENT_RULES and self.context.fuses(self.device.kernels)

    def _of_nothing(self, node: Node) -> float:
        one = Shapes((tensor("f32", all=1),) * len(node.inputs), (), dict(node.attrs))
        return seconds(operator_of(node), node.stage, one, "", "", self.device).seconds

    @staticmethod
    def _joint(node: Node) -> bool:
        alone = node.stage == "update" and node.address.endswith("@update")
        return node.stage in ("regularise", "clip", "update") and node.op != "bn" and not alone

    def _sharers(self, node: Node, partition: Partition) -> int:
        """Ranks that update a part each, as the first weight of the op is shared."""
        return prod(self.mesh.extent(name) for name in self._summed(node, self._trained(node)[0], partition))

    def _update(self, node: Node, role: str, local: TensorType) -> float:
        """Seconds of all nodes that regularise or update one weight."""
        name, total = roles(node)[role], 0.0
        for each in self.graph.nodes:
            if each.stage in ("regularise", "update") and each.inputs[0] == name:
                shapes = Shapes((local,) * len(each.inputs), (), dict(each.attrs))
                total += seconds(operator_of(each), each.stage, shapes, "", "", self.device).seconds
                total -= overhead(self.device) if self._joint(each) else 0.0
                total -= self._of_nothing(each) if self._together(each) else 0.0
        return max(total, 0.0)

    def _memory(self, total: Costs, node: Node, partition: Partition, layout: str) -> None:
        level = ("none", "optimizer", "gradients", "weights").index(self.strategy.shard)
        trained = self._trained(node)
        for role in self._owned(node):
            size = self._local(node, role, partition).bytes
            if role not in trained:
                total.fixed += size
                continue
            sharers = prod(self.mesh.extent(name) for name in self._summed(node, role, partition))
            share = [size / (sharers if level >= least else 1) for least in (1, 2, 3)]
            total.fixed += self._states(roles(node)[role]) * share[0] + share[1] + share[2]
        passes = list(self._passes(node))
        made = [role for role, name in roles(node).items() if name in node.outputs and name in self._kept()]
        total.saved += sum(self._local(node, role, partition).bytes for role in made)
        transient = max(self._scratch(node, one, ins, outs, partition, layout) for one, ins, outs in passes)
        if len(passes) > 1:
            given = dict.fromkeys(role for _, _, outputs in passes[1:] for role in outputs)
            alive = [role for role in given if role not in self._owned(node)] + ["y"]
            transient += sum(self._local(node, r, partition).bytes for r in alive)
        total.transient = max(total.transient, transient)

    def _scratch(
        self, node: Node, each: Node, ins: tuple[str, ...], outs: tuple[str, ...], partition: Partition, layout: str
    ) -> int:
        """Bytes of the workspaces of the cheapest algorithm of a pass."""
        operator = operator_of(node)
        shapes = Shapes(
            tuple(self._local(node, role, partition) for role in ins),
            tuple(self._local(node, role, partition) for role in outs),
            dict(each.attrs),
        )
        names = self._algorithms(node, each, layout)
        name = min(names, key=lambda n: seconds(operator, each.stage, shapes, n, layout, self.device).seconds)
        found = next((one for one in operator.algorithms if one.name == name), None)
        return sum(one.type.bytes for one in found.workspaces(each.stage, shapes, layout or "NCHW")) if found else 0

    def _states(self, weight: str) -> int:
        """How many values of the weight's kind and shape its update keeps."""
        return sum(len(each.inputs) - 2 for each in self.graph.nodes if each.address == f"{weight}@update")
