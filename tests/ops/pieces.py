"""An op computed in pieces, as its `Indexing` says that ranks do, and put together again.

Operands and weights are cut as `operand_placement` says, every piece runs the NumPy kernels on what it has, and results
and gradients are set side by side or added up as `result_placement` and `gradient_placement` say. Halos are gathered
and their gradients added to the whole's rows; pads stay at the outer borders. Kernels are told what emitted programs
tell them: where a piece begins, and tables of sums over the ranks that an `Exchange` names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

import numpy as np

from dlc.ir.mesh import REPLICATED, Mesh, Placement, shards
from dlc.ir.schema import given
from dlc.ir.tensor import BATCH, TensorType, tensor
from dlc.ops.indexing import (
    Exchange,
    Indexing,
    Partition,
    gradient_placement,
    indexing_of,
    local_attrs,
    operand_placement,
    result_placement,
)
from dlc.ops.windows import windows
from passes.lowering.groups import GROUP_PHASES
from tests.kernels.calling import Array, Known, Op, kernel

Rows = tuple[Array, ...]
"""Which rows of a tensor a piece has, along each axis."""


def own_types(op: Op) -> dict[str, TensorType]:
    """Types by role, without those of gradients."""
    return {role: op.types[role] for role in (*op.inputs, *op.outputs)}


def indexing(op: Op) -> Indexing:
    """What the op's rule says."""
    return indexing_of(op.operator, own_types(op), dict(op.inferred.attrs))


def partitions(space: Indexing, rng: np.random.Generator) -> Iterator[tuple[Partition, Mesh]]:
    """Every axis in two and in three parts where it fits, two axes at once, and one over two mesh axes."""
    for axis in space.axes:
        yield from (((axis,), line(parts)) for parts in (2, 3) if space.fits(axis, parts))
    if space.axes:
        first, second = (str(axis) for axis in rng.choice(space.axes, 2))
        times = 4 if first == second else 2
        if space.fits(first, times) and space.fits(second, times):
            yield (first, second), Mesh((("rows", 2), ("columns", 2)))
        if space.fits(first, 2):
            yield ("", first), Mesh((("rows", 2), ("columns", 2)))


def line(parts: int) -> Mesh:
    """A mesh of one axis."""
    return Mesh((("line", parts),))


Names = tuple[str, ...]


@dataclass
class Piece:
    """What one rank has: its coordinates, the rows that it has of each tensor, and the op on these."""

    at: tuple[int, ...]
    rows: dict[str, Rows]
    op: Op
    known: Known


@dataclass
class Pieces:
    """All ranks of a mesh on which an op is split. `exact`: they run the integer stand-ins, which take no means."""

    op: Op
    space: Indexing
    partition: Partition
    mesh: Mesh
    known: Known  # of the whole: inputs and the gradients of results
    exact: bool = False

    def __post_init__(self) -> None:
        self.types = own_types(self.op)
        self.told = any(axis in self.space.positions and axis != BATCH for axis in self.partition)
        self.pieces = tuple(map(self._piece, product(*map(range, self.mesh.extents))))

    def parts(self, axis: str) -> int:
        """Into how many parts an iteration axis is cut."""
        return prod(n for n, along in zip(self.mesh.extents, self.partition, strict=True) if along == axis)

    def number(self, at: Sequence[int], axis: str) -> int:
        """Which of these parts the rank at these coordinates has, row-major over the mesh."""
        number = 0
        for place, extent, along in zip(at, self.mesh.extents, self.partition, strict=True):
            number = number * extent + place if along == axis else number
        return number

    # --- cutting -------------------------------------------------------------------------------------------------

    def _piece(self, at: tuple[int, ...]) -> Piece:
        rows = {role: self.rows(role, at) for role in self.types}
        rows |= {f"d{role}": found for role, found in rows.items()}
        known = {role: array[np.ix_(*rows[role])] for role, array in self.known.items()}
        for role in known:
            known[role] = known[role] * self._share(role, at) if role not in ("x", "label") else known[role]
        return Piece(at, rows, self._local(at, rows), known)

    def rows(self, role: str, at: Sequence[int]) -> Rows:
        """What a rank has of a tensor; `placement` and rows agree."""
        along, type_ = self.space.tensors[role], self.types[role]
        placement = operand_placement(self.space, role, type_, self.partition)
        cut = {axis.name: self._cut(role, index, at) for index, axis in enumerate(type_.axes)}
        split = {name for name, axis in zip(type_.names, along, strict=True) if self.parts(axis) > 1 and axis}
        assert split == set(placement) - {REPLICATED}, "the placement names the axes that are cut"
        return tuple(cut.values())

    def _cut(self, role: str, index: int, at: Sequence[int]) -> Array:
        axis, extent = self.space.tensors[role][index], self.types[role].shape[index]
        if not axis or self.parts(axis) == 1:
            return np.arange(extent)
        parts, number = self.parts(axis), self.number(at, axis)
        if axis in self.space.halos and role == "x":
            first, last = self.reads(axis, at)
            return np.arange(max(0, first), min(extent, last))
        of, count = self.space.stacked.get(role, ("", 1))
        stacked = count if of == axis else 1
        start, stop = shards(extent // stacked, parts)[number]
        return np.concatenate([np.arange(start, stop) + extent // stacked * block for block in range(stacked)])

    def reads(self, axis: str, at: Sequence[int]) -> tuple[int, int]:
        """The rows of x that a rank's windows cover, beyond its borders too."""
        return self.space.halos[axis].reads(*self.results(axis, at))

    def results(self, axis: str, at: Sequence[int]) -> tuple[int, int]:
        """The rows of y that a rank has."""
        extent = self.types["y"].shape[self.space.tensors["y"].index(axis)]
        return shards(extent, self.parts(axis))[self.number(at, axis)]

    def _share(self, role: str, at: Sequence[int]) -> float:
        """A weight that is added once is 0 on all ranks but the first; gradients of means are divided."""
        if role in self.space.once:
            along = (axis for axis in self.partition if axis and axis not in self.space.tensors["y"])
            return float(all(self.number(at, axis) == 0 for axis in along))
        return 1 / self.averages() if role.startswith("dy") else 1.0

    def averages(self) -> int:
        """Into how many parts the axes are cut over which means are taken."""
        if self.exact:
            return 1
        return prod(self.parts(axis) for axis in self.space.averaged)

    def _local(self, at: tuple[int, ...], rows: dict[str, Rows]) -> Op:
        """The op on arrays of the piece's own extents."""
        op = copy(self.op)
        op.types = {}
        for role, type_ in self.types.items():
            local = type_
            for axis, held in zip(type_.names, rows[role], strict=True):
                local = local.with_extent(axis, len(held))
            op.types |= {role: local, f"d{role}": local}
        attrs = local_attrs(self.space, dict(op.inferred.attrs), {axis: self.parts(axis) for axis in self.space.axes})
        op.inferred = replace(op.inferred, attrs=tuple((attrs | self._pads(at, attrs)).items()))
        stages = ("forward", *(gradient.suffix for gradient in op.operator.gradients))
        if op.algorithm and any(op.excluded(stage) is not None for stage in stages):
            op.algorithm = "direct"
        op.runtime = dict(op.runtime)
        if "position" in op.runtime and self.parts(BATCH) > 1:
            op.runtime["position"] += shards(self.types["x"].shape[0], self.parts(BATCH))[self.number(at, BATCH)][0]
        if op.operator.name == "bn":
            op.runtime["pixels"] = prod(self.types["x"].shape[2:])
        return op

    def _pads(self, at: Sequence[int], attrs: dict[str, Any]) -> dict[str, Any]:
        """The pads of a piece: those of the whole at the outer borders."""
        if not self.space.halos:
            return {}
        x, y = self.types["x"].shape[2:], self.space.tensors["y"][2:]
        slide = windows(attrs, len(x))
        pads = list(slide.pad)
        for index, axis in enumerate(y):
            if axis in self.space.halos and self.parts(axis) > 1:
                first, last = self.reads(axis, at)
                if self.op.operator.name == "conv_transpose":
                    pads[index] = self._cropped(axis, at, slide.stride[index], slide.reach[index], pads[index][0])
                else:
                    before, after = pads[index]
                    pads[index] = (min(before, max(0, -first)), min(after, max(0, last - x[index])))
        return {"pad": tuple(pads)}

    def _cropped(self, axis: str, at: Sequence[int], stride: int, reach: int, pad: int) -> tuple[int, int]:
        """The rows of the transposed windows that lie before and behind a piece of y."""
        rows = self._cut("x", self.space.tensors["x"].index(axis), at)
        start, stop = self.results(axis, at)
        before = start + pad - stride * (int(rows[0]) if len(rows) else start)
        return before, (len(rows) - 1) * stride + reach - (stop - start) - before

    # --- computing ------------------------------------------------------------------------------------------------

    def forward(self) -> None:
        self._pass("forward", self.op.inputs, self.op.outputs)

    def backward(self) -> None:
        for gradient in self.op.operator.gradients:
            gives = tuple(f"d{role}" for role in given(gradient, self.op.roles))
            self._pass(gradient.suffix, self.op.needs(gradient), gives)

    def _pass(self, stage: str, needs: Names, gives: Names) -> None:
        """Each piece's kernel, behind what the ranks exchange before it."""
        rule = next((each for each in self.space.exchanges if each.stage == stage), None)
        over = rule.over(self.partition, self.mesh, self.op.operands[0].shape[0]) if rule is not None else ()
        if rule is not None and over and self.op.operator.name == "bn":
            self._phases(rule, over)
            return
        tables: Names = ()
        for round_ in range(rule.times if rule is not None and over else 0):
            tables = (*tables, self._table(rule, stage, needs, tables))  # type: ignore[arg-type]
            self._exchange(tables[-1], over, largest=rule.largest and not round_)  # type: ignore[union-attr]
        self._call(stage, (*needs, *tables), gives)

    def _call(self, stage: str, needs: Names, gives: Names) -> None:
        for piece in self.pieces:
            if self.op.operator.view:
                piece.known = piece.op.forward(piece.known) if stage == "forward" else piece.op.backward(piece.known)
                continue
            self._tell(piece, (*needs, *gives))
            piece.known = piece.op.call(stage, needs, gives, piece.known)

    def _table(self, rule: Exchange, stage: str, needs: Names, tables: Names) -> str:
        """Each rank's part of the sums of a round, in a table with room for those of the rank with most of them."""
        name, extents, elements = f"sums{len(tables)}", dict(self.space.extents), rule.elements
        for axis in rule.along:
            if self.parts(axis) > 1:
                elements = elements // extents[axis] * -(-extents[axis] // self.parts(axis))
        function = kernel("sums", self.op.operator.name, f"{stage}{len(tables)}", self.op.table)
        for piece in self.pieces:
            piece.op.types[name] = tensor(self.op.operands[0].dtype, element=elements)
            self._tell(piece, (*needs, *tables, name))
            arrays = [piece.op.store(role, piece.known[role]) for role in (*needs, *tables)]
            piece.known[name] = np.full_like(arrays[0], 7.25, shape=elements)
            attrs = {**dict(piece.op.inferred.attrs), **piece.op.runtime, **piece.op.layout_keyword()}
            function(*arrays, piece.known[name], **attrs)
        return name

    def _phases(self, rule: Exchange, over: Names) -> None:
        """Batch norm's: tables have a row for each group of the whole batch."""
        rounds = 0
        for phase in GROUP_PHASES[rule.stage]:
            for piece in self.pieces:
                piece.op.types |= dict.fromkeys(phase.summed, piece.op.types["batch_mean"])
            self._call(phase.name, phase.needs, phase.gives)
            for name in phase.summed:
                self._exchange(name, over)
                rounds += 1
                sizes = [piece.known[name].size for piece in self.pieces]
                parts = prod(self.parts(axis) for axis in rule.along)
                assert min(sizes) * parts <= rule.elements <= max(sizes) * parts
        assert rounds == rule.times

    def _exchange(self, name: str, over: Names, largest: bool = False) -> None:
        """Add up a table over the ranks that differ along these mesh axes only, or find the largest of each entry."""
        apart = [at for at, axis in enumerate(self.mesh.names) if axis not in over]
        held = [(piece.at, piece.known[name]) for piece in self.pieces]
        for piece in self.pieces:
            beside = [table for at, table in held if all(at[axis] == piece.at[axis] for axis in apart)]
            piece.known[name] = (np.max if largest else np.sum)(beside, axis=0)

    def _tell(self, piece: Piece, roles: Names) -> None:
        """Where the arrays of the next call begin in the whole."""
        if self.told:
            piece.op.runtime = {**piece.op.runtime, "origin": tuple(self._origin(role, piece) for role in roles)}

    def _origin(self, role: str, piece: Piece) -> tuple[tuple[int, int], ...]:
        """(start, extent of the whole) of each axis; samples are counted by themselves."""
        whole = role if role in self.types else role.removeprefix("d")
        if whole not in self.types:
            return ((0, piece.op.types[role].shape[0]),)
        pairs = zip(self.types[whole].axes, piece.rows[whole], strict=True)
        return tuple((0, len(held)) if axis.name == BATCH else (int(held[0]), axis.extent) for axis, held in pairs)

    # --- putting together ----------------------------------------------------------------------------------------

    def together(self) -> dict[str, list[Array]]:
        """Every result and gradient as often as the ranks hold it: each must be that of the whole."""
        found = {}
        for role in self.op.results:
            placement = result_placement(self.space, role, self.types[role], self.partition)
            found[role] = [array / self.averages() for array in self._assembled(role, placement)]
        for gradient in self.op.operator.gradients:
            for role in given(gradient, self.op.roles):
                placement = gradient_placement(self.space, role, self.types[role], self.partition)
                found[f"d{role}"] = self._assembled(f"d{role}", placement)
        return found

    def _assembled(self, role: str, placement: Placement) -> list[Array]:
        """One array for each place along the mesh axes where the value is replicated."""
        copies: dict[tuple[int, ...], Array] = {}
        for piece in self.pieces:
            place = tuple(at for at, held in zip(piece.at, placement, strict=True) if held == REPLICATED)
            whole = copies.setdefault(place, np.zeros(self.op.types[role].shape))
            whole[np.ix_(*piece.rows[role])] += piece.known[role]
        return list(copies.values())


def largest_error(pieces: Pieces, whole: Known) -> float:
    """Of all results and gradients, beside the largest element; infinite elements must be equal."""
    worst = 0.0
    for role, copies in pieces.together().items():
        expected = whole[role]
        finite = np.isfinite(expected)
        scale = 1 + float(np.abs(expected[finite]).max(initial=0))
        for found in copies:
            if not np.array_equal(found[~finite], expected[~finite]):
                return float("inf")
            worst = max(worst, float(np.abs(found[finite] - expected[finite]).max(initial=0)) / scale)
    return worst


def reads_something(pieces: Pieces) -> bool:
    """Whether every rank has a row of the operand: kernels are not made for windows that lie in the pads alone."""
    return all(len(held) for piece in pieces.pieces for held in piece.rows.get("x", ()))


def exchanges(pieces: Pieces) -> bool:
    """Whether ranks exchange anything inside a pass."""
    batch = pieces.op.operands[0].shape[0] if pieces.op.operands else 0
    return any(e.over(pieces.partition, pieces.mesh, batch) for e in pieces.space.exchanges)
