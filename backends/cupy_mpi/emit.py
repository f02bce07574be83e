"""Program to folder: as for processors, but for arrays on a device and kernels in CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files as resources

from backends.cupy_mpi.program import cuda_kernels
from backends.numpy_mpi.emission import Emission
from backends.numpy_mpi.emit import folder
from backends.numpy_mpi.folder import module_files

KERNELS = "backends.cupy_mpi.kernels"

ENGINES = ("engines", "gpu", "on_cpu")
"""What runs kernels, in any program."""


def emit(emission: Emission) -> dict[str, bytes]:
    """File name -> content of the emitted folder; the same emission gives the same bytes."""
    emission = replace(emission, library="CuPy", plan=emission.plan.with_(kernels="cuda"))
    kernels = cuda_kernels(emission)
    found = folder(emission, kernels)
    found |= module_files(KERNELS, (*ENGINES, *kernels.launching()))
    found["kernels/on_cpu.h"] = resources(KERNELS).joinpath("on_cpu.h").read_bytes()
    found |= dict(_runtime())
    return dict(sorted(found.items()))


def _runtime() -> Iterator[tuple[str, bytes]]:
    """The runtime's modules that are others on a device."""
    for file in resources("backends.cupy_mpi.runtime").iterdir():
        if file.name.endswith(".py") and file.name != "__init__.py":
            yield f"runtime/{file.name}", file.read_bytes()
