"""Segments as functions of train.py: one call an instruction, with its address and reason above it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from backends.numpy_mpi.names import namespace
from backends.numpy_mpi.text import call, comment, literal
from dlc.ir.program import Collective, Compute, Instruction, Load, Role, Segment

if TYPE_CHECKING:
    from backends.numpy_mpi.emit import Emission
    from backends.numpy_mpi.kernels import Kernel

TITLES = {
    "load": "This rank's samples of a batch, and their labels.",
    "forward": "The network, its loss and its metrics.",
    "backward": "The gradients, summed over the ranks as soon as a bucket is complete.",
    "update": "One step of the optimizer; every rank does the same.",
    "evaluate": "The network in inference mode, its loss and metrics added to the totals.",
    "total": "The totals over all ranks.",
    "load_inputs": "This rank's samples of a batch.",
    "predict": "The network in inference mode, as far as its outputs.",
}
RUNTIME = {"count": "at.count", "position": "at.position", "step": "at.step", "lr": "at.lr"}
PARAMETERS = ("loader", "indices", "a", "w", "g", "s", "at", "world")


@dataclass(frozen=True, slots=True)
class SegmentText:
    """One function of train.py."""

    name: str
    title: str
    parameters: str
    body: str


def segments(emission: Emission, role: Role, names: Mapping[str, str]) -> list[SegmentText]:
    """The segments that do something, in the program's order."""
    writer = _Writer(emission, role, names)
    return [writer.segment(segment) for segment in role.segments if segment.instructions]


@dataclass(frozen=True, slots=True)
class _Writer:
    emission: Emission
    role: Role
    names: Mapping[str, str]

    def segment(self, segment: Segment) -> SegmentText:
        body = "\n".join(line for instruction in segment.instructions for line in self._lines(instruction))
        code = re.sub(r"#.*|\"[^\"]*\"", "", body)
        used = [name for name in PARAMETERS if re.search(rf"(?<![\w.]){name}\b(?!=)", code)]
        return SegmentText(segment.name, TITLES[segment.name], ", ".join(used), body)

    def _lines(self, instruction: Instruction) -> Iterator[str]:
        match instruction:
            case Compute():
                yield from self._compute(instruction)
            case Load():
                arrays = {self.names[name]: self._array(name) for name in instruction.buffers}
                entries = ", ".join(f"{literal(name)}: {array}" for name, array in arrays.items())
                yield call("loader.fill", ["indices", f"{{{entries}}}"], 4)
            case Collective():
                yield comment(f"{instruction.name}: sum over the ranks by {instruction.reason}", 4)
                arguments = [self._array(instruction.buffer), literal(instruction.algorithm), literal(instruction.name)]
                yield call("world.allreduce", arguments, 4)
            case _:
                raise ValueError(f"{instruction} has no text in this backend")

    def _compute(self, compute: Compute) -> Iterator[str]:
        kernel = self.emission.kernel(compute)
        yield comment(f"{compute.address}: {compute.reason}" if compute.reason else compute.address, 4)
        arrays = [self._array(name) for name in (*compute.inputs, *compute.outputs, *compute.workspaces)]
        yield call(kernel.function, [*arrays, *_keywords(kernel, compute)], 4)

    def _array(self, name: str) -> str:
        return f"{namespace(self.role.buffer(name))}.{self.names[name]}"


def _keywords(kernel: Kernel, compute: Compute) -> Iterator[str]:
    """The attributes and runtime values that the kernel takes by name; all of them where it takes `**attrs`."""
    function = getattr(import_module(f"backends.numpy_mpi.kernels.{kernel.module}"), kernel.function)
    parameters = inspect.signature(function).parameters.values()
    anything = any(p.kind is p.VAR_KEYWORD and not p.name.startswith("_") for p in parameters)
    accepted = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    given = {name: literal(value) for name, value in compute.attrs}
    given.update({name: RUNTIME[name] for name in compute.runtime})
    if compute.layout:
        given.setdefault("layout", literal(compute.layout))
    yield from (f"{name}={text}" for name, text in given.items() if anything or name in accepted)
