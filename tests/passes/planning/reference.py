"""What a choice costs, worked out op by op and edge by edge from the graph, without any of the planner's tables.

Kernels are priced one by one at their local shapes, redistributions by the moves of their cheapest paths. The rules are
those of cost-models.md §5 to §7 and of docs/decisions/0014-the-search.md, for the inner mesh of one stage. Of the
planner's own it takes which ops are of one kind, and which share of each kind's sums is late and hides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf, prod

from dlc.cluster.fabric import Fabric
from dlc.cost.c_kernels import CALL
from dlc.cost.communication import processing
from dlc.cost.compute import conversion_seconds, overhead, priced, seconds
from dlc.cost.phases import Phase
from dlc.cost.redistribution import Redistributions
from dlc.ir.graph import Graph, Node
from dlc.ir.mesh import PARTIAL, REPLICATED, Mesh, Placement, largest, shards
from dlc.ir.tensor import BATCH, DTYPE_BYTES, TensorType, tensor
from dlc.ops import operator as operator_named
from dlc.ops.fusion import ELEMENT_RULES
from dlc.ops.indexing import (
    Indexing,
    Partition,
    gradient_placement,
    indexing_of,
    needed_placement,
    operand_placement,
    result_placement,
)
from dlc.ops.operator import Shapes
from passes.add_updates import weight_gradients
from passes.context import Context
from passes.differentiate import operator_of, roles
from passes.layouts import is_image, same_memory
from passes.options import candidates, operations, rules_of
from passes.planning.space import Space
from passes.planning.strategies import Strategy

BUCKET = 25 * 2**20
FORWARD = ("forward", "loss", "metric")


@dataclass(frozen=True, slots=True)
class Home:
    """The form in which a value with several readers is kept."""

    value: Placement
    gradient: Placement
    layout: str


@dataclass(frozen=True, slots=True)
class Choices:
    """By address how an op is cut and its layout; by value its home."""

    ops: Mapping[str, tuple[Partition, str]]
    homes: Mapping[str, Home]


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
class Reference:
    """Prices choices under one strategy."""

    graph: Graph
    context: Context
    strategy: Strategy
    space: Space

    def __post_init__(self) -> None:
        device = self.context.cluster.slowest(self.context.ranks)
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

    def objective(self, choices: Choices) -> float:
        return self.costs(choices).objective(self.strategy.microbatches)

    def costs(self, choices: Choices) -> Costs:
        """Everything but pipelines and recomputation."""
        total, exposure = Costs(), self.space.tables(self.strategy).exposure
        for at, node in enumerate(self._ops):
            before, summed, kind = total.backward, total.sums, self.space.network.variables[at]
            self._kernels(total, node, *choices.ops[node.address])
            self._inside(total, node, choices.ops[node.address][0])
            self._weights(total, node, choices.ops[node.address][0])
            self._memory(total, node, *choices.ops[node.address])
            self._loads(total, node, choices.ops[node.address][0])
            total.hiding += exposure.hiding[kind] * (total.backward - before)
            total.late += exposure.late[kind] * (total.sums - summed)
        total.update += self._calls()
        self._edges(total, choices)
        self._lent(total, choices)
        return total

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

    def _kernels(self, total: Costs, node: Node, partition: Partition, layout: str) -> None:
        for each, inputs, outputs in self._passes(node):
            shapes = Shapes(
                tuple(self._local(node, role, partition) for role in inputs),
                tuple(self._local(node, role, partition) for role in outputs),
                dict(each.attrs),
            )
            operator = operator_of(node)
            spent = min(
                taken - self._saving(node, each, name, (partition, layout), taken)
                for name in self._algorithms(node, each, layout)
                for taken in (seconds(operator, each.stage, shapes, name, layout, self.device).seconds,)
            )
            if each.stage in FORWARD:
                total.forward += spent
            else:
                total.backward += spent

    def _saving(self, node: Node, each: Node, algorithm: str, option: tuple[Partition, str], taken: float) -> float:
        """What one kernel saves that does what is behind a pass as well, as that Program is priced."""
        chain = self.space.network.kinds[self._kind(node)].chains.get(each.stage)  # type: ignore[union-attr]
        in_c, (partition, layout) = self.device.kernels == "c", option
        if chain is None or not self.context.fuses(self.device.kernels) or not chain.known(algorithm, layout, in_c):
            return 0.0
        role = next(outputs[0] for one, _, outputs in self._passes(node) if one == each)
        inner, others = self._local(node, role, partition), []
        for name, stage, count in chain.others:
            operator = operator_named(name)
            shapes = Shapes((inner,) * count, (inner,), {})
            if operator is not None and operator.elementwise:
                others.append(seconds(operator, stage, shapes, "", layout, self.device).seconds)
        traffic = Phase(bytes=chain.fusion.saved * inner.bytes, calls=CALL * len(chain.others))
        saved = priced((traffic,), inner.dtype, self.device).seconds
        return min(saved, taken, sum(others) or inf)

    def _kind(self, node: Node) -> int:
        return self.space.network.variables[self.space.network.addresses.index(node.address)]

    def _apart(self, maker: Node, role: str, reader: tuple[Node, str], choices: Choices) -> float:
        """What is not saved as two ends of a chain differ: in placement, of the value or the gradient, or layout."""
        (node, operand), lost = reader, 0.0
        source, target = self._made(maker, role, choices.ops[maker.address][0]), self._reader(reader, choices)
        one, other = (choices.ops[each.address][1] or "NCHW" for each in (maker, node))
        type_ = self._type(roles(maker)[role])
        turned = is_image(type_) and not same_memory(type_, one, other)
        ends = ((maker, role, True, source[0] != target[0]), (node, operand, False, source[1] != target[1]))
        for op, name, ahead, moved in ends:
            for each, inputs, outputs in self._passes(op):
                chain = self.space.network.kinds[self._kind(op)].chains.get(each.stage)  # type: ignore[union-attr]
                if (each == op) != ahead or chain is None or chain.at or outputs[0] != name or not (moved or turned):
                    continue
                partition, layout = choices.ops[op.address]
                types = (tuple(self._local(op, r, partition) for r in side) for side in (inputs, outputs))
                shapes, rule = Shapes(*types, dict(each.attrs)), operator_of(op)
                lost += min(
                    (taken - saved, saved)
                    for way in self._algorithms(op, each, layout)
                    for taken in (seconds(rule, each.stage, shapes, way, layout, self.device).seconds,)
                    for saved in (self._saving(op, each, way, (partition, layout), taken),)
                )[1]
        return lost

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

    def _inside(self, total: Costs, node: Node, partition: Partition) -> None:
        """Halos, and sums over ranks inside a pass."""
        indexing, stages = self._indexing(node), {each.stage for each, _, _ in self._passes(node)}
        operand = next(iter(roles(node)))
        for axis, halo in indexing.halos.items():
            parts = prod(e for e, along in zip(self.mesh.extents, partition, strict=True) if along == axis)
            if parts == 1:
                continue
            whole, local = self._type(roles(node)[operand]), self._local(node, operand, partition)
            at = indexing.tensors[operand].index(axis)
            result = self._type(roles(node)["y"]).shape[indexing.tensors["y"].index(axis)]
            rows = 0
            for (own, end), (start, stop) in zip(shards(whole.shape[at], parts), shards(result, parts), strict=True):
                first, last = halo.reads(start, stop)
                rows = max(rows, own - max(0, first), min(whole.shape[at], last) - end)
            for name, along in zip(self.mesh.names, partition, strict=True):
                if along == axis:
                    spent = self.fabric.neighbours(rows * local.bytes / local.shape[at], name)
                    total.forward += spent
                    total.backward += spent if "dx" in stages else 0.0
        for exchange in indexing.exchanges:
            names = exchange.over(partition, self.mesh, self.samples)
            if exchange.stage not in stages or not names:
                continue
            size = exchange.elements * DTYPE_BYTES[self._type(roles(node)[operand]).dtype]
            size = size * self.samples / self.graph.batch
            for extent, along in zip(self.mesh.extents, partition, strict=True):
                size /= extent if along in exchange.along else 1
            spent = exchange.times * self.fabric.seconds("allreduce", size, names)
            if exchange.stage == "forward":
                total.forward += spent
            else:
                total.backward += spent

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

    def _loads(self, total: Costs, node: Node, partition: Partition) -> None:
        """Copies of what comes from the data set: the mean over ops of the kind, for those that read it first."""
        variables, ops = self.space.network.variables, self._ops
        alike = [each for at, each in enumerate(ops) if variables[at] == variables[ops.index(node)]]
        for role, name in roles(node).items():
            if name not in node.inputs:
                continue
            names = [roles(each)[role] for each in alike]
            first = sum(
                self.graph.value(value).kind in ("input", "field")
                and next(each for each in ops if value in each.inputs) is alike[at]
                for at, value in enumerate(names)
            )
            if first:
                copied = 2 * self._local(node, role, partition).bytes / self.device.bandwidth + overhead(self.device)
                total.forward += first / len(alike) * copied

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

    def _kept(self) -> set[str]:
        """What the backward pass reads."""
        behind = ("dx", "dw", "dt", "statistics")
        return {name for each in self.graph.nodes if each.stage in behind for name in each.inputs}

    # Edges.

    def _readers(self, name: str) -> list[tuple[Node, str]]:
        reading = [node for node in self._ops if name in node.inputs]
        return [(node, role) for node in reading for role, value in roles(node).items() if value == name]

    def _flows(self, name: str) -> bool:
        """Whether the loss depends on a weight through a value."""
        reached = {value.name for value in self.graph.of_kind("weight")}
        for node in self.graph.nodes:
            if node.stage in ("forward", "loss") and reached.intersection(node.inputs):
                reached.update(node.outputs)
        return name in reached

    def _edges(self, total: Costs, choices: Choices) -> None:
        for maker in self._ops:
            for name in maker.outputs:
                readers = self._readers(name)
                if not readers:
                    continue
                role = next(role for role, value in roles(maker).items() if value == name)
                partition, layout = choices.ops[maker.address]
                source = self._made(maker, role, partition)
                back = self._flows(name)
                if len(readers) == 1:
                    total.moves += self._between(name, source, layout, self._reader(readers[0], choices), back)
                    total.moves += self._apart(maker, role, readers[0], choices)
                    continue
                home = choices.homes[name]
                total.moves += self._between(name, source, layout, (home.value, home.gradient, home.layout, True), back)
                for reader in readers:
                    end = self._reader(reader, choices)
                    total.moves += self._between(name, (home.value, home.gradient), home.layout, end, back)
                count = sum(node.stage != "metric" for node, _ in readers) if back else 0
                if count > 1:
                    size = largest(self._type(name), home.gradient, self.mesh).bytes
                    adding = (count + 1) * size / self.device.bandwidth + overhead(self.device)
                    kind = self.space.network.variables[len(self._ops) + self.space.network.homes.index(name)]
                    total.backward += adding
                    total.hiding += self.space.tables(self.strategy).exposure.hiding[kind] * adding

    def _made(self, node: Node, role: str, partition: Partition) -> tuple[Placement, Placement]:
        """Where a result is born, and where its gradient has to be."""
        indexing, type_ = self._indexing(node), self._type(roles(node)[role])
        return result_placement(indexing, role, type_, partition), needed_placement(indexing, role, type_, partition)

    def _reader(self, reader: tuple[Node, str], choices: Choices) -> tuple[Placement, Placement, str, bool]:
        """Where an operand has to be, where its gradient is born, the layout, whether there is a gradient."""
        node, role = reader
        partition, layout = choices.ops[node.address]
        indexing, type_ = self._indexing(node), self._type(roles(node)[role])
        held = operand_placement(indexing, role, type_, partition)
        return held, gradient_placement(indexing, role, type_, partition), layout, node.stage != "metric"

    def _between(
        self,
        name: str,
        source: tuple[Placement, Placement],
        layout: str,
        target: tuple[Placement, Placement, str, bool],
        back: bool,
    ) -> float:
        type_ = self._type(name)
        held, come, theirs, returns = target
        spent = self._move(type_, source[0], held)
        if back and returns:
            spent += self._move(type_, come, source[1])
        if is_image(type_) and not same_memory(type_, layout or "NCHW", theirs or "NCHW"):
            sizes = [largest(type_, _whole(place), self.mesh).elements for place in (source[0], held)]
            copy = conversion_seconds(tensor("f32", n=min(sizes)), self.device)
            spent += copy * (2 if back and returns else 1)
        return spent

    def _move(self, type_: TensorType, source: Placement, target: Placement) -> float:
        if not self.mesh.axes:
            return 0.0
        try:
            return sum(move.seconds for move in self.redistributions.path(type_, source, target))
        except ValueError:
            return float("inf")

    def _lent(self, total: Costs, choices: Choices) -> None:
        """Weights that a later op reads too: brought there each step, and their gradients back."""
        for node in self._ops:
            for role, name in roles(node).items():
                value = self.graph.value(name)
                if value.kind != "weight" or role in self._owned(node):
                    continue
                owner = next(each for each in self._ops if name in each.inputs)
                own = next(r for r, n in roles(owner).items() if n == name)
                one = self._weight(owner, own, choices)
                two = self._weight(node, role, choices)
                type_ = self.graph.type(name)
                total.update += self._move(type_, one[0], two[0]) + self._move(type_, two[1], one[1])
                size = self._local(node, role, choices.ops[node.address][0]).bytes
                added = 3 * size / self.device.bandwidth + overhead(self.device)
                total.update += self.strategy.microbatches * added

    def _weight(self, node: Node, role: str, choices: Choices) -> tuple[Placement, Placement]:
        partition, _ = choices.ops[node.address]
        indexing, type_ = self._indexing(node), self.graph.type(roles(node)[role])
        return (
            operand_placement(indexing, role, type_, partition),
            gradient_placement(indexing, role, type_, partition),
        )


def _whole(placement: Placement) -> Placement:
    return tuple(REPLICATED if at == PARTIAL else at for at in placement)
