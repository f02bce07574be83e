"""Whether a planted fault is caught: rejected by the static check, or seen in the numbers of a step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dlc.ir.program import Program
from dlc.proof import check
from tests.mutation.bases import HALF, NAMES, Base, base
from tests.mutation.faults import planted
from tests.passes.lowering.compared import largest_error
from tests.passes.lowering.virtual_ranks import World

BOUND, HALF_BOUND = 1e-9, 1e-3
"""The largest relative error of a sound step, in f64 and in f16."""

Verdict = Literal["rejected", "stopped", "differs", "equivalent", "survived"]
"""Rejected by the check; else, on virtual ranks: it does not get through, its numbers differ, or they are the same,
which is no fault where it is known why."""

CAST_TWICE = "every one of its results has been cast before"
EQUIVALENT = {
    ("half, three ways", "dropped_kernel", "`body[0].a.self_attention.q.linear@dw` of stage0.backward0"): CAST_TWICE,
    ("half, three ways", "swapped_operands", "`unscale.squares` of stage0.unscale"): "a sum in another order",
    ("half, ZeRO 3", "wrong_type", "body[0].a.self_attention.k.linear.shards of worker"): "an element nobody reads",
    ("half, ZeRO 3", "dropped_cast", "`body[0].a.self_attention.k.linear@dw` of worker.backward"): CAST_TWICE,
    ("half, ZeRO 3", "reversed_cast", "`body[0].a.self_attention.k.linear@dw` of worker.backward"):
        "casts numbers back to what they were cast from",
}  # fmt: skip
"""(base, fault, where): changes after which a step leaves the same bits in every weight and state, and why."""


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
            verdict, reason = judged(found, program)
            if verdict == "survived" and (name, fault, where) in EQUIVALENT:
                verdict, reason = "equivalent", EQUIVALENT[name, fault, where]
            yield Mutant(name, fault, where, verdict, reason)


def judged(found: Base, program: Program) -> tuple[Verdict, str]:
    """What becomes of a program with a fault."""
    problems = check(program, found.graph)
    if problems:
        return "rejected", str(problems[0])
    return measured(found, program)


def measured(found: Base, program: Program) -> tuple[Verdict, str]:
    """What a step on virtual ranks leaves, beside the serial step."""
    try:
        world = World(program, found.given, found.stacked)
        with np.errstate(all="ignore"):
            world.run("train_step")
        error, where = largest_error(found.graph, world, found.alone)
    except (AssertionError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, StopIteration) as error_:
        return "stopped", repr(error_)
    bound = HALF_BOUND if found.name in HALF else BOUND
    return ("survived" if error < bound else "differs"), f"{error:.1e} in {where}"


def report(found: list[Mutant]) -> str:
    """Counts by verdict, and every fault that only the numbers show or nothing does."""
    counts = Counter(mutant.verdict for mutant in found)
    lines = [f"{len(found)} faults: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))]
    lines += [str(mutant) for mutant in found if mutant.verdict != "rejected"]
    return "\n".join(lines)
