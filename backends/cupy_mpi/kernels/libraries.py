"""NVIDIA's libraries that come with CuPy, called by their C interfaces."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from importlib import import_module
from typing import Any


def loaded(title: str, names: Sequence[str], module: str) -> Any:
    """The first version of a library that there is, which a module of CuPy has loaded; OSError where there is none."""
    import_module(module)
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError(f"there is no {title}: none of {', '.join(names)}")
