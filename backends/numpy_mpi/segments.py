"""Segments as functions of train.py: one call an instruction, with its address and reason above it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TypeGuard

from backends.numpy_mpi.emission import Emission
from backends.numpy_mpi.kernels import Kernel
from backends.numpy_mpi.names import identifier, namespace
from backends.numpy_mpi.tables import scratch_name
from backends.numpy_mpi.text import call, comment, literal
from dlc.ir.program import Collective, Compute, Copy, Instruction, Load, Role, Segment
from dlc.ops import optimizer

TITLES = {
    "load": "This rank's samples of a batch, and their labels.",
    "forward": "The network, its loss and its metrics.",
    "backward": "The gradients, summed over the ranks as soon as a bucket is complete.",
    "update": "One step of the optimizer; every rank does the same.",
    "evaluate": "Loss and metrics of what was predicted, added to the totals.",
    "total": "The totals over all ranks.",
    "load_inputs": "This rank's samples of a batch.",
    "predict": "The network in inference mode, as far as its outputs.",
}
RUNTIME = {"count": "at.count", "position": "at.position", "step": "at.step", "lr": "at.lr"}
SHARED_FROM = 3  # attributes
PARAMETERS = ("loader", "indices", "a", "w", "g", "s", "at", "world")


@dataclass(frozen=True, slots=True)
class SegmentText:
    """One function of train.py."""

    name: str
    title: str
    parameters: str
    body: str


@dataclass(frozen=True, slots=True)
class SegmentWriter:
    """Writes the segments of a role; attributes that several calls of an op share become constants."""

    emission: Emission
    role: Role
    names: Mapping[str, str]

    def segments(self) -> list[SegmentText]:
        """The segments that do something, in the program's order."""
        return [self.segment(segment) for segment in self.role.segments if segment.instructions]

    def constants(self) -> str:
        """`C1_CONV = dict(…)`: the attributes of each op that has many, of all its calls together."""
        found: dict[str, dict[str, str]] = {}
        for segment in self.role.segments:
            for instruction in segment.instructions:
                if isinstance(instruction, Compute):
                    attributes = self._attributes(instruction)
                    if len(attributes) >= SHARED_FROM:
                        found.setdefault(self._constant(instruction), {}).update(attributes)
        return "\n".join(
            call(f"{name} = dict", [f"{key}={text}" for key, text in attributes.items()])
            for name, attributes in found.items()
        )

    def segment(self, segment: Segment) -> SegmentText:
        """One segment as a function of the namespaces that it uses."""
        instructions = segment.instructions
        updated = self.trained() if segment.name == "update" else ()
        if updated:
            instructions = tuple(i for i in instructions if not _updates_weight(i))
        lines = [line for instruction in instructions for line in self._lines(instruction)]
        body = "\n".join([*lines, *(self._loop(segment) if updated else ())])
        code = re.sub(r"#.*|\"[^\"]*\"", "", body)
        used = [name for name in PARAMETERS if re.search(rf"(?<![\w.]){name}\b(?!=)", code)]
        return SegmentText(segment.name, TITLES[segment.name], ", ".join(used), body)

    def trained(self) -> tuple[str, ...]:
        """The attributes of all trained weights, where they are alike in w, g and s and one rule updates each."""
        updates = [i for i in self.role.segment("update").instructions if _updates_weight(i)]
        if any(optimizer(update.kernel[0]).joint for update in updates):
            return ()
        found = [self.names[update.inputs[0]] for update in updates]
        alike = all(
            (update.kernel, update.attrs) == (updates[0].kernel, updates[0].attrs)
            and self._states(update) == self._states(updates[0])
            and self.names[update.inputs[1]] == name
            for update, name in zip(updates, found, strict=True)
        )
        return tuple(found) if alike else ()

    def _states(self, update: Compute) -> tuple[str, ...]:
        """What the states of a weight are called beside it."""
        weight = self.names[update.inputs[0]]
        return tuple(self.names[name].removeprefix(weight) for name in update.inputs[2:])

    def _loop(self, segment: Segment) -> Iterator[str]:
        """One rule for all weights."""
        update = next(i for i in segment.instructions if _updates_weight(i))
        states = [f'getattr(s, f"{{name}}{state}")' for state in self._states(update)]
        arrays = ["getattr(w, name)", "getattr(g, name)", *states]
        yield "    for name in TRAINED:"
        yield call(self.emission.kernel(update).function, [*arrays, *self._keywords(update)], 8)

    def _lines(self, instruction: Instruction) -> Iterator[str]:
        match instruction:
            case Compute():
                yield from self._compute(instruction)
            case Load():
                arrays = {self.names[name]: self._array(name) for name in instruction.buffers}
                entries = ", ".join(f"{literal(name)}: {array}" for name, array in arrays.items())
                yield call("loader.fill", ["indices", f"{{{entries}}}"], 4)
                yield from self._rounded(instruction) if self.emission.exact else ()
            case Collective():
                yield comment(
                    f"{instruction.name}: summed over the ranks, {instruction.algorithm}: {instruction.reason}", 4
                )
                arguments = [self._array(instruction.buffer), literal(instruction.algorithm), literal(instruction.name)]
                yield call("world.allreduce", arguments, 4)
            case Copy(source=source, target=target, address=address):
                yield comment(f"{address}: a copy", 4)
                yield f"    {self._array(target)}[...] = {self._array(source)}"
            case _:
                raise ValueError(f"{instruction} has no text in this backend")

    def _rounded(self, load: Load) -> Iterator[str]:
        """Integers in the place of samples: sums of anything else would be rounded."""
        for buffer in map(self.role.buffer, load.buffers):
            if buffer.type.dtype in ("f32", "f64"):
                array = self._array(buffer.name)
                yield f"    {array}[...] = np.rint({array} * 64) % 7 - 3"

    def _compute(self, compute: Compute) -> Iterator[str]:
        kernel = self.emission.kernel(compute)
        yield comment(f"{compute.address}: {compute.reason}" if compute.reason else compute.address, 4)
        arrays = [self._array(name) for name in (*compute.inputs, *compute.outputs)]
        if compute.workspaces:
            arrays.append(f"*a.{scratch_name(compute)}")
        yield call(kernel.function, [*arrays, *self._keywords(compute)], 4)

    def _keywords(self, compute: Compute) -> list[str]:
        """Attributes, by the name of their constant where they are many, then runtime values."""
        attributes = self._attributes(compute)
        if len(attributes) >= SHARED_FROM:
            keywords = [f"**{self._constant(compute)}"]
        else:
            keywords = [f"{name}={text}" for name, text in attributes.items()]
        kernel = self.emission.kernel(compute)
        return [*keywords, *(f"{name}={RUNTIME[name]}" for name in compute.runtime if takes(kernel, name))]

    def _attributes(self, compute: Compute) -> dict[str, str]:
        """The attributes that the kernel takes by name, as text."""
        kernel = self.emission.kernel(compute)
        given = dict(compute.attrs) | ({"layout": compute.layout} if compute.layout else {})
        return {name: literal(value) for name, value in given.items() if takes(kernel, name)}

    def _constant(self, compute: Compute) -> str:
        """Its name: the op's, or the rule's where all weights are updated alike."""
        op, stage, _ = compute.kernel
        return (op if stage == "update" else identifier(compute.address.partition("@")[0])).upper()

    def _array(self, name: str) -> str:
        return f"{namespace(self.role.buffer(name))}.{self.names[name]}"


def _updates_weight(instruction: Instruction) -> TypeGuard[Compute]:
    """Whether an instruction is the optimizer's; running averages are updated otherwise."""
    return isinstance(instruction, Compute) and instruction.kernel[1] == "update" and "lr" in instruction.runtime


def takes(kernel: Kernel, name: str) -> bool:
    """Whether a kernel takes this keyword: it names it, or it takes `**attrs`; `**_` only lets it pass."""
    function = getattr(import_module(f"backends.numpy_mpi.kernels.{kernel.module}"), kernel.function)
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD and p.name != "_" for p in parameters.values())
