"""The machine at hand as a cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dlc.cluster import detect as machine


def test_one_device_a_core_with_its_share_of_memory() -> None:
    found = machine.detect()
    assert found.ranks == machine.usable_cores() <= (os.cpu_count() or 1)
    core = found.device_of(0)
    assert 0 < core.memory * found.ranks <= machine.usable_memory()
    assert core.peak("f32") == machine.SPEED
    assert found == machine.detect()
    assert found.name in machine.GUESS
    resized = found.resized(3)
    assert resized is not None
    assert resized.ranks == 3


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("max 100000", 16), ("", 16)]
)
def test_a_container_gets_its_quota(quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    if quota:
        (tmp_path / "cpu.max").write_text(quota + "\n")
    assert machine.usable_cores() == cores


@pytest.mark.parametrize("limit", ["1000000", "max", "", "no number"])
def test_a_container_gets_its_memory(limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    all_memory = machine.usable_memory()
    if limit:
        (tmp_path / "memory.max").write_text(limit + "\n")
    assert machine.usable_memory() == (1_000_000 if limit == "1000000" else all_memory)
