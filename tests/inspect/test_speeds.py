from __future__ import annotations

import json

from dlc.inspect.speeds import Speed, speed_document, speed_lines


def test_a_machine_of_another_speed_is_told() -> None:
    lines = list(speed_lines(Speed(1.02, 0.95, 1.0), Speed(1.25, 0.99, 1.1)))
    assert "matrix products 1.02 and 1.25, copies 0.95 and 0.99" in lines[0]
    assert "not that of when it was calibrated" in lines[1]


def test_one_that_is_as_fast_is_not_blamed() -> None:
    (line,) = speed_lines(Speed(1.02, 0.95, 1.0), Speed(0.99, 1.05, 1.05))
    assert line.endswith("calls 1.00 and 1.05")


def test_without_readings_nothing_is_said() -> None:
    assert list(speed_lines(None, None)) == []
    told = json.loads(json.dumps(speed_document(Speed(1.5, 1.0, 0.5), None)))
    assert told == {"speed": {"before": {"products": 1.5, "copies": 1.0, "calls": 0.5}, "behind": None}}
