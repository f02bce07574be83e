"""Scaling curves and sensitivity tables, of plans made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dlc.inspect.machines import (
    Machine,
    scaling_document,
    scaling_text,
    sensitivity_document,
    sensitivity_text,
    speed_ups,
)
from tests.inspect.plans import plan


def machine(devices: int, step: float, title: str = "") -> Machine:
    predicted = replace(plan().predicted, step_seconds=step)
    return Machine(title or f"{devices}", devices, plan(ranks=devices, predicted=predicted), 2**33)


CURVE = (
    Machine("4", 4, why="no plan fits 8 GiB per device; the smallest needs 9 GiB"),
    machine(8, 0.4),
    machine(16, 0.2),
    machine(32, 0.16),
)


def test_speed_ups_are_over_the_first_size_that_has_a_plan() -> None:
    assert speed_ups(CURVE) == {8: (1.0, 1.0), 16: (2.0, 1.0), 32: (2.5, 0.625)}
    assert speed_ups(CURVE[:1]) == {}


def test_scaling_document() -> None:
    sizes = scaling_document("net", "pod", CURVE)["sizes"]
    assert isinstance(sizes, list)
    assert sizes[0] == {
        "devices": 4,
        "feasible": False,
        "why": "no plan fits 8 GiB per device; the smallest needs 9 GiB",
        "speed_up": None,
        "efficiency": None,
    }
    assert (sizes[3]["speed_up"], sizes[3]["efficiency"]) == (2.5, 0.625)
    assert sizes[3]["samples_per_second"] == pytest.approx(400)


def test_scaling_text_has_a_row_for_each_size_and_bars() -> None:
    text = scaling_text("net", "pod", CURVE)
    lines = text.splitlines()
    assert next(line for line in lines if line.lstrip().startswith("4 ")).endswith("needs 9 GiB")
    assert "62 %" in next(line for line in lines if "160 ms" in line)
    bars = [line.split()[1] for line in lines if "#" in line and "speed-up" not in line]
    lengths = [len(bar.rstrip(".")) for bar in bars]
    assert lengths == sorted(lengths)
    assert [len(bar) for bar in bars] == [1, 25, 48], "1, 2 and 4 times: equal steps on a logarithmic scale"
    assert bars[2].count(".") > 0
    assert "4  no plan" in text


def test_a_curve_of_one_size_has_no_bars() -> None:
    assert "#" not in scaling_text("net", "pod", CURVE[:2])


def test_sensitivity() -> None:
    base, others = machine(8, 0.4, "as it is"), [machine(8, 0.3, "link.ib.latency = 1us"), CURVE[0]]
    document = sensitivity_document("net", "pod", base, others)
    changes = document["changes"]
    assert isinstance(changes, list)
    assert changes[0]["ratio"] == pytest.approx(0.75)
    assert changes[0]["plan_changes"] == "nothing"
    assert (changes[1]["feasible"], changes[1]["ratio"]) == (False, None)
    text = sensitivity_text("net", "pod", base, others)
    assert "0.75" in text
    assert "nothing" in text


def test_sensitivity_of_a_machine_that_has_no_plan() -> None:
    document = sensitivity_document("net", "pod", CURVE[0], [machine(8, 0.3, "more memory")])
    changes = document["changes"]
    assert isinstance(changes, list)
    assert (changes[0]["ratio"], changes[0]["plan_changes"]) == (None, "")
    assert "more memory" in sensitivity_text("net", "pod", CURVE[0], [machine(8, 0.3, "more memory")])
