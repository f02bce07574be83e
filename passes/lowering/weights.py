"""What a role keeps from step to step: its weights, shared out or whole, and those that other roles use as well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dlc.ir.program import Buffer, Compute, Instruction, Receive, Send
from dlc.ir.tensor import DTYPE_BYTES, tensor
from passes.lowering.forms import Form, whole
from passes.lowering.role import Buffers
from passes.lowering.setting import PIPELINE, Setting
from passes.lowering.shards import Shards, Unit
from passes.lowering.stages import Stage
from passes.lowering.totals import Totals
from passes.lowering.values import Forms, Values

KEPT = ("weight", "statistic", "constant")


@dataclass(frozen=True, slots=True)
class Tied:
    """A weight that ops on several devices use: its owner's device, all of them, and those with gradients of it."""

    weight: str
    owner: int
    borrowers: tuple[int, ...]
    giving: tuple[int, ...]


def tied_weights(found: Setting) -> tuple[Tied, ...]:
    """The weights with uses on several devices, in the order of the graph; the first with a gradient owns it."""
    users: dict[str, dict[int, None]] = {}
    for stage in found.cut.stages if found.staged else ():
        for node in stage.forward:
            for name in node.inputs:
                if found.graph.value(name).kind == "weight":
                    users.setdefault(name, {})[stage.index % found.devices] = None
    tied = list[Tied]()
    for name, at in users.items():
        giving = {found.cut.made[part] % found.devices for part in found.cut.parts.get(name, ())}
        if len(at) > 1 and giving:
            owner = next(device for device in at if device in giving)
            tied.append(Tied(name, owner, tuple(sorted(at)), tuple(sorted(giving))))
    return tuple(tied)


@dataclass(slots=True)
class Weights:
    """What a role keeps from step to step, and what it owes other roles for the weights that it shares with them."""

    setting: Setting
    buffers: Buffers
    totals: Totals
    stages: Sequence[Stage]
    tied: Sequence[Tied]
    device: int
    shards: Shards = field(init=False)

    def __post_init__(self) -> None:
        self.shards = Shards(self.setting, self.buffers)

    @property
    def updated(self) -> frozenset[str]:
        """The weights that this role updates: all that have a gradient here, but for those that it borrows."""
        borrowed = {each.weight for each in self.tied if each.owner != self.device}
        weights = (value.partition("@")[0] for value in self.totals.of if value.endswith("@grad"))
        return frozenset(name for name in weights if name not in borrowed)

    def hold(self) -> dict[str, dict[Form, str]]:
        """The buffers of weights, statistics and constants that these stages read, at home."""
        graph, homes = self.setting.graph, self.setting.homes
        nodes = (node for stage in self.stages for node in (*stage.forward, *stage.backward))
        names = dict.fromkeys(name for node in nodes for name in node.inputs if graph.value(name).kind in KEPT)
        self._flat()
        held: dict[str, dict[Form, str]] = {}
        for name in names:
            value = graph.value(name)
            form = homes.setdefault(name, Form(("",) * len(self.setting.mesh.axes)))
            if name not in self.shards.of:
                self.buffers.add(Buffer(name, value.type, value.kind, placement=form.placement))
                held[name] = {form: name}
        return held

    def spread(self, held: Forms) -> tuple[tuple[Instruction, ...], Forms]:
        """Weights in all forms that their uses want: moved once a step, not in each of many microbatches."""
        values = Values(
            self.setting, self.buffers, 0, {name: dict(forms) for name, forms in held.items()}, lasting=True
        )
        values.born.update((name, next(iter(forms))) for name, forms in held.items())
        weights = {name for name in held if self.setting.graph.value(name).kind == "weight"}
        for node in (node for stage in self.stages for node in (*stage.forward, *stage.backward)):
            if weights.intersection(node.inputs):
                for name, form in zip(node.inputs, self.setting.kinds.of(node).inputs, strict=True):
                    if name in weights:
                        values.fetch(name, form)
        return tuple(values.out), values.forms

    def _flat(self) -> None:
        """Weights that are gathered together lie together: an op's shards, or the weights of a bucket."""
        setting = self.setting
        units: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for bucket in self.totals.buckets:
            sharded = [total for total in bucket.members if total.shard is not None]
            if setting.plan.shard == "weights":
                for total in sharded:
                    weight = total.value.partition("@")[0]
                    units.setdefault((setting.graph.value(weight).owner or weight, total.axes), []).append(weight)
                continue
            weights = [total.value.partition("@")[0] for total in sharded]
            if weights:
                self._together(f"{bucket.name}.weights", weights)
        for (owner, axes), weights in units.items():
            forms = {name: Form(self.totals.of[f"{name}@grad"].shard or ()) for name in weights}
            self.shards.hold(Unit(owner, tuple(weights), axes), forms)

    def _together(self, name: str, weights: Sequence[str]) -> None:
        setting, offset = self.setting, 0
        dtype = setting.graph.type(weights[0]).dtype
        size = sum(setting.bytes(each, setting.homes[each]) for each in weights) // DTYPE_BYTES[dtype]
        self.buffers.add(Buffer(name, tensor(dtype, element=size), "weight"))
        for each in weights:
            type_, form = setting.graph.type(each), setting.homes[each]
            self.buffers.add(Buffer(each, type_, "weight", view_of=name, offset=offset, placement=form.placement))
            offset += setting.bytes(each, form) // DTYPE_BYTES[dtype]

    def reduce(self) -> Iterator[Instruction]:
        """The gradients of shared weights go to their owners, which add them to their own."""
        for each in self.tied:
            value = f"{each.weight}@grad"
            for other in (device for device in each.giving if device != each.owner):
                name, size = f"{value}.stage{other}", self.setting.bytes(value, self.setting.homes[each.weight])
                if other == self.device:
                    yield from self.totals.wait(value)
                    values = Values(self.setting, self.buffers, 0, {})
                    values.put(value, Form(whole(self.totals.of[value].form.placement)), value)
                    sent = values.fetch(value, Form(self.setting.homes[each.weight].placement))
                    yield from values.out
                    yield Send(name, PIPELINE, each.owner - other, sent, size)
                elif each.owner == self.device:
                    yield from self.totals.wait(value)
                    type_, placement = self.setting.graph.type(value), self.setting.homes[each.weight].placement
                    self.buffers.add(Buffer(name, type_, "gradient", placement=placement))
                    yield Receive(name, PIPELINE, other - each.owner, name, size)
                    reason = "of uses on another stage"
                    yield Compute(f"{name}.add", ("sum", "sum", ""), (value, name), (value,), reason=reason)

    def lend(self) -> Iterator[Instruction]:
        """The new weights go back to the roles that borrow them."""
        for each in self.tied:
            size = self.setting.bytes(each.weight, self.setting.homes[each.weight])
            for other in (device for device in each.borrowers if device != each.owner):
                name = f"{each.weight}.stage{other}"
                if other == self.device:
                    yield Receive(name, PIPELINE, each.owner - other, each.weight, size)
                elif each.owner == self.device:
                    yield Send(name, PIPELINE, other - each.owner, each.weight, size)
