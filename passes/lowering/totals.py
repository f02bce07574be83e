"""What is summed over microbatches and ranks in a step: gradients of weights, the loss, metrics, running averages.

A total is born in parts, one for each use of a weight. With one microbatch it is computed in place; with several each
part is added to it. Totals that are sums over the same mesh axes lie in buckets, in the order in which the backward
pass completes them, and each bucket is summed in one collective.

Under ZeRO a total ends in shards over the ranks that would otherwise have the same: 1 keeps whole totals and scatters
them once a step; 2 and 3 scatter them in every microbatch, at most two buckets being whole at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dlc.ir.graph import Node
from dlc.ir.program import Buffer, Collective, Compute, Instruction, Wait
from passes.lowering.buckets import Bucket, Total, allocate, born, buckets_of, kind_of, totals_of
from passes.lowering.forms import Form
from passes.lowering.role import Buffers
from passes.lowering.setting import Setting
from passes.lowering.stages import Stage
from passes.lowering.values import Values


@dataclass(slots=True)
class Totals:
    """The totals of one role, and their buckets; makes the instructions that add up parts and sum buckets."""

    setting: Setting
    buffers: Buffers
    of: dict[str, Total]
    by_part: dict[str, Total]
    buckets: tuple[Bucket, ...]
    bucket_of: dict[str, Bucket]
    flying: list[Bucket] = field(default_factory=list)  # begun, and not yet waited for
    apart: dict[str, tuple[str, Form]] = field(default_factory=dict)  # part -> the buffer and form of its own total
    ready: dict[str, list[str]] = field(default_factory=dict)  # total -> the parts of it that have buffers of their own

    # --- in the order of a step --------------------------------------------------------------------------------

    def begin(self) -> tuple[Instruction, ...]:
        """Before the first of several microbatches: what is added to begins at zero."""
        if not self.setting.many or not self.buckets:
            return ()
        names = tuple(f"{bucket.name}.total" if bucket.passing else bucket.name for bucket in self.buckets)
        return (Compute("totals.zero", ("zero", "forward", ""), (), (*names, *self._apart())),)

    def _apart(self) -> Iterator[str]:
        """The buffers of parts that have totals of their own: these are moved to the others' form once a step."""
        for part, total in self.by_part.items():
            form = born(self.setting, part)
            if self._accumulates(total) and form != total.form:
                type_, name = self.setting.graph.type(part), f"{part}.total"
                yield self.buffers.add(Buffer(name, type_, "gradient", form.layout, placement=form.placement))
                self.apart[part] = (name, form)

    def prepare(self, completed: Iterable[str]) -> Iterator[Instruction]:
        """Before a kernel that completes these parts: of what is scattered at once, the bucket before the last one."""
        for part in completed:
            total = self.by_part[part]
            bucket = self.bucket_of[total.value]
            if bucket.passing and total.left == 1:
                last = self.buckets.index(bucket) - 2
                for old in [each for each in self.flying if each.passing and self.buckets.index(each) <= last]:
                    yield from self._land(old)

    def place(self, part: str, form: Form, values: Values) -> str:
        """The buffer that a part is computed into: its total, or one of its own."""
        total = self.by_part[part]
        if not self._accumulates(total):
            direct = len(total.parts) == 1 and form == total.form
            return total.value if direct else values.define(part, form)
        type_, name = self.setting.graph.type(part), f"{part}.part"
        self.buffers.add(Buffer(name, type_, "gradient", placement=form.placement))
        values.put(part, form, name)
        return name

    def add(self, part: str, values: Values) -> Iterator[Instruction]:
        """Behind a kernel that gives a part: it is added to its total, and a bucket that is complete is summed."""
        total = self.by_part[part]
        total.left -= 1
        if self._accumulates(total):
            into, form = self.apart.get(part, (total.value, total.form))
            yield _sum(f"{part}.add", (into, values.fetch(part, form)), into, "of this microbatch")
        elif values.held(part):
            parts = self.ready.setdefault(total.value, [])
            parts.append(values.fetch(part, total.form))
            if not total.left:
                yield _sum(f"{total.value}.sum", tuple(parts), total.value, f"the gradients of {len(parts)} uses")
        if not total.left:
            bucket = self.bucket_of[total.value]
            bucket.left -= 1
            if bucket.at_once and not bucket.left:
                yield from self._begin(bucket)

    def end(self) -> tuple[Instruction, ...]:
        """At the end of a microbatch's backward pass: what is scattered in every microbatch has landed."""
        if not self.setting.many:
            return ()
        return tuple(i for bucket in list(self.flying) if bucket.passing for i in self._land(bucket))

    def reduce(self) -> tuple[Instruction, ...]:
        """Behind the last microbatch: the buckets that were not summed yet."""
        joined = (i for part in self.apart for i in self._join(part))
        return (*joined, *(i for bucket in self.buckets if not bucket.at_once for i in self._begin(bucket)))

    def _join(self, part: str) -> Iterator[Instruction]:
        """The total of a part that has its own is moved, and added to that of the others."""
        (name, form), total = self.apart[part], self.by_part[part]
        values = Values(self.setting, self.buffers, 0, {})
        values.put(part, form, name)
        moved = values.fetch(part, total.form)
        yield from values.out
        yield _sum(f"{part}.join", (total.value, moved), total.value, "of another use")

    def beside(self, parts: Iterable[str]) -> Iterator[Node]:
        """The nodes that make what lies in one bucket with these parts, where that lives for one microbatch only."""
        for bucket in (self.bucket_of[self.by_part[part].value] for part in parts if part in self.by_part):
            for total in bucket.members if bucket.passing and self.setting.many else ():
                yield from (node for node in map(self.setting.graph.producer, total.parts) if node is not None)

    def wait(self, value: str) -> tuple[Instruction, ...]:
        """Before the first use of a total."""
        bucket = self.bucket_of[value]
        return tuple(self._land(bucket)) if bucket in self.flying else ()

    def final(self, value: str) -> tuple[str, Form]:
        """Where a total is found once it is summed, and in which form."""
        total = self.of[value]
        if total.shard is None:
            return value, total.form
        suffix = "total" if self.bucket_of[value].passing and self.setting.many else "shard"
        return f"{value}.{suffix}", Form(total.shard)

    # --- parts of these ----------------------------------------------------------------------------------------

    def _accumulates(self, total: Total) -> bool:
        """Whether parts of several microbatches are added to the whole total."""
        return self.setting.many and not self.bucket_of[total.value].passing

    def _begin(self, bucket: Bucket) -> Iterator[Instruction]:
        """The collective of a bucket: its members are summed each by itself, in this order."""
        if not bucket.axes:
            return
        blocking = not self.setting.context.hides
        yield Collective(
            bucket.name,
            kind_of(bucket.sharded),
            "+".join(bucket.axes),
            bucket.algorithm,
            bucket.name,
            bucket.bytes,
            blocking,
            f"{len(bucket.members)} sum{'s' if len(bucket.members) > 1 else ''}",
            f"{bucket.name}.shard" if bucket.passing and not self.setting.many else "",
        )
        self.flying.append(bucket)
        if blocking:
            yield from self._land(bucket, waits=False)

    def _land(self, bucket: Bucket, waits: bool = True) -> Iterator[Instruction]:
        """A bucket is summed: where microbatches add up in shards, its shards are added to theirs."""
        self.flying.remove(bucket)
        if waits:
            yield Wait(bucket.name)
        for total in bucket.members if bucket.passing and self.setting.many else ():
            name = f"{total.value}.total"
            yield _sum(f"{total.value}.add", (name, f"{total.value}.shard"), name, "of this microbatch")


def _sum(address: str, sources: tuple[str, ...], target: str, reason: str) -> Compute:
    return Compute(address, ("sum", "sum", ""), sources, (target,), reason=reason)


def totals(setting: Setting, stages: Sequence[Stage], buffers: Buffers, separate: bool) -> Totals:
    """The totals of a role that runs these stages; `separate` where gradients by weights come behind the others."""
    found = totals_of(setting, stages, separate)
    buckets = buckets_of(setting, found)
    allocate(setting, buckets, buffers)
    return Totals(
        setting,
        buffers,
        {total.value: total for total in found},
        {part: total for total in found for part in total.parts},
        buckets,
        {total.value: bucket for bucket in buckets for total in bucket.members},
    )
