from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations

import pytest

from dlc.inspect.trials import CHOSEN, Trial, agreement, choices, document, head, line, summary

TRIAL = Trial("a.dlspec", "a", 1, 1, "c", CHOSEN, 1.2, 1.0, 1.5, 2**20, 1.0, 7, 2**21)
OTHER = replace(TRIAL, spec="b.dlspec", network="b", predicted=3.0, low=2.5, high=3.5, measured=4.0)
FAILED = replace(TRIAL, network="c", measured=None, measured_bytes=None, why="its program ended with status 1")


def test_errors_are_relative_to_what_was_measured() -> None:
    assert TRIAL.error == pytest.approx(0.2)
    assert OTHER.error == pytest.approx(-0.25)
    assert TRIAL.memory_error == pytest.approx(-0.5)
    assert (TRIAL.within, OTHER.within, FAILED.within, FAILED.error) == (True, False, None, None)


def test_agreement_is_that_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for order in permutations((1.0, 2.0, 3.0, 4.0)):
        pairs = list(zip((1.0, 2.0, 3.0, 4.0), order, strict=True))
        assert agreement(pairs) == pytest.approx(stats.kendalltau(*zip(*pairs, strict=True)).statistic)
    assert agreement([(1.0, 1.0)]) is None


def test_the_choice_is_compared_with_the_best() -> None:
    ways = [TRIAL, replace(TRIAL, way="layout = NHWC", predicted=1.3, measured=0.8), OTHER, FAILED]
    (choice,) = choices(ways)
    assert (choice.network, choice.way, choice.agreement) == ("a", "layout = NHWC", -1.0)
    assert choice.times == pytest.approx(1.25)
    assert "the best plan is `layout = NHWC`; the chosen one takes 1.25 times as long, more than 5 % longer" in summary(
        ways
    )
    assert choices([TRIAL, OTHER]) == ()


def test_the_speed_that_the_machine_had_is_told_beside_the_error() -> None:
    slow = replace(OTHER, speed=1.25)
    assert slow.error == pytest.approx(-0.25)
    assert slow.error_at_speed == pytest.approx(3.0 * 1.25 / 4.0 - 1.0)
    assert (OTHER.error_at_speed, replace(FAILED, speed=1.0).error_at_speed) == (None, None)
    assert "-25 % 1.25 -6 % no" in " ".join(line(slow).split())
    assert "at the speed of the machine meanwhile  mean error 6.2 %, largest 6.2 % (b)" in summary([TRIAL, slow])
    assert "meanwhile" not in summary([TRIAL, OTHER])


def test_summary_names_mean_and_largest() -> None:
    text = summary([TRIAL, OTHER, FAILED])
    assert "2 of 3 plans were measured" in text
    assert "mean error 22 %, largest 25 % (b); 1 of 2 inside the interval" in text
    assert "Kendall's tau)  1.00" in text
    assert "0 of 1 plans were measured" in summary([FAILED])


def test_rows_stand_below_their_heads() -> None:
    titles, rule = head().splitlines()
    row = line(TRIAL)
    assert len(rule) == max(len(titles), len(row))
    assert row.split()[-6:] == ["+20", "%", "yes", "1", "MiB", "2", "MiB", "-50", "%"][-6:]
    assert line(FAILED).endswith("its program ended with status 1")


def test_document_is_json() -> None:
    told = json.loads(json.dumps(document([TRIAL, OTHER, FAILED], interrupted=True), allow_nan=False))
    assert told["interrupted"] is True
    assert told["largest_error"] == pytest.approx(0.25)
    assert [row["error"] is None for row in told["trials"]] == [False, False, True]
