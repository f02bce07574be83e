"""Calls generated functions as emitted programs do: a binding tells the numbers that a call of a kernel means."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from backends.numpy_mpi.c.source import CFunction
from backends.numpy_mpi.c.target import Target
from backends.numpy_mpi.kernels.native import Numbers
from tests.c.building import JUNK, build

DTYPES: dict[str, Any] = {"f32": np.float32, "f64": np.float64}
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Bound:
    """A built library of a family's functions in f32 and f64, and the bindings of their numbers."""

    library: ctypes.CDLL
    functions: Mapping[tuple[Key, str], CFunction]
    bindings: Any

    def call(self, key: Key, dtype: str, arrays: Sequence[Any], /, **told: Any) -> bool:
        """Call the function that takes the place of a kernel; False where its binding leaves the call to NumPy."""
        function = self.functions[key, dtype]
        binding = getattr(self.bindings, function.name.removesuffix(f"_{dtype}"), None)
        numbers: Numbers | None = (binding or getattr(self.bindings, "_".join(key[:2])))(*arrays, **told)
        if numbers is None:
            return False
        scratch = np.full(numbers.scratch + 16, JUNK, DTYPES[dtype])
        passed = [*arrays[: numbers.arrays], *([scratch] if numbers.scratch else [])]
        pointers = [ctypes.c_void_p(None if array is None else array.ctypes.data) for array in passed]
        if not numbers.name:  # functions for some calls only have arrays and numbers of their own
            assert len(passed) <= len(function.arguments), function.name
            doubles = [name.startswith("double ") for name in function.numbers]
            assert doubles == [isinstance(value, float) for value in numbers.values], function.name
        values = [(ctypes.c_double if isinstance(v, float) else ctypes.c_long)(v) for v in numbers.values]
        self.library[numbers.name or function.name](*pointers, *values)
        assert (scratch[-16:] == JUNK).all(), f"{function.name} wrote behind its scratch"
        return True


def bound(
    table: Mapping[Key, Callable[[Target, str], CFunction]], bindings: str, target: Target, folder: Path
) -> Bound:
    """Build the functions of a table; `bindings` is a module of the kernels' package."""
    functions = {(key, dtype): make(target, dtype) for key, make in table.items() for dtype in DTYPES}
    library = build(list(functions.values()), target, tuple(DTYPES), folder)
    return Bound(library, functions, import_module(f"backends.numpy_mpi.kernels.{bindings}"))
