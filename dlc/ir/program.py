"""The Program: how it happens. Simulated, checked, rehearsed and emitted from this one object.

A role is a set of ranks that run the same code; its segments are lists of instructions over named buffers; an entry
point is a schedule: a table of (segment, microbatch, slot). Its size grows with the network and the roles, never with
ranks or microbatches.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from dlc.ir.graph import Attrs
from dlc.ir.mesh import Mesh, Placement
from dlc.ir.tensor import TensorType

TRAIN_STEP = "train_step"
"""The entry point of a training step."""

BufferKind = Literal[
    "input",
    "field",
    "weight",
    "statistic",
    "state",
    "constant",
    "activation",
    "saved",
    "gradient",
    "bucket",
    "packed",
    "workspace",
]


@dataclass(frozen=True, slots=True)
class Buffer:
    """One array. `type` is logical and has the global batch: a rank holds its shard's share of a batched one.

    `layout` is the order in memory, "" for logical order. `view_of` names the buffer that this one is a view of:
    a bucket at `offset` elements, the arena of workspaces, or, for `flatten` and the like, the same elements under
    other axes. A view costs no memory. `placement` says, for each axis of the role's mesh, which axis of the type it
    splits; where it is empty, a batched type is split by the role's shards and any other is whole.
    """

    name: str
    type: TensorType
    kind: BufferKind
    layout: str = ""
    view_of: str | None = None
    offset: int = 0
    placement: Placement = ()


INNER, OUTER = "inner", "outer"
"""Which rows of its results a kernel computes: those that read none of other ranks, or the rest."""

ROWS, BORDER = "rows", "border"
"""The attributes that say so, and how many rows the rest are."""


@dataclass(frozen=True, slots=True)
class Compute:
    """Call of a kernel: `kernel` is (op, pass, algorithm), a key of a backend's table of kernels.

    The kernel takes inputs, outputs and workspaces in this order, attributes and runtime values as keywords.
    `reason` says in words why this algorithm and layout; it is printed beside the call.

    A window op may be two calls, around the Wait for its first operand's halo: with `rows` = (INNER, axis) in `attrs`
    it computes those result rows of the axis that read none of other ranks, with (OUTER, axis) all others. These are
    the first rows of a part and the last, as many as `border` = (before, behind) says on a rank with most of either.

    A kernel in C may read weights from `packs`: buffers in which a call of pass `pack` has put them in the order of its
    loops. It names the weights as well, and kernels of NumPy read these.
    """

    address: str
    kernel: tuple[str, str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    workspaces: tuple[str, ...] = ()
    attrs: Attrs = ()
    runtime: tuple[str, ...] = ()
    layout: str = ""
    reason: str = ""
    members: tuple[Compute, ...] = ()
    packs: tuple[str, ...] = ()

    @property
    def inner(self) -> tuple[str, ...]:
        """The buffers that members hand to one another and that nothing else sees."""
        return tuple(name for member in self.members for name in member.outputs if name not in self.outputs)

    @property
    def rows(self) -> str:
        """INNER or OUTER; "" where all rows are computed."""
        return next((str(value[0]) for name, value in self.attrs if name == ROWS and isinstance(value, tuple)), "")


@dataclass(frozen=True, slots=True)
class Load:
    """The next batch of the data set: this rank's samples into these buffers."""

    buffers: tuple[str, ...]
    address: str = "data"


CollectiveKind = Literal["allreduce", "allgather", "reduce_scatter", "all_to_all", "halo", "broadcast"]


@dataclass(frozen=True, slots=True)
class Collective:
    """A collective over a group. All ranks of the group must enter the same ones in the same order.

    `bytes` is the global size of the operand: of an allgather or all-to-all all of its data together, of the others
    the vector that each rank has; of a halo exchange what one rank sends. `target` is the buffer that receives where it
    is not done in place. With `blocking = False` it only begins; a Wait of the same name ends it.

    A halo exchange says in `attrs` which rows it means: part i of `parts` of the axis has in its halo what result rows
    a to b - 1 read, those of part i of `results` (`dlc.ops.indexing.Halo` of `before`, `after`, `stride`, `step`), as
    far as the axis has them. With `add` it goes the other way: what the halo holds is added to the rows' owners.
    An allreduce with `largest` in `attrs` finds the largest of each element instead of the sum.
    """

    name: str
    kind: CollectiveKind
    group: str
    algorithm: str
    buffer: str
    bytes: int
    blocking: bool = True
    reason: str = ""
    target: str = ""
    attrs: Attrs = ()


@dataclass(frozen=True, slots=True)
class Send:
    """Point-to-point: the buffer to the rank that is `peer` (an offset along the group's order) away.

    With `blocking = False` it only begins; a Wait of the same name ends it.
    """

    name: str
    group: str
    peer: int
    buffer: str
    bytes: int
    blocking: bool = True


@dataclass(frozen=True, slots=True)
class Receive:
    """Point-to-point: into the buffer from the rank that is `peer` away along the group's order; blocking as a Send."""

    name: str
    group: str
    peer: int
    buffer: str
    bytes: int
    blocking: bool = True


@dataclass(frozen=True, slots=True)
class Wait:
    """The end of the non-blocking instruction of that name."""

    name: str


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy from one buffer to another of the same type and layout.

    With `blocking = False` it only begins, beside the kernels; a Wait of its address ends it.
    """

    source: str
    target: str
    address: str = ""
    blocking: bool = True


Instruction = Compute | Load | Collective | Send | Receive | Wait | Copy


@dataclass(frozen=True, slots=True)
class Segment:
    """A named list of instructions: `forward`, `backward`, `update`, `evaluate`, `predict`."""

    name: str
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a schedule: run this segment for that microbatch in that slot of buffers."""

    segment: str
    microbatch: int = 0
    slot: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry point and its schedule: `train_step`, `eval_step`, `predict`."""

    name: str
    schedule: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Role:
    """Ranks that run the same code. `shards[i]` is the (start, stop) of the global batch that `ranks[i]` holds."""

    name: str
    ranks: tuple[int, ...]
    shards: tuple[tuple[int, int], ...]
    buffers: tuple[Buffer, ...]
    segments: tuple[Segment, ...]
    entries: tuple[Entry, ...]
    mesh: Mesh | None = None  # of its ranks, where buffers have placements
    _buffers: dict[str, Buffer] = field(init=False, repr=False, compare=False)
    _segments: dict[str, Segment] = field(init=False, repr=False, compare=False)
    _unstored: frozenset[str] = field(init=False, repr=False, compare=False)
    _uneven: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_buffers", {buffer.name: buffer for buffer in self.buffers})
        object.__setattr__(self, "_segments", {segment.name: segment for segment in self.segments})
        object.__setattr__(self, "_unstored", _unstored(self.segments))
        sizes = [stop - start for start, stop in self.shards] or [0]
        object.__setattr__(self, "_uneven", len(set(self.shards)) if max(sizes) - min(sizes) > 1 else 0)

    def buffer(self, name: str) -> Buffer:
        """The buffer of that name."""
        return self._buffers[name]

    def segment(self, name: str) -> Segment:
        """The segment of that name."""
        return self._segments[name]

    def runs(self, entry: str) -> Counter[str]:
        """How often an entry point runs each segment; no segment where the role has no such entry."""
        return Counter(row.segment for each in self.entries if each.name == entry for row in each.schedule)

    @property
    def unstored(self) -> frozenset[str]:
        """The buffers that no instruction names but as what a fused call's members hand on: they have no memory."""
        return self._unstored

    @property
    def uneven(self) -> int:
        """How many different shards there are, where they differ by more than the remainder of a division; else 0."""
        return self._uneven

    @property
    def largest_shard(self) -> int:
        """Samples of the batch on the rank that has most."""
        return max(stop - start for start, stop in self.shards)


def _unstored(segments: tuple[Segment, ...]) -> frozenset[str]:
    calls = [made for segment in segments for made in segment.instructions if isinstance(made, Compute)]
    inner = {name for made in calls if made.members for name in made.inner}
    return frozenset(inner.difference(*((*made.inputs, *made.outputs) for made in calls))) if inner else frozenset()


@dataclass(frozen=True, slots=True)
class CommunicationGroup:
    """A way to cut the ranks into groups that communicate: every rank is in exactly one of `members`.

    `levels` says how the ranks of a group are nested in the cluster, outermost first: they count through these extents
    like an odometer. Hierarchical sums go by them; () where a group lies in one level, or does not nest evenly.
    """

    name: str
    members: tuple[tuple[int, ...], ...]
    levels: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """The whole job for one network: roles and the groups that they communicate in.

    `outputs` are (name in the spec, buffer) pairs for prediction, `loss` and `metrics` name scalar buffers that hold
    sums over the ranks after a step.
    """

    name: str
    batch: int
    dtype: str
    roles: tuple[Role, ...]
    groups: tuple[CommunicationGroup, ...]
    outputs: tuple[tuple[str, str], ...] = ()
    loss: str | None = None
    metrics: tuple[tuple[str, str], ...] = ()

    @property
    def ranks(self) -> int:
        """How many ranks it is for."""
        return sum(len(role.ranks) for role in self.roles)
