"""GPipe's and torchgpipe's speed-ups of pipelines: K stages, M microbatches.

Nothing is calibrated. The network is taken as K even stages, its backward pass as twice its forward pass, transfers as
free. GPipe computes the forward pass of every microbatch again, torchgpipe of every one but the last (its default,
`except_last`): that makes their backward passes longer. Everything is relative to two stages and one microbatch.
"""

from __future__ import annotations

from itertools import combinations
from math import log

import pytest

from dlc.cost.schedules import Work, step_seconds
from tests.published.predict import print_table, published

FORWARD, BACKWARD = 1.0, 2.0

Speedups = dict[tuple[int, int], float]
"""By (K, M)."""


def seconds(stages: int, microbatches: int, again: float) -> float:
    """A step of one batch, where the share `again` of all microbatches is computed again."""
    parts = stages * microbatches
    work = Work(FORWARD / parts, (BACKWARD + again * FORWARD) / parts)
    return step_seconds("gpipe", stages, microbatches, [work] * stages, [0.0] * (stages - 1))


def torchgpipe(stages: int, microbatches: int) -> float:
    """All but the last microbatch computed again."""
    return seconds(2, 1, 0.0) / seconds(stages, microbatches, (microbatches - 1) / microbatches)


def gpipe(stages: int, microbatches: int) -> float:
    """All computed again: in the ratio that cancels, and the bubble is left."""
    return seconds(2, 1, 1.0) / seconds(stages, microbatches, 1.0)


def rows(model: str, column: str) -> Speedups:
    found = published("gpipe_torchgpipe_speed")["rows"]
    return {(row["K"], row["M"]): row[column] for row in found if row["model"] == model and "K" in row}


def show(title: str, measured: Speedups, predicted: Speedups) -> float:
    """Print both; the mean ratio between them, minus one."""
    lines = [(k, m, found, predicted[k, m], predicted[k, m] / found) for (k, m), found in measured.items()]
    print_table(title, ("K", "M", "published", "predicted", "ratio"), lines)
    return sum(abs(log(predicted[at] / found)) for at, found in measured.items()) / len(measured)


def test_torchgpipe_on_p40() -> None:
    """AmoebaNet-D (18, 256): 8 % off on average, 18 % at most; one pair of rows is in the wrong order.

    Two stages gained more than even halves can by this model, four stages with four microbatches less.
    """
    measured = rows("AmoebaNet-D (18,256)", "torchgpipe_speedup")
    predicted = {at: torchgpipe(*at) for at in measured}
    assert show("torchgpipe, AmoebaNet-D (18, 256) on P40", measured, predicted) < 0.10
    for at, found in measured.items():
        assert predicted[at] == pytest.approx(found, rel=0.18)
    pairs = list(combinations([at for at in measured if at[1] > 1], 2))
    wrong = [(a, b) for a, b in pairs if (predicted[a] < predicted[b]) != (measured[a] < measured[b])]
    assert wrong == [((2, 32), (4, 4))]


def test_gpipe_on_tpu() -> None:
    """Transformer-48, whose layers are even: with 32 microbatches within 8 %.

    With four, the published 3.2 and 4.8 are beyond what any schedule with this bubble allows at one rate of computing
    (2.3 and 2.9); the model knows one rate only, so those rows are printed and not compared.
    """
    measured = rows("Transformer-48", "gpipe_paper")
    predicted = {at: gpipe(*at) for at in measured}
    show("GPipe, Transformer-48 on TPUv3", measured, predicted)
    for (stages, microbatches), found in measured.items():
        if microbatches == 32:
            assert predicted[stages, microbatches] == pytest.approx(found, rel=0.08)
    for microbatches in (4, 32):
        assert sorted((2, 4, 8), key=lambda k: predicted[k, microbatches]) == [2, 4, 8]


def test_gpipe_on_tpu_is_far_from_even_for_amoebanet() -> None:
    """The paper blames uneven cells for its sub-linear speed-up: half of the even model's. The order is right."""
    measured = rows("AmoebaNet-D (18,256)", "gpipe_paper")
    predicted = {at: gpipe(*at) for at in measured}
    show("GPipe, AmoebaNet-D (18, 256) on TPUv2", measured, predicted)
    for stages in (2, 4, 8):
        assert measured[stages, 1] < measured[stages, 4] < measured[stages, 32]
        assert predicted[stages, 1] < predicted[stages, 4] < predicted[stages, 32]
    for microbatches in (4, 32):
        assert predicted[2, microbatches] < predicted[4, microbatches] < predicted[8, microbatches]


@pytest.mark.parametrize("model", ["ResNet-101", "U-Net (5,64)"])
def test_one_stage_pays_for_recomputation_only(model: str) -> None:
    """`pipeline-1` against the network by itself: with M microbatches, (M − 1)/M of a forward pass more, M ≥ 2.

    The table does not say M: two give 0.857, very many 0.75. Measured were 0.853 and 0.858.
    """
    (found,) = (
        row["torchgpipe_speedup"]
        for row in published("gpipe_torchgpipe_speed")["rows"]
        if row["model"] == model and row.get("experiment") == "pipeline-1"
    )
    two, many = ((FORWARD + BACKWARD) / (m * seconds(1, 1, (m - 1) / m) / m) for m in (2, 10**6))
    print_table(f"torchgpipe, {model}, one stage", ("published", "M = 2", "many"), [(found, two, many)])
    assert 0.99 * many < found < 1.01 * two


def test_memory_of_weights_grows_with_the_stages() -> None:
    """Bytes a parameter of torchgpipe's `model memory`: weight, gradient and momentum in fp32 are 12."""
    table = published("gpipe_memory")["rows"]
    bytes_ = {row["experiment"]: row["model_memory_gib"] * 2**30 / row["params"] for row in table}
    print_table("torchgpipe, bytes a parameter", ("experiment", "published"), list(bytes_.items()))
    for found in bytes_.values():
        assert found == pytest.approx(12.0, rel=0.01)
