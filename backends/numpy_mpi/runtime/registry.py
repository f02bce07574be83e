"""What each array of a program's tables holds, known by the array itself."""

from __future__ import annotations

from collections.abc import Sequence

from . import device
from .collectives import Array
from .exchange import Known
from .spec import Spec

Arrays = Array | Sequence[Array]


class Registry:
    """The arrays that `Arrays` makes of tables, with their specs, the members of buckets and the parts of arrays."""

    def __init__(self) -> None:
        self._known: dict[int, Known] = {}
        self._members: dict[int, list[tuple[int, Array]]] = {}
        self._parts: dict[int, Array] = {}

    def know(self, name: str, array: Array, spec: Spec, samples: int, parent: Array | None, offset: int) -> None:
        """Remember what an array holds; of what it is a part, or, with an offset from 0 up, a member of a bucket."""
        self._known[id(array)] = Known(name, array, spec, samples)
        if parent is None:
            return
        if offset < 0:
            self._parts.setdefault(id(parent), array)
            return
        axes = self._known[id(parent)].spec.axes if id(parent) in self._known else ()
        if len(axes) == 1 and not axes[0].per and not axes[0].over:
            self._members.setdefault(id(parent), []).append((offset, array))

    def find(self, array: object) -> Known | None:
        """What is known of an argument of a kernel, if it is an array of a table."""
        return self._known.get(id(array))

    def of(self, array: Array) -> Known:
        """What an array holds; ValueError for one that is of no table."""
        known = self._known.get(id(array))
        if known is None:
            raise ValueError(f"an array of shape {array.shape} is none of those of a table")
        return known

    def name(self, array: Array) -> str:
        """What messages call an array."""
        known = self._known.get(id(array))
        return known.name if known is not None else "an array"

    def pairs(self, kind: str, source: Arrays, target: Arrays | None) -> list[tuple[Array, Array]]:
        """(source, target) of each tensor of a move; a bucket stands for its members."""
        sources = [each for array in several(source) for each in self._in(array)]
        if target is not None:
            targets = [each for array in several(target) for each in self._in(array)]
            return list(zip(sources, targets, strict=True))
        parts = [self._parts[id(array)] for array in sources]
        return list(zip(parts, sources, strict=True) if kind == "allgather" else zip(sources, parts, strict=True))

    def _in(self, array: Array) -> list[Array]:
        members = sorted(self._members.get(id(array), ()), key=lambda member: member[0])
        return [member for _, member in members] or [array]


def several(arrays: Arrays) -> tuple[Array, ...]:
    """One array or several of them."""
    return (arrays,) if device.is_array(arrays) else tuple(arrays)
