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
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dlc.ir.graph import Attr
from dlc.ir.mesh import PARTIAL, REPLICATED, Placement
from dlc.ir.tensor import TensorType

Along = tuple[str, ...]
"""For each axis of a tensor, in its logical order: the iteration axis that it runs along, "" for none."""


@dataclass(frozen=True, slots=True)
class Halo:
    """What a shard of a window's result needs of its input: result rows a to b - 1 read input rows a·stride - before to
    (b - 1)·stride + after."""

    before: int
    after: int
    stride: int = 1


@dataclass(frozen=True, slots=True)
class Exchange:
    """A sum over the ranks inside a pass of the op, where one of `axes` is split: batch norm's statistics.

    `elements` values of the op's element type are summed, cut into as many parts as the iteration axes in `along` are
    split, in each of `times` rounds. A batch whose shards hold whole runs of `group` samples needs none (0: always).
    """

    stage: str
    axes: tuple[str, ...]
    elements: int
    along: tuple[str, ...] = ()
    times: int = 1
    group: int = 0


@dataclass(frozen=True, slots=True)
class Indexing:
    """An op's iteration space. `extents` lists the axes that may be split, in order, with their extents.

    `tensors` maps each role (operands, weights, statistics, results, saved) to the axes that it runs along. `whole`
    are axes that a mesh extent has to divide.
    """

    extents: tuple[tuple[str, int], ...]
    tensors: Mapping[str, Along]
    halos: Mapping[str, Halo] = field(default_factory=dict)
    exchanges: tuple[Exchange, ...] = ()
    whole: tuple[str, ...] = ()

    @property
    def axes(self) -> tuple[str, ...]:
        """The iteration axes that may be split."""
        return tuple(name for name, _ in self.extents)


Rule = Callable[[Mapping[str, TensorType], Mapping[str, Attr]], Indexing]
"""(types by role, attributes) -> the iteration space of one node."""

Partition = tuple[str, ...]
"""One entry for each mesh axis: the iteration axis that it splits, or "" where the op is replicated along it."""


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
    """Where the gradient of an operand or weight is born: PARTIAL along split axes that it does not run along."""
    return result_placement(indexing, role, type_, partition)


def _axis(indexing: Indexing, role: str, type_: TensorType, along: str) -> str:
    """The tensor axis of a role that runs along an iteration axis; "" where it has none."""
    if not along:
        return ""
    for name, runs in zip(type_.names, indexing.tensors[role], strict=True):
        if runs == along:
            return name
    return ""
