"""The GPU's profile as `dlc calibrate --gpu --quick` measures it, from which the networks' steps are predicted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu.checks import CheckError
from dlc.calibration.gpu import EMULATED_EFFORT, PARTS, QUICK, measure_gpu
from dlc.cost.profile import Profile
from dlc.cost.profile_json import profile_document, read_profile

MEASURED = tuple(part for part in PARTS if part != "mpi")
"""What steps on one rank depend on."""


def measured(emulate: bool, file: Path) -> dict[str, Any]:
    """Writes the profile; the row says what is in it. CheckError where nothing could be measured."""
    found = measure_gpu(MEASURED, EMULATED_EFFORT if emulate else QUICK, _quietly)
    if not found.launches or not found.kernels:
        raise CheckError("; ".join(found.notes) or "neither launches nor kernels could be measured")
    profile = found.profile()
    file.write_text(json.dumps(profile_document(profile), indent=1) + "\n", encoding="utf-8")
    return {"kernels": len(found.kernels), "left_out": found.left_out, "spread": profile.spread, "notes": found.notes}


def known(file: Path | None) -> Profile | None:
    """The profile that was written; None where the part `profile` did not run, or failed."""
    if file is None or not file.exists():
        return None
    return read_profile(json.loads(file.read_text(encoding="utf-8")))


@contextlib.contextmanager
def _quietly(_title: str) -> Iterator[None]:
    yield
