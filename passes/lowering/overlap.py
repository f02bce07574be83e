"""Halos that travel while a rank computes: begun as soon as their rows are there, waited for where they are read.

* What has rows for others is sent behind the kernel that fills it, not before its reader: the rows of the gradient by
  an operand go home while the gradients by the weights are computed.
* A window op goes through its inner rows first, which read none of other ranks, and behind the Wait through the rest:
  where ranks compute meanwhile, and what the halo costs less then is more than two further calls.

A plan that says `overlap = yes` does both wherever it can, one that says `no` neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from dlc.cost.price import Prices, default_price
from dlc.ir.program import BORDER, INNER, OUTER, ROWS, Collective, Compute, Instruction, Program, Role, Segment, Wait
from dlc.ir.storage import Storage, begins, local, reads, title, writes
from dlc.ir.tensor import BATCH
from dlc.ops.indexing import Halo, border
from dlc.ops.window_indexing import BY_ROWS
from passes.context import Context

UNCUT = ("once", "averaged", "parts")
"""Attributes of calls that are not cut into rows."""


def overlapped(program: Program, context: Context, in_c: bool = False) -> Program:
    """The program with halos under way while ranks compute, where that pays or the plan asks for it.

    Kernels `in_c` take arrays in one piece: of several samples some rows are none.
    """
    if not context.hides:
        return program
    rate, always = context.cluster.device_of(0).overlap, context.request.overlap == "yes"
    price = default_price(program, context.cluster, context.profile)
    return replace(program, roles=tuple(_Overlap(role, price, rate, always, in_c).made() for role in program.roles))


def _is_halo(made: Instruction) -> bool:
    return isinstance(made, Collective) and made.kind == "halo"


@dataclass(slots=True)
class _Overlap:
    """One role. `rate` is how much of its time communication goes on while the rank computes."""

    role: Role
    price: Prices
    rate: float
    always: bool
    in_c: bool
    roots: dict[str, str] = field(default_factory=dict)

    def made(self) -> Role:
        """The role with all its segments changed."""
        return replace(self.role, segments=tuple(map(self._segment, self.role.segments)))

    def _segment(self, segment: Segment) -> Segment:
        if not any(map(_is_halo, segment.instructions)):
            return segment
        by_rows = tuple(self._by_rows(segment.instructions))
        return replace(segment, instructions=tuple(self._begun_early(by_rows)))

    # --- inner rows first ----------------------------------------------------------------------------------------

    def _by_rows(self, instructions: Sequence[Instruction]) -> Iterator[Instruction]:
        """Halos and the window ops behind them: inner rows, and, once the halo is there, the others."""
        cut = False  # whether the instruction at hand is one whose halo was just before it
        for made, op in zip(instructions, (*instructions[1:], None), strict=True):
            calls = self._calls(made, op) if isinstance(made, Collective) and isinstance(op, Compute) else None
            if isinstance(made, Collective) and calls is not None:
                inner, outer = calls
                yield from (replace(made, blocking=False), inner, Wait(made.name), outer)
            elif not cut:
                yield made
            cut = calls is not None

    def _calls(self, halo: Collective, op: Compute) -> tuple[Compute, Compute] | None:
        """The calls for the inner rows and for the others; None where a call for all is better."""
        attrs, facts = dict(op.attrs), dict(halo.attrs)
        fit = op.kernel[0] in BY_ROWS and op.kernel[1] == "forward" and not any(name in attrs for name in UNCUT)
        if not fit or not _is_halo(halo) or facts["add"] or halo.target != op.inputs[0]:
            return None
        axis = str(facts["axis"])
        numbers = {name: value for name, value in facts.items() if isinstance(value, int)}
        window = Halo(numbers["before"], numbers["after"], numbers["stride"], numbers["step"])
        extent = self.role.buffer(halo.buffer).type.extent(axis)
        sides = border(window, extent, numbers["results"], numbers["parts"])
        if not any(sides) or sum(sides) >= numbers["results"] // numbers["parts"]:
            return None
        if self.in_c and not self._has_rows_in_one_piece(op):
            return None
        inner, outer = (replace(op, attrs=(*op.attrs, (ROWS, (which, axis)), (BORDER, sides)))
                        for which in (INNER, OUTER))  # fmt: skip
        return (inner, outer) if self.always or self._pays(halo, op, inner, outer) else None

    def _has_rows_in_one_piece(self, op: Compute) -> bool:
        x = local(self.role, self.role.buffer(op.inputs[0]), self._samples, Storage(self.role, 0).microbatches)
        return op.layout == "NHWC" and x.extent(BATCH) == 1

    @property
    def _samples(self) -> int:
        return -(-self.role.largest_shard // Storage(self.role, 0).microbatches)

    def _pays(self, halo: Collective, op: Compute, inner: Compute, outer: Compute) -> bool:
        """Whether the inner rows hide more of the halo than the further calls cost."""
        travels, whole, first, rest = (self.price(each, self.role, self._samples) for each in (halo, op, inner, outer))
        return first + max(0.0, travels - self.rate * first) + rest < travels + whole

    # --- begun early ---------------------------------------------------------------------------------------------

    def _begun_early(self, instructions: Sequence[Instruction]) -> list[Instruction]:
        """Each halo begins behind the last instruction that touches what it fills or fills what it sends."""
        found: list[Instruction] = []
        begun: dict[str, Instruction] = {}
        for made in instructions:
            if begins(made):
                begun[title(made)] = made
            travels = isinstance(made, Collective) and _is_halo(made) and made.bytes > 0
            at = self._earliest(found, made, begun) if travels else len(found)
            if isinstance(made, Collective) and any(isinstance(each, Compute) for each in found[at:]):
                found.insert(at, replace(made, blocking=False))
                begun[made.name] = made
                if made.blocking:
                    found.append(Wait(made.name))
            else:
                found.append(made)
        return found

    def _earliest(self, before: Sequence[Instruction], halo: Instruction, begun: dict[str, Instruction]) -> int:
        """The place among instructions from which on nothing stands in a halo's way."""
        sent, filled = self._storages(reads(halo)), self._storages(writes(halo))
        for at in range(len(before), 0, -1):
            made = before[at - 1]
            made = begun.get(made.name, made) if isinstance(made, Wait) else made
            given = self._storages(writes(made) or reads(made))  # what names no results works in place
            if not sent.isdisjoint(given) or not filled.isdisjoint(given | self._storages(reads(made))):
                return at
        return 0

    def _storages(self, names: Sequence[str]) -> set[str]:
        return {self._root(name) for name in names}

    def _root(self, name: str) -> str:
        if name not in self.roots:
            parent = self.role.buffer(name).view_of
            self.roots[name] = name if parent is None else self._root(parent)
        return self.roots[name]
