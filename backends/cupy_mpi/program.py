"""What a program has in CUDA: kernels.cu, and compiled.py, from which train.py imports in place of NumPy's kernels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from backends.cupy_mpi.calls import binding, bindings, instances
from backends.cupy_mpi.source import file_text
from backends.numpy_mpi.emission import Emission
from backends.numpy_mpi.kernels import IN_PARTS, Kernel
from backends.numpy_mpi.mesh.roles import element_type
from backends.numpy_mpi.text import call, import_line
from dlc.ir.program import Compute

NUMPY_TYPES = {"f32": "np.float32", "tf32": "np.float32", "f64": "np.float64"}

ROUNDINGS = ("tf32", "f16", "bf16")
"""Precisions in which products of matrices may round operands of f32."""

HEADER = "/* Kernels of this program. compiled.py launches them, and has them compiled for the GPU that is there. */\n"

BY_ROWS = "_updates"
"""How kernels end that take rows of arrays."""

ALONE = 4
"""So many ops stand above a kernel by name."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """The kernels that a program calls, with their ops, and the instances of templates in CUDA that it needs."""

    ops: Mapping[Kernel, tuple[str, ...]]
    instances: Mapping[str, tuple[str, ...]]
    dtype: str
    precision: str = ""
    in_parts: bool = False

    @property
    def replaced(self) -> frozenset[Kernel]:
        """The NumPy kernels that train.py imports from compiled.py: all that work on arrays of the device."""
        return frozenset((*self.ops, *((IN_PARTS,) if self.in_parts else ())))

    @property
    def in_cuda(self) -> tuple[Kernel, ...]:
        """Those with a binding."""
        return tuple(kernel for kernel in self.ops if binding(kernel))

    def files(self) -> dict[str, bytes]:
        """`kernels.cu` and `compiled.py`."""
        return {"kernels.cu": self._source().encode(), "compiled.py": self._module().encode()}

    def modules(self) -> Iterable[Kernel]:
        """Nothing but the NumPy kernels themselves: what launches is no part of theirs."""
        return ()

    def launching(self) -> list[str]:
        """The modules of the bindings."""
        return sorted({bindings(kernel) for kernel in self.in_cuda})

    def _source(self) -> str:
        wanted: dict[str, dict[str, tuple[str, ...]]] = {}
        for kernel in self.in_cuda:
            wanted.setdefault(kernel.module, {})[kernel.function] = _named(self.ops[kernel])
        return f"{HEADER}\n{file_text(self.dtype, wanted, {name: _named(ops) for name, ops in self.instances.items()})}"

    def _module(self) -> str:
        """The text of compiled.py."""
        missing = sorted({kernel.function for kernel in self.ops} - {kernel.function for kernel in self.in_cuda})
        parts = {IN_PARTS.module} if self.in_parts else set()
        names = sorted({kernel.module for kernel in self.ops} | {bindings(kernel) for kernel in self.in_cuda} | parts)
        rounding = (f'rounding="{self.precision}"',) if self.precision in ROUNDINGS else ()
        lines = [
            '"""The kernels of this program in CUDA: kernels.cu, for the GPU at hand or what stands for it."""',
            "",
            "from pathlib import Path",
            "",
            "import numpy as np",
            "",
            import_line("kernels", names),
            import_line("kernels.engines", ("kernels_of",)),
            import_line("runtime", ("device",)),
            "",
            call(
                "KERNELS = kernels_of",
                ('Path(__file__).with_name("kernels.cu")', NUMPY_TYPES[self.dtype], "device", *rounding),
            ),
            "",
        ]
        for kernel in self.in_cuda:
            name = kernel.function
            replace = "replace_rows" if name.endswith(BY_ROWS) else "replace"
            lines += [call(f"{name} = KERNELS.{replace}", (f"{kernel.module}.{name}", f"{bindings(kernel)}.{name}"))]
        if missing:
            lines += ["", "# Without a kernel in CUDA: NumPy's, on copies of the arrays in the processor's memory."]
        for kernel in self.ops:
            if kernel not in self.in_cuda:
                name = kernel.function
                lines += [call(f"{name} = KERNELS.on_processor", (f"{kernel.module}.{name}",))]
        if self.in_parts:
            lines += ["", "# Kernels in CUDA need no room that grows with the samples: they take all of them at once."]
            lines += [call("in_parts = KERNELS.in_parts", (f"{IN_PARTS.module}.{IN_PARTS.function}",))]
        return "\n".join((*lines, ""))


def cuda_kernels(emission: Emission) -> Kernels:
    """The kernels that a program's instructions call."""
    ops: dict[Kernel, dict[str, None]] = {}
    for role in emission.program.roles:
        for segment in role.segments:
            for made in segment.instructions:
                if isinstance(made, Compute):
                    ops.setdefault(emission.kernel(made), {})[made.address] = None
    calls = {kernel: tuple(addresses) for kernel, addresses in ops.items()}
    in_parts = any(op.microbatch > 1 for op in emission.plan.ops)
    precision = emission.training.precision.compute
    return Kernels(calls, instances(emission), element_type(emission), precision, in_parts)


def _named(ops: tuple[str, ...]) -> tuple[str, ...]:
    """The first ones, and how many more there are."""
    more = len(ops) - ALONE
    return (*ops[:ALONE], f"and {more} more") if more > 0 else ops
