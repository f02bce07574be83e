"""The files of an emitted folder that are copied as they stand, and the launcher."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from importlib.resources import files as resources

from backends.numpy_mpi.kernels import Kernel
from dlc.ir.training import Choice


def kernel_files(kernels: Iterable[Kernel]) -> dict[str, bytes]:
    """`kernels/…` with the modules of these kernels and those that they import in turn."""
    found = module_files("backends.numpy_mpi.kernels", {kernel.module for kernel in kernels})
    found["kernels/__init__.py"] = b'"""The kernels that this program calls."""\n'
    return found


def module_files(package: str, modules: Iterable[str]) -> dict[str, bytes]:
    """`kernels/…` with modules of a package and those of it that they import in turn."""
    pending, found = sorted(modules), dict[str, bytes]()
    while pending:
        module = pending.pop()
        path = f"kernels/{module}.py"
        if path not in found:
            found[path] = resources(package).joinpath(f"{module}.py").read_bytes()
            pending.extend(_siblings(found[path]))
    return found


def runtime_files(data: Choice) -> dict[str, bytes]:
    """`runtime/…`: all its modules, and the digits where they are what is trained on."""
    folder = resources("backends.numpy_mpi.runtime")
    wanted = {".py": True, ".npz": data.kind == "digits", ".md": data.kind == "digits"}
    return {
        f"runtime/{file.name}": file.read_bytes()
        for file in folder.iterdir()
        if any(file.name.endswith(ending) and kept for ending, kept in wanted.items())
    }


def launcher(ranks: int, threads: int) -> str:
    """launch.sh: starts so many ranks with as many BLAS threads each, under mpiexec or Slurm's srun."""
    return (
        resources("backends.numpy_mpi")
        .joinpath("templates/launch.sh")
        .read_text(encoding="utf-8")
        .replace("@RANKS@", str(ranks))
        .replace("@THREADS@", str(threads))
    )


@cache
def _siblings(source: bytes) -> list[str]:
    """The modules that a kernel module imports from its own package."""
    return [
        module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for module in ([node.module] if node.module else (alias.name for alias in node.names))
    ]
