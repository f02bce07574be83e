"""What is timed on a GPU besides kernels, and the folder with the kernels that a worker calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files as resources
from typing import Any, NamedTuple

import numpy as np

from backends.cupy_mpi.calls import binding
from backends.cupy_mpi.emit import ENGINES, KERNELS
from backends.cupy_mpi.kernels.launch import Launch
from backends.cupy_mpi.program import Kernels
from backends.cupy_mpi.source import has_templates
from backends.numpy_mpi.folder import kernel_files, module_files, runtime_files
from backends.numpy_mpi.kernels import Kernel
from backends.numpy_mpi.timing.cases import Call, Case, call_of
from dlc.ir.tensor import DTYPE_BYTES, tensor
from dlc.ir.training import Choice
from dlc.ops.operator import Shapes

NOTHING = Shapes((tensor("f32", batch=1, feature=1),), (tensor("f32", batch=1, feature=1),), {})
"""Next to no work."""

NUMPY_TYPES = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "u8": np.uint8}


class Products(NamedTuple):
    """A product of an m x k by a k x n matrix by cuBLAS, in f32, f64, tf32, f16 or bf16, which add up in f32."""

    dtype: str
    m: int
    n: int
    k: int


class Copies(NamedTuple):
    """A copy of so many bytes: `inside` the device, from pinned memory `to` it, or back `from` it."""

    way: str
    bytes: int


class Launches(NamedTuple):
    """Launches of a kernel with next to no work, in a graph or one by one."""

    graph: bool


Job = Case | Products | Copies | Launches


@dataclass(frozen=True, slots=True)
class Folder:
    """Files of a folder, and for each job what a worker is told of it: its kind and plain values."""

    files: dict[str, bytes]
    told: list[tuple[str, tuple[Any, ...]]]


def folder_of(jobs: Sequence[Job]) -> Folder:
    """The kernels of jobs as an emitted program has them, in single precision, with the instances that they need."""
    nothing = Case("relu", "forward", NOTHING)
    cases = [*(job for job in jobs if isinstance(job, Case)), nothing]
    calls = {id(case): call_of(case, frozenset({case.kernel})) for case in cases}
    used = dict.fromkeys(case.kernel for case in cases)
    instances = {name for case in cases for name in _instances(case.kernel, calls[id(case)])}
    made = Kernels(dict.fromkeys(used, ()), dict.fromkeys(sorted(instances), ()), "f32")
    files = {**kernel_files(used), **made.files(), **runtime_of_gpus()}
    files |= module_files(KERNELS, (*ENGINES, *made.launching()))
    files["kernels/on_cpu.h"] = resources(KERNELS).joinpath("on_cpu.h").read_bytes()
    return Folder(files, [_told(job, calls, calls[id(nothing)]) for job in jobs])


def bytes_of(job: Job) -> int:
    """Of all its arrays."""
    if isinstance(job, Case):
        return sum(t.elements * DTYPE_BYTES[t.dtype] for t in (*job.shapes.inputs, *job.shapes.outputs))
    if isinstance(job, Products):
        return DTYPE_BYTES.get(job.dtype, 4) * (job.m * job.k + job.k * job.n + job.m * job.n)
    return 2 * job.bytes if isinstance(job, Copies) else 0


def _told(job: Job, calls: dict[int, Call], nothing: Call) -> tuple[str, tuple[Any, ...]]:
    if isinstance(job, Launches):
        return "launch", (*_plain(nothing), job.graph)
    if isinstance(job, Case):
        return "kernel", _plain(calls[id(job)])
    return ("product" if isinstance(job, Products) else "copy"), tuple(job)


def _plain(call: Call) -> tuple[Any, ...]:
    return call.function, [tuple(each) for each in call.arrays], call.told


def _instances(kernel: Kernel, call: Call) -> Iterable[str]:
    """The instances of templates that a call launches."""
    bound = binding(kernel) if has_templates(kernel.module) else None
    if bound is None:
        return ()
    arrays = (np.empty(each.shape, NUMPY_TYPES.get(each.dtype, np.float32)) for each in call.arrays)
    steps = bound(*arrays, **call.told) or ()
    return [step.kernel for step in steps if isinstance(step, Launch) and "<" in step.kernel]


def runtime_of_gpus() -> dict[str, bytes]:
    """`runtime/…` of programs on GPUs."""
    own = resources("backends.cupy_mpi.runtime").iterdir()
    return runtime_files(Choice("synthetic", ())) | {
        f"runtime/{file.name}": file.read_bytes()
        for file in own
        if file.name.endswith(".py") and file.name != "__init__.py"
    }
