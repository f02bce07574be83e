"""Kernels that run on some samples at a time, so that their workspaces need room for these alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from .layout import TO_LOGICAL, Array


def in_parts(
    kernel: Callable[..., None],
    parts: int,
    inputs: int,
    arrays: Sequence[Array],
    *workspaces: Array,
    samples: Collection[int],
    **attrs: Any,
) -> None:
    """Run a kernel as often as there are parts of the batch; the first `inputs` of the arrays are read.

    `samples` are the places of arrays that have a batch: they are cut. What any other output gets from the parts is
    added up. In a layout whose samples lie innermost parts are copied.
    """
    axes = [
        _sample_axis(array, attrs.get("layout", "NCHW")) if at in samples else None for at, array in enumerate(arrays)
    ]
    total = next(array.shape[axis] for array, axis in zip(arrays, axes, strict=True) if axis is not None)
    size = max(1, -(-total // parts))
    for start in range(0, max(1, total), size):
        given = [_part(array, axis, start, start + size) for array, axis in zip(arrays, axes, strict=True)]
        for at, axis in enumerate(axes):
            if at >= inputs and axis is None and start:
                given[at] = np.empty_like(arrays[at])
        kernel(*given, *workspaces, **attrs)
        for at in range(inputs, len(arrays)):
            _put(given[at], arrays[at], axes[at], start)


def _sample_axis(array: Array, layout: str) -> int:
    """Which axis counts the samples."""
    return TO_LOGICAL[layout[:4]][0] if array.ndim == 4 else 0


def _part(array: Array, axis: int | None, start: int, stop: int) -> Array:
    """Some samples of an array, which lie together; all of it where it has none."""
    if axis is None:
        return array
    return np.ascontiguousarray(array[(slice(None),) * axis + (slice(start, stop),)])


def _put(part: Array, array: Array, axis: int | None, start: int) -> None:
    """A part's result where it belongs, if it is not there already."""
    if axis is None:
        if part is not array:
            np.add(array, part, out=array)
        return
    place = array[(slice(None),) * axis + (slice(start, start + part.shape[axis]),)]
    if not np.shares_memory(part, place):
        np.copyto(place, part)
