"""Between f32 and half precision: f16 is NumPy's float16; bf16, which NumPy lacks, is the upper half of f32's bits."""

from __future__ import annotations

import numpy as np

from .layout import Array

CHUNK = 2**16
"""Elements handled at a time, so that temporaries stay in the cache."""


def cast(*arrays: Array, **_: object) -> None:
    """Arrays, and then as many to copy them to in the same order, rounded to nearest, ties to even."""
    count = len(arrays) // 2
    for source, target in zip(arrays[:count], arrays[count:], strict=True):
        if target.dtype == np.uint16:
            _each(_to_bf16, source, target)
        elif source.dtype == np.uint16:
            _each(_from_bf16, source, target)
        else:
            with np.errstate(over="ignore"):  # f16 ends at 65504: what is beyond is infinite
                np.copyto(target, source, casting="same_kind")


def _each(convert: object, source: Array, target: Array) -> None:
    """Chunk by chunk where both lie together."""
    assert callable(convert)
    if not (source.flags.c_contiguous and target.flags.c_contiguous):
        convert(source, target)
        return
    flat, made = source.reshape(-1), target.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        convert(flat[start : start + CHUNK], made[start : start + CHUNK])


def _to_bf16(source: Array, target: Array) -> None:
    """The upper 16 bits, one more where the lower are above half or at half of an odd one; NaN stays NaN."""
    bits = np.ascontiguousarray(source).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    np.copyto(target, np.where(np.isnan(source), 0x7FC0, rounded), casting="unsafe")


def _from_bf16(source: Array, target: Array) -> None:
    """The bits of bf16 above 16 zeros."""
    target[...] = (source.astype(np.uint32) << 16).view(np.float32)
