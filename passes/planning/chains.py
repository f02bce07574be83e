"""Which passes of a training graph one kernel computes together with those behind them, and what that saves in J.

The rule is that of lowering (`passes.lowering.fuse`), by the graph: what plans put between two kernels, such as sums
over ranks, copies and messages, is not there. So J takes a saving off the first op of a chain, and adds it again where
two neighbours differ in layout or placement (`Tables.apart`): no table of pairs is below zero, and all bounds hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from dlc.cluster.topology import Device
from dlc.cost.c_kernels import CALL
from dlc.cost.compute import call_work, summed
from dlc.cost.many import seconds_many
from dlc.cost.phases import Phase
from dlc.cost.profile import Profile
from dlc.ir.graph import Graph, Node
from dlc.ir.tensor import TensorType
from dlc.ops import operator
from dlc.ops.fusion import BEGINNINGS, COMMUTES, FUSIONS, Fusion, Ways
from dlc.ops.operator import Shapes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Key = tuple[str, str]
"""(op, pass)."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain as one of its members bears what it saves, number `at`; the others' op, pass and number of operands."""

    fusion: Fusion
    at: int
    others: tuple[tuple[str, str, int], ...]

    def known(self, algorithm: str, layout: str, in_c: bool) -> bool:
        """Whether there is a kernel for it where that member is computed so."""
        ways: Ways = self.fusion.in_c if in_c else self.fusion.ways
        if self.at != self.fusion.main:
            return bool(ways)
        return not {(algorithm, layout), (algorithm, "")}.isdisjoint(ways) and _has(self.fusion.ways, algorithm, layout)

    def saving(
        self, inner: TensorType, layout: str, taken: Array | float, device: Device, profile: Profile | None
    ) -> Array:
        """Seconds that one kernel saves where the member itself takes `taken`, and `inner` lies between two kernels: of
        traffic and calls, and no more than the shorter one takes, as `dlc.cost.price` has it."""
        import numpy as np

        phase = Phase(bytes=self.fusion.saved * inner.bytes, calls=CALL * len(self.others))
        saved = np.minimum(summed((phase,), inner.dtype, device, profile).seconds, taken)
        others: Array | float = 0.0
        called = 0.0
        for name, stage, operands in self.others:
            op = operator(name)
            shapes = Shapes((inner,) * operands, (inner,), {})
            called += call_work((operands + 1) * inner.bytes, profile)
            if op is not None and op.elementwise:
                others = others + seconds_many(op, stage, shapes, "", layout, device, profile)
            elif name != "sum":
                others = np.inf  # it takes longer than what is done element by element
        return np.minimum(saved, others if np.any(others) else np.inf) + called


def _has(ways: Ways, algorithm: str, layout: str) -> bool:
    return not {(algorithm, layout), (algorithm, "")}.isdisjoint(ways)


def chains(graph: Graph) -> Mapping[tuple[str, str], Chain]:
    """(op, pass) of a graph -> the chain whose saving it bears: the first member that is no sum of gradients."""
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    results, found, taken = {name for _, name in graph.outputs}, dict[tuple[str, str], Chain](), set[str]()
    for first in graph.nodes:
        members = () if first.address in taken else _from(first, readers)
        alone = all(len(readers[one.outputs[0]]) == 1 and one.outputs[0] not in results for one, _ in pairwise(members))
        if not members or not alone or not _alike(graph, members):
            continue
        taken.update(member.address for member in members)
        fusion = FUSIONS[tuple(map(_key, members))]
        at = next(at for at, member in enumerate(members) if member.op != "sum")
        others = tuple((*_key(m), len(m.inputs)) for number, m in enumerate(members) if number != at)
        found[members[at].base, members[at].stage] = Chain(fusion, at, others)
    return found


def _key(node: Node) -> Key:
    return node.op, node.stage


def _from(first: Node, readers: Mapping[str, list[Node]]) -> tuple[Node, ...]:
    """The longest chain that there is a kernel for, from a node on."""
    if (_key(first),) not in BEGINNINGS:
        return ()
    found, longest, keys = [first], 0, [_key(first)]
    while True:
        behind = readers.get(found[-1].outputs[0], ())
        following = next((each for each in behind if (*keys, _key(each)) in BEGINNINGS), None)
        if following is None:
            break
        found.append(following)
        keys.append(_key(following))
        longest = len(found) if tuple(keys) in FUSIONS else longest
    return tuple(found[:longest])


def _alike(graph: Graph, members: tuple[Node, ...]) -> bool:
    """Whether there is a kernel for these operands: none of the others is told anything, sums are of two of a size."""
    fusion = FUSIONS[tuple(map(_key, members))]
    if fusion.told or any(member.attrs for at, member in enumerate(members) if at != fusion.main):
        return False
    for member in members:
        types = [graph.type(name) for name in (*member.inputs, *member.outputs)]
        if member.op in COMMUTES and (len(member.inputs) != 2 or any(each != types[0] for each in types)):
            return False
    return True
