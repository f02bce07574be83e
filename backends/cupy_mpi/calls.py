"""Which instances of templates a program launches: bindings are asked about the calls of its plan."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import Any, cast

import numpy as np

from backends.cupy_mpi.kernels.launch import Launch, Own, own
from backends.cupy_mpi.source import has_templates
from backends.numpy_mpi.emission import Emission
from backends.numpy_mpi.kernels import Kernel
from backends.numpy_mpi.kernels.layout import TO_LOGICAL
from dlc.ir.program import Buffer, Compute, Role
from dlc.ir.storage import Storage, local

NUMPY_TYPES = {
    "f32": np.float32,
    "f64": np.float64,
    "i32": np.int32,
    "u8": np.uint8,
    "f16": np.float16,
    "bf16": np.uint16,
}

AT_RUN_TIME = {"count": 1, "position": 0, "first": 0, "step": 0, "lr": 0.5, "key": (0, 0)}
"""What stands for values that only a run knows; no template depends on one."""

PADS = "pads"
"""Which of its pads a part of an image has is known where it runs, and templates may depend on it."""


def bindings(kernel: Kernel) -> str:
    """The module that has the binding of a kernel."""
    return f"cu_{kernel.module}"


def binding(kernel: Kernel) -> Any:
    """The function that says how calls of one of NumPy's kernels are launched; None where there is none."""
    module = f"backends.cupy_mpi.kernels.{bindings(kernel)}"
    return getattr(import_module(module), kernel.function, None) if find_spec(module) else None


def instances(emission: Emission) -> dict[str, tuple[str, ...]]:
    """Instance of a template -> the ops that are computed with it."""
    found: dict[str, dict[str, None]] = {}
    for role in emission.program.roles:
        for segment in role.segments:
            for made in segment.instructions:
                if isinstance(made, Compute):
                    for step in _steps(emission, made, role):
                        if isinstance(step, Launch) and "<" in step.kernel:
                            found.setdefault(step.kernel, {})[made.address] = None
    return {name: tuple(ops) for name, ops in sorted(found.items())}


def _steps(emission: Emission, made: Compute, role: Role) -> Iterator[Own]:
    """What a call is said to be computed by, on the rank with the largest part, with all pads that parts may have."""
    kernel = emission.kernel(made)
    bound = binding(kernel) if has_templates(kernel.module) else None
    names = (*made.inputs, *made.outputs, *made.workspaces)
    if bound is None or "origin" in made.runtime or any(name in role.unstored for name in names):
        return
    arrays = list(_stand_ins(made, role, names))
    decided = {name: AT_RUN_TIME[name] for name in made.runtime if name != PADS}
    told: dict[str, Any] = {**dict(made.attrs), **decided}
    if made.layout:
        told["layout"] = made.layout
    for pad in _pads(made, role):
        yield from own(bound(*arrays, **{**told, **pad}) or ())


def _pads(made: Compute, role: Role) -> Iterator[dict[str, Any]]:
    """The pads of a call: of parts along an axis those of the whole at its outer borders, and none elsewhere."""
    around = dict(made.attrs).get("pad")
    if PADS not in made.runtime or not isinstance(around, tuple):
        yield {}
        return
    images = [buffer for buffer in map(role.buffer, (*made.inputs, *made.outputs)) if buffer.type.batched]
    cut = {image.type.names.index(axis) - 2 for image in images for axis in image.placement if axis in image.type.names}
    ways = (
        dict.fromkeys([(before, after), (before, 0), (0, after), (0, 0)] if at in cut else [(before, after)])
        for at, (before, after) in enumerate(cast("tuple[tuple[int, int], ...]", around))
    )
    for each in product(*ways):
        yield {"pad": each}


def _stand_ins(made: Compute, role: Role, names: tuple[str, ...]) -> Iterator[Any]:
    """Arrays as the call has them; nothing touches their memory."""
    cut = Storage(role, 0).microbatches
    for name in names:
        buffer = role.buffer(name)
        shape = local(role, buffer, role.largest_shard, cut).shape
        yield np.empty(_in_memory(shape, buffer, made.layout), NUMPY_TYPES.get(buffer.type.dtype, np.float32))


def _in_memory(shape: tuple[int, ...], buffer: Buffer, layout: str) -> tuple[int, ...]:
    """The extents of an image in the order of a layout."""
    if layout not in TO_LOGICAL or len(shape) != 4 or not buffer.type.batched:
        return shape
    return tuple(shape["NCHW".index(axis)] for axis in layout)
