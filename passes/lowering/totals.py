"""What is summed over microbatches and ranks in a step: gradients of weights, the loss, metrics, running averages.

A total is born in parts, one for each use of a weight. With one microbatch it is computed in place; with several each
part is added to it. Totals that are sums over the same mesh axes lie in buckets, as far as possible in the order in
which the backward pass completes them, and each bucket is summed in one collective.

Under ZeRO a total ends in shards over the ranks that would otherwise have the same: 1 keeps whole totals and scatters
them once a step; 2 and 3 scatter them in every microbatch out of memory that buckets take in turns, two at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod

from dlc.ir.graph import Node
from dlc.ir.mesh import PARTIAL, Placement, parts
from dlc.ir.program import Buffer, Collective, Compute, Instruction, Wait
from dlc.ir.tensor import DTYPE_BYTES, tensor
from passes.buckets import BUCKET_BYTES, FIRST_BUCKET_BYTES
from passes.lowering.forms import Form, summed_axes
from passes.lowering.role import Buffers, Scratch
from passes.lowering.setting import Setting
from passes.lowering.stages import Stage
from passes.lowering.values import Values

TURNS = "gradients"
"""The storage that buckets take in turns where their totals are scattered at once."""


@dataclass(slots=True, eq=False)
class Total:
    """A value summed over a step: `form` is that in which its parts are added up, `shard` where ZeRO leaves it.

    `left` counts the parts that are still to come while instructions are made; `stage` is the last one that has some.
    """

    value: str
    parts: tuple[str, ...]
    form: Form
    axes: tuple[str, ...]
    shard: Placement | None
    stage: int
    spans: bool
    left: int = 0

    @property
    def key(self) -> tuple[object, ...]:
        """Totals of one bucket agree in this."""
        return self.axes, self.shard is not None, self.stage if self.shard is not None else 0


@dataclass(slots=True, eq=False)
class Bucket:
    """Totals back to back. `at_once` says that they are summed over ranks as soon as they are complete."""

    name: str
    members: tuple[Total, ...]
    axes: tuple[str, ...]
    sharded: bool
    at_once: bool
    bytes: int
    left: int = 0


@dataclass(slots=True)
class Totals:
    """The totals of one role, and their buckets; makes the instructions that add up parts and sum buckets."""

    setting: Setting
    buffers: Buffers
    by_part: dict[str, Total]
    of: dict[str, Total]
    buckets: tuple[Bucket, ...]
    bucket_of: dict[str, Bucket]
    flying: list[Bucket] = field(default_factory=list)

    @property
    def adds(self) -> bool:
        """Whether parts of several microbatches are added up."""
        return self.setting.many

    @property
    def scatters(self) -> bool:
        """Whether whole totals live for one microbatch only."""
        return self.setting.plan.shard in ("gradients", "weights")

    def prepare(self, completing: Iterable[str]) -> list[Instruction]:
        """The waits that come before an instruction that completes these parts: for the bucket that lay there."""
        found: list[Instruction] = []
        for part in completing:
            total = self.by_part[part]
            bucket = self.bucket_of[total.value]
            if total.left == 1 and bucket.sharded and self.scatters:
                at = self.buckets.index(bucket)
                found += [i for old in list(self.flying) if self._turn(old) and self.buckets.index(old) <= at - 2
                          for i in self._land(old)]  # fmt: skip
        return found

    def place(self, part: str, form: Form, values: Values, scratch: Scratch) -> str:
        """The buffer that a part is computed into: its total, scratch memory, or one of its own."""
        total = self.by_part[part]
        if not self.adds or (self.scatters and total.shard is not None):
            if len(total.parts) == 1 and form == total.form:
                return total.value
            return values.define(part, form)
        type_ = self.setting.graph.type(part)
        offset = scratch.take(self.setting.bytes(part, form))
        name = self.buffers.add(
            Buffer(
                f"{part}.part", type_, "gradient", view_of=scratch.pool.name, offset=offset, placement=form.placement
            )
        )
        values.put(part, form, name)
        return name

    def add(self, part: str, values: Values) -> list[Instruction]:
        """What follows a part: it is added to its total, and a bucket that is complete is summed."""
        total = self.by_part[part]
        values.out.extend(self._added(total, part, values))
        total.left -= 1
        if total.left:
            return []
        bucket = self.bucket_of[total.value]
        bucket.left -= 1
        return [] if bucket.left or not bucket.at_once else list(self._sum(bucket, self._overlaps(bucket)))

    def _added(self, total: Total, part: str, values: Values) -> Iterator[Instruction]:
        if self.adds and not (self.scatters and total.shard is not None):
            source = values.fetch(part, total.form)
            yield _sum(f"{part}.add", (total.value, source), total.value, "of this microbatch")
        elif total.left == 1 and (len(total.parts) > 1 or values.held(part)):
            sources = tuple(values.fetch(each, total.form) for each in total.parts)
            yield _sum(f"{total.value}.sum", sources, total.value, f"the gradients of {len(sources)} uses")

    def begin(self) -> tuple[Instruction, ...]:
        """Before the first of several microbatches: what is added to begins at zero."""
        if not self.adds:
            return ()
        names = tuple(self._kept(bucket) for bucket in self.buckets)
        return (Compute("totals.zero", ("zero", "forward", ""), (), names),) if names else ()

    def end(self) -> tuple[Instruction, ...]:
        """At the end of a microbatch's backward pass: what is scattered at once has landed."""
        return tuple(i for bucket in list(self.flying) if self._turn(bucket) and self.adds for i in self._land(bucket))

    def reduce(self) -> tuple[Instruction, ...]:
        """Behind the last microbatch: the buckets that were not summed yet."""
        found: list[Instruction] = []
        for bucket in self.buckets:
            if not bucket.at_once:
                found += self._sum(bucket, self.setting.overlap > 0)
        return tuple(found)

    def wait(self, value: str) -> tuple[Instruction, ...]:
        """What comes before the first use of a total."""
        bucket = self.bucket_of[value]
        return tuple(self._land(bucket)) if bucket in self.flying else ()

    def final(self, value: str) -> tuple[str, Form]:
        """Where a total is found once it is summed, and in which form."""
        total = self.of[value]
        if total.shard is None:
            return value, total.form
        suffix = "total" if self.scatters and self.adds else "shard"
        return f"{value}.{suffix}", Form(total.shard)

    def _turn(self, bucket: Bucket) -> bool:
        return bucket.sharded and self.scatters

    def _kept(self, bucket: Bucket) -> str:
        return f"{bucket.name}.total" if self._turn(bucket) else bucket.name

    def _overlaps(self, bucket: Bucket) -> bool:
        return self.setting.overlap > 0

    def _sum(self, bucket: Bucket, overlaps: bool) -> Iterator[Instruction]:
        """The collective of a bucket; members are summed each by itself, in this order, back to back."""
        if not bucket.axes:
            return
        kind = "reduce_scatter" if bucket.sharded else "allreduce"
        target = f"{bucket.name}.shard" if self._turn(bucket) and not self.adds else ""
        algorithm = self.setting.algorithm(kind, bucket.bytes, bucket.axes)
        group, reason = "+".join(bucket.axes), f"{len(bucket.members)} sums"
        yield Collective(
            bucket.name,
            "reduce_scatter" if bucket.sharded else "allreduce",
            group,
            algorithm,
            bucket.name,
            bucket.bytes,
            blocking=not overlaps,
            reason=reason,
            target=target,
        )
        self.flying.append(bucket)
        if not overlaps:
            yield from self._land(bucket, waits=False)

    def _land(self, bucket: Bucket, waits: bool = True) -> Iterator[Instruction]:
        """A bucket is summed: where microbatches add up in shards, its shards are added to theirs."""
        self.flying.remove(bucket)
        if waits:
            yield Wait(bucket.name)
        if self._turn(bucket) and self.adds:
            for total in bucket.members:
                name = f"{total.value}.total"
                yield _sum(f"{total.value}.add", (name, f"{total.value}.shard"), name, "of this microbatch")


def _sum(address: str, sources: tuple[str, ...], target: str, reason: str) -> Compute:
    return Compute(address, ("sum", "sum", ""), sources, (target,), reason=reason)


def totals(setting: Setting, stages: Sequence[Stage], buffers: Buffers, separate: bool) -> Totals:
    """The totals of a role that runs these stages; `separate` where gradients by weights come behind the others."""
    found = list(_found(setting, stages))
    order = {part: at for at, part in enumerate(_completion(stages, separate))}
    found.sort(key=lambda total: ("@grad" not in total.value, max(order[part] for part in total.parts)))
    buckets = tuple(_buckets(setting, found))
    by_part = {part: total for total in found for part in total.parts}
    bucket_of = {total.value: bucket for bucket in buckets for total in bucket.members}
    made = Totals(setting, buffers, by_part, {total.value: total for total in found}, buckets, bucket_of)
    for total in found:
        total.left = len(total.parts)
    for at, bucket in enumerate(buckets):
        bucket.left = len(bucket.members)
        _allocate(made, bucket, at)
    return made


def _completion(stages: Sequence[Stage], separate: bool) -> Iterator[str]:
    """The outputs of a role's stages in the order of the instructions of one microbatch."""
    for stage in stages:
        for node in stage.forward:
            yield from node.outputs
    for stage in reversed(stages):
        for last in (False, True) if separate else (None,):
            for node in stage.backward:
                if last is None or last == (node.stage == "dw"):
                    yield from node.outputs


def _found(setting: Setting, stages: Sequence[Stage]) -> Iterator[Total]:
    """The totals of which these stages have parts."""
    here = {stage.index for stage in stages}
    graph, cut = setting.graph, setting.cut
    scalars = (*((graph.loss,) if graph.loss else ()), *(value for _, value in graph.metrics))
    statistics = (
        name for stage in stages for node in stage.forward if node.stage == "statistics" for name in node.outputs
    )
    for name in (*dict.fromkeys(scalars), *statistics):
        if cut.made.get(name) in here:
            yield _total(setting, name, (name,), None)
    for weight, values in cut.parts.items():
        mine = tuple(value for value in values if cut.made[value] in here)
        if mine:
            yield _total(setting, f"{weight}@grad", mine, weight, alone=len(mine) == len(values))


def _total(setting: Setting, value: str, mine: tuple[str, ...], weight: str | None, alone: bool = True) -> Total:
    forms = [_born(setting, part) for part in mine]
    home = forms[0].placement if weight is None else setting.homes[weight].placement
    at = zip(home, *(each.placement for each in forms), strict=True)
    form = Form(tuple(PARTIAL if all(x == PARTIAL for x in born) else where for where, *born in at))
    axes = summed_axes(form.placement, setting.mesh)
    stages = {setting.cut.made[part] for part in mine}
    shard = None
    if weight is not None and alone and len(stages) == 1:
        shard = shard_placement(setting, weight, form.placement, axes)
    return Total(value, mine, form, axes, shard, min(stages), len(stages) > 1)


def _born(setting: Setting, part: str) -> Form:
    node = setting.graph.producer(part)
    assert node is not None
    return setting.kinds.of(node).outputs[node.outputs.index(part)]


def shard_placement(setting: Setting, weight: str, held: Placement, axes: tuple[str, ...]) -> Placement | None:
    """Where ZeRO leaves a gradient that is summed over these axes: its first axis with enough elements is cut.

    An axis that is split already is cut further where that makes equal parts of each part, by mesh axes behind those
    that split it. None where no axis serves, where nothing is sharded, and for optimizers that see all weights as one
    vector.
    """
    mesh, type_ = setting.mesh, setting.graph.type(weight)
    if setting.plan.shard == "none" or not axes or setting.joint:
        return None
    count = prod(mesh.extent(name) for name in axes)
    for axis in type_.axes:
        split = [name for name, at in zip(mesh.names, held, strict=True) if at == axis.name]
        already = parts(held, mesh, axis.name)
        inside = all(mesh.names.index(name) < mesh.names.index(axes[0]) for name in split)
        if axis.extent >= count * already and (not split or (inside and axis.extent % (count * already) == 0)):
            pairs = zip(mesh.names, held, strict=True)
            return tuple(axis.name if name in axes else at for name, at in pairs)
    return None


def _buckets(setting: Setting, found: Sequence[Total]) -> Iterator[Bucket]:
    """Totals of one key, up to the capacity of a bucket."""
    open_: dict[tuple[object, ...], list[Total]] = {}
    held: dict[tuple[object, ...], int] = {}
    made: list[list[Total]] = []
    full: dict[tuple[object, ...], int] = {}
    for total in found:
        key = (*total.key, setting.graph.type(total.value).dtype)
        size = setting.bytes(total.value, total.form)
        capacity = BUCKET_BYTES if full.get(key) else FIRST_BUCKET_BYTES
        if key in open_ and held[key] + size > capacity:
            full[key], held[key] = 1, 0
            del open_[key]
        if key not in open_:
            open_[key] = []
            held.setdefault(key, 0)
            made.append(open_[key])
        open_[key].append(total)
        held[key] += size
    for index, members in enumerate(made):
        first = members[0]
        at_once = not any(total.spans for total in members) and _at_once(setting, first)
        size = sum(setting.bytes(total.value, total.form) for total in members)
        yield Bucket(f"bucket{index}", tuple(members), first.axes, first.shard is not None, at_once, size)


def _at_once(setting: Setting, total: Total) -> bool:
    scatters = setting.plan.shard in ("gradients", "weights") and total.shard is not None
    return scatters or not setting.many


def _allocate(made: Totals, bucket: Bucket, at: int) -> None:
    """The buffers of a bucket: whole totals, their shards, and where shards add up."""
    setting, turn = made.setting, made._turn(bucket)  # noqa: SLF001
    dtype = setting.graph.type(bucket.members[0].value).dtype
    flat = tensor(dtype, element=bucket.bytes // DTYPE_BYTES[dtype])
    parent, offset = None, 0
    if turn:
        pool = made.buffers.pool(TURNS)
        first = pool.reserve(0, bucket.bytes) if at % 2 else 0
        half = max((b.bytes for b in made.buckets if made._turn(b)), default=0)  # noqa: SLF001
        offset = half if at % 2 else 0
        pool.reserve(offset, bucket.bytes)
        parent = TURNS
        del first
    made.buffers.add(Buffer(bucket.name, flat, "bucket", view_of=parent, offset=offset))
    _members(made, bucket, bucket.name, "", lambda total: total.form.placement)
    if not bucket.sharded:
        return
    if not turn or made.adds:
        for total in bucket.members:
            type_ = setting.graph.type(total.value)
            assert total.shard is not None
            made.buffers.add(
                Buffer(f"{total.value}.shard", type_, "gradient", view_of=total.value, placement=total.shard)
            )
    if turn:
        suffix = "total" if made.adds else "shard"
        size = sum(setting.bytes(t.value, Form(t.shard or ())) for t in bucket.members)
        name = f"{bucket.name}.{suffix}"
        made.buffers.add(Buffer(name, tensor(dtype, element=size // DTYPE_BYTES[dtype]), "bucket"))
        _members(made, bucket, name, f".{suffix}", lambda total: total.shard or ())


def _members(made: Totals, bucket: Bucket, parent: str, suffix: str, placed) -> None:  # type: ignore[no-untyped-def]
    offset = 0
    for total in bucket.members:
        value = made.setting.graph.value(total.value)
        where = placed(total)
        name = f"{total.value}{suffix}"
        made.buffers.add(Buffer(name, value.type, value.kind, view_of=parent, offset=offset, placement=where))
        offset += made.setting.bytes(total.value, Form(where)) // DTYPE_BYTES[value.type.dtype]


def parts_of(node: Node, totals: Totals) -> tuple[str, ...]:
    """The outputs of a node that are parts of totals."""
    return tuple(name for name in node.outputs if name in totals.by_part)
