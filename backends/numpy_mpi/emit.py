"""Program to folder: train.py, the kernels and the runtime that it uses, the plan, and a launcher."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files as resources
from typing import TYPE_CHECKING, Protocol

from backends.numpy_mpi.emission import Emission
from backends.numpy_mpi.folder import kernel_files, launcher, runtime_files
from backends.numpy_mpi.kernels import EXACT_INITIALISE, IN_PARTS, INITIALISE, KEY, Kernel
from backends.numpy_mpi.mesh.emit import train_texts
from backends.numpy_mpi.rates import rates_module
from dlc.ir.plan_json import plan_to_json
from dlc.ir.program import Compute
from passes.differentiate import operator_of

if TYPE_CHECKING:
    from backends.numpy_mpi.c.program import Kernels


def emit(emission: Emission) -> dict[str, bytes]:
    """File name -> content of the emitted folder; the same emission gives the same bytes."""
    return folder(emission, _compiled(emission, used_kernels(emission)))


class Compiled(Protocol):
    """The kernels of a program that are compiled where it runs."""

    @property
    def replaced(self) -> frozenset[Kernel]:
        """The NumPy kernels that train.py imports from compiled.py."""

    def files(self) -> dict[str, bytes]:
        """compiled.py and what it compiles."""

    def modules(self) -> Iterable[Kernel]:
        """What compiled.py imports besides the NumPy kernels."""


def folder(emission: Emission, compiled: Compiled | None) -> dict[str, bytes]:
    """The folder with these kernels, or with NumPy's alone."""
    used = used_kernels(emission)
    replaced = compiled.replaced if compiled else frozenset()
    found = {
        **{name: text.encode() for name, text in train_texts(emission, used, _shown(emission), replaced).items()},
        "rates.py": rates_module(emission.training).encode(),
        **(compiled.files() if compiled else {}),
    }
    found.update(kernel_files((*used, *(compiled.modules() if compiled else ()))))
    found.update(runtime_files(emission.training.data))
    found["plan.json"] = plan_to_json(emission.plan).encode()
    found["launch.sh"] = launcher(emission.program.ranks, emission.plan.threads).encode()
    found["ruff.toml"] = resources("backends.numpy_mpi").joinpath("templates/ruff.toml").read_bytes()
    return dict(sorted(found.items()))


def _compiled(emission: Emission, used: tuple[Kernel, ...]) -> Kernels | None:
    """The kernels in C, where the plan asks for them; their generators are loaded for these programs alone."""
    if emission.plan.kernels != "c":
        return None
    from backends.numpy_mpi.c.program import c_kernels
    from backends.numpy_mpi.c.target import target_at_hand

    return c_kernels(emission, used, target_at_hand())


def used_kernels(emission: Emission) -> tuple[Kernel, ...]:
    """Each kernel that some instruction calls and those of the first weights, once, in the order of the program."""
    called = (
        emission.kernel(instruction)
        for role in emission.program.roles
        for segment in role.segments
        for instruction in segment.instructions
        if isinstance(instruction, Compute)
    )
    first = EXACT_INITIALISE if emission.exact else INITIALISE
    parts = (IN_PARTS,) if any(op.microbatch > 1 for op in emission.plan.ops) else ()
    return tuple(dict.fromkeys((*called, *_shown(emission).values(), first, KEY, *parts)))


def _shown(emission: Emission) -> dict[str, Kernel]:
    """Metric -> the function that makes what is shown of its total."""
    graph = emission.graph
    ops = {name: operator_of(graph.node(value)) for name, value in emission.program.metrics}
    return {name: emission.kernels["totals", op.finish, ""] for name, op in ops.items()}
