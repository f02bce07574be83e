"""Every node test of ONNX that the importer claims passes; the record in benchmarks/records says which these are."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from dlc.frontends.onnx.coverage import TABLE
from tests.frontends.node_tests import Outcome, outcomes

AT_LEAST = 300
"""Claimed tests; there are some 260 plain tests of what convolutional networks are made of."""

UNTESTED = {"GRU", "PRelu"}
"""Ops of which ONNX tests nothing that is claimed, but a GRU that resets the state, and slopes for each element.
tests/frontends/test_operators.py has the claimed forms."""


@cache
def found() -> tuple[Outcome, ...]:
    return tuple(outcomes())


@pytest.mark.parametrize("op", TABLE)
def test_claimed_tests_pass(op: str) -> None:
    claimed = [outcome for outcome in found() if op in outcome.ops and outcome.claimed]
    failed = [(outcome.name, outcome.ulp) for outcome in claimed if not outcome.passed]
    assert failed == []
    assert bool(claimed) != (op in UNTESTED)


def test_many_are_claimed() -> None:
    assert sum(outcome.claimed for outcome in found()) >= AT_LEAST


def test_whole_families_are_claimed() -> None:
    """What the importer says it takes whole is not narrowed by a reason."""
    single = [outcome for outcome in found() if len(outcome.ops) == 1]
    total, claimed = (Counter(o.ops[0] for o in single if o.claimed or not only) for only in (False, True))
    whole = ("Conv", "Gemm", "MatMul", "Concat", "Flatten", "Transpose", "LayerNormalization", "Softmax", "RNN")
    assert {op: claimed[op] for op in whole if op != "MatMul"} == {op: total[op] for op in whole if op != "MatMul"}
    assert claimed["MatMul"] == total["MatMul"] - 1  # the product of two vectors is a number without axes
