"""Whether a planted fault is caught: rejected by the static check, or seen in the numbers of a step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dlc.ir.program import Program
from dlc.proof import check
from tests.mutation.bases import NAMES, Base, base
from tests.mutation.faults import planted
from tests.passes.lowering.compared import largest_error
from tests.passes.lowering.virtual_ranks import World

BOUND = 1e-9
"""The largest relative error of a sound step."""

Verdict = Literal["rejected", "stopped", "differs", "survived"]
"""Rejected by the check; else, on virtual ranks: it does not get through, its numbers differ, or they are the same."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A planted fault and what became of it; `reason` is the check's first sentence, or the largest error."""

    base: str
    fault: str
    where: str
    verdict: Verdict
    reason: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.base}, {self.fault}, {self.where}: {self.reason}"


def mutants(count: int, names: tuple[str, ...] = NAMES) -> Iterator[Mutant]:
    """The verdicts on `count` faults of each kind in each base."""
    for name in names:
        found = base(name)
        for fault, where, program in planted(found.program, count):
            yield Mutant(name, fault, where, *judged(found, program))


def judged(found: Base, program: Program) -> tuple[Verdict, str]:
    """What becomes of a program with a fault."""
    problems = check(program, found.graph)
    if problems:
        return "rejected", str(problems[0])
    return measured(found, program) if found.runs else ("survived", "in half precision, which virtual ranks have not")


def measured(found: Base, program: Program) -> tuple[Verdict, str]:
    """What a step on virtual ranks leaves, beside the serial step."""
    try:
        world = World(program, found.given, found.stacked)
        with np.errstate(all="ignore"):
            world.run("train_step")
        error, where = largest_error(found.graph, world, found.alone)
    except (AssertionError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, StopIteration) as error_:
        return "stopped", repr(error_)
    return ("survived" if error < BOUND else "differs"), f"{error:.1e} in {where}"


def report(found: list[Mutant]) -> str:
    """Counts by verdict, and every fault that only the numbers show or nothing does."""
    counts = Counter(mutant.verdict for mutant in found)
    lines = [f"{len(found)} faults: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))]
    lines += [str(mutant) for mutant in found if mutant.verdict != "rejected"]
    return "\n".join(lines)
