"""What each pass of an op needs of its operands and makes of them, by the op's own description of its iteration space.

How a pass is split follows from what its operands are split by (`dlc.ops.indexing`): along each mesh axis there has to
be one way to split the iteration space for which every operand is as the ranks hold it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from dlc.ir import schema
from dlc.ir.graph import Attr, Graph, Node
from dlc.ir.mesh import PARTIAL, REPLICATED, Mesh, Placement, parts
from dlc.ir.storage import of_microbatch
from dlc.ir.tensor import BATCH, TensorType
from dlc.ops import operator
from dlc.ops.blocks import BLOCKED
from dlc.ops.indexing import (
    Indexing,
    border,
    gradient_placement,
    indexing_of,
    local_attrs,
    operand_placement,
    result_placement,
)
from dlc.ops.operator import Gradient, Operator
from dlc.proof.forms import OWN, Form, Forms, Fringe, fringe, own_rows, place
from dlc.proof.memory import unfit_for_blocks

FORWARD = ("forward", "loss", "metric")
IMAGE = (BATCH, "channel", "height", "width")


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """A forward op: its operator, the types of its operands and results by role in one microbatch, and how these are
    indexed."""

    node: Node
    operator: Operator
    types: dict[str, TensorType]
    indexing: Indexing
    number: int


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """A pass of an op: (role, what it is for) of each input and output, and the placements along one mesh axis that
    they have for each iteration axis that may be split there."""

    op: Op
    stage: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    gradients: bool  # whether its outputs are gradients of operands
    ways: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Split:
    """A pass on parts: how its outputs are held, the attributes and runtime values that its kernel is to be given.

    `sums` are the mesh axes over which ranks sum within the pass (`rounds` times), `tables` how what they sum is held;
    with `largest` they find the largest the first time.
    """

    outputs: tuple[int, ...]
    attrs: Mapping[str, Attr]
    runtime: tuple[str, ...]
    partition: Placement
    sums: tuple[str, ...] = ()
    rounds: int = 0
    tables: Placement = ()
    largest: bool = False


def is_image(type_: TensorType) -> bool:
    """Whether a value has orders in memory to choose from."""
    return type_.names == IMAGE


@dataclass(slots=True)
class Rules:
    """The passes of a graph's nodes on one mesh."""

    graph: Graph
    mesh: Mesh
    microbatches: int
    forms: Forms
    _ops: dict[str, Op] = field(default_factory=dict)
    _alike: dict[object, Op] = field(default_factory=dict)
    _passes: dict[object, Pass] = field(default_factory=dict)
    _by_address: dict[str, Pass] = field(default_factory=dict)
    _splits: dict[object, Split | str] = field(default_factory=dict)
    _types: dict[str, TensorType] = field(default_factory=dict)
    calls: set[object] = field(default_factory=set)
    """Splits with the attributes and runtime values that some call of theirs was rightly given."""

    def type(self, value: str) -> TensorType:
        """The type of a value in one microbatch."""
        found = self._types.get(value)
        if found is None:
            found = self._types[value] = of_microbatch(self.graph.type(value), self.microbatches)
        return found

    def op(self, address: str) -> Op:
        """The forward op at an address; the same for ops that are alike."""
        found = self._ops.get(address)
        if found is None:
            node = self.graph.node(address)
            types = tuple(self.type(name) for name in (*node.inputs, *node.outputs))
            key = (node.op, node.stage, tuple(pair for pair in node.attrs if pair[0] != "key"), types)
            if key not in self._alike:
                self._alike[key] = self._new(node, len(self._alike))
            found = self._ops[address] = self._alike[key]
        return found

    def _new(self, node: Node, number: int) -> Op:
        known = operator(node.op)
        by_role = None if known is None else schema.roles(known, node)
        if known is None or by_role is None:
            raise ValueError(f"{node.address} is no op with the operands that its operator declares")
        types = {role: self.type(name) for role, name in by_role.items()}
        return Op(node, known, types, indexing_of(known, types, dict(node.attrs)), number)

    def of(self, node: Node) -> Pass:
        """A pass: forward, loss, metric, dx, dw, dt or statistics."""
        known = self._by_address.get(node.address)
        if known is not None:
            return known
        op = self.op(node.base)
        reached = node.attr("reached") if node.has("reached") else None
        key = (op.number, node.stage, reached)
        found = self._passes.get(key)
        if found is None:
            found = self._passes[key] = _pass(op, node, reached)
        self._by_address[node.address] = found
        return found

    def split(
        self, node: Node, held: tuple[int, ...], outputs: tuple[Placement | None, ...], layout: str
    ) -> Split | str:
        """A pass on operands that are held so; what is wrong with them where there is no such way.

        `held` has the number of the form of each operand, -1 of one that is not read.
        `outputs` are the placements that the buffers of its outputs say, None where they say nothing.
        """
        made = self.of(node)
        key = (id(made), held, outputs, layout)
        found = self._splits.get(key)
        if found is None:
            found = self._splits[key] = self._find(made, node, held, outputs, layout)
        return found

    def _find(
        self, made: Pass, node: Node, held: tuple[int, ...], outputs: tuple[Placement | None, ...], layout: str
    ) -> Split | str:
        read = [at for at, number in enumerate(held) if number >= 0]
        forms = {at: self.forms[held[at]] for at in read}
        partition: list[str] = []
        for k, axis in enumerate(self.mesh.names):
            at = [forms[index].placement[k] for index in read]
            fits = [(along, gives) for along, takes, gives in made.ways if [takes[index] for index in read] == at]
            if not fits:
                words = ", ".join(f"`{node.inputs[i]}` is {place(x)}" for i, x in zip(read, at, strict=True))
                return f"what it reads does not fit together along `{axis}`: {words}"
            born = tuple(None if p is None else p[k] for p in outputs)
            wanted = [along for along, gives in fits if _agree(born, gives)]
            if not wanted:
                words = ", ".join(f"`{name}` is {place(x)}" for name, x in zip(node.outputs, fits[0][1], strict=False))
                said = ", ".join(place(x) for x in born if x is not None)
                return f"along `{axis}` what it gives is held otherwise than its buffers say ({said}): {words}"
            partition.append(wanted[0])
        return self._made(made, node, forms, tuple(partition), layout)

    def _made(
        self, made: Pass, node: Node, forms: Mapping[int, Form], partition: Placement, layout: str
    ) -> Split | str:
        op = made.op
        counts = _counts(partition, self.mesh)
        for along, count in counts.items():
            empty = along == BATCH and BATCH not in op.indexing.whole  # ranks may have no samples
            if along and not (empty or op.indexing.fits(along, count)):
                return f"it cannot be split along {along} into {count} parts"
        for index, form in forms.items():
            role, name = made.inputs[index], node.inputs[index]
            wanted = self._fringes(op, role, form.placement, pending=False)
            if form.fringes != wanted:
                return _fringe_fault(name, form, wanted)
            if is_image(op.types[role]) and form.layout != layout:
                return f"it works in {layout or 'no layout'} and `{name}` is in {form.layout or 'none'}"
        if fault := self._unfit_for_blocks(made, partition, layout):
            return fault
        gives = tuple(self._given(made, role, partition, layout) for role in made.outputs)
        attrs = self._attrs(made, node, partition, counts)
        sums, rounds, tables, largest = self._sums(made, partition)
        runtime = (*op.operator.runtime, *_told(op, partition))
        return Split(gives, attrs, runtime, partition, sums, rounds, tables, largest)

    def _unfit_for_blocks(self, made: Pass, partition: Placement, layout: str) -> str | None:
        """Why the op cannot be computed so on channels in blocks."""
        if layout not in BLOCKED:
            return None
        if not (made.op.operator.blocked or made.op.operator.elementwise):
            return f"there is no kernel for it in {layout}"
        images = [type_ for type_ in made.op.types.values() if is_image(type_)]
        if made.op.operator.elementwise and len({type_.shape for type_ in images}) > 1:
            return f"in {layout} its operands have to be of one shape"
        return next(filter(None, (unfit_for_blocks(type_.shape, partition, layout) for type_ in images)), None)

    def _given(self, made: Pass, role: str, partition: Placement, layout: str) -> int:
        placement = tuple(
            next(gives for along, _, gives in made.ways if along == at)[made.outputs.index(role)] for at in partition
        )
        type_ = made.op.types[role]
        fringes = self._fringes(made.op, role, placement, pending=True) if made.gradients else ()
        return self.forms.number(Form(placement, layout if is_image(type_) else "", fringes))

    def _fringes(self, op: Op, role: str, placement: Placement, pending: bool) -> tuple[Fringe, ...]:
        """The rows that windows read, where these are others than those of their own part or pads, by axis."""
        if not op.indexing.halos or (role not in op.operator.operands and not op.operator.variadic):
            return ()
        type_, found = op.types[role], list[Fringe]()
        runs = dict(zip(op.indexing.tensors[role], type_.axes, strict=True))
        results = self._results(op)
        for along, halo in op.indexing.halos.items():
            count = parts(placement, self.mesh, runs[along].name) if along in runs and along in results else 1
            if count > 1:
                axis = runs[along]
                wide = fringe(axis.name, axis.extent, halo, results[along], count, pending)
                if not wide.rows == wide.reads == own_rows(type_, placement, self.mesh, axis.name):
                    found.append(wide)
        return tuple(sorted(found))

    def border(self, node: Node, partition: Placement, axis: str) -> tuple[int, int] | None:
        """The most result rows of a part along an axis, first and last ones, that read operand rows of others."""
        op = self.op(node.base)
        first, counts, results = next(iter(op.types)), _counts(partition, self.mesh), self._results(op)
        for along, runs in zip(op.indexing.tensors[first], op.types[first].axes, strict=True):
            if runs.name == axis and along in op.indexing.halos and counts.get(along, 1) > 1:
                return border(op.indexing.halos[along], runs.extent, results[along], counts[along])
        return None

    def _results(self, op: Op) -> dict[str, int]:
        first = schema.result_roles(op.operator, op.node)[0]
        return dict(zip(op.indexing.tensors["y"], op.types[first].shape, strict=True))

    def _attrs(self, made: Pass, node: Node, partition: Placement, counts: Mapping[str, int]) -> dict[str, Attr]:
        """The attributes of a part: it counts what it has, and one rank of a sum alone adds what is added once."""
        op, indexing = made.op, made.op.indexing
        attrs = local_attrs(indexing, dict(node.attrs), counts)
        y = schema.result_roles(op.operator, op.node)[0]
        partial = tuple(
            name
            for name, along in zip(self.mesh.names, partition, strict=True)
            if along and along not in indexing.tensors[y]
        )
        if partial and node.stage == "forward" and any(role in op.types for role in indexing.once):
            attrs["once"] = partial
        means = prod(counts.get(axis, 1) for axis in indexing.averaged)
        if means > 1:
            attrs["averaged"] = means
        return attrs

    def _sums(self, made: Pass, partition: Placement) -> tuple[tuple[str, ...], int, Placement, bool]:
        """The mesh axes over which a pass sums, how often, and how what is summed is held before."""
        stage = "forward" if made.stage in FORWARD else made.stage
        batch = next((t.extent(BATCH) for t in made.op.types.values() if t.batched), 1)
        for exchange in made.op.indexing.exchanges:
            if exchange.stage != stage:
                continue
            axes = exchange.over(partition, self.mesh, batch)
            tables = tuple(
                PARTIAL if name in axes else f"{OWN}{along}" if along else REPLICATED
                for name, along in zip(self.mesh.names, partition, strict=True)
            )
            return axes, exchange.times, tables, exchange.largest
        return (), 0, (), False


def _agree(said: Sequence[str | None], gives: Sequence[str]) -> bool:
    """Whether outputs are held as their buffers say; these do not tell a rank's own from the same on all ranks."""
    return all(x is None or x == (REPLICATED if y.startswith(OWN) else y) for x, y in zip(said, gives, strict=False))


def _counts(partition: Placement, mesh: Mesh) -> dict[str, int]:
    counts: dict[str, int] = {}
    for extent, along in zip(mesh.extents, partition, strict=True):
        counts[along] = counts.get(along, 1) * extent
    return counts


def _told(op: Op, partition: Placement) -> tuple[str, ...]:
    """What a kernel is told of its part's place: where it begins, and which pads it has."""
    split = {along for along in partition if along and along != BATCH}
    origin = ("origin",) if split.intersection(op.indexing.positions) else ()
    return (*origin, *(("pads",) if split.intersection(op.indexing.halos) else ()))


def _fringe_fault(name: str, form: Form, wanted: Sequence[Fringe]) -> str:
    for wide in wanted:
        held = form.along(wide.axis)
        if held is None:
            return f"its parts read rows of `{name}` along {wide.axis} that other ranks have"
        if held.pending:
            return f"`{name}` still has parts of sums in rows along {wide.axis} that other ranks have"
        for part, (want, have) in enumerate(zip(wide.reads, held.reads, strict=False)):
            if want != have:
                rows = f"rows {want[0]} to {want[1]} of `{name}` along {wide.axis}"
                return f"part {part} reads {rows} and has {have[0]} to {have[1]}"
    return f"`{name}` has further rows, which it is not to see"


def _pass(op: Op, node: Node, reached: Attr | None) -> Pass:
    """The roles of a pass, and how they are placed for each way to split it."""
    names = tuple(op.types)
    if node.stage in FORWARD:
        count = len(op.node.inputs)
        reads, gives = [("operand", role) for role in names[:count]], [("result", role) for role in names[count:]]
    elif node.stage == "statistics":
        reads = [("operand", role) for role in (names[0], *op.operator.saved)]
        gives = [("statistic", role) for role in op.operator.statistics]
    else:
        gradient = next(each for each in op.operator.gradients if each.suffix == node.stage)
        reads = list(_needs(op, gradient, reached))
        gives = [("gradient", role) for role in schema.given(gradient, dict.fromkeys(op.types, ""))]
    ways = tuple(
        (
            along,
            tuple(_placed(op, what, role, along) for what, role in reads),
            tuple(_placed(op, what, role, along) for what, role in gives),
        )
        for along in ("", *op.indexing.axes)
    )
    backward = node.stage not in (*FORWARD, "statistics")
    return Pass(op, node.stage, tuple(r for _, r in reads), tuple(r for _, r in gives), backward, ways)


def _needs(op: Op, gradient: Gradient, reached: Attr | None) -> Iterator[tuple[str, str]]:
    """What a backward pass reads: the gradients of the results that have one among them."""
    results = schema.result_roles(op.operator, op.node)
    which = reached if isinstance(reached, tuple) else tuple(range(len(results)))
    for role in schema.needed(gradient, dict.fromkeys(op.types, "")):
        if role == "dy":
            yield from (("given", results[at]) for at in which if isinstance(at, int))
        else:
            yield "operand", role


def _placed(op: Op, what: str, role: str, along: str) -> str:
    """How a role is held along a mesh axis that splits an iteration axis."""
    indexing, type_, partition = op.indexing, op.types[role], (along,)
    saved = role in op.operator.saved and what in ("operand", "result")
    match what:
        case "gradient":
            (found,) = gradient_placement(indexing, role, type_, partition)
        case "result" if not saved:
            (found,) = result_placement(indexing, role, type_, partition)
        case _:
            (found,) = operand_placement(indexing, role, type_, partition)
    if what == "statistic" and along == BATCH:
        return PARTIAL
    return f"{OWN}{along}" if saved and along and found == REPLICATED else found
