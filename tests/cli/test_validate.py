"""`dlc validate`: programs are run, and rows say what became of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dlc.inspect.trials import CHOSEN
from tests.cli.conftest import SPECS, Dlc

MLP = SPECS / "mlp.dlspec"


def test_predictions_stand_beside_measurements(dlc: Dlc) -> None:
    said = dlc("validate", MLP, "batch=16", "--seconds", 0.05, "--plans", 2, "--json")
    assert said.status == 0
    (row,) = said.document["trials"]  # there is one plan for linear layers on one rank
    assert (row["network"], row["ranks"], row["way"]) == ("mlp", 1, CHOSEN)
    assert 0 < row["measured"] < 1
    assert row["low"] < row["predicted"] < row["high"]
    assert row["error"] == pytest.approx(row["predicted"] / row["measured"] - 1)
    assert row["measured_bytes"] > 0
    assert row["base_bytes"] > row["measured_bytes"]
    assert said.document["mean_error"] == said.document["largest_error"] == abs(row["error"])


def test_other_plans_are_run_too(dlc: Dlc, lenet5: Path) -> None:
    said = dlc("validate", lenet5, "-P", "batch=4", "--seconds", 0.05, "--plans", 3, "--json")
    ways = [row["way"] for row in said.document["trials"]]
    assert ways[0] == CHOSEN
    assert len(set(ways)) == len(ways) == 3
    predicted = [row["predicted"] for row in said.document["trials"]]
    assert predicted[1:] == sorted(predicted[1:])
    (choice,) = said.document["choices"]
    assert choice["times"] >= 1


def test_the_machines_speed_is_read_beside_the_program(dlc: Dlc, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    usual = {"products": 1.0, "copies": 1.0, "calls": 1.0}
    profile.write_text(json.dumps({"schema": 2, "device": "a slow one", "usual": usual}), encoding="utf-8")
    said = dlc("validate", MLP, "batch=16", "--seconds", 0.05, "--profile", profile, "--json")
    (row,) = said.document["trials"]
    assert 0 < row["speed"] < 0.1  # no product takes a second
    assert row["error_at_speed"] == pytest.approx(row["predicted"] * row["speed"] / row["measured"] - 1)


@pytest.mark.mpi
def test_ranks_are_started_by_mpi(dlc: Dlc) -> None:
    said = dlc("validate", MLP, "-n", 2, "--seconds", 0.05, "--json")
    assert [(row["ranks"], row["measured"] is not None) for row in said.document["trials"]] == [(2, True)]


def test_what_cannot_be_run_says_why_and_the_rest_is(dlc: Dlc, wrong: Path) -> None:
    said = dlc("validate", wrong, MLP, "--seconds", 0.05)
    assert said.status == 1
    assert "`convv`" in said.out
    assert "1 of 2 plans were measured" in said.out


def test_an_interrupt_leaves_what_is_done(dlc: Dlc, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlc import validation

    measured = validation.measure

    def once(*arguments: object) -> validation.Measured:
        monkeypatch.setattr(validation, "measure", interrupt)
        return measured(*arguments)  # type: ignore[arg-type]

    def interrupt(*_: object) -> validation.Measured:
        raise KeyboardInterrupt

    monkeypatch.setattr(validation, "measure", once)
    said = dlc("validate", MLP, MLP, "--seconds", 0.05)
    assert said.status == 130
    assert "1 of 1 plans were measured" in said.out


def test_a_program_that_fails_is_named(dlc: Dlc, tmp_path: Path) -> None:
    file = tmp_path / "missing.dlspec"
    text = MLP.read_text(encoding="utf-8").replace("digits(test = 0.2)", 'npz("nothing.npz")')
    file.write_text(text, encoding="utf-8")
    said = dlc("validate", file, "--seconds", 0.05, "--json")
    assert said.status == 1
    assert said.document["trials"][0]["why"].startswith("its program ended with status")


def test_wrong_words(dlc: Dlc) -> None:
    assert "`batch=4` stands before the file that it is for" in dlc("validate", "batch=4", MLP).err
    said = dlc("validate", MLP, "-n", 2, "--processor-time")
    assert said.status == 2
    assert "use `-n 1`" in said.err
