"""A kernel on a virtual rank: its arrays, and what it is told as the program runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backends.numpy_mpi.kernels import EXACT, KERNELS
from backends.numpy_mpi.kernels.parts import in_parts
from dlc.ir.mesh import shards
from dlc.ir.program import Compute, Row
from dlc.ir.tensor import BATCH
from dlc.ops.fusion import UPDATES, main_of
from dlc.ops.indexing import Halo
from tests.kernels.calling import kernel
from tests.passes.lowering.rank_memory import JUNK, Array, Memory, equal

if TYPE_CHECKING:
    from tests.passes.lowering.virtual_ranks import World

OWN = ("once", "averaged", "parts", "rows", "border")
"""Attributes that say how a part is computed; no kernel takes them."""


@dataclass
class Call:
    """One kernel on one rank, called as an emitted program does."""

    world: World
    memory: Memory
    row: Row
    made: Compute

    def run(self) -> None:
        """What works in place has the buffers themselves; else results are copied to theirs, and inputs stay."""
        if self.made.kernel[1] == UPDATES:
            self._update_all()
            return
        made, attrs = self.made, dict[str, Any](self.made.attrs)
        inputs, outputs = (
            [self.memory.array(n, self.row.slot) for n in names] for names in (made.inputs, made.outputs)
        )
        if not outputs or set(made.outputs) & set(made.inputs):
            self._call(inputs, outputs, attrs)
            return
        given = [array.copy() for array in inputs]
        if not self._first(attrs.get("once", ())):
            given[-1].fill(0)
        before, results = [array.copy() for array in given], [np.full_like(array, JUNK) for array in outputs]
        if made.rows:
            results = [array.copy() for array in outputs]
            self._call_by_rows(given, results, attrs)
        else:
            self._call(given, results, attrs)
        assert all(map(equal, before, given)), f"{made.address} writes what it reads"
        averaged = 1 if self.world.exact else attrs.get("averaged", 1)
        for array in results[:1] if made.kernel[1] == "forward" else results:
            if averaged > 1:
                array /= averaged
        for array, result in zip(outputs, results, strict=True):
            array[...] = result

    def _update_all(self) -> None:
        """Many updates as one call, with a row of arrays for each."""
        made, memory = self.made, self.memory
        rows = [[memory.array(name, self.row.slot) for name in each.inputs] for each in made.members]
        kernel(*made.kernel)(*rows, **dict(made.attrs), **self._runtime(dict(made.attrs)))

    def _call_by_rows(self, inputs: list[Array], outputs: list[Array], attrs: Mapping[str, Any]) -> None:
        """The runs of those result rows whose windows read the rank's own rows alone, or of the others."""
        memory, (which, axis) = self.memory, attrs["rows"]
        narrow, facts = memory.halos[self.made.inputs[0]]
        assert facts["axis"] == axis
        at = memory.role.buffer(narrow).type.names.index(axis)
        (first, last), extent = memory.box(narrow)[at], memory.role.buffer(narrow).type.extent(axis)
        start, stop = memory.box(self.made.outputs[0])[at]
        halo = Halo(facts["before"], facts["after"], facts["stride"], facts["step"])

        def inside(row: int) -> bool:
            low, high = halo.reads(row, row + 1)
            return first <= max(0, low) and min(high, extent) <= last

        rows = [row for row in range(start, stop) if inside(row) == (which == "inner")]
        runs = [run for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if len(run)]
        place = (self.made.layout or "NCHW").index("NCHW"[at]) if inputs[0].ndim == 4 else at
        begin = memory.box(self.made.inputs[0])[at][0]
        for run in runs:
            low, high = halo.reads(int(run[0]), int(run[-1]) + 1)
            read = slice(max(0, low) - begin, max(0, min(high, extent)) - begin)
            along, written = (slice(None),) * place, slice(run[0] - start, run[-1] + 1 - start)
            results = [np.full_like(array[(*along, written)], JUNK, order="C") for array in outputs]
            pads = list(self._pads(attrs)) if "pad" in attrs else []
            if pads:
                before, after = attrs["pad"][at - 2]
                pads[at - 2] = (min(before, max(0, -low)), min(after, max(0, high - extent)))
            x = np.ascontiguousarray(inputs[0][(*along, read)])
            self._call([x, *inputs[1:]], results, attrs, {"pad": tuple(pads)} if pads else {})
            for array, result in zip(outputs, results, strict=True):
                array[(*along, written)] = result

    def _call(
        self, inputs: list[Array], outputs: list[Array], attrs: Mapping[str, Any], told: Mapping[str, Any] | None = None
    ) -> None:
        made = self.made
        keywords = {name: value for name, value in attrs.items() if name not in OWN} | self._runtime(attrs)
        keywords |= told or {}
        if made.layout:
            keywords["layout"] = made.layout
        padded = "pad" not in keywords or any(map(any, keywords["pad"]))  # a part without pads needs no room for them
        padded = padded or made.kernel[2] not in ("im2col", "direct")  # whose kernels take none
        names = [name for name in made.workspaces if padded or not name.endswith(".padded")]
        spaces = [np.full(self.memory.role.buffer(name).type.shape, JUNK) for name in names]
        function = kernel(*made.kernel, table=EXACT if self.world.exact else KERNELS)
        if attrs.get("parts", 1) > 1 and made.workspaces:
            types = [self.memory.role.buffer(name).type for name in (*made.inputs, *made.outputs)]
            keywords["samples"] = [at for at, type_ in enumerate(types) if type_.batched]
            in_parts(function, attrs["parts"], len(inputs), [*inputs, *outputs], *spaces, **keywords)
        else:
            function(*inputs, *outputs, *spaces, **keywords)

    def _first(self, axes: Sequence[str]) -> bool:
        """Whether the rank is the first one along these mesh axes."""
        return all(self.memory.mesh.coordinate(self.memory.rank, axis) == 0 for axis in axes)

    def _runtime(self, attrs: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        batch = self.world.program.batch
        for name in self.made.runtime:
            match name:
                case "count":
                    found[name] = batch
                case "position":
                    found[name] = self._position()
                case "step":
                    found[name] = 1
                case "lr":
                    found[name] = self.world.rate
                case "origin":
                    found[name] = tuple(map(self._origin, (*self.made.inputs, *self.made.outputs)))
                case "pads":
                    found["pad"] = self._pads(attrs)
                case _:
                    raise AssertionError(f"{self.made.address} wants {name}")
        if main_of(self.made).kernel[0] == "bn" and "position" in self.made.runtime:
            x = self.memory.role.buffer(self.made.inputs[0]).type
            found |= {"first": self.row.microbatch * (batch // self.memory.microbatches)}
            found |= {"pixels": int(np.prod(x.shape[2:]))}
        return found

    def _origin(self, name: str) -> tuple[tuple[int, int], ...]:
        """(start, whole extent) of each axis of a buffer; samples are counted by themselves."""
        type_, held = self.memory.role.buffer(name).type, self.memory.box(name)
        pairs = zip(type_.axes, held, strict=True)
        return tuple((0, b - a) if axis.name == BATCH else (a, axis.extent) for axis, (a, b) in pairs)

    def _position(self) -> int:
        """The number in the batch of the first sample at hand."""
        for name in (*self.made.inputs, *self.made.outputs):
            buffer = self.memory.role.buffer(name)
            if buffer.type.batched:
                size = buffer.type.extent("batch") // self.memory.microbatches
                at = buffer.type.names.index("batch")
                return self.row.microbatch * size + self.memory.box(name)[at][0]
        raise AssertionError(f"{self.made.address} has no batch")

    def _pads(self, attrs: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
        """The pads of a part: those of the whole at the outer borders."""
        images = [n for n in (*self.made.inputs, *self.made.outputs) if len(self.memory.role.buffer(n).type.axes) == 4]
        pads = list(attrs["pad"])
        for name in images:
            at = name
            while at in self.memory.halos:
                narrow, facts = self.memory.halos[at]
                buffer = self.memory.role.buffer(narrow)
                index = buffer.type.names.index(facts["axis"]) - 2
                first, last = self.unclipped(narrow, facts)
                extent = buffer.type.extent(facts["axis"])
                before, after = attrs["pad"][index]
                pads[index] = (min(before, max(0, -first)), min(after, max(0, last - extent)))
                at = narrow
        return tuple(pads)

    def unclipped(self, narrow: str, facts: Mapping[str, Any]) -> tuple[int, int]:
        mesh, rank, count, index = self.memory.mesh, self.memory.rank, 1, 0
        for name, at in zip(mesh.names, self.memory.role.buffer(narrow).placement, strict=True):
            if at == facts["axis"]:
                count, index = count * mesh.extent(name), index * mesh.extent(name) + mesh.coordinate(rank, name)
        halo = Halo(facts["before"], facts["after"], facts["stride"], facts["step"])
        return halo.reads(*shards(facts["results"], count)[index])
