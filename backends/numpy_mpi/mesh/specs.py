"""The arrays of a role as rows of tables: `Array("N/data 64/model 56 56")`, each axis with the mesh axes that cut it.

`N` counts the samples of a microbatch. An axis that holds several tensors one behind the other, each of which is cut,
is written `3*64/model`.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

from backends.numpy_mpi.mesh.statements import NUMBER, Expression, Ref, Value, Words
from backends.numpy_mpi.mesh.tree import Blocks, Path, dotted
from backends.numpy_mpi.names import identifier
from dlc.ir.mesh import PARTIAL
from dlc.ir.passing import passing
from dlc.ir.program import TRAIN_STEP, Buffer, Collective, Compute, Instruction, Role
from dlc.ir.storage import Storage, of_microbatch, title, touched
from dlc.ir.tensor import BATCH, NARROW, TensorType
from dlc.ops.fusion import one_by_one
from passes.lowering.widen import MASTER, WIDE

NUMPY_TYPES = {
    "f32": "float32", "tf32": "float32", "f16": "float16", "bf16": "uint16", "f64": "float64", "i32": "int32",
    "i64": "int64", "u8": "uint8", "bool": "bool_", "c64": "complex64", "c128": "complex128",
}  # fmt: skip
PARTS = (
    (re.compile(r"\.([^.@]+)@grad\.part$"), r".part_\1"),
    (re.compile(r"\.([^.@]+)@sum(\.part)?$"), r".sum\2_\1"),
)
"""How what is added up over microbatches is called: those of an op differ in their last words."""

WHOLE = re.compile(r"^(.+)(\.[^.]+)\.whole@\1(?=@|$)")
"""What the op that a weight belongs to has gathered of it."""

SCRATCH = "_scratch"
"""How the name of what an op's kernels work in ends."""

CAST = ("cast", "forward", "")
SPACES = {"weight": "w", "statistic": "w", "constant": "w", "state": "s", "bucket": "g"}
"""Kind of a storage -> the namespace of all that lies in it; gradients of weights are in g, all else is in a."""


HALO = re.compile(r"(halo)(?:_?[a-z]+(?:_\d+){4})+")
"""How the rows of neighbours that an array has are told in the name of its buffer: `halo_height_1_1_2_56`."""


FORM = re.compile(r"(.+)\.([^.@]+)@((?:whole|f32)(?:@[^.]+)?)")
"""A form of a weight in which it is computed with: gathered, or wide."""


def titled(buffer: Buffer, space: str, weights: Container[str] = ()) -> str:
    """What the name of a buffer's array is made of: weights in half precision are told apart from those in f32.

    Other forms of these `weights` and sums over microbatches are called so that those of an op differ in their last
    words alone.
    """
    if buffer.kind == "weight" and buffer.type.dtype in NARROW:
        return f"{buffer.name}_{buffer.type.dtype}"
    plain = WHOLE.sub(r"\1\2@whole", buffer.name.removesuffix(MASTER))
    plain = HALO.sub(r"\1", plain)
    found = FORM.fullmatch(plain)
    if found is not None and f"{found[1]}.{found[2]}" in weights:
        return f"{found[1]}.{'wide' if found[3] == WIDE else found[3]}_{found[2]}"
    for pattern, name in PARTS:
        plain = pattern.sub(name, plain)
    return plain.replace("@grad", "") if space == "g" else plain


@dataclass
class Arrays:
    """Names, namespaces and table rows of a role's arrays.

    `stacked` has for each weight that holds several tensors one behind the other, each cut, how many; `microbatches`
    is how many a batch is cut into, `halos` has the exchange behind each buffer with a halo; `windows` collects the
    constants that describe halos, `shared` has the mesh axes along which ranks share the memory of a bucket, `rooms`
    the calls of each op's kernels that work in something, by pass; `passing` are arrays that functions leave to others.
    """

    role: Role
    dtype: str
    microbatches: int
    stacked: Mapping[str, int]
    blocks: Blocks
    windows: dict[str, str]
    storage: Storage = field(init=False)
    names: dict[str, str] = field(default_factory=dict)
    places: dict[str, tuple[Path, str]] = field(default_factory=dict)
    halos: dict[str, Collective] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    rooms: dict[tuple[Path, str], dict[str, Compute]] = field(default_factory=dict)
    passing: frozenset[str] = frozenset()
    bundled: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.storage = Storage(self.role, self.role.largest_shard)
        self.passing = passing(self.role, TRAIN_STEP, self.storage)
        for segment in self.role.segments:
            for made in segment.instructions:
                if not isinstance(made, Collective):
                    continue
                if made.kind == "allreduce" and made.algorithm == "shared":
                    self.shared[made.buffer] = made.group
                if made.kind == "halo":
                    self.halos[made.buffer if dict(made.attrs)["add"] else made.target] = made
        self.halos.update(self._cast_halos())
        taken = set[tuple[str, Path, str]]()
        touching = self._touching()
        weights = {each.name.removesuffix(MASTER) for each in self.role.buffers if each.kind == "weight"}
        weights -= {name for name in weights if name.endswith(".shards")}
        for buffer in self.role.buffers:
            space = self.space(buffer.name)
            path, rest = self.blocks.locate(titled(buffer, space, weights))
            if buffer.kind == "gradient" and space == "a":
                path, rest = self._outwards(path, rest, touching.get(buffer.name, {}))
            plain = identifier(rest)
            name, number = plain, 2
            while (space, path, name) in taken or (*path, name) in self.blocks.namespaces:
                name, number = f"{plain}_{number}", number + 1
            taken.add((space, path, name))
            self.places[buffer.name], self.names[buffer.name] = (path, name), dotted(path, name)

    def block(self, made: Instruction) -> Path:
        """The block that an instruction belongs to; the sum of a value's gradients to that of its uses."""
        if isinstance(made, Compute) and made.kernel[1] == "sum":
            return self.blocks.around(self.blocks.locate(name)[0] for name in made.inputs)
        return self.blocks.locate(title(made))[0]

    def _touching(self) -> dict[str, dict[Path, None]]:
        """The blocks whose instructions name a buffer."""
        found: dict[str, dict[Path, None]] = {}
        for segment in self.role.segments:
            for made in (each for instruction in segment.instructions for each in one_by_one(instruction)):
                block = self.block(made)
                for name in touched(made):
                    found.setdefault(name, {})[block] = None
        return found

    def _outwards(self, path: Path, rest: str, touching: Iterable[Path]) -> tuple[Path, str]:
        """Where a gradient is: what a block's neighbours hand over lies in the block around them, if there is one."""
        around = self.blocks.around([path, *touching])
        if not around or len(around) == len(path):
            return path, rest
        return around, f"{dotted(path[len(around) :])}.{rest}"

    def _cast_halos(self) -> Iterator[tuple[str, Collective]]:
        """The exchanges behind buffers that are cast from others with halos, or into them."""
        casts = (i for s in self.role.segments for i in s.instructions if isinstance(i, Compute) and i.kernel == CAST)
        for made in casts:
            for pair in zip(made.inputs, made.outputs, strict=True):
                known = [self.halos[name] for name in pair if name in self.halos]
                yield from ((name, known[0]) for name in pair if known and name not in self.halos)

    def space(self, name: str) -> str:
        """The namespace of a buffer: that of its storage; what functions leave to others counts as one."""
        content = self.storage.content(name)
        root = self.role.buffer(content if content in self.passing else self.storage.places[name].storage)
        if name.endswith(MASTER):
            return "w"
        if root.kind == "gradient" and not root.type.batched:
            return "g"
        return SPACES.get(root.kind, "a")

    def expression(self, name: str) -> str:
        """How instructions name a buffer: `a.conv1`."""
        return f"{self.space(name)}.{self.names[name]}"

    def ref(self, name: str, role: str = "x") -> Ref:
        """A buffer as statements name it."""
        return Ref(self.space(name), *self.places[name], role)

    def scratch(self, made: Compute) -> Expression | None:
        """The arrays that a kernel works in, together; None where they have shapes that are no kernel's alone."""
        if any(self.role.buffer(name).placement for name in made.workspaces):
            return None
        path, rest = self.blocks.locate(made.address.partition("@")[0])
        rooms = self.rooms.setdefault((path, f"{identifier(rest)}{SCRATCH}"), {})
        room, number = made.kernel[1], 2
        while rooms.setdefault(room, made).workspaces != made.workspaces:
            room, number = f"{made.kernel[1]}{number}", number + 1
        self.bundled.update(made.workspaces)
        return ("*", Ref("a", path, f"{identifier(rest)}{SCRATCH}"), f".{room}")

    def is_part(self, buffer: Buffer, parent: Buffer) -> bool:
        """Whether a buffer is a rank's part of what its parent holds of the same tensor."""
        cuts = [tuple("" if axis == PARTIAL else axis for axis in each.placement) for each in (parent, buffer)]
        whole = parent.type == buffer.type and parent.placement != buffer.placement
        if whole and parent.layout != buffer.layout and cuts[0] == cuts[1]:
            return False  # the same elements, sums and their whole, of images of one pixel in two layouts
        return whole and not self._shares_bytes(parent)

    def halo(self, name: str) -> str:
        """The halos of a buffer, by the names of their constants."""
        around = tuple(self._halos(name)) if name in self.halos else ()
        return f"({', '.join(around)})" if len(around) > 1 else "".join(around)

    def _shares_bytes(self, parent: Buffer) -> bool:
        return parent.type.names in (("element",), ("byte",))

    def spec(self, buffer: Buffer) -> str:
        """The axes as they lie in memory."""
        axes = [(axis.name, self._axis(buffer, axis.name)) for axis in self._type(buffer).axes]
        if buffer.layout:
            texts = [text for _, text in axes]
            return " ".join(dict(zip("NCHW", texts, strict=True))[letter] for letter in buffer.layout[:4])
        return " ".join(text for _, text in axes)

    def ending(self, space: str, ending: str) -> set[str]:
        """How the arrays of a namespace are called before this ending, those that have it."""
        names = (name for buffer, name in self.names.items() if self.space(buffer) == space)
        return {name[: len(name) - len(ending)] for name in names if name.endswith(ending)}

    def words(self, buffer: Buffer) -> Words:
        """The axes as a string whose extents instances may differ in."""
        axes = {axis.name: self._axis(buffer, axis.name) for axis in self._type(buffer).axes}
        order = [list(axes)["NCHW".index(letter)] for letter in buffer.layout[:4]] if buffer.layout else list(axes)
        pieces: list[str | Value] = []
        for axis in order:
            extent, slash, cut = axes[axis].partition("/")
            pieces += [" "] if pieces else []
            for part in re.split(r"(\d+)", extent):
                pieces += [Value(part, identifier(axis), NUMBER) if part.isdigit() else part] if part else []
            pieces += [slash + cut] if slash else []
        return Words(tuple(pieces))

    def _type(self, buffer: Buffer) -> TensorType:
        """The type in one microbatch; in front of a halo that of the whole."""
        made = self.halos.get(buffer.name)
        narrow = buffer.name
        while made is not None:
            narrow = made.target if dict(made.attrs)["add"] else made.buffer
            made = self.halos.get(narrow)
        return of_microbatch(self.role.buffer(narrow).type, self.microbatches)

    def _axis(self, buffer: Buffer, axis: str) -> str:
        extent = self._type(buffer).extent(axis)
        mesh = self.role.mesh
        names = mesh.names if mesh is not None else ()
        cut = "+".join(name for name, at in zip(names, buffer.placement, strict=False) if at == axis)
        count = self.stacked.get(buffer.name.partition("@")[0].removesuffix(".shard").removesuffix(".whole"), 1)
        first = axis == buffer.type.names[0]
        held = f"{count}*{extent // count}" if count > 1 and cut and first else str(extent)
        return ("N" if axis == BATCH else held) + (f"/{cut}" if cut else "")

    def _halos(self, name: str) -> Iterator[str]:
        """The constants that say which rows a buffer holds along one axis or several, the inner halo first."""
        made = self.halos[name]
        facts = dict(made.attrs)
        narrow = self.role.buffer(made.target if facts["add"] else made.buffer)
        if narrow.name in self.halos:
            yield from self._halos(narrow.name)
        axis = str(facts["axis"])
        at = narrow.type.names.index(axis)
        place = narrow.layout.index("NCHW"[at]) if narrow.layout else at
        numbers = ", ".join(f"{key}={facts[key]}" for key in ("results", "before", "after", "stride", "step"))
        plain = f"{axis.upper()}_{narrow.type.extent(axis)}_TO_{facts['results']}"
        text = f"Halo(axis={place}, window={at - 2}, {numbers})"
        known, number = plain, 2
        while self.windows.setdefault(known, text) != text:
            known, number = f"{plain}_{number}", number + 1
        yield known

    def placement_axes(self, name: str, axis: str) -> str:
        """The mesh axes that cut an axis of a buffer: `data+model`, "" where none does."""
        mesh = self.role.mesh
        names = mesh.names if mesh is not None else ()
        return "+".join(n for n, at in zip(names, self.role.buffer(name).placement, strict=False) if at == axis)

    def parts(self, name: str, axis: str) -> int:
        """Into how many parts an axis of a buffer is cut."""
        mesh = self.role.mesh
        cut = self.placement_axes(name, axis)
        return prod(mesh.extent(each) for each in cut.split("+")) if mesh is not None and cut else 1
