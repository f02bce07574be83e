"""Planted faults are rejected by the static check, or a step on virtual ranks shows them: none survives.

`python -m tests.mutation` plants some 6,000 and lists what the check lets through; at the time of writing, five changes
after which a program computes the same.
"""

from __future__ import annotations

import pytest

from dlc.proof import check
from tests.mutation.bases import NAMES, base
from tests.mutation.faults import FAULTS, planted
from tests.mutation.judging import measured, mutants, report


@pytest.mark.parametrize("name", NAMES)
def test_bases_are_sound(name: str) -> None:
    found = base(name)
    assert check(found.program, found.graph) == ()
    verdict, reason = measured(found, found.program)
    assert verdict == "survived", reason


def test_every_kind_of_fault_is_planted_somewhere() -> None:
    kinds = {kind for name in NAMES for kind, _, _ in planted(base(name).program, 1)}
    assert kinds == {fault.__name__ for fault in FAULTS}


def test_a_fault_in_every_place_of_a_kind_is_caught() -> None:
    found = list(mutants(1))
    assert len(found) >= 300
    survivors = [mutant for mutant in found if mutant.verdict == "survived"]
    assert len(survivors) <= len(found) // 100, report(found)
    assert sum(mutant.verdict == "rejected" for mutant in found) >= 0.99 * len(found), report(found)


@pytest.mark.slow
def test_many_faults_are_caught() -> None:
    found = list(mutants(12))
    assert not [mutant for mutant in found if mutant.verdict == "survived"], report(found)
