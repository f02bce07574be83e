"""What is timed: a kernel on shapes, as the call that an emitted program makes, and the folder that it needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from backends.numpy_mpi.c.program import Made, add_shape, kernels_in_c
from backends.numpy_mpi.folder import kernel_files
from backends.numpy_mpi.kernels import KERNELS, Kernel
from backends.numpy_mpi.mesh.settings import PARTS, lets_pass, takes
from dlc.ir.tensor import BATCH, TensorType
from dlc.ops import operator, optimizer
from dlc.ops.operator import Operator, Shapes

FORWARD = {"loss": "forward", "metric": "forward"}
"""Passes that have a price of their own -> as kernels are called."""

ORDER = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 2, 3, 1), "CHWN": (1, 2, 3, 0)}
"""Layout -> logical axes in the order of memory."""

CONSTANTS: Mapping[str, Any] = {"position": 0, "first": 0, "step": 0, "lr": 1e-6, "key": (1, 2), "scale": 1.0}
"""What kernels are told that changes from step to step: nothing that they take depends on it."""

PER_CHANNEL = frozenset(("group", "channel", "feature", "out"))
"""Vectors over these are filled with numbers above zero: variances are among them."""


class NoKernelError(ValueError):
    """There is no kernel of that name; the text says of which."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel on these shapes, as `dlc.cost.compute.seconds` prices it.

    `kernels` is the family, numpy or c; of c's kernels that are not there those of NumPy are timed, as programs do.
    """

    op: str
    stage: str
    shapes: Shapes
    algorithm: str = ""
    layout: str = ""
    kernels: str = "numpy"

    @property
    def kernel(self) -> Kernel:
        """The NumPy kernel that it is, or that a function in C stands for; NoKernelError where there is none."""
        name = (self.op, FORWARD.get(self.stage, self.stage), self.algorithm)
        if name not in KERNELS:
            raise NoKernelError(f"there is no kernel for {' '.join(filter(None, name))}")
        return KERNELS[name]

    @property
    def dtype(self) -> str:
        """The element type that it computes in."""
        types = (*self.shapes.inputs, *self.shapes.outputs)
        return next((t.dtype for t in types if t.dtype in ("f32", "f64")), "f32")


class Array(NamedTuple):
    """An array of a call: its shape in memory, and what it is filled with: numbers of this kind, integers `below`."""

    dtype: str
    shape: tuple[int, ...]
    kind: str  # "normal", "above zero", "integers" or "zeros"
    below: int = 1


class Call(NamedTuple):
    """What a process is told of a case: plain values, so that it needs nothing of dlc."""

    module: str
    function: str
    arrays: tuple[Array, ...]
    told: dict[str, Any]


def call_of(case: Case, replaced: frozenset[Kernel] = frozenset()) -> Call:
    """The call of a case; kernels that are `replaced` are those of compiled.py. NoKernelError where there is none."""
    kernel, op = case.kernel, operator_named(case.op)
    algorithm = next((a for a in op.algorithms if a.name == case.algorithm), None) if op is not None else None
    stage = FORWARD.get(case.stage, case.stage)
    rooms = algorithm.workspaces(stage, case.shapes, case.layout) if algorithm else ()
    before, behind = (str(case.shapes.attrs.get(name, case.layout)) for name in ("source", "target"))
    arrays = (
        *(_filled(t, before, case) for t in case.shapes.inputs),
        *(_stored(t, behind, "zeros") for t in case.shapes.outputs),
        *(Array(room.type.dtype, room.type.shape, "zeros") for room in rooms),
    )
    module = "compiled" if kernel in replaced else f"kernels.{kernel.module}"
    return Call(module, kernel.function, arrays, dict(_told(case, kernel, op)))


def operator_named(name: str) -> Operator | None:
    """The operator, or that of an optimizer; None for what a program does besides."""
    found = operator(name)
    if found is not None:
        return found
    try:
        return optimizer(name).operator
    except KeyError:
        return None


def _told(case: Case, kernel: Kernel, op: Operator | None) -> Iterator[tuple[str, Any]]:
    """Attributes and run-time values that the kernel takes by name."""
    given = {name: value for name, value in case.shapes.attrs.items() if name not in PARTS}
    batch = next((t.extent(BATCH) for t in (*case.shapes.inputs, *case.shapes.outputs) if t.batched), 1)
    runtime = op.runtime if op is not None else ()
    runtime += ("first", "key") if "position" in runtime else ()
    told = {name: value for name, value in {**CONSTANTS, "count": batch}.items() if name in runtime}
    if case.op == "split" and case.stage == "dx":
        told["reached"] = tuple(range(len(case.shapes.inputs)))
    if case.layout:
        told["layout"] = case.layout
    told = {name: value for name, value in told.items() if takes(kernel, name)}
    lenient = lets_pass(kernel)  # a binding may take what NumPy's kernel lets pass
    yield from (told | {name: value for name, value in given.items() if lenient or takes(kernel, name)}).items()


def _filled(type_: TensorType, layout: str, case: Case) -> Array:
    """Numbers for an input."""
    if type_.dtype.startswith(("f", "bf")):
        above = not type_.batched and PER_CHANNEL.issuperset(type_.names) and len(type_.names) < 3
        return _stored(type_, layout, "above zero" if above else "normal")
    return _stored(type_, layout, "integers", _classes(case))


def _classes(case: Case) -> int:
    """Below what number the integers of a case are: rows of a table, or classes; 1 where they are places in windows."""
    if "embedding" in case.op:
        tables = (*case.shapes.inputs, *case.shapes.outputs)
        return next((t.shape[0] for t in tables if not t.batched and len(t.axes) == 2), 1)
    scores = next((t for t in case.shapes.inputs if t.batched and t.dtype in ("f32", "f64")), None)
    losses = ("cross_entropy", "hinge", "accuracy", "perplexity")
    return scores.shape[-1] if case.op in losses and scores is not None and len(scores.shape) < 4 else 1


def _stored(type_: TensorType, layout: str, kind: str, below: int = 1) -> Array:
    image = len(type_.axes) == 4 and type_.batched and layout in ORDER
    shape = tuple(type_.shape[axis] for axis in ORDER[layout]) if image else type_.shape
    return Array(type_.dtype, shape, kind, below)


@dataclass(slots=True)
class Folder:
    """The files of a folder in which cases can be called, and their calls, in the order of the cases."""

    calls: list[Call] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


def folder_of(cases: Sequence[Case]) -> Folder:
    """The kernels of cases of one family and element type, as an emitted program has them."""
    used = tuple(dict.fromkeys(case.kernel for case in cases))
    if {case.kernels for case in cases} != {"c"} or len({case.dtype for case in cases}) != 1:
        return Folder([call_of(case) for case in cases], kernel_files(used))
    from backends.numpy_mpi.c.target import target_at_hand

    target, dtype = target_at_hand(), cases[0].dtype
    found = kernels_in_c(KERNELS, used, _convolutions(cases), target, dtype)
    calls = [call_of(case, found.replaced) for case in cases]
    return Folder(calls, {**found.files(), **kernel_files((*used, *found.modules()))})


def _convolutions(cases: Iterable[Case]) -> dict[Kernel, Made]:
    """The functions made for the shapes of these cases."""
    from backends.numpy_mpi.c.target import target_at_hand

    found: dict[Kernel, Made] = {}
    for case in cases:
        if case.op != "conv":
            continue
        types = (*case.shapes.inputs, *case.shapes.outputs)
        x, weight = (types[at] for at in {"forward": (0, 1), "dx": (2, 1), "dw": (1, 2)}[case.stage])
        kernel = (case.op, case.stage, case.algorithm)
        known = found.setdefault(case.kernel, {})
        add_shape(
            known,
            kernel,
            case.layout,
            case.shapes.attrs,
            (x.shape, x.shape),
            weight.shape,
            target_at_hand(),
            case.dtype,
        )
    return {kernel: made for kernel, made in found.items() if made}
