"""Which calls read weights packed once for several of them, and in how many elements."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from backends.numpy_mpi.c.conv import Conv
from backends.numpy_mpi.c.gemm import panels
from backends.numpy_mpi.c.program import NUMPY_TYPES, PACKERS, called, extents
from backends.numpy_mpi.c.rooms import in_pieces
from backends.numpy_mpi.c.target import target_at_hand
from backends.numpy_mpi.kernels.c_linear import FEW, fits
from dlc.ir.program import Compute, Role
from dlc.ir.storage import Storage, local


def pack(made: Compute, role: Role, dtype: str, threads: int) -> int | None:
    """Elements of what is packed for a call; None where it is, or may be, one for NumPy's kernel, or packs nothing."""
    if dtype not in NUMPY_TYPES or made.rows or dict(made.attrs).get("parts", 1) != 1 or in_pieces(made, role):
        return None
    if made.kernel[0] == "linear":
        return _of_linear(made, role, dtype, threads)
    found = called(made.kernel, made.layout, dict(made.attrs), *extents(made, role, Storage(role, 0).microbatches))
    if found is None or not found.made_for(target_at_hand(), dtype) or found.shape.groups != found.told.groups:
        return None
    return _of_conv(made.kernel, made.layout, found.conv(dtype))


def _of_linear(made: Compute, role: Role, dtype: str, threads: int) -> int | None:
    """Of few rows the weight is read as it lies, and narrow results are for BLAS where one thread computes."""
    cut = Storage(role, 0).microbatches
    given, found = (local(role, role.buffer(each[0]), role.largest_shard, cut) for each in (made.inputs, made.outputs))
    rows, columns, depth = given.elements // given.shape[-1], found.shape[-1], given.shape[-1]
    if rows <= FEW or not (threads > 1 or fits(rows, columns)):
        return None
    return panels(columns, depth, target_at_hand(), dtype)


@lru_cache(maxsize=4096)
def _of_conv(kernel: tuple[str, str, str], layout: str, conv: Conv) -> int | None:
    make = PACKERS.get((kernel[2], layout, kernel[1]))
    return None if make is None else make(replace(conv, relu=False), target_at_hand(), "pack").packed
