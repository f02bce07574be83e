"""Records of what was measured: figures with the machine, the versions and the date."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "records"
PACKAGES = ("numpy", "scipy", "mpi4py", "mpich", "lark", "torch")


def options_of_kernels(description: str | None, only: str) -> argparse.ArgumentParser:
    """What benchmarks of single kernels take; `only` says whose names `--only` begins. They work in one thread."""
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # read where NumPy and PyTorch are imported, which is later
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="rounds (default: 9)")
    parser.add_argument("--only", default="", metavar="NAME", help=f"{only} whose name begins so")
    parser.add_argument("--record", action="store_true", help="write the record of this benchmark")
    return parser


def write(name: str, unit: str, **figures: Any) -> None:
    """records/NAME.json with the figures and where they come from; says where it was written."""
    path = FOLDER / f"{name}.json"
    record = {"date": datetime.date.today().isoformat(), "machine": machine(), "unit": unit, **figures}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"\nwrote benchmarks/records/{path.name}")


def before(name: str) -> dict[str, Any]:
    """What records/NAME.json has by now; nothing where there is none."""
    path = FOLDER / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def table(rows: Iterable[Any]) -> list[dict[str, object]]:
    """Rows that are dataclasses, floats with four decimals."""
    return [
        {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(row).items()}
        for row in rows
    ]


def machine() -> dict[str, object]:
    """Processor, usable cores, how busy the machine was, and the versions of what was measured."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{package: found for package in PACKAGES if (found := _version(package))},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
