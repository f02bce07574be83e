"""The table of kernels names real functions that import nothing but NumPy, and covers the operators."""

from __future__ import annotations

import ast
import inspect
import sys
from importlib import import_module
from importlib.resources import files

import pytest

from backends.numpy_mpi.kernels import EXACT, EXACT_INITIALISE, INITIALISE, KERNELS, KEY, Kernel
from dlc.ops.blocks import EVERY_LAYOUT
from dlc.ops.conv import CONV
from dlc.ops.operator import LAYOUTS

MODULES = sorted(f.name for f in files("backends.numpy_mpi.kernels").iterdir() if f.name.endswith(".py"))
ENTRIES = {**KERNELS, **{(*key[:2], "exact"): value for key, value in EXACT.items()}}


def function(kernel: Kernel) -> object:
    return getattr(import_module(f"backends.numpy_mpi.kernels.{kernel.module}"), kernel.function)


@pytest.mark.parametrize("key", ENTRIES, ids="-".join)
def test_entries_are_functions(key: tuple[str, str, str]) -> None:
    found = function(ENTRIES[key])
    assert inspect.isfunction(found)
    assert found.__doc__


def test_initialisers_are_functions() -> None:
    assert all(inspect.isfunction(function(kernel)) for kernel in (INITIALISE, KEY, EXACT_INITIALISE))


def test_stand_ins_replace_real_kernels() -> None:
    """Under the same keys, with the same arrays; runtime values may be left out, never added."""
    assert set(EXACT) <= set(KERNELS)
    for key, stand_in in EXACT.items():
        real, replaced = (inspect.signature(function(k)).parameters for k in (KERNELS[key], stand_in))  # type: ignore[arg-type]
        arrays = [[p.kind for p in found.values() if p.kind is not p.KEYWORD_ONLY] for found in (real, replaced)]
        assert len(arrays[0]) == len(arrays[1]), key


def test_every_algorithm_for_cpus_has_kernels() -> None:
    for algorithm in CONV.algorithms:
        stages = [stage for stage in ("forward", "dx", "dw") if ("conv", stage, algorithm.name) in KERNELS]
        # Those of algorithms for other devices alone are twins, which CUDA is compared with.
        assert len(stages) == 3 or ("cpu" not in algorithm.devices and not stages), algorithm.name
        assert algorithm.layouts in (LAYOUTS, EVERY_LAYOUT) or "cpu" not in algorithm.devices


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_numpy_and_each_other_only(module: str) -> None:
    """They are copied into programs that run where dlc is not installed."""
    tree = ast.parse(files("backends.numpy_mpi.kernels").joinpath(module).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {name.name.partition(".")[0] for name in node.names} <= {"numpy", *sys.stdlib_module_names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            assert f"{node.module}.py" in MODULES
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] in {"numpy", *sys.stdlib_module_names}
