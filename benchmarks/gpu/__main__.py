"""Everything of the backend `cupy` that a GPU is needed for, in under 8 minutes.

    python -m benchmarks.gpu [--only kernels,lenet5] [--minutes 7.5] [--emulate] [--json]

First what must be right, side by side: every kernel of tests/cuda on the device against NumPy's in double precision,
on numbers drawn afresh; gradients against differences of losses; LeNet-5 to its accuracy on the digits that come with
dlc; two ranks on one GPU. Then the GPU's profile, by which dlc's programs are planned and their steps predicted. Then
training steps of networks, dlc's program and PyTorch's ways (eager, channels last, torch.compile; cudnn.benchmark, no
TF32) by turns from the same weights: medians of device events. The first losses must agree. The ratio is dlc's time to
that of PyTorch's best way: below 1 dlc is faster.

Each part is a process with a time limit; one that fails is a row that says so. All parts write
benchmarks/records/gpu.json and profile_gpu.json, some of them with `--only` write nothing. It ends with status 1 if a
part failed, and with 2 where there is no GPU. `--emulate` goes through all of this at tiny sizes without a GPU, on
NumPy, and writes nothing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import exp, log
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks import recording
from benchmarks.gpu.checks import CHECKS, ROOT
from benchmarks.gpu.part import PARTS, PROFILE

CHECKING = 150.0
"""Seconds for the checks, which run side by side."""

LEAST, MOST = 15.0, 75.0
"""Seconds for a network: no fewer, or it is left out; no more, so that all have some."""

GRACE = 5.0
"""Seconds in which a part that is told to end closes what it has started."""

NEEDS = (
    "benchmarks.gpu needs a GPU and CuPy (docs/gpu.md names the wheels): {why};"
    " `--emulate` goes through it at tiny sizes without them"
)

Row = dict[str, Any]


def main() -> None:
    options = _arguments()
    names = options.only.split(",") if options.only else list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        sys.exit(f"there is no part `{unknown[0]}` here; there are {', '.join(PARTS)}")
    device = "the processor stands for a GPU" if options.emulate else _device()
    print(device, flush=True)
    with tempfile.TemporaryDirectory(prefix="dlc-gpu-") as folder:
        profile = Path(folder) / "profile.json"
        rows = _rows(names, profile, options)
        _end(rows, device, profile, options)


def _rows(names: Sequence[str], profile: Path, options: argparse.Namespace) -> dict[str, Row]:
    """Name -> row of all parts, in their order; each is printed when it is known."""
    rows, until = dict[str, Row](), time.monotonic() + 60 * options.minutes
    checks, others = [n for n in names if n in CHECKS], [n for n in PARTS if n in names and n not in CHECKS]

    def one(name: str, seconds: float) -> Row:
        return run(name, seconds, profile, options.emulate)

    with ThreadPoolExecutor(1 if options.emulate else len(CHECKS)) as side_by_side:
        limit = min(CHECKING, 60 * options.minutes)
        for name, row in zip(checks, side_by_side.map(lambda n: one(n, limit), checks), strict=True):
            rows[name] = row
            print(line(name, row), flush=True)
    for at, name in enumerate(others):
        left = until - time.monotonic()
        share = min(MOST, max(LEAST, left / (len(others) - at)))
        rows[name] = one(name, share) if left >= LEAST else {"wrong": "there was no time left for it"}
        print(line(name, rows[name]), flush=True)
    return rows


def run(name: str, seconds: float, profile: Path, emulate: bool) -> Row:
    """What a part finds; {"wrong": why} of one that fails or takes longer than so many seconds."""
    command = [sys.executable, "-m", "benchmarks.gpu.part", name, "--seconds", str(max(1.0, seconds - GRACE))]
    command += ["--profile", str(profile)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as log_file:
        process = subprocess.Popen(
            [*command, *["--emulate"] * emulate], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log_file,
            text=True, cwd=ROOT, env=environment, start_new_session=True,
        )  # fmt: skip
        begin = time.monotonic()
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            _stop(process)
            return {"wrong": f"it was not done within {seconds:.0f} s"}
        log_file.seek(0)
        words = [each.strip() for each in log_file.read().splitlines() if each.strip()]
    if process.returncode:
        return {
            "wrong": f"it ended with status {process.returncode}: {words[-1][:300] if words else 'it says nothing'}"
        }
    return {**json.loads(said.splitlines()[-1]), "seconds": round(time.monotonic() - begin, 1)}


def _stop(process: subprocess.Popen[str]) -> None:
    """A part and what it has started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def line(name: str, row: Row) -> str:
    """A row for people."""
    if "wrong" in row:
        return f"{name:12} FAILED: {row['wrong']}"
    if name == PROFILE:
        return f"{name:12} {row['kernels']} kernels, others predicted within {row['spread']:.0%}" + "".join(
            f"; {note}" for note in row["notes"]
        )
    if name in CHECKS:
        return f"{name:12} right: " + ", ".join(f"{key} {value}" for key, value in row.items())
    ways = ", ".join(f"{way} {ms:.3f}" for way, ms in row["ways_ms"].items())
    ratio = f"ratio {row['ratio']:.2f}" if "ratio" in row else "alone"
    out = "".join(f"; {way}: {why}" for way, why in row["left_out"].items())
    predicted = (
        f"; predicted {row['predicted_ms']:.3f} ({row['prediction_error']:+.0%})" if "prediction_error" in row else ""
    )
    return f"{name:12} batch {row['batch']:3}  {ratio}, milliseconds: {ways}{predicted}{out}"


def _end(rows: dict[str, Row], device: str, profile: Path, options: argparse.Namespace) -> None:
    """The means, the records, and what was asked for besides."""
    mean = geomean([row["ratio"] for row in rows.values() if "ratio" in row])
    errors = [abs(row["prediction_error"]) for row in rows.values() if "prediction_error" in row]
    off = round(fmean(errors), 4) if errors else None
    failed = [name for name, row in rows.items() if "wrong" in row]
    print(
        f"geometric mean of the ratios: {mean}; mean error of predictions: {off};"
        f" {len(failed)} of {len(rows)} parts failed"
    )
    if not options.emulate and set(rows) == set(PARTS):
        unit = "milliseconds of a training step by device events, medians"
        known = {"geomean_ratio": mean, "prediction_error": off}
        recording.write("gpu", unit, device=device, versions=_versions(), **known, rows=rows)
        if PROFILE not in failed:
            shutil.copy(profile, recording.FOLDER / "profile_gpu.json")
    if options.json:
        print(json.dumps({"device": device, "geomean_ratio": mean, "prediction_error": off, "rows": rows}))
    sys.exit(1 if failed else 0)


def geomean(ratios: Sequence[float]) -> float | None:
    """None of nothing."""
    return round(exp(sum(map(log, ratios)) / len(ratios)), 4) if ratios else None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", default="", metavar="NAMES", help=f"some of {', '.join(PARTS)}")
    add("--minutes", type=float, default=7.5, help="begin nothing that would take longer (default: 7.5)")
    add("--emulate", action="store_true", help="tiny sizes on the processor, to try this itself")
    add("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def _device() -> str:
    """The GPU that is there; where there is none the process ends with status 2."""
    try:
        runtime = importlib.import_module("cupy").cuda.runtime
        return str(runtime.getDeviceProperties(0)["name"].decode())
    except Exception as error:  # CuPy's own errors are known only where CuPy is
        print(NEEDS.format(why=" ".join(str(error).split())), file=sys.stderr)
        sys.exit(2)


def _versions() -> dict[str, object]:
    """Of CuPy, and of CUDA as its driver has it."""
    cp = importlib.import_module("cupy")
    return {"cupy": cp.__version__, "driver": cp.cuda.runtime.driverGetVersion()}


if __name__ == "__main__":
    main()
