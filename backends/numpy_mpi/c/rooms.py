"""What calls of kernels in C work in: the bytes that a plan places among the arrays of a step, for their largest ones.

The kernels' own bindings tell, asked with stand-ins for the arrays. Calls that work in little are not asked: they share
what a process keeps for them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from pathlib import PurePath

import numpy as np

from backends.numpy_mpi.c.conv import Conv
from backends.numpy_mpi.c.program import CONV, CONVOLUTIONS, NUMPY_TYPES, called, extents
from backends.numpy_mpi.c.target import WIDTHS, target_at_hand
from backends.numpy_mpi.kernels import KERNELS
from backends.numpy_mpi.kernels.dispatch import Binding
from dlc.ir.program import Compute, Role
from dlc.ir.storage import Storage, local

ASKED = ("attention", "cross_entropy", "gru", "linear", "lstm", "perplexity", "rnn")
"""Ops besides convolutions some of whose kernels work in much."""

SMALL = 2**16
"""Bytes that are not placed."""

DTYPES = {"f32": np.float32, "f64": np.float64, "i32": np.int32}


def room(made: Compute, role: Role, dtype: str, threads: int) -> int | None:
    """Bytes that a call works in, 0 for little; None where it is, or may be, one for NumPy's kernel."""
    if dtype not in NUMPY_TYPES or made.rows or dict(made.attrs).get("parts", 1) != 1 or in_pieces(made, role):
        return None
    op, cut = made.kernel[0], Storage(role, 0).microbatches
    if op in CONV:
        found = called(made.kernel, made.layout, dict(made.attrs), *extents(made, role, cut))
        if found is None or not found.made_for(target_at_hand(), dtype):
            return None
        conv = replace(found.conv(dtype), packed=bool(made.packs))
        elements: int | None = _of_conv(made.kernel, made.layout, conv, found.samples)
    elif made.packs:
        elements = 0
    elif op in ASKED and "origin" not in made.runtime:
        elements = _told(made, role, cut, threads)
    else:
        return None
    if elements is None:
        return None
    size = elements * WIDTHS[dtype]
    return size if size > SMALL else 0


def in_pieces(made: Compute, role: Role) -> bool:
    """Whether an array may not lie in one piece: a rank's part of what it holds of a tensor."""
    for name in (*made.inputs, *made.outputs):
        buffer = role.buffer(name)
        if buffer.view_of is not None:
            parent = role.buffer(buffer.view_of)
            if parent.type == buffer.type and parent.placement != buffer.placement:
                return True
    return False


@lru_cache(maxsize=4096)
def _of_conv(kernel: tuple[str, str, str], layout: str, conv: Conv, samples: int) -> int:
    """Elements of scratch of the function for a shape."""
    return CONVOLUTIONS[kernel[2], layout, kernel[1]](conv, target_at_hand(), "room").scratch(samples, 1)


def _told(made: Compute, role: Role, cut: int, threads: int) -> int | None:
    """What the binding of a kernel says, None where it leaves the call to NumPy or there is no such kernel."""
    binding = _binding(made.kernel)
    if binding is None:
        return None
    types = [local(role, role.buffer(name), role.largest_shard, cut) for name in (*made.inputs, *made.outputs)]
    if any(each.dtype not in DTYPES for each in types):
        return None
    arrays = [np.broadcast_to(np.zeros((), DTYPES[each.dtype]), each.shape) for each in types]
    numbers = binding(*arrays, **dict(made.attrs), count=1, threads=threads)
    return None if numbers is None else numbers.scratch


@lru_cache(maxsize=256)
def _binding(kernel: tuple[str, str, str]) -> Binding | None:
    """The binding of a kernel that has a C function."""
    from backends.numpy_mpi.c.general import GENERAL

    if kernel not in GENERAL:
        return None
    found = KERNELS[kernel]
    module = import_module(f"backends.numpy_mpi.kernels.c_{PurePath(found.module).name}")
    binding: Binding = getattr(module, found.function)
    return binding
