"""Instructions of programs on a mesh as statements of train.py: one call each, with its reason behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from math import prod

from backends.numpy_mpi.emission import ADD, Emission, accumulates
from backends.numpy_mpi.kernels import IN_PARTS
from backends.numpy_mpi.mesh.settings import Settings, takes
from backends.numpy_mpi.mesh.specs import Arrays
from backends.numpy_mpi.mesh.statements import KERNEL, Expression, Keywords, Loop, Statement, Value, listed
from backends.numpy_mpi.mesh.tree import Path, dotted
from backends.numpy_mpi.text import literal
from dlc.ir.graph import Attrs
from dlc.ir.program import INNER, OUTER, Collective, Compute, Copy, Instruction, Load, Receive, Send, Wait
from dlc.ir.tensor import BATCH
from dlc.ops.fusion import UPDATES, main_of
from passes.lowering.widen import WIDE

PADDED = ".padded"
"""How the name of room for a padded image ends."""

WITHOUT_PADS = ("im2col", "direct")
"""Algorithms whose kernels take no such room where there are no pads."""

WORKING = ("conv", "conv_transpose")
"""Ops whose kernels work in arrays of their own, some of them in none."""

MANY = 4
"""From so many gradients on, all of them are not named one by one."""

BY_ROWS = {INNER: "place.interior", OUTER: "place.border"}
"""What calls a kernel for some rows."""

KEPT_IN = {"w": "weight", "g": "gradient", "s": "state"}

Alike = tuple[tuple[str, str, str], Attrs, tuple[tuple[str, str], ...]]
"""Kernel and attributes of an update, and in which namespaces its arrays are, how their names end."""

Located = tuple[Path, Statement]
"""A statement, and the block that it belongs to."""


@dataclass(slots=True)
class Calls:
    """Writes the instructions of one role.

    `settings` say what kernels are told by name.
    """

    emission: Emission
    arrays: Arrays
    settings: Settings
    begun: dict[str, Collective] = field(default_factory=dict)
    readers: dict[str, Compute] = field(default_factory=dict)  # of halos that are waited for between calls of one op

    def statements(self, instructions: Sequence[Instruction]) -> Iterator[Located]:
        """The statements of a segment; updates that are alike are one loop."""
        self.begun |= {each.name: each for each in instructions if isinstance(each, Collective) and not each.blocking}
        self.readers = {each.name: call for each, call in pairwise(instructions)
                        if isinstance(each, Wait) and isinstance(call, Compute) and call.rows}  # fmt: skip
        for alike, group in groupby(instructions, self._alike):
            several = tuple(group)
            loop = self._loop(several, alike) if alike is not None else None
            yield from (((), loop),) if loop is not None else self._one_by_one(several)

    def _one_by_one(self, instructions: Sequence[Instruction]) -> Iterator[Located]:
        for (block, adds), group in groupby(instructions, lambda each: (self._block(each), accumulates(each))):
            several = tuple(group)
            if adds:
                yield block, self._additions([each for each in several if isinstance(each, Compute)])
                continue
            for instruction in several:
                if isinstance(instruction, Compute) and instruction.kernel[1] == UPDATES:
                    yield (), self._updates(instruction)
                else:
                    yield from ((block, statement) for statement in self._statements(instruction))

    def _block(self, instruction: Instruction) -> Path:
        if isinstance(instruction, Wait):
            instruction = self.readers.get(instruction.name, self.begun[instruction.name])
        return self.arrays.block(instruction)

    def _additions(self, sums: Sequence[Compute]) -> Statement:
        """One call for all that is added to sums of earlier microbatches."""
        totals = [self._at(each.inputs[0]) for each in sums]
        parts = [self._at(each.inputs[1]) for each in sums]
        return _call(self.emission.kernels[ADD].function, [*totals, *parts])

    def sent(self, sends: Sequence[Send]) -> Iterator[Located]:
        """What waits until messages of another segment have gone."""
        for send in sends:
            yield (), _call("place.sent", [self._at(send.buffer)])

    # --- one instruction ---------------------------------------------------------------------------------------

    def _statements(self, instruction: Instruction) -> Iterator[Statement]:
        match instruction:
            case Compute():
                yield from self._compute(instruction)
            case Load(buffers=buffers):
                entries = [(f"{literal(self.fed(name))}: ", *self._at(name)) for name in buffers]
                yield _call("place.fill", [("at",), ("{", *listed(entries), "}")])
                yield from self._rounded(buffers) if self.emission.exact else ()
            case Collective():
                yield self._collective(instruction)
            case Copy(source=source, target=target):
                move = (self._at(source), self._at(target, "y"))
                if self._spec(source) == self._spec(target):
                    yield Statement((*move[1], "[...] = ", *move[0]))
                else:
                    yield _call("place.slice", move, note="its own part")
            case Send(name=name, peer=peer, buffer=buffer, blocking=blocking):
                yield _call("place.send", [self._at(buffer)], {"to": f"{peer:+d}", "name": literal(name)})
                yield from (_call("place.sent", [self._at(buffer)]),) if blocking else ()
            case Receive(name=name, peer=peer, buffer=buffer):
                yield _call("place.receive", [self._at(buffer, "y")], {"source": f"{peer:+d}", "name": literal(name)})
            case Wait(name=name):
                yield _call(
                    "place.wait",
                    [
                        self._at(
                            self.begun[name].target or self.begun[name].buffer, "x" if name in self.readers else "y"
                        )
                    ],
                )

    def _collective(self, made: Collective) -> Statement:
        attrs, function = dict(made.attrs), str(made.kind)
        if function == "halo" and attrs["add"]:
            function = "halo_sum"
        if attrs.get("largest"):
            function = "largest"
        told = {"over": literal(made.group)}
        told |= {"algorithm": literal(made.algorithm)} if function == "allreduce" else {}
        told |= {} if made.blocking else {"begin": "True"}
        return _call(f"place.{function}", self._moved(made), told, made.reason)

    def _moved(self, made: Collective) -> list[Expression]:
        """The arrays of a collective: what it sends and what it fills; one array where that is in or among the other.

        A bucket stands for its members: without a target each of them is gathered from its part, or scattered to it.
        """
        return [self._at(name, role) for name, role in ((made.buffer, "x"), (made.target, "y")) if name]

    def fed(self, name: str) -> str:
        """What the data set calls the value of a buffer."""
        return name.removesuffix(f"@{WIDE}").partition(".chunk")[0]

    def _rounded(self, buffers: Sequence[str]) -> Iterator[Statement]:
        """Integers in the place of samples: sums of anything else would be rounded."""
        for name in buffers:
            if self.arrays.role.buffer(name).type.dtype in ("f32", "f64"):
                at = self._at(name)
                yield Statement((*at, "[...] = np.rint(", *at, " * 64) % 7 - 3"))

    # --- kernels -----------------------------------------------------------------------------------------------

    def _compute(self, made: Compute) -> Iterator[Statement]:
        attrs, stage = dict(made.attrs), made.kernel[1]
        backward = stage in ("dx", "dw", "dt")
        inputs = [self._at(name, "dy" if backward and not at else "x") for at, name in enumerate(made.inputs)]
        outputs = [self._at(name, "dx" if backward else "y") for name in made.outputs]
        if "once" in attrs:
            over = "+".join(attrs["once"])  # type: ignore[arg-type]
            inputs[-1] = ("place.once(", *inputs[-1], f", {literal(over)})")
        told, decided = self._told(made)
        workspaces = self._workspaces(made)
        if "origin" in made.runtime:
            layout = {"layout": literal(made.layout)} if made.layout else {}
            yield _call("origin = place.origin", [*inputs, *outputs], layout)
        if self._has_pads(made) and not made.rows:
            yield self._pads(made)
            decided.append(("pad=pad",))
        kernel = Value(self.emission.kernel(made).function, "_".join(made.kernel[:2]).removesuffix("_forward"), KERNEL)
        function: Expression = (kernel,)
        packs = [self._at(name) for name in made.packs]
        arguments = [*packs, *self._all_gradients(made, inputs), *outputs, *workspaces]
        parts = attrs.get("parts", 1)
        if isinstance(parts, int) and parts > 1 and workspaces:
            names = (*made.inputs, *made.outputs)
            samples = tuple(at for at, name in enumerate(names) if self.arrays.role.buffer(name).type.batched)
            yield Statement(("arrays = ",), (*inputs, *outputs, *([("",)] if len(names) == 1 else [])))
            arguments = [function, (Value(str(parts), "parts"),), (str(len(inputs)),), ("arrays",), *workspaces]
            decided.append((f"samples={literal(samples)}",))
            function = (IN_PARTS.function,)
        if made.rows:
            arguments, function = [function, *arguments], (BY_ROWS[made.rows],)
        note = made.reason if made.kernel[2] and made.rows != OUTER else ""
        yield Statement(function, (*arguments, *decided), _keywords(told), note=note)
        averaged = attrs.get("averaged", 1)
        if isinstance(averaged, int) and averaged > 1 and not self.emission.exact:  # stand-ins take no means
            for written in outputs[:1] if stage == "forward" else outputs:
                yield Statement((*written, f" /= {averaged}"), note=f"each of {averaged} parts took means of its own")

    def _workspaces(self, made: Compute) -> list[Expression]:
        """The arrays that a kernel works in, together; one by one where only some ranks need a padded image."""
        known = made.kernel[2] in WITHOUT_PADS and any(name.endswith(PADDED) for name in made.workspaces)
        if self._has_pads(made) and known:
            pairs = [(self._at(name), name.endswith(PADDED)) for name in made.workspaces]
            around = ("[", "]") if made.rows else ("*place.needed(pad, ", ")")
            return [(around[0], *at, around[1]) if padded else at for at, padded in pairs]
        rooms = self.arrays.scratch(made) if made.workspaces or main_of(made).kernel[0] in WORKING else None
        return [rooms] if rooms is not None else []

    def _all_gradients(self, made: Compute, inputs: list[Expression]) -> list[Expression]:
        """Inputs, of which the gradients of all weights are one expression where the order does not matter."""
        if made.kernel[1] != "unscale":
            return inputs
        refs = [self.arrays.ref(name) for name in made.inputs]
        count = next((at for at, ref in enumerate(refs) if ref.space != "g"), len(refs))
        found = {dotted(ref.path, ref.name) for ref in refs[:count]}
        if count < MANY or found != self.arrays.ending("w", "") & self.arrays.ending("g", ""):
            return inputs
        return [('*(gradient for _, gradient in each((w, ""), (g, "")))',), *inputs[count:]]

    def _told(self, made: Compute) -> tuple[dict[str, str], list[Expression]]:
        """(attributes, what the place and time decide); what all ops of a kind are told is a constant of its name."""
        attributes, decided = self.settings.told(made), list(self._decided(made))
        if self._has_pads(made) and not made.rows:
            attributes.pop("pad", None)
        name = self.settings.constant(made, attributes)
        if not name:
            return attributes, decided
        kept = {key: text for key, text in attributes.items() if key not in self.settings.constants[name]}
        return kept, [("**", Value(name, "settings")), *decided]

    def _decided(self, made: Compute) -> Iterator[Expression]:
        kernel = self.emission.kernel(made)
        grouped = main_of(made).kernel[0] == "bn" and "position" in made.runtime
        over = literal(self._samples_over(made)) if "position" in made.runtime else ""
        together = grouped and "count" in made.runtime and takes(kernel, "count")
        if together:
            yield (f"**at.batch({over})",)
            if self.emission.training.accumulate > 1 and takes(kernel, "groups"):
                yield (f"groups=at.groups({dict(made.attrs)['group']})",)
        for name in made.runtime:
            if name == "position" and not together:
                yield (f"position=at.position({over})",)
            elif name == "origin":
                yield ("origin=origin",)
            elif name == "step" and self.emission.scaled and made.kernel[0] != "dropout":
                yield ("step=at.updates",)
            elif name not in ("pads", "position", *(("count",) if together else ())) and takes(kernel, name):
                yield (f"{name}=at.{name}",)
        if grouped:
            yield from () if together else (("first=at.first",),)
            pixels = self._split_pixels(made)
            yield from (("pixels=", Value(str(pixels), "pixels")),) if pixels else ()

    def _samples_over(self, made: Compute) -> str:
        """The mesh axes that cut the samples of a kernel's first array that has any."""
        for name in (*made.inputs, *made.outputs):
            if self.arrays.role.buffer(name).type.batched:
                return self.arrays.placement_axes(name, BATCH)
        return ""

    def _split_pixels(self, made: Compute) -> int:
        """The pixels of a whole sample, where these are cut; 0 where a rank has all of each."""
        x = made.inputs[0]
        axes = [axis for axis in self.arrays.role.buffer(x).type.axes[2:] if self.arrays.parts(x, axis.name) > 1]
        return prod(axis.extent for axis in self.arrays.role.buffer(x).type.axes[2:]) if axes else 0

    def _has_pads(self, made: Compute) -> bool:
        """Whether a part has other pads than the whole: without any, both have none, and so without a halo."""
        pads = dict(made.attrs).get("pad", ())
        assert isinstance(pads, tuple)
        around = any(name in self.arrays.halos for name in (*made.inputs, *made.outputs))
        return around and any(each != (0, 0) for each in pads)

    def _pads(self, made: Compute) -> Statement:
        """The pads of a part: those of the whole at its outer borders."""
        array = next(name for name in (*made.inputs, *made.outputs) if name in self.arrays.halos)
        return _call("pad = place.pads", [self._at(array), (Value(literal(dict(made.attrs)["pad"]), "around"),)])

    # --- updates -----------------------------------------------------------------------------------------------

    def _alike(self, instruction: Instruction) -> Alike | None:
        """What updates have in common that one loop can make; None for anything else."""
        if not isinstance(instruction, Compute) or instruction.kernel[1] != "update" or instruction.outputs:
            return None
        refs = [self.arrays.ref(name) for name in instruction.inputs]
        base = min((ref.name for ref in refs), key=len)
        while base and not all(ref.name.startswith(base) for ref in refs):
            base = base.rpartition("_")[0]
        if len(refs) < 2 or len({ref.path for ref in refs}) > 1 or any(ref.space == "a" for ref in refs) or not base:
            return None
        return instruction.kernel, instruction.attrs, tuple((ref.space, ref.name.removeprefix(base)) for ref in refs)

    def _loop(self, updates: Sequence[Instruction], alike: Alike) -> Statement | None:
        """One loop over all arrays with such names; None where some of them are not updated so."""
        first, endings = updates[0], alike[2]
        if not isinstance(first, Compute) or not self._are_all(updates, endings):
            return None
        shared = Counter(ending for _, ending in endings)
        names = [KEPT_IN[space] if shared[end] > 1 or not end else end.strip("_") for space, end in endings]
        if len(set(names)) < len(names):
            return None
        told, decided = self._told(first)
        functions = {kernel.function for kernel in self.emission.kernels.values()}
        names = [
            f"{space}_{name}" if name in functions else name for name, (space, _) in zip(names, endings, strict=True)
        ]
        function = self.emission.kernel(first).function
        arguments = (*((name,) for name in names), *decided)
        loop = Loop(f"for {', '.join(names)} in each", _pairs(endings))
        return Statement((function,), arguments, _keywords(told), loop=loop)

    def _are_all(self, updates: Sequence[Instruction], endings: Sequence[tuple[str, str]]) -> bool:
        """Whether updates, more than one, are of all arrays whose names end so."""
        refs = [self.arrays.ref(each.inputs[0]) for each in updates if isinstance(each, Compute)]
        bases = {dotted(ref.path, ref.name.removesuffix(endings[0][1])) for ref in refs}
        return len(bases) > 1 and set.intersection(*(self.arrays.ending(*each) for each in endings)) == bases

    def _updates(self, made: Compute) -> Statement:
        """One call for many updates: with all arrays that are called so, or else row by row."""
        alike = {self._alike(member) for member in made.members}
        (known,) = alike if len(alike) == 1 else (None,)
        rows: list[Expression]
        if known is not None and self._are_all(made.members, known[2]):
            rows = [(f"*each({', '.join(_pairs(known[2]))})",)]
        else:
            named = (listed(map(self._at, member.inputs)) for member in made.members)
            rows = [("(", *names, ")") for names in named]
        told, decided = self._told(made)
        return Statement((self.emission.kernel(made).function,), (*rows, *decided), _keywords(told))

    # --- names -------------------------------------------------------------------------------------------------

    def _at(self, name: str, role: str = "x") -> Expression:
        return (self.arrays.ref(name, role),)

    def _spec(self, name: str) -> str:
        return self.arrays.spec(self.arrays.role.buffer(name))


def _pairs(endings: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """What `each` takes: namespaces, and how the names of arrays end in each."""
    return tuple(f"({space}, {literal(ending)})" for space, ending in endings)


def _call(
    function: str, arguments: Sequence[Expression], told: Mapping[str, str] | None = None, note: str = ""
) -> Statement:
    return Statement((function,), tuple(arguments), _keywords(told or {}), note=note)


def _keywords(told: Mapping[str, str]) -> Keywords:
    """Keyword arguments that instances of a block may differ in."""
    return tuple((name, Value(text, name)) for name, text in told.items())
