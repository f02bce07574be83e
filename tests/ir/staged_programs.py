"""Programs of pipelines whose stages are meshes of data × model ranks, of any size: layers of linear kernels.

Roles grow with the stages, segments with the layers of a stage, rows with the microbatches; nothing grows with the
ranks but their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from dlc.ir.mesh import Mesh, shards
from dlc.ir.program import (
    Buffer,
    Collective,
    CommunicationGroup,
    Compute,
    Copy,
    Entry,
    Instruction,
    Load,
    Program,
    Receive,
    Role,
    Row,
    Segment,
    Send,
    Wait,
)
from dlc.ir.tensor import tensor
from tests.ir.sample_programs import order

SPLIT, ROWS = ("batch", ""), ("batch", "feature")


@dataclass(frozen=True)
class Shape:
    """What a pipeline looks like. `layers` and `kernels` (of a layer and pass) may differ by stage.

    `sums` says when gradients are summed: `blocking` at the end, `last` microbatch's backward pass without blocking, or
    behind `each` microbatch, up to the next one. `gathers` are weights gathered ahead of each layer, `offloads` copies
    beside the kernels, `expects` receives that begin before the row that needs them.
    """

    stages: int = 2
    data: int = 2
    model: int = 1
    microbatches: int = 2
    layers: tuple[int, ...] = (2, 2)
    kernels: int = 2
    batch: int = 8
    width: int = 8
    schedule: str = "gpipe"
    blocking: bool = True
    sums: str = "blocking"
    gathers: bool = False
    offloads: bool = False
    expects: bool = False

    @property
    def samples(self) -> int:
        """Of the largest microbatch."""
        return -(-self.batch // self.microbatches)

    @property
    def stage_ranks(self) -> int:
        return self.data * self.model


def staged(shape: Shape, meshes: bool = True) -> Program:
    """The training step of a pipeline; without `meshes` buffers are not placed, and shards say what a rank holds."""
    mesh = Mesh((("pipeline", shape.stages), ("data", shape.data), ("model", shape.model)))
    named = (("pipeline",), ("data",), ("model",), ("data", "model"))
    groups = tuple(CommunicationGroup("+".join(axes), mesh.groups(axes)) for axes in named)
    roles = tuple(_Stage(shape, stage, meshes).role() for stage in range(shape.stages))
    return Program("staged", shape.batch, "f32", roles, groups)


@dataclass(frozen=True)
class _Stage:
    shape: Shape
    stage: int
    meshes: bool

    @property
    def last(self) -> bool:
        return self.stage == self.shape.stages - 1

    def role(self) -> Role:
        shape, first = self.shape, self.stage * self.shape.stage_ranks
        mesh = Mesh((("data", shape.data), ("model", shape.model)), first)
        held = tuple(shard for shard in shards(shape.batch, shape.data) for _ in range(shape.model))
        segments = (
            Segment("reset", (self._kernel("reset", "w0", "g0"),)),
            Segment("expect", tuple(self._receive("x", -1, blocking=False))),
            Segment("forward", tuple(self._forward())),
            Segment("sent_y", (Wait(f"y{self.stage}"),)),
            Segment("backward", tuple(self._backward(last=False))),
            Segment("backward_last", tuple(self._backward(last=True))),
            Segment("sent_dx", (Wait(f"dx{self.stage}"),)),
            Segment("summed", tuple(Wait(f"sum{layer}") for layer in self._layers)),
            Segment("update", tuple(self._update())),
        )
        return Role(
            f"stage{self.stage}",
            tuple(range(first, first + shape.stage_ranks)),
            held,
            tuple(self._buffers()),
            segments,
            (Entry("train_step", tuple(self._rows())),),
            mesh if self.meshes else None,
        )

    @property
    def _layers(self) -> range:
        return range(self.shape.layers[self.stage])

    def _buffers(self) -> Iterator[Buffer]:
        """Weights are split by `model` along their outputs; activations by `data` along the batch."""
        batch, width = self.shape.batch, self.shape.width
        value, weight = tensor("f32", batch=batch, feature=width), tensor("f32", out=width, **{"in": width})
        placed = (SPLIT, ROWS, ("", "out"), ("in", "out")) if self.meshes else ((), (), (), ())
        for name in ("x", "dx", *(f"h{layer}" for layer in self._layers)):
            yield Buffer(name, value, "gradient" if name == "dx" else "activation", placement=placed[0])
        yield Buffer("dy", value, "gradient", placement=placed[0])
        yield Buffer("kept", value, "saved", placement=placed[0])
        yield Buffer("norm", tensor("f32", out=width, **{"in": width}), "constant", placement=placed[2])
        for layer in self._layers:
            yield Buffer(f"w{layer}", weight, "weight", placement=placed[2])
            yield Buffer(f"shard{layer}", weight, "weight", placement=placed[3])
            yield Buffer(f"full{layer}", weight, "activation", placement=placed[2])
            yield Buffer(f"g{layer}", weight, "gradient", placement=placed[2])
            yield Buffer(f"scratch{layer}", tensor("u8", byte=64 * (layer + 1)), "workspace")
            for index in range(self.shape.kernels):
                yield Buffer(f"a{layer}.{index}", value, "activation", placement=placed[1])

    def _kernel(self, address: str, inputs: str, outputs: str, layer: int | None = None, stage: str = "") -> Compute:
        scratch = () if layer is None else (f"scratch{layer}",)
        attrs = (("features", self.shape.width), ("bias", False))
        call = ("linear", stage, "") if stage else ("reset", "forward", "")
        return Compute(f"s{self.stage}.{address}", call, tuple(inputs.split()), tuple(outputs.split()), scratch, attrs)

    def _sum(self, name: str, group: str, buffer: str, blocking: bool = True) -> Collective:
        shape, width = self.shape, self.shape.width
        rows, columns = (shape.samples, width) if buffer[0] == "a" else (width, width)
        if self.meshes:
            rows = -(-rows // shape.data) if buffer[0] == "a" else rows
            columns = -(-columns // shape.model)
        elif buffer[0] == "a":
            rows = shape.batch
        return Collective(name, "allreduce", group, "ring", buffer, 4 * rows * columns, blocking)

    def _gather(self, layer: int) -> Collective:
        width = self.shape.width
        size = 4 * width * (-(-width // self.shape.model) if self.meshes else width)
        source, target = f"shard{layer}", f"full{layer}"
        return Collective(f"gather{layer}", "allgather", "data", "allgather", source, size, False, target=target)

    def _forward(self) -> Iterator[Instruction]:
        if self.stage == 0:
            yield Load(("x",))
        elif self.shape.expects:
            yield Wait(f"y{self.stage - 1}")
        else:
            yield from self._receive("x", -1)
        if self.shape.offloads:
            yield Copy("x", "kept", "offload", blocking=False)
        for layer in self._layers:
            yield from self._gathered(layer, layer + 1)
            at = "x" if layer == 0 else f"h{layer - 1}"
            for index in range(self.shape.kernels):
                made = f"a{layer}.{index}"
                yield self._kernel(f"l{layer}.{index}", f"{at} w{layer}", made, layer, "forward")
                at = made
            if self.shape.model > 1:
                yield self._sum(f"sum_h{layer}", "model", f"a{layer}.0")
            yield self._kernel(f"l{layer}.add", f"{at} w{layer}", f"h{layer}", None, "forward")
        if self.shape.offloads:
            yield Wait("offload")
        if not self.last:
            yield self._send(f"y{self.stage}", 1, f"h{self._layers[-1]}")

    def _backward(self, last: bool) -> Iterator[Instruction]:
        if self.last:
            yield self._kernel("loss@dx", f"h{self._layers[-1]} w0", "dy", None, "dx")
        else:
            yield from self._receive("dy", 1)
        each = self.shape.sums == "each" or (last and self.shape.sums == "last")
        for layer in reversed(self._layers):
            yield from self._gathered(layer, layer - 1)
            at = "dy" if layer == self._layers[-1] else f"h{layer}"
            for index in reversed(range(self.shape.kernels)):
                yield self._kernel(f"l{layer}.{index}@dx", f"{at} w{layer}", f"a{layer}.{index}", layer, "dx")
                held = f"a{layer}.{index} x"
                yield self._kernel(f"l{layer}.{index}@dw", held, f"g{layer}", None, "dw")
            if each:
                yield self._sum(f"sum{layer}", "data", f"g{layer}", blocking=False)
            if self.shape.model > 1:
                yield self._sum(f"sum_dx{layer}", "model", f"a{layer}.0")
        if self.stage:
            yield self._kernel("dx", "a0.0 w0", "dx", None, "dx")
            yield self._send(f"dx{self.stage}", -1, "dx")

    def _gathered(self, layer: int, ahead: int) -> Iterator[Instruction]:
        """Weights of this layer, whose gather began one layer ago, and the begin of the next one's."""
        if not self.shape.gathers:
            return
        first, stop = (0, len(self._layers)) if ahead > layer else (len(self._layers) - 1, -1)
        if layer == first:
            yield self._gather(layer)
        if ahead != stop:
            yield self._gather(ahead)
        yield Wait(f"gather{layer}")

    def _update(self) -> Iterator[Instruction]:
        for layer in self._layers:
            if self.shape.sums == "blocking":
                yield self._sum(f"sum{layer}", "data", f"g{layer}")
            yield self._kernel(f"w{layer}@update", f"w{layer} g{layer}", "")
        yield self._sum("norm", "data+model", "norm")

    def _send(self, name: str, peer: int, buffer: str) -> Send:
        size = 4 * self.shape.batch * self.shape.width
        return Send(name, "pipeline", peer, buffer, size, self.shape.blocking)

    def _receive(self, buffer: str, peer: int, blocking: bool = True) -> Iterator[Receive]:
        other = self.stage + peer
        if 0 <= other < self.shape.stages:
            name, size = f"{'y' if peer < 0 else 'dx'}{other}", 4 * self.shape.batch * self.shape.width
            yield Receive(name, "pipeline", peer, buffer, size, blocking)

    def _rows(self) -> Iterator[Row]:
        """The schedule, with the waits for messages in front of the next ones of the same name."""
        shape = self.shape
        sends = {"F": not shape.blocking and not self.last, "B": not shape.blocking and self.stage > 0}
        cells, sent, summed = order(self.stage, shape.stages, shape.microbatches, shape.schedule), "", False
        slots = shape.microbatches if shape.schedule == "gpipe" else min(shape.stages - self.stage, shape.microbatches)
        slots += shape.expects  # what is expected lies in one of its own
        yield Row("reset")
        if shape.expects and self.stage:
            yield Row("expect", 0, 0)
        for what, microbatch in cells:
            slot = microbatch % slots
            if sends[what] and what in sent:
                yield Row("sent_y" if what == "F" else "sent_dx", microbatch, slot)
            if what == "B" and summed:
                yield Row("summed", microbatch, slot)
                summed = False
            final = microbatch == shape.microbatches - 1
            yield Row("forward" if what == "F" else "backward_last" if final else "backward", microbatch, slot)
            sent += what
            summed = summed or (shape.sums == "each" and what == "B")
            if shape.expects and self.stage and what == "F" and not final:
                yield Row("expect", microbatch + 1, (microbatch + 1) % slots)
        yield from (Row(name) for what, name in (("F", "sent_y"), ("B", "sent_dx")) if sends[what])
        if shape.sums != "blocking":
            yield Row("summed")
        yield Row("update")


def drawn_shape(random: Random, most: int = 64) -> Shape:
    """Any shape of at most so many ranks that does not deadlock."""
    while True:
        stages, data, model = random.randint(1, 5), random.choice((1, 2, 3, 4, 8)), random.choice((1, 1, 2, 4))
        if stages * data * model <= most:
            break
    microbatches = random.randint(1, 6)
    blocking = random.random() < 0.4
    return Shape(
        stages,
        data,
        model,
        microbatches,
        tuple(random.randint(1, 4) for _ in range(stages)),
        random.randint(1, 3),
        microbatches * data * random.randint(1, 2) + random.choice((0, 0, 1, 3)),
        8,
        "gpipe" if blocking else random.choice(("gpipe", "1f1b")),
        blocking,
        random.choice(("blocking", "last", "each")),
        random.random() < 0.3,
        random.random() < 0.3,
        random.random() < 0.3 and not blocking,
    )
