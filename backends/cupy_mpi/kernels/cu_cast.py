"""Launches of casts between f32 and half precision: a thread an element."""

from __future__ import annotations

from .launch import BRAIN, HALVES, Array, Step, Steps, each, of_halves


@of_halves
def cast(*arrays: Array, **_: object) -> Steps | None:
    """Arrays, and then as many to copy them to in the same order."""
    count, found = len(arrays) // 2, list[Step]()
    for source, target in zip(arrays[:count], arrays[count:], strict=True):
        types = (source.dtype.name, target.dtype.name)
        if types[0] == "float32" and types[1] in HALVES:
            kernel, half = "cast_narrow", types[1]
        elif types[0] in HALVES and types[1] == "float32":
            kernel, half = "cast_widen", types[0]
        else:
            return None
        found += each(source.size, source, target, numbers=(int(half == BRAIN),), kernel=kernel)
    return tuple(found)
