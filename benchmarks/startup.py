"""How long short commands take from start to end, beside Python's own start.

    python -m benchmarks.startup [--repeats 15] [--record]

Wall-clock and processor seconds, the median and the least of the repeats, in fresh processes with the grammar cached
and the modules compiled to bytecode. `--record` writes benchmarks/records/startup.json.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks import recording

ROOT = Path(__file__).resolve().parents[1]
SPEC = "specs/lenet5.dlspec"

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "python -c pass": ("-c", "pass"),
    "dlc --version": ("-m", "dlc", "--version"),
    f"dlc check {SPEC}": ("-m", "dlc", "check", SPEC),
    f"dlc fmt --check {SPEC}": ("-m", "dlc", "fmt", "--check", SPEC),
    f"dlc inspect {SPEC}": ("-m", "dlc", "inspect", SPEC),
    f"dlc plan {SPEC}": ("-m", "dlc", "plan", SPEC),
    "dlc check specs/resnet50.dlspec": ("-m", "dlc", "check", "specs/resnet50.dlspec"),
}

Times = dict[str, float]


def main() -> None:
    options = _arguments()
    with tempfile.TemporaryDirectory(prefix="dlc-startup-") as cache:
        found = {name: measured(words, options.repeats, cache) for name, words in COMMANDS.items()}
    print(f"{'':34} {'wall, median':>13} {'least':>7} {'processor, least':>17}")
    for name, times in found.items():
        print(f"{name:34} {times['wall_median']:12.3f}s {times['wall_least']:6.3f}s {times['processor_least']:16.3f}s")
    if options.record:
        recording.write("startup", "seconds", repeats=options.repeats, commands=found)


def measured(words: Sequence[str], repeats: int, cache: str) -> Times:
    """The times of one command, after a first run that fills the caches."""
    runs = [_run(words, cache) for _ in range(repeats + 1)][1:]
    walls, processors = zip(*runs, strict=True)
    return {"wall_median": median(walls), "wall_least": min(walls), "processor_least": min(processors)}


def _run(words: Sequence[str], cache: str) -> tuple[float, float]:
    """Wall-clock and processor seconds of one process."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with status {process.returncode}")
    return wall, usage.ru_utime + usage.ru_stime


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--record", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
