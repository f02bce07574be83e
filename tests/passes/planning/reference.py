"""What a choice costs, worked out op by op and edge by edge from the graph, without any of the planner's tables.

Kernels are priced one by one at their local shapes, redistributions by the moves of their cheapest paths. The rules are
those of cost-models.md §5 to §7 and of docs/decisions/0014-the-search.md, for the inner mesh of one stage. Of the
planner's own it takes which ops are of one kind, and which share of each kind's sums is late and hides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, prod

from dlc.cost.c_kernels import CALL
from dlc.cost.compute import conversion_seconds, overhead, priced, seconds
from dlc.cost.phases import Phase
from dlc.ir.graph import Node
from dlc.ir.mesh import PARTIAL, REPLICATED, Placement, largest, shards
from dlc.ir.tensor import DTYPE_BYTES, TensorType, tensor
from dlc.ops import operator as operator_named
from dlc.ops.indexing import Partition, gradient_placement, needed_placement, operand_placement, result_placement
from dlc.ops.operator import Shapes
from passes.differentiate import operator_of, roles
from passes.layouts import is_image, same_memory
from tests.passes.planning.reference_ops import FORWARD
from tests.passes.planning.reference_weights import Costs, Weights


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


@dataclass(frozen=True)
class Reference(Weights):
    """Prices choices under one strategy."""

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
