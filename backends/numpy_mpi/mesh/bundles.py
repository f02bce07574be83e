"""Arrays that statements name together: `*w.bn` are scale, shift, mean and variance (see `runtime/arrays.py`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from backends.numpy_mpi.mesh.statements import Expression, Ref, Statement
from backends.numpy_mpi.mesh.tree import Path

MOVES = "place."
"""How the names of what moves arrays between ranks begin: it is told each one."""


@dataclass
class Bundles:
    """The arrays of all namespaces in the order of the table; those called alike but for a last word are a bundle."""

    arrays: Iterable[Ref]
    known: dict[Ref, tuple[Ref, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names: dict[tuple[str, Path], list[str]] = {}
        for ref in self.arrays:
            names.setdefault((ref.space, ref.path), []).append(ref.name)
        blocks = {(space, path[:end]) for space, path in names for end in range(1, len(path) + 1)}
        for (space, path), held in names.items():
            for name in held:
                head = name.rpartition("_")[0]
                if head and head not in held and (space, (*path, head)) not in blocks:
                    bundle = Ref(space, path, head)
                    self.known[bundle] = (*self.known.get(bundle, ()), Ref(space, path, name))

    def together(self, statement: Statement) -> Statement:
        """A statement in which bundles stand for their arrays, where all of these stand one behind the other."""
        if statement.arguments is None or str(statement.head[0]).startswith(MOVES):
            return statement
        return replace(statement, arguments=tuple(self._bundled(statement.arguments)))

    def _bundled(self, arguments: tuple[Expression, ...]) -> Iterable[Expression]:
        at = 0
        while at < len(arguments):
            members = self._members(arguments[at])
            end = at + len(members)
            if len(members) > 1 and tuple(_plain(each) for each in arguments[at:end]) == members:
                first = members[0]
                yield ("*", Ref(first.space, first.path, first.name.rpartition("_")[0]))
                at = end
            else:
                yield arguments[at]
                at += 1

    def _members(self, argument: Expression) -> tuple[Ref, ...]:
        ref = _plain(argument)
        return () if ref is None else self.known.get(replace(ref, name=ref.name.rpartition("_")[0]), ())


def _plain(argument: Expression) -> Ref | None:
    """The array that an argument is, and nothing else."""
    (first, *rest) = argument
    return replace(first, role="x") if isinstance(first, Ref) and not rest else None
