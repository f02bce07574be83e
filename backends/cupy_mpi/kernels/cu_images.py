"""How images lie in memory: [outer, depth, height, width, inner] in every layout; sequences have a height of 1, too."""

from __future__ import annotations

from .launch import Array

Extents = tuple[int, ...]


def extents_of(x: Array, layout: str) -> tuple[Extents, int]:
    """(depth, height, width), and how many elements lie together at a pixel."""
    if x.ndim != 4 or layout == "NCHW":
        return three(x.shape[2:]), 1
    return three(x.shape[1:3]), x.shape[3]


def three(extents: Extents) -> Extents:
    """With ones before them."""
    return (*(1,) * (3 - len(extents)), *extents)
