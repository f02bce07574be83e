"""Rows of a program's tables of arrays, and the tables by namespace that they make.

A table has blocks within blocks, as the network has: `{"stage1[0]": {"a.relu": Array("N/data 56 56 256"), …}}`. Rows
are named by their namespace and attribute, so this one is `a.stage1[0].relu`. The row of a weight is named as the
tensor is; its attributes have `_` for the last dot: `"conv.weight"` is `w.conv_weight`, and so is its gradient,
`g.conv_weight`, and state, `s.conv_weight_velocity`. A row may have several names: `"a.bn bn_grad"` are a.bn and
a.bn_grad.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt

from .spec import Halo, Shape

Shaped = str | Shape
"""A spec such as "N/data 64/model 7 7" (spec.py), or extents, N among them, that nothing splits."""

Halos = Halo | tuple[Halo, ...]

Init = float | str | Mapping[str, Any] | None
"""How a tensor starts: a number everywhere, or the kind, or all, that `initialise` is told; None: it is not said."""


@dataclass(frozen=True, slots=True)
class Array:
    """Memory of its own, in this shape, one for each slot; `dtype` None is the program's own.

    With `shared` it lies in memory that the ranks along these mesh axes share, as allreduce by `shared` wants it.
    `tensor` is the name in its block (with a slash before it: in the network) of the tensor that it holds, if that is
    kept from step to step or a gradient, `init` how it starts.
    """

    shape: Shaped
    dtype: npt.DTypeLike | None = None
    halo: Halos = ()
    shared: str = ""
    tensor: str = ""
    init: Init = None


@dataclass(frozen=True, slots=True)
class Temporary:
    """An array in memory that it has only while a function uses it (memory.py); all slots have the same.

    That of `shared` is memory of all ranks along these mesh axes.
    """

    shape: Shaped
    dtype: npt.DTypeLike | None = None
    halo: Halos = ()
    shared: str = ""


@dataclass(frozen=True, slots=True)
class Saved:
    """As a Temporary, but in memory that it has from the first function of a step that uses it to the last.

    `tensor` is the name in its block of the gradient that it holds, if it is one of a weight.
    """

    shape: Shaped
    dtype: npt.DTypeLike | None = None
    halo: Halos = ()
    shared: str = ""
    tensor: str = ""


@dataclass(frozen=True, slots=True)
class Scratch:
    """Flat arrays for the kernels of an op, each where a Temporary would lie, by the kernels' passes.

    "forward 9408 1843968*2; dw 9408:float64" are three arrays of so many elements of the program's own type and one of
    another: `*a.conv_scratch.forward` and `*a.conv_scratch.dw`.
    """

    rooms: str

    def sizes(self) -> Iterator[tuple[str, int, str]]:
        """(name, elements, type or "" for the program's own) of each array; names are a pass and a number."""
        for room in filter(None, self.rooms.split("; ")):
            name, *sizes = room.split()
            number = 0
            for each in sizes:
                size, _, dtype = each.partition(":")
                elements, _, times = size.partition("*")
                for _ in range(int(times or 1)):
                    yield f"{name} {number}", int(elements), dtype
                    number += 1


@dataclass(frozen=True, slots=True)
class View:
    """Elements of another array, in another shape; `offset` counts the parent's elements. `dtype` None is the parent's.

    `of` is looked for in the row's block first, then in those around it.
    """

    of: str
    shape: Shaped
    offset: int = 0
    dtype: npt.DTypeLike | None = None
    halo: Halos = ()
    tensor: str = ""
    init: Init = None


@dataclass(frozen=True, slots=True)
class Part:
    """This rank's part, by this spec, of what it holds of the same tensor in another array; may have gaps."""

    of: str
    shape: str
    tensor: str = ""
    init: Init = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """Flat memory for its members, one behind the other in the order of the table.

    `weights` names those whose gradients are in it, and blocks of such: "stage4[2] logits.linear.bias"; "**" are all
    that no other bucket names. It has its memory as a Saved has it, or as a Temporary, or, if `lasting`, always.
    """

    weights: str = ""
    shared: str = ""
    dtype: npt.DTypeLike | None = None
    temporary: bool = False
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """The next elements of a bucket."""

    of: str
    shape: Shaped
    tensor: str = ""


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight of the program's own type, its gradient, which is in the bucket that names it, and its states."""

    shape: str
    init: Init = None


@dataclass(frozen=True, slots=True)
class Statistic:
    """A tensor that is kept and not trained, of the program's own type."""

    shape: str
    init: Init = None


Row = Array | Temporary | Saved | Scratch | View | Part | Bucket | Member
Table = Mapping[str, Row]
Nested = Mapping[str, Any]
"""Rows by name, and tables of blocks."""


@dataclass(frozen=True)
class Tables:
    """The tables of a stage, by names such as `stage1[0].relu`.

    `tensors` has by its name in the network where each weight, state and summed gradient is, such as
    `w.conv1_weight`; `initial` says how weights start.
    """

    weights: dict[str, Row] = field(default_factory=dict)
    states: dict[str, Row] = field(default_factory=dict)
    gradients: dict[str, Row] = field(default_factory=dict)
    activations: dict[str, Row] = field(default_factory=dict)
    tensors: dict[str, str] = field(default_factory=dict)
    initial: dict[str, Init] = field(default_factory=dict)

    def space(self, name: str) -> dict[str, Row]:
        """The table of a namespace."""
        return {"w": self.weights, "s": self.states, "g": self.gradients, "a": self.activations}[name]


def tables(rows: Nested, states: Sequence[str] = (), scratch: Mapping[str, str] | None = None) -> Tables:
    """The tables of rows in blocks; each trained weight has `states` of these names.

    `scratch` has by the names of ops what their kernels work in: "stage1[1:3].conv stage2[0].conv" are three ops.
    """
    made = Tables()
    buckets = {
        name: key.partition(".")[2]
        for key, row in rows.items()
        if isinstance(row, Bucket)
        for name in row.weights.split()
    }
    for block, space, name, row in _flat(rows, "", states, buckets):
        at = _below(block, name)
        if isinstance(row, Array | Saved | View | Part | Member) and row.tensor:
            tensor = _whole(block, row.tensor)
            made.tensors[tensor] = f"{space}.{at}"
            if not isinstance(row, Member | Saved) and row.init is not None:
                made.initial[tensor] = _initial(block, row.init)
        made.space(space)[at] = (
            replace(row, of=_around(block, row.of)) if isinstance(row, View | Part | Member) else row
        )
    for names, rooms in (scratch or {}).items():
        made.activations.update({f"{op}_scratch": Scratch(rooms) for name in names.split() for op in _numbered(name)})
    for table in (made.weights, made.states, made.gradients, made.activations):
        for name, row in table.items():
            if isinstance(row, View | Part | Member):
                table[name] = replace(row, of=_found(row.of, table))
    return made


def _flat(
    rows: Nested, block: str, states: Sequence[str], buckets: Mapping[str, str]
) -> Iterator[tuple[str, str, str, Row]]:
    """(block, namespace, name in the block, row) of all rows, in order."""
    for name, row in ((name, row) for names, row in rows.items() for name in _each(names)):
        if isinstance(row, Mapping):
            yield from _flat(row, _below(block, name), states, buckets)
        elif isinstance(row, Weight | Statistic):
            attribute = "_".join(name.rsplit(".", 1))
            yield block, "w", attribute, Array(row.shape, tensor=name, init=row.init)
            if isinstance(row, Weight):
                bucket = _bucket(_below(block, name), buckets)
                yield block, "g", attribute, Member(bucket, row.shape, tensor=f"{name}@grad")
                for state in states:
                    yield block, "s", f"{attribute}_{state}", Array(row.shape, tensor=f"{name}@{state}")
        else:
            space, _, rest = name.partition(".")
            yield block, space, rest, row


def _each(names: str) -> Iterator[str]:
    """The names of a row: of all but the first, what is before the last dot is understood."""
    first, *others = names.split()
    yield from (first, *(f"{first.rpartition('.')[0]}.{name}" for name in others))


def _numbered(name: str) -> Iterator[str]:
    """`stage1[1].conv` and `stage1[2].conv` of `stage1[1:3].conv`."""
    found = re.fullmatch(r"(.*?)\[(\d+):(\d+)\](.*)", name)
    if found is None:
        yield name
    else:
        yield from (f"{found[1]}[{number}]{found[4]}" for number in range(int(found[2]), int(found[3])))


def _bucket(weight: str, buckets: Mapping[str, str]) -> str:
    """The bucket that names a weight, or the innermost block around it."""
    name = weight
    while name and name not in buckets:
        name = name[: max(name.rfind("."), name.rfind("["), 0)]
    return buckets[name or "**"]


def _below(block: str, name: str) -> str:
    """The name of what is in a block."""
    return f"{block}.{name}" if block and not name.startswith("[") else f"{block}{name}"


def _whole(block: str, tensor: str) -> str:
    """The name of a tensor in the network: below the block, unless it begins with a slash."""
    return tensor[1:] if tensor.startswith("/") else _below(block, tensor)


def _around(block: str, of: str) -> str:
    """Where to look for what a row of a block names, the block first: names with a blank between them."""
    found, steps = [_below(block, of)], block
    while steps:
        steps = steps[: max(steps.rfind("."), steps.rfind("["), 0)]
        found.append(_below(steps, of))
    return " ".join(found)


def _found(names: str, table: Table) -> str:
    """The first of several names that a table has."""
    return next((name for name in names.split() if name in table), names.split()[-1])


def _initial(block: str, init: Init) -> Init:
    """What a block's row says, by whole names."""
    if isinstance(init, Mapping) and "of" in init:
        return {**init, "of": _whole(block, init["of"])}
    return init
