"""Training and inference in one function: what both compute stands once, the rest under `if training:`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from backends.numpy_mpi.mesh.statements import INFERENCE, TRAINING, Statement
from backends.numpy_mpi.mesh.tree import Path

Located = tuple[Path, Statement]

MOSTLY = 0.6
"""Inference has this share of its statements in common with training where both are one function."""


def merged(training: Sequence[Located], inference: Sequence[Located]) -> list[Located]:
    """The statements of both in one sequence, those of one alone with its mode; none where too few are common."""
    matcher = SequenceMatcher(None, training, inference, autojunk=False)
    common = sum(block.size for block in matcher.get_matching_blocks())
    if common < MOSTLY * max(len(inference), 1):
        return []
    found: list[Located] = []
    for kind, start, end, from_, to in matcher.get_opcodes():
        if kind == "equal":
            found += training[start:end]
            continue
        found += [(path, replace(each, mode=TRAINING)) for path, each in training[start:end]]
        found += [(path, replace(each, mode=INFERENCE)) for path, each in inference[from_:to]]
    return found
