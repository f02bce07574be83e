"""How an operator's iteration space indexes its tensors: the one description that every partition follows from.

An op computes its results over an iteration space with named axes: the axes of its results (`batch`, `channel`,
`height`, …) and those that it sums over (`reduce`). A tensor axis that runs along an iteration axis is split where that
is split. So for a split of iteration axis a over a mesh axis:

* forward, an operand or weight with an axis along a is split there, any other is replicated;
* a result or saved value with an axis along a is split there, any other is a partial sum;
* backward, gradients that are needed are placed as the results are (a partial sum's gradient is replicated);
* a gradient that is given is split as its operand or weight is; where that has no axis along a, it is a partial sum.

`x[batch, reduce, height, width]`, `weight[channel, reduce]`, `y[batch, channel, height, width]` says all of this for a
convolution by any axis: the sum over ranks of weight gradients for `batch`, of y for `reduce`, of dx for `channel`.

Iteration axes are called as pins call them: after the axes of the result, but that the last axis of what is no image is
`feature`. What pieces compute with this placement is compared with the whole in `tests/ops/test_indexing.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import gcd, prod
from typing import TYPE_CHECKING

from dlc.ir.graph import Attr
from dlc.ir.mesh import PARTIAL, REPLICATED, Mesh, Placement, shards
from dlc.ir.tensor import BATCH, TensorType

if TYPE_CHECKING:
    from dlc.ops.operator import Operator

AXES = ("batch", "channel", "feature", "depth", "height", "width", "length", "seq", "heads", "key")
"""What iteration axes are called, besides `reduce`. A tensor axis of another name is not split, unless it is the last
one: then it is `feature`."""

Along = tuple[str, ...]
"""For each axis of a tensor, in its logical order: the iteration axis that it runs along, "" for none."""


@dataclass(frozen=True, slots=True)
class Halo:
    """What a part of the results needs of the operands along an axis.

    Result rows a·step to b·step - 1 read operand rows a·stride - before to (b - 1)·stride + after, as far as there are
    any: a window that moves by `stride`, or results that are `step` times as long as the operand. Of
    pads wider than a window one of both is negative: the outermost windows read nothing.
    """

    before: int
    after: int
    stride: int = 1
    step: int = 1

    def reads(self, start: int, stop: int) -> tuple[int, int]:
        """The first operand row that result rows start … stop - 1 read, and the one behind the last: not clipped."""
        first, last = start // self.step * self.stride, (stop // self.step - 1) * self.stride
        return first - self.before, last + self.after + 1


@dataclass(frozen=True, slots=True)
class Exchange:
    """A sum over the ranks inside a pass of the op, where one of `axes` is split: batch norm's statistics.

    `elements` values of the op's element type are summed (with `largest`, the first time their largest are found), cut
    into as many parts as the iteration axes in `along` are split, in each of `times` rounds. Where the batch's shards
    hold whole runs of `group` samples, a split of the batch needs none (0: it always does); other splits always do.
    """

    stage: str
    axes: tuple[str, ...]
    elements: int
    along: tuple[str, ...] = ()
    times: int = 1
    group: int = 0
    largest: bool = False

    def over(self, partition: Partition, mesh: Mesh, batch: int) -> tuple[str, ...]:
        """The mesh axes whose ranks take part, for a partition of an op that computes `batch` samples at a time."""
        split = tuple(zip(mesh.names, mesh.extents, partition, strict=True))
        parts = prod(extent for _, extent, along in split if along == BATCH)
        spanning = spans(self.group, batch, parts)
        return tuple(name for name, _, along in split if along in self.axes and (spanning or along != BATCH))


@lru_cache(maxsize=4096)
def spans(group: int, samples: int, count: int) -> bool:
    """Whether a group of consecutive samples lies on several of so many shards; any does where it is all of them."""
    return not group or any(start % group for start, _ in shards(samples, count))


@dataclass(frozen=True, slots=True)
class Indexing:
    """An op's iteration space. `extents` lists the axes that may be split, in order, into so many parts at most.

    * `tensors` maps each role (operands, weights, statistics, results, saved) to the axes that it runs along.
    * `halos`: by iteration axis, which further rows the operands along it need (weights and saved values need none).
      Backward, a part gives the gradients of all operand rows that it has read: those of one row are added up.
    * `whole` are axes that a mesh extent has to divide.
    * `once` are weights that are added to the results: where these are partial sums, the first rank alone adds them,
      and their gradients, which every rank computes alike, are replicated.
    * `averaged` are axes over whose elements at hand the op takes means (its parts are equal, they are `whole` too):
      a part's results, and the gradients that its backward passes read, are divided by the number of parts.
    * `positions` are axes along which a kernel has to be told where its part begins: of a mask, of a table's rows.
    * `counts`: attributes that count what an axis has, so that a part has as much less of it: groups, heads.
    * `stacked`: role -> (iteration axis, count): there its tensor axis holds so many tensors one behind the other, and
      a part has its part of each (q, k and v).
    """

    extents: tuple[tuple[str, int], ...]
    tensors: Mapping[str, Along]
    halos: Mapping[str, Halo] = field(default_factory=dict)
    exchanges: tuple[Exchange, ...] = ()
    whole: tuple[str, ...] = ()
    once: tuple[str, ...] = ()
    averaged: tuple[str, ...] = ()
    positions: tuple[str, ...] = ()
    counts: Mapping[str, str] = field(default_factory=dict)
    stacked: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def axes(self) -> tuple[str, ...]:
        """The iteration axes that may be split."""
        return tuple(name for name, _ in self.extents)

    def fits(self, axis: str, parts: int) -> bool:
        """Whether an axis can be split into so many parts."""
        extent = dict(self.extents).get(axis, 1)
        return parts <= extent and not (axis in self.whole and extent % parts)


Types = Mapping[str, TensorType]
Attributes = Mapping[str, Attr]

Rule = Callable[[Types, Attributes], Indexing]
"""(types by role, attributes) -> the iteration space of one node."""

Partition = tuple[str, ...]
"""One entry for each mesh axis: the iteration axis that it splits, or "" where the op is replicated along it."""


# --- placements --------------------------------------------------------------------------------------------------


def operand_placement(indexing: Indexing, role: str, type_: TensorType, partition: Partition) -> Placement:
    """Where an operand or weight has to be for a partition, forward and backward."""
    return tuple(_axis(indexing, role, type_, along) or REPLICATED for along in partition)


def result_placement(indexing: Indexing, role: str, type_: TensorType, partition: Partition) -> Placement:
    """Where a result is born under a partition: PARTIAL along axes that the op sums over."""
    return tuple((_axis(indexing, role, type_, along) or PARTIAL) if along else REPLICATED for along in partition)


def needed_placement(indexing: Indexing, role: str, type_: TensorType, partition: Partition) -> Placement:
    """Where the gradient of a result has to be for the backward pass: as the result; whole where that was partial."""
    return operand_placement(indexing, role, type_, partition)


def gradient_placement(indexing: Indexing, role: str, type_: TensorType, partition: Partition) -> Placement:
    """Where the gradient of an operand or weight is born: PARTIAL along split axes that it does not run along.

    A weight that is added `once` has a replicated gradient where the results are partial sums.
    """
    born = result_placement(indexing, role, type_, partition)
    if role not in indexing.once:
        return born
    summed = (bool(along) and along not in indexing.tensors["y"] for along in partition)
    return tuple(REPLICATED if once else at for at, once in zip(born, summed, strict=True))


def _axis(indexing: Indexing, role: str, type_: TensorType, along: str) -> str:
    """The tensor axis of a role that runs along an iteration axis; "" where it has none."""
    if not along:
        return ""
    for name, runs in zip(type_.names, indexing.tensors[role], strict=True):
        if runs == along:
            return name
    return ""


def fringe(halo: Halo, operand: int, result: int, parts: int) -> tuple[int, int]:
    """The most rows that any of so many parts reads before and behind the operand rows of its own shard.

    `operand` and `result` are the extents of the whole. Where one of both is above operand // parts, a part may read
    rows beyond those of its neighbours.
    """
    before = behind = 0
    for (own, end), (start, stop) in zip(shards(operand, parts), shards(result, parts), strict=True):
        first, last = halo.reads(start, stop)
        before, behind = max(before, own - max(0, first)), max(behind, min(operand, last) - end)
    return before, behind


def inner_rows(halo: Halo, own: tuple[int, int], results: tuple[int, int], extent: int) -> tuple[int, int]:
    """(start, stop) of those of a part's result rows that read none of other parts: just its `own` of the operand rows.

    `extent` is that of the whole operand: what lies beyond its ends is read by no window.
    """
    start, stop = results
    if own[0] > 0:
        start = max(start, -(-(own[0] + halo.before) // halo.stride) * halo.step)
    if own[1] < extent:
        stop = min(stop, ((own[1] - 1 - halo.after) // halo.stride + 1) * halo.step)
    start = min(start, results[1])
    return start, max(start, stop)


def border(halo: Halo, operand: int, result: int, parts: int) -> tuple[int, int]:
    """The most result rows of any of so many parts, its first ones and its last ones, that read rows of others."""
    before = behind = 0
    for own, results in zip(shards(operand, parts), shards(result, parts), strict=True):
        start, stop = inner_rows(halo, own, results, operand)
        before, behind = max(before, start - results[0]), max(behind, results[1] - stop)
    return before, behind


def local_attrs(indexing: Indexing, attrs: Attributes, parts: Mapping[str, int]) -> dict[str, Attr]:
    """The attributes of a part, for the number of parts by iteration axis: it has as much less of what they count."""
    found = dict(attrs)
    for name, axis in indexing.counts.items():
        value = attrs[name]
        assert isinstance(value, int)
        found[name] = value // parts.get(axis, 1)
    return found


# --- rules -------------------------------------------------------------------------------------------------------


def indexing_of(operator: Operator, types: Types, attrs: Attributes) -> Indexing:
    """The iteration space of a node of an operator; one without axes where the operator is never split."""
    return operator.indexing(types, attrs) if operator.indexing is not None else indexed(types, {})


def indexed(
    types: Types,
    tensors: Mapping[str, Along],
    *,
    whole: Sequence[str] = (),
    limits: Mapping[str, int] | None = None,
    halos: Mapping[str, Halo] | None = None,
    exchanges: tuple[Exchange, ...] = (),
    once: tuple[str, ...] = (),
    averaged: tuple[str, ...] = (),
    positions: tuple[str, ...] = (),
    counts: Mapping[str, str] | None = None,
    stacked: Mapping[str, tuple[str, int]] | None = None,
) -> Indexing:
    """An iteration space from what its tensors run along: those that are not named run along nothing.

    Axes stand in the order in which the tensors name them. Each can be split into as many parts as the shortest tensor
    axis along it has elements; one that is `whole` into those that divide all of them, and what `limits` says.
    """
    tensors = {role: along for role, along in tensors.items() if role in types}
    found: dict[str, list[int]] = {}
    for role, along in tensors.items():
        for axis, extent in zip(along, types[role].shape, strict=True):
            found.setdefault(axis, []).append(extent)
    found.pop("", None)
    for axis, most in (limits or {}).items():
        found[axis].append(most)
    extents = {axis: gcd(*some) if axis in whole else min(some) for axis, some in found.items()}
    return Indexing(
        tuple((axis, extent) for axis, extent in extents.items() if extent > 1),
        {role: tensors.get(role, ("",) * len(type_.axes)) for role, type_ in types.items()},
        halos or {},
        exchanges,
        tuple(whole),
        once,
        averaged,
        positions,
        counts or {},
        stacked or {},
    )


def named(type_: TensorType) -> Along:
    """The iteration axes of a result, each element of which is computed by itself.

    They are called as the tensor's own axes; the last axis of what is no image is `feature`, unless it is one of
    a sequence, of heads or of keys.
    """
    names = type_.names
    found = tuple(name if name in AXES else "" for name in names)
    if len(names) < 2 or {"channel", "feature"} & set(names):
        return found
    is_feature = not found[-1] or (found[-1] == "width" and "height" not in names)
    return (*found[:-1], "feature") if is_feature else found


def beside(type_: TensorType, result: TensorType, names: Along) -> Along:
    """What an operand runs along that broadcasts by name to a result: nothing where it has one element."""
    extents = dict(zip(result.names, zip(names, result.shape, strict=True), strict=True))
    along = (extents.get(axis.name, ("", 0)) for axis in type_.axes)
    return tuple(name if axis.extent == extent else "" for axis, (name, extent) in zip(type_.axes, along, strict=True))


def elementwise(types: Types, _attrs: Attributes) -> Indexing:
    """Of an op that computes each element of y, and of its saved values, from those at the same place."""
    y = types["y"]
    names = named(y)
    return indexed(types, {role: beside(type_, y, names) for role, type_ in {"y": y, **types}.items()})


def over_batch(types: Types, _attrs: Attributes) -> Indexing:
    """Of an op that can be split by samples alone: what has a batch runs along it."""
    batch = {role: tuple(name if name == BATCH else "" for name in type_.names) for role, type_ in types.items()}
    return indexed(types, batch)


def except_axis(types: Types, attrs: Attributes) -> Indexing:
    """Of an op that works along the axis at the position `axis`, or along several: the others pass through.

    Its operands and results have the same axes, of other extents where it works.
    """
    positions = attrs["axis"] if isinstance(attrs["axis"], tuple) else (attrs["axis"],)
    names = named(next(iter(types.values())))
    kept = tuple("" if at in positions else name for at, name in enumerate(names))
    return indexed(types, dict.fromkeys(types, kept))


def joined(types: Types, _attrs: Attributes) -> Indexing:
    """Of a view of the same elements in the same order under other axes."""
    x, y, whole = regrouped(types["x"], types["y"])
    return indexed(types, {"y": y, "x": x}, whole=whole)


def regrouped(a: TensorType, b: TensorType) -> tuple[Along, Along, tuple[str, ...]]:
    """What two types run along that hold the same elements in row-major order, and which of these axes are whole.

    Both are cut into blocks of axes, as small as can be, with as many elements on either side. A split of the first
    axis of a block is one of the same elements on both sides where the parts divide both axes.
    """
    along = ([""] * len(a.axes), [""] * len(b.axes))
    names = (named(a), named(b))
    whole = []
    for left, right in _blocks(a.shape, b.shape):
        major = (left[0], right[0])
        finer = 0 if len(left) > len(right) else 1
        name = names[finer][major[finer]] or names[1 - finer][major[1 - finer]]
        if name and name not in along[0]:
            along[0][major[0]] = along[1][major[1]] = name
            whole += [name] if len(left) + len(right) > 2 else []
    return tuple(along[0]), tuple(along[1]), tuple(whole)


def _blocks(a: tuple[int, ...], b: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Positions in two shapes, in blocks of equal products; axes of one element are in none."""
    found: list[tuple[list[int], list[int]]] = []
    left, right = ([at for at, extent in enumerate(shape) if extent > 1] for shape in (a, b))
    while left and right:
        block = ([left.pop(0)], [right.pop(0)])
        while (products := (prod(a[at] for at in block[0]), prod(b[at] for at in block[1])))[0] != products[1]:
            side = 0 if products[0] < products[1] else 1
            block[side].append((left, right)[side].pop(0))
        found.append(block)
    return found
