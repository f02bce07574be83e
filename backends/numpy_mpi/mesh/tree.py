"""The blocks of a network by their addresses: `stage1[0].main` is a block in the repeat `stage1`.

Arrays of an op are attributes of its block's namespace: `a.stage1[0].main.relu`, `w.stage1[0].main.reduce.conv_weight`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from backends.numpy_mpi.names import identifier

Path = tuple[str | int, ...]
"""A block: attributes and the numbers of repeats, () is the whole network."""

_COMPONENT = re.compile(r"([^\[\]]+)((?:\[\d+\])*)")
_OF_USE = re.compile(r"@grad_(?=[^@]+@)")


@dataclass
class Blocks:
    """The blocks that the addresses of a network's ops name; `attributes` are those of their namespaces."""

    addresses: Sequence[str]
    known: dict[Path, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ops = {tuple(address.split(".")): None for address in self.addresses}
        for op in ops:
            within, attributes = Path(), Path()
            for end in range(1, len(op)):
                if op[:end] in ops:
                    break
                for step in _steps(op[end - 1]):
                    within = (*within, step)
                    attributes = self.known.setdefault(within, (*attributes, self._attribute(attributes, step)))

    @cached_property
    def namespaces(self) -> frozenset[Path]:
        """Their attributes."""
        return frozenset(self.known.values())

    def titles(self, blocks: Iterable[tuple[str, str]]) -> dict[Path, str]:
        """What blocks are called in the spec, by their paths; (address, name) of each are given."""
        return {self.locate(f"{address}.op")[0]: identifier(name) for address, name in blocks}

    @cached_property
    def _repeats(self) -> frozenset[Path]:
        """What has numbered blocks."""
        return frozenset(path[:-1] for path in self.known.values() if isinstance(path[-1], int))

    def around(self, paths: Iterable[Path]) -> Path:
        """The innermost block that has all of these in it; a repeat is none."""
        first, *others = paths
        common = next(
            (end for end, step in enumerate(first) if any(path[end : end + 1] != (step,) for path in others)),
            len(first),
        )
        while first[:common] in self._repeats:
            common -= 1
        return first[:common]

    @cached_property
    def _ops(self) -> dict[Path, dict[str, int]]:
        """The ops of each block by attribute, with their numbers in the network."""
        found: dict[Path, dict[str, int]] = {}
        for number, address in enumerate(self.addresses):
            path, name = self.locate(address)
            found.setdefault(path, {})[identifier(name)] = number
        return found

    @cached_property
    def _firsts(self) -> dict[Path, int]:
        """The number of the first op in each block."""
        found: dict[Path, int] = {}
        for path, ops in self._ops.items():
            for end in range(1, len(path) + 1):
                found[path[:end]] = min(found.get(path[:end], len(self.addresses)), *ops.values())
        return found

    def order(self, path: Path, attribute: str) -> tuple[int, ...]:
        """Where an array stands in the network: with the op that it is called after, behind all others if with none."""
        ops = self._ops.get(path, {})
        named = [op for op in ops if attribute == op or attribute.startswith(f"{op}_")]
        number = ops[max(named, key=len)] if named else len(self.addresses)
        return (*(self._firsts[path[:end]] for end in range(1, len(path) + 1)), number)

    def locate(self, name: str) -> tuple[Path, str]:
        """(the innermost block that a buffer or an instruction of this name belongs to, how its name goes on).

        What one use adds to a gradient, `VALUE@grad_USE@dx`, belongs to the use.
        """
        *_, name = _OF_USE.split(name, maxsplit=1)
        path, attributes, parts = Path(), Path(), name.split(".")
        for at, part in enumerate(parts[:-1]):
            path = (*path, *_steps(part))
            if path not in self.known:
                return attributes, ".".join(parts[at:])
            attributes = self.known[path]
        return attributes, parts[-1]

    def _attribute(self, parent: Path, step: str | int) -> str | int:
        """The attribute of a block in its parent's namespace: numbered where another has the name."""
        if isinstance(step, int):
            return step
        taken = {path[-1] for path in self.known.values() if path[:-1] == parent}
        plain = name = identifier(step)
        number = 2
        while name in taken:
            name, number = f"{plain}_{number}", number + 1
        return name


def _steps(component: str) -> Path:
    """`stage1[0]` is attribute `stage1`, number 0 of it."""
    found = _COMPONENT.fullmatch(component)
    if found is None:
        return (component,)
    return (found[1], *(int(number) for number in re.findall(r"\d+", found[2])))


class Counted(int):
    """A number in a loop: so many more than the loop's."""

    def __format__(self, _: str) -> str:
        return f"i {'+' if self > 0 else '-'} {abs(self)}" if self else "i"


def dotted(path: Path, name: str = "") -> str:
    """A path as Python text: `stage1[0].main.relu`."""
    text = ""
    for step in (*path, *((name,) if name else ())):
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
