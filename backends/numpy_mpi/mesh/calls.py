"""Instructions of programs on a mesh as lines of train.py: one call each, with its address and reason above it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import groupby
from math import prod

from backends.numpy_mpi.emission import Emission
from backends.numpy_mpi.kernels import IN_PARTS, Kernel
from backends.numpy_mpi.mesh.specs import Arrays
from backends.numpy_mpi.names import identifier
from backends.numpy_mpi.text import call, comment, literal
from dlc.ir.program import Collective, Compute, Copy, Instruction, Load, Receive, Send, Wait
from dlc.ir.tensor import BATCH

SHARED_FROM = 3  # attributes

PARTS = ("once", "averaged", "parts", "copies")
"""Attributes that say how a part is computed: they are told in other ways than as they stand."""


@dataclass(slots=True)
class Calls:
    """Writes the instructions of one role.

    `constants` collect the attributes of ops that the text names.
    """

    emission: Emission
    arrays: Arrays
    begun: dict[str, Collective] = field(default_factory=dict)
    constants: dict[str, dict[str, str]] = field(default_factory=dict)

    def lines(self, instructions: Sequence[Instruction]) -> Iterator[str]:
        """The lines of a segment; updates that are alike are one loop over the names of their arrays."""
        for alike, group in groupby(instructions, self._alike):
            several = tuple(group)
            if alike is not None and len(several) > 1:
                yield from self._loop([each for each in several if isinstance(each, Compute)])
                continue
            for instruction in several:
                yield from self._line(instruction)

    # --- one instruction ---------------------------------------------------------------------------------------

    def _line(self, instruction: Instruction) -> Iterator[str]:
        match instruction:
            case Compute():
                yield from self._compute(instruction)
            case Load(buffers=buffers):
                entries = ", ".join(f"{literal(self._fed(name))}: {self._at(name)}" for name in buffers)
                yield call("place.fill", ["at", f"{{{entries}}}"], 4)
                yield from self._rounded(buffers) if self.emission.exact else ()
            case Collective():
                yield from self._collective(instruction)
            case Copy(source=source, target=target, address=address):
                same = self._spec(source) == self._spec(target)
                yield comment(f"{address or target}: {'a copy' if same else 'its own part'}", 4)
                move = f"{self._at(target)}[...] = {self._at(source)}"
                yield f"    {move}" if same else call("place.slice", [self._at(source), self._at(target)], 4)
            case Send(name=name, peer=peer, buffer=buffer, blocking=blocking):
                arguments = [self._at(buffer), f"to={peer:+d}", f"name={literal(name)}"]
                yield call("place.send", arguments, 4)
                yield from (call("place.sent", [self._at(buffer)], 4),) if blocking else ()
            case Receive(name=name, peer=peer, buffer=buffer):
                yield call("place.receive", [self._at(buffer), f"source={peer:+d}", f"name={literal(name)}"], 4)
            case Wait():
                yield from self._wait(instruction)

    def _wait(self, wait: Wait) -> Iterator[str]:
        made = self.begun[wait.name]
        yield call("place.wait", [self._moved(made)[-1]], 4)

    def sent(self, sends: Sequence[Send]) -> Iterator[str]:
        """The lines that wait until messages of another segment have gone."""
        for send in sends:
            yield call("place.sent", [self._at(send.buffer)], 4)

    def _collective(self, made: Collective) -> Iterator[str]:
        if not made.blocking:
            self.begun[made.name] = made
        yield comment(f"{made.name}: {made.reason}", 4)
        attrs, function = dict(made.attrs), str(made.kind)
        if function == "halo" and attrs["add"]:
            function = "halo_sum"
        if attrs.get("largest"):
            function = "largest"
        arguments = [*self._moved(made), f"over={literal(made.group)}"]
        arguments += [f"algorithm={literal(made.algorithm)}"] if function == "allreduce" else []
        arguments += [f"begin={True}"] if not made.blocking else []
        yield call(f"place.{function}", arguments, 4)

    def _moved(self, made: Collective) -> list[str]:
        """The arrays of a collective: what it sends and what it fills; one array where that is in or among the other.

        A bucket stands for its members: without a target each of them is gathered from its part, or scattered to it.
        """
        return [self._at(name) for name in (made.buffer, made.target) if name]

    def _fed(self, name: str) -> str:
        """What the data set calls the value of a buffer."""
        return name.partition(".chunk")[0]

    def _rounded(self, buffers: Sequence[str]) -> Iterator[str]:
        """Integers in the place of samples: sums of anything else would be rounded."""
        for name in buffers:
            if self.arrays.role.buffer(name).type.dtype in ("f32", "f64"):
                yield f"    {self._at(name)}[...] = np.rint({self._at(name)} * 64) % 7 - 3"

    # --- kernels -----------------------------------------------------------------------------------------------

    def _compute(self, made: Compute) -> Iterator[str]:
        yield comment(f"{made.address}: {made.reason}" if made.reason else made.address, 4)
        attrs, stage = dict(made.attrs), made.kernel[1]
        inputs = [self._at(name) for name in made.inputs]
        outputs = [self._at(name) for name in made.outputs]
        if "once" in attrs:
            over = "+".join(attrs["once"])  # type: ignore[arg-type]
            inputs[-1] = f"place.once({inputs[-1]}, {literal(over)})"
        keywords = self._keywords(made)
        workspaces = [self._at(name) for name in made.workspaces]
        if "origin" in made.runtime:
            layout = [f"layout={literal(made.layout)}"] if made.layout else []
            yield call("origin = place.origin", [*inputs, *outputs, *layout], 4)
        if self._has_pads(made):
            yield self._pads(made)
            keywords.append("pad=pad")
            for at, name in enumerate(made.workspaces):
                if name.endswith(".padded"):
                    workspaces[at] = f"*place.needed(pad, {workspaces[at]})"
        function = self.emission.kernel(made).function
        arguments = [*inputs, *outputs, *workspaces, *keywords]
        parts = attrs.get("parts", 1)
        if isinstance(parts, int) and parts > 1 and workspaces:
            names = (*made.inputs, *made.outputs)
            samples = tuple(at for at, name in enumerate(names) if self.arrays.role.buffer(name).type.batched)
            yield call("arrays = ", [*inputs, *outputs, *([""] if len(names) == 1 else [])], 4)
            arguments = [function, str(parts), str(len(inputs)), "arrays", *workspaces]
            arguments += [*keywords, f"samples={literal(samples)}"]
            function = IN_PARTS.function
        yield call(function, arguments, 4)
        averaged = attrs.get("averaged", 1)
        if isinstance(averaged, int) and averaged > 1 and not self.emission.exact:  # stand-ins take no means
            for name in outputs[:1] if stage == "forward" else outputs:
                yield f"    {name} /= {averaged}  # each of {averaged} parts took means of its own"

    def _keywords(self, made: Compute) -> list[str]:
        """Attributes, by the name of their constant where they are many, then values that the place and time decide."""
        attributes = self._attributes(made)
        if self._has_pads(made):
            attributes.pop("pad", None)
        if len(attributes) >= SHARED_FROM:
            name = self._constant(made)
            known = self.constants.setdefault(name, {})
            if any(known.get(key, text) != text for key, text in attributes.items()):
                keywords = [f"{key}={text}" for key, text in attributes.items()]
            else:
                known.update(attributes)
                keywords = [f"**{name}"]
                absent = set(known) - set(attributes)
                keywords = keywords if not absent else [f"{key}={text}" for key, text in attributes.items()]
        else:
            keywords = [f"{name}={text}" for name, text in attributes.items()]
        return [*keywords, *self._told(made)]

    def _told(self, made: Compute) -> Iterator[str]:
        kernel = self.emission.kernel(made)
        for name in made.runtime:
            if name == "position":
                yield f"position=at.position({literal(self._samples_over(made))})"
            elif name == "origin":
                yield "origin=origin"
            elif name != "pads" and takes(kernel, name):
                yield f"{name}=at.{name}"
        if made.kernel[0] == "bn" and "position" in made.runtime:
            yield "first=at.first"
            pixels = self._split_pixels(made)
            yield from (f"pixels={pixels}",) if pixels else ()

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

    def _pads(self, made: Compute) -> str:
        """The pads of a part: those of the whole at its outer borders."""
        array = next(name for name in (*made.inputs, *made.outputs) if name in self.arrays.halos)
        return call("pad = place.pads", [self._at(array), literal(dict(made.attrs)["pad"])], 4)

    def _attributes(self, made: Compute) -> dict[str, str]:
        """The attributes that the kernel takes by name, as text."""
        kernel = self.emission.kernel(made)
        given = dict(made.attrs) | ({"layout": made.layout} if made.layout else {})
        kept = {name: value for name, value in given.items() if name not in PARTS or name == "copies"}
        return {name: literal(value) for name, value in kept.items() if takes(kernel, name)}

    def _constant(self, made: Compute) -> str:
        op, stage, _ = made.kernel
        return (op if stage == "update" else identifier(made.address.partition("@")[0])).upper()

    # --- updates -----------------------------------------------------------------------------------------------

    def _alike(self, instruction: Instruction) -> object:
        """What updates have in common that one loop can make; None for anything else."""
        if not isinstance(instruction, Compute) or instruction.kernel[1] != "update" or instruction.outputs:
            return None
        if "lr" not in instruction.runtime or len(instruction.inputs) < 2:
            return None
        name, suffixes = self._suffixes(instruction)
        return (instruction.kernel, instruction.attrs, suffixes) if name else None

    def _suffixes(self, update: Compute) -> tuple[str, tuple[str, ...]]:
        """The name that the arrays of an update begin with, and how each goes on behind it; "" where they do not."""
        base = identifier(update.address.partition("@")[0])
        names = [self.arrays.names[name] for name in update.inputs]
        if not all(name.startswith(base) for name in names):
            return "", ()
        spaces = [self.arrays.space(name) for name in update.inputs]
        return base, tuple(f"{space}{name[len(base) :]}" for space, name in zip(spaces, names, strict=True))

    def _loop(self, updates: Sequence[Compute]) -> Iterator[str]:
        """One rule for several weights."""
        first = updates[0]
        _, suffixes = self._suffixes(first)
        yield "    for name in ("
        yield from (f"        {literal(self._suffixes(update)[0])}," for update in updates)
        yield "    ):"
        arrays = [
            f"getattr({each[0]}, {'name' if len(each) == 1 else 'f' + literal('{name}' + each[1:])})"
            for each in suffixes
        ]
        yield call(self.emission.kernel(first).function, [*arrays, *self._keywords(first)], 8)

    # --- names -------------------------------------------------------------------------------------------------

    def _at(self, name: str) -> str:
        return self.arrays.expression(name)

    def _spec(self, name: str) -> str:
        return self.arrays.spec(self.arrays.role.buffer(name))


def takes(kernel: Kernel, name: str) -> bool:
    """Whether a kernel takes this keyword: it names it, or it takes `**attrs`; `**_` only lets it pass."""
    function = getattr(import_module(f"backends.numpy_mpi.kernels.{kernel.module}"), kernel.function)
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD and p.name != "_" for p in parameters.values())
