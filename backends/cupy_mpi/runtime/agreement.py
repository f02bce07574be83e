"""What ranks choose together of what each has timed: the lowest rank that asked decides, and a checkpoint has it.

A question is asked in the middle of a step, where ranks cannot talk. Until they do, an answer is taken that all of them
come to by themselves; `agree` is called by all of them, behind the first step of a run and with every checkpoint.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .world import World


FOLDER = "choices"
"""The folder of a program in which kernels keep what they have timed (kernels/choices.py)."""


class Agreement:
    """Answers by question; `turn` counts how often new ones have come. A rank that is alone decides at once."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.turn = 0
        self.waits = False
        self._best: dict[str, str] = {}

    def begin(self, world: World, kept: Mapping[str, str]) -> None:
        """At the start of a run: what ranks find in their folders, the lowest rank's first, but for what was kept.

        `kept` are the answers of the checkpoint that a run goes on from; rank 0 has it.
        """
        self.waits = world.size > 1
        for each in reversed(world.allgather(found_in(Path(__file__).resolve().parents[1] / FOLDER))):
            self.known |= each
        self.known |= world.bcast(dict(kept))

    def ask(self, question: str, best: str) -> None:
        """What this rank finds best, for the ranks to decide later."""
        self._best[question] = best

    def agree(self, world: World) -> bool:
        """All ranks decide what was asked; whether there was anything."""
        if not self.waits:
            return False
        answers: dict[str, str] = {}
        for each in world.allgather(self._best):
            for question, best in each.items():
                answers.setdefault(question, best)
        self.known |= answers
        self._best.clear()
        self.turn += bool(answers)
        return bool(answers)


def found_in(folder: Path) -> dict[str, str]:
    """All choices that are kept in a folder, by device and question."""
    found = dict[str, str]()
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(path.read_text(encoding="utf-8"))
            found[f"{told['device']}: {told['question']}"] = str(told["chosen"])
    return found
