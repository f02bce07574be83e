"""What tells the machine at hand from others whose kernels take another time: in few words, and known at once."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from dlc.cluster.detect import usable_cores

FEATURES = ("avx512f", "avx2", "fma", "asimd", "sve")
"""Of the processor's features those that kernels make use of."""


def fingerprint() -> dict[str, str]:
    """Name -> value: the processor and its vector instructions, the cores that may be used, and NumPy's version."""
    known = _processor()
    features = known.get("flags", known.get("Features", "")).split()
    return {
        "processor": known.get("model name") or platform.processor() or platform.machine(),
        "instructions": " ".join(name for name in FEATURES if name in features) or platform.machine(),
        "cores": str(usable_cores()),
        "numpy": _version("numpy"),
    }


def differences(measured: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """What a fingerprint has that the machine at hand has not, in words: nothing where it is the same."""
    here = fingerprint()
    return tuple(f"there {name} is `{value}`" for name, value in measured if here.get(name, value) != value)


def _processor() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; nothing where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return {}
    rows = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in rows}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
