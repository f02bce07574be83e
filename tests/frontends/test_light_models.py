"""All light models of the onnx wheel import and compute what PyTorch does, within 1e-4 of the largest number.

`pytest -m "" tests/frontends/test_light_models.py` runs all of them with three seeds, about three minutes; without it
the three fastest run with one.
"""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from tests.frontends.light_models import MODELS, errors

pytestmark = pytest.mark.oracle

BOUND = 1e-4
SEEDS = (0, 1, 2)
FAST = ("squeezenet", "shufflenet", "inception_v1")

RUNS = [
    pytest.param(model, seed, marks=() if model in FAST and seed == 0 else pytest.mark.slow)
    for model in MODELS
    for seed in SEEDS
]


def test_there_are_nine() -> None:
    assert len(MODELS) == 9


@pytest.mark.parametrize(("model", "seed"), RUNS)
def test_outputs_logits_and_values_between(model: str, seed: int) -> None:
    found = list(errors(model, seed))
    assert len(found) > 12
    for value, error in found:
        assert error < BOUND, f"{value} is off by {error:.1e} of its largest number"
