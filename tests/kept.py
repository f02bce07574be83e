"""What takes long to make and is the same in the next run: made once, and kept beside dlc's own libraries."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from backends.numpy_mpi.kernels.native import cache_folder

SECONDS = 14 * 86400.0
"""How long nobody may ask for what is kept."""


@cache
def folder() -> Path:
    """Where it is kept; what nobody has asked for any more is removed."""
    found = cache_folder() / "tests"
    found.mkdir(exist_ok=True)
    for path in found.iterdir():
        with suppress(OSError):  # another worker may be at it too
            if time.time() - path.stat().st_mtime > SECONDS:
                path.unlink()
    return found


def find(name: str) -> Path | None:
    """What is kept under a name."""
    path = folder() / name
    if not path.is_file():
        return None
    with suppress(OSError):
        os.utime(path)
    return path


def keep(name: str, content: bytes) -> Path:
    """Keep something, whole or not at all: workers may make it at the same time."""
    with tempfile.NamedTemporaryFile(dir=folder(), prefix=".unfinished-", delete=False) as unfinished:
        unfinished.write(content)
    os.replace(unfinished.name, folder() / name)
    return folder() / name
