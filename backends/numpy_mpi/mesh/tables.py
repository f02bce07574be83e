"""The rows of a role's arrays, by the blocks that they belong to (`runtime/tables.py` says what rows are).

A weight's row stands for its gradient and its states too, where these have its shape. What a role's memory is shared
by has no place here: the program finds it when it starts (`runtime/memory.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from math import prod

from backends.numpy_mpi.mesh.cover import cover
from backends.numpy_mpi.mesh.specs import NUMPY_TYPES, SCRATCH, Arrays
from backends.numpy_mpi.mesh.statements import NUMBER, Expression, Key, Keywords, Ref, Statement, Token, Value
from backends.numpy_mpi.mesh.tree import Path, dotted
from backends.numpy_mpi.text import literal
from dlc.ir.graph import Graph
from dlc.ir.program import Buffer, Compute
from dlc.ir.tensor import DTYPE_BYTES, TensorType
from passes.lowering.memory import is_arena
from passes.lowering.rooms import ROOM, of_numpy

STARTS = {"kaiming_uniform": ("fan_in",), "he": ("fan_in",), "glorot": ("fan_in", "fan_out"), "normal": ("value",)}
"""What `initialise` is told of each kind of first weights."""

Order = tuple[tuple[int, ...], int, int, str]
"""Where a row stands: by its op, what is kept first, then members of buckets, as the role has them; others by name."""


@dataclass(slots=True)
class _Row:
    """A row, where it stands, and the arrays that it makes."""

    order: Order
    path: Path
    statement: Statement
    arrays: tuple[Ref, ...]


@dataclass
class Rows:
    """The rows of one role. `tensors` has the buffer that holds each weight, state and summed gradient."""

    arrays: Arrays
    graph: Graph
    tensors: Mapping[str, str]
    states: tuple[str, ...] = ()
    held: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.held = {buffer: tensor for tensor, buffer in self.tensors.items()}
        trained = (name for name in self.tensors if f"{name}@grad" in self.tensors)
        found = Counter(self._states(name) for name in trained)
        self.states = found.most_common(1)[0][0] if found else ()

    def located(self) -> list[tuple[Path, Statement]]:
        """All rows in the order of the network."""
        return [(row.path, row.statement) for row in self._sorted]

    def made(self) -> Iterator[Ref]:
        """The arrays that they make, likewise."""
        yield from (array for row in self._sorted for array in row.arrays)
        yield from (Ref("a", path, attribute) for path, attribute in self.arrays.rooms)

    @cached_property
    def _sorted(self) -> list[_Row]:
        return sorted(self._rows(), key=lambda row: row.order)

    def _rows(self) -> Iterator[_Row]:
        implied = {name for tensor in self.weights for name in self._implied(tensor)}
        for buffer in self.arrays.role.buffers:
            name = buffer.name
            if is_arena(name) or name in implied or name in self.arrays.bundled or name in self.arrays.role.unstored:
                continue
            tensor = self.held.get(name, "")
            if tensor in self.weights:
                yield self._weight(tensor)
            else:
                made = (self.arrays.ref(name),)
                yield _Row(self._order(name), self.arrays.places[name][0], self._explicit(buffer), made)

    # --- weights -------------------------------------------------------------------------------------------------

    @cached_property
    def weights(self) -> frozenset[str]:
        """The tensors whose row is that of a weight: what it implies is so."""
        return frozenset(name for name in self.tensors if self._plain(name) and self._is_weight(name))

    def _is_weight(self, tensor: str) -> bool:
        if f"{tensor}@grad" not in self.tensors:
            return True
        gradient = self.arrays.role.buffer(self.tensors[f"{tensor}@grad"])
        return self._states(tensor) == self.states and gradient.view_of in self.regular and self._fits(tensor)

    def _plain(self, tensor: str) -> bool:
        """Whether the array of a tensor is one of its own, called as the tensor."""
        if not self.graph.has_value(tensor) or self.graph.value(tensor).kind not in ("weight", "statistic", "constant"):
            return False
        buffer = self.arrays.role.buffer(self.tensors[tensor])
        path, attribute = self.arrays.places[buffer.name]
        within = self._within(path, tensor)
        return (
            buffer.view_of is None
            and buffer.type.dtype == self.arrays.dtype
            and self.arrays.space(buffer.name) == "w"
            and within is not None
            and "_".join(within.rsplit(".", 1)) == attribute
        )

    def _fits(self, tensor: str) -> bool:
        """Whether gradient and states have the shape of a weight, and names that its row gives them."""
        arrays, role = self.arrays, self.arrays.role
        path, attribute = arrays.places[self.tensors[tensor]]
        shape = arrays.spec(role.buffer(self.tensors[tensor]))
        for name in self._implied(tensor):
            ending = "" if arrays.space(name) == "g" else f"_{self.held[name].rpartition('@')[2]}"
            buffer = role.buffer(name)
            own = buffer.view_of is None or arrays.space(name) == "g"
            typed = buffer.type.dtype == arrays.dtype
            if arrays.places[name] != (path, attribute + ending) or arrays.spec(buffer) != shape or not (own and typed):
                return False
        return True

    def _implied(self, tensor: str) -> Iterator[str]:
        """The buffers of the gradient and the states of a weight."""
        if f"{tensor}@grad" in self.tensors:
            yield self.tensors[f"{tensor}@grad"]
            yield from (self.tensors[f"{tensor}@{state}"] for state in self._states(tensor))

    def _states(self, tensor: str) -> tuple[str, ...]:
        """What is kept for a tensor by its optimizer."""
        begins = f"{tensor}@"
        return tuple(name.removeprefix(begins) for name in self._by_owner.get(tensor, ()) if name != f"{tensor}@grad")

    @cached_property
    def _by_owner(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.tensors:
            owner, at, _ = name.rpartition("@")
            if at:
                found.setdefault(owner, []).append(name)
        return found

    def _weight(self, tensor: str) -> _Row:
        name = self.tensors[tensor]
        path = self.arrays.places[name][0]
        arguments: list[Expression] = [(self.arrays.words(self.arrays.role.buffer(name)),)]
        start = self._start(tensor, path)
        arguments += [start] if start else []
        kind = "Weight" if f"{tensor}@grad" in self.tensors else "Statistic"
        made = tuple(map(self.arrays.ref, (name, *self._implied(tensor))))
        return _Row(self._order(name), path, _row(Key(path, self._within(path, tensor) or ""), kind, arguments), made)

    def _within(self, path: Path, tensor: str) -> str | None:
        """The name of a tensor in its block; None where the block is called otherwise."""
        block = dotted(path)
        if not block:
            return tensor
        return tensor.removeprefix(f"{block}.") if tensor.startswith(f"{block}.") else None

    def _start(self, tensor: str, path: Path) -> Expression:
        """How a tensor starts; nothing where that is not said."""
        init = self.graph.value(tensor).init if self.graph.has_value(tensor) else None
        if init is None or self.graph.value(tensor).kind == "state":
            return ()
        if init.kind == "constant":
            return (Value(literal(init.value), "value"),)
        if init.kind in ("kaiming_uniform", "he") and init.fan_in == prod(self.graph.type(tensor).shape[1:]):
            return (Value(literal(init.kind), "start"),)
        given = {"fan_in": init.fan_in, "fan_out": init.fan_out, "value": init.value}
        told: list[Expression] = [
            (f"{name}=", Value(literal(given[name]), name, NUMBER)) for name in STARTS.get(init.kind, ())
        ]
        if init.kind == "norms":
            told.append(("of=", self._titled(path, f"{self.graph.value(tensor).owner}.direction")))
        return _called("dict", [(f"kind={literal(init.kind)}",), *told])

    # --- buckets -------------------------------------------------------------------------------------------------

    @cached_property
    def regular(self) -> frozenset[str]:
        """The buckets whose members lie one behind the other in the order of the rows."""
        role, found = self.arrays.role, set[str]()
        for name, members in self.arrays.storage.members.items():
            if role.buffer(name).kind == "bucket" and members:
                at, fine = 0, True
                for member in sorted(members, key=self._member_order):
                    buffer = role.buffer(member)
                    fine = fine and buffer.offset == at and buffer.type.dtype == role.buffer(name).type.dtype
                    at += self.arrays.storage.bytes(buffer) // DTYPE_BYTES[buffer.type.dtype]
                if fine and at == role.buffer(name).type.elements:
                    found.add(name)
        return frozenset(found)

    @cached_property
    def _shared_out(self) -> dict[str, tuple[str, ...]]:
        """Bucket -> the weights whose gradients are in it, as few names of tensors and blocks as tell all apart."""
        trained = [name for name in self.tensors if name in self.weights and f"{name}@grad" in self.tensors]
        gradients = {name: self.arrays.role.buffer(self.tensors[f"{name}@grad"]) for name in trained}
        return cover({name: gradient.view_of or "" for name, gradient in gradients.items()})

    def _member_order(self, name: str) -> Order:
        """Where the row stands that makes a member of a bucket: a weight's, or its own."""
        tensor = self.held.get(name, "")
        weight = tensor.removesuffix("@grad")
        known = weight != tensor and weight in self.tensors and self._plain(weight)
        if known and self._fits(weight) and self._states(weight) == self.states:
            return self._order(self.tensors[weight])
        return self._order(name)

    # --- other rows ----------------------------------------------------------------------------------------------

    def _explicit(self, buffer: Buffer) -> Statement:
        """The row of one buffer."""
        arrays, name = self.arrays, buffer.name
        path, attribute = arrays.places[name]
        key = Key(path, attribute, arrays.space(name))
        apart = buffer.view_of is None
        parent = None if buffer.view_of is None or is_arena(buffer.view_of) else arrays.role.buffer(buffer.view_of)
        temporary = not apart and parent is None and name not in arrays.passing
        shared = [(f"shared={literal(arrays.shared[name])}",)] if name in arrays.shared and parent is None else []
        typed = [(f"dtype=np.{NUMPY_TYPES[buffer.type.dtype]}",)] if buffer.type.dtype != arrays.dtype else []
        if name in self.regular:
            lasts: list[Expression] = [("temporary=True",)] if temporary else [("lasting=True",)] if apart else []
            told: list[Expression] = [*shared, *typed, *lasts]
            weights = self._shared_out.get(name, ())
            return _row(key, "Bucket", [*([(literal(" ".join(weights)),)] if weights else []), *told])
        spec: list[Expression] = [(arrays.words(buffer),)]
        halo = arrays.halo(name)
        around: list[Expression] = [("halo=", Value(halo, "halo"))] if halo else []
        kept = self._kept(name, path)
        if parent is None:
            kind = "Array" if apart else "Temporary" if temporary else "Saved"
            return _row(key, kind, [*spec, *typed, *around, *shared, *kept])
        of: Expression = (Key(*arrays.places[parent.name]),)
        if parent.name in self.regular:
            return _row(key, "Member", [of, *spec, *(each for each in kept if each[0] != "init=")])
        if arrays.is_part(buffer, parent):
            return _row(key, "Part", [of, *spec, *kept])
        offset: list[Expression] = [("offset=", Value(str(buffer.offset), "offset", NUMBER))] if buffer.offset else []
        bytes_ = parent.kind == "workspace"  # whose views have the program's type unless they say another
        typed = typed if bytes_ or parent.type.dtype != buffer.type.dtype else []
        return _row(key, "View", [of, *spec, *offset, *typed, *around, *kept])

    def _kept(self, name: str, path: Path) -> list[Expression]:
        """Which tensor a buffer holds, and how that starts."""
        tensor = self.held.get(name)
        if tensor is None:
            return []
        start = self._start(tensor, path)
        return [("tensor=", self._titled(path, tensor)), *([("init=", *start)] if start else [])]

    def _titled(self, path: Path, tensor: str) -> Token:
        """What a row of a block calls a tensor."""
        within = self._within(path, tensor)
        return literal(f"/{tensor}") if within is None else Key(path, within)

    def scratch(self, *, compiled: bool = True) -> dict[Path, str]:
        """What the kernels of each op work in, by passes; "" where none of them needs anything.

        Where they are not `compiled`, NumPy's kernels stand in for those in C.
        """
        told = {
            (*path, attribute.removesuffix(SCRATCH)): "; ".join(
                f"{room} {self._sizes(types)}"
                for room, made in rooms.items()
                if (types := self._room_types(made, compiled))
            )
            for (path, attribute), rooms in self.arrays.rooms.items()
        }
        return dict(sorted(told.items(), key=lambda item: self._op_order(item[0])))

    def _room_types(self, made: Compute, compiled: bool) -> list[TensorType]:
        role = self.arrays.role
        in_c = not made.workspaces or made.workspaces[0].endswith(ROOM)
        if in_c and not compiled:
            return [each.type for each in of_numpy(made, role)]
        return [role.buffer(name).type for name in made.workspaces]

    def _op_order(self, op: Path) -> tuple[int, ...]:
        return self.arrays.blocks.order(op[:-1], str(op[-1]))

    def _sizes(self, types: Iterable[TensorType]) -> str:
        """How many elements arrays have, those that are equal together, with their types where these are others."""
        found = []
        for each, several in groupby(types):
            times = len(list(several))
            size = f"{each.elements}*{times}" if times > 1 else str(each.elements)
            dtype = "V1" if each.dtype == "u8" else NUMPY_TYPES[each.dtype]
            found.append(size if each.dtype == self.arrays.dtype else f"{size}:{dtype}")
        return " ".join(found)

    # --- order ---------------------------------------------------------------------------------------------------

    def _order(self, name: str) -> Order:
        path, attribute = self.arrays.places[name]
        buffer, position = self.arrays.role.buffer(name), self._positions[name]
        if buffer.kind == "bucket" and not path:
            return (-1,), 0, position, ""
        ops = self.arrays.blocks.order(path, attribute)
        if name in self.held and not name.endswith("@grad"):
            return ops, 0, position, ""
        member = buffer.view_of is not None and self.arrays.role.buffer(buffer.view_of).kind == "bucket"
        if name.endswith("@grad.part"):  # as the weights that it is of
            attribute = f"{attribute.rpartition('_')[0]}_{position:06}"
        return (ops, 1, position, "") if member else (ops, 2, 0, attribute)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {buffer.name: at for at, buffer in enumerate(self.arrays.role.buffers)}


def _row(key: Key, kind: str, arguments: list[Expression], keywords: Keywords = ()) -> Statement:
    return Statement((key, f": {kind}"), tuple(arguments), keywords, tail=",")


def _called(function: str, arguments: list[Expression]) -> Expression:
    """A call as an argument of another."""
    found: list[Token] = [f"{function}("]
    for at, each in enumerate(arguments):
        found += [*([", " if each != ("",) else ","] if at else []), *each]
    return (*found, ")")
