"""Which totals a role has, in which form, and in which buckets they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from dlc.ir.mesh import PARTIAL, Placement, parts
from dlc.ir.program import Buffer
from dlc.ir.tensor import DTYPE_BYTES, tensor
from passes.lowering.forms import Form, summed_axes
from passes.lowering.role import Buffers
from passes.lowering.setting import Setting
from passes.lowering.stages import Stage
from passes.packing import packed


@dataclass(slots=True, eq=False)
class Total:
    """A value summed over a step: `form` is that in which its parts are added up, `shard` where ZeRO leaves it.

    `stage` is the last one that has a part of it, `spans` says that others have, too. `left` counts the parts that are
    still to come while instructions are made.
    """

    value: str
    parts: tuple[str, ...]
    form: Form
    axes: tuple[str, ...]
    shard: Placement | None
    stage: int
    spans: bool
    left: int


@dataclass(slots=True, eq=False)
class Bucket:
    """Totals back to back, all sums over the mesh axes `axes`, all left in shards or none.

    `at_once` says that they are summed over ranks as soon as they are complete, `passing` that whole totals live for
    one microbatch only. `left` counts the totals that are still to come.
    """

    name: str
    algorithm: str
    members: tuple[Total, ...]
    axes: tuple[str, ...]
    sharded: bool
    at_once: bool
    passing: bool
    bytes: int
    left: int


def totals_of(setting: Setting, stages: Sequence[Stage], separate: bool) -> list[Total]:
    """The totals of which these stages have parts, as they are completed; loss, metrics and averages last.

    `separate`: gradients by weights come behind the others.
    """
    order = {part: at for at, part in enumerate(_completion(stages, separate))}
    return sorted(
        _totals(setting, stages),
        key=lambda total: (not is_gradient(total), max(order[part] for part in total.parts)),
    )


def _completion(stages: Sequence[Stage], separate: bool) -> Iterator[str]:
    """The outputs of a role's stages in the order of the instructions of one microbatch."""
    for stage in stages:
        yield from (name for node in stage.forward for name in node.outputs)
    for stage in reversed(stages):
        nodes = sorted(stage.backward, key=lambda node: node.stage == "dw") if separate else stage.backward
        yield from (name for node in nodes for name in node.outputs)


def _totals(setting: Setting, stages: Sequence[Stage]) -> Iterator[Total]:
    here = {stage.index for stage in stages}
    graph, cut = setting.graph, setting.cut
    scalars = (*((graph.loss,) if graph.loss else ()), *(value for _, value in graph.metrics))
    averages = (node for stage in stages for node in stage.forward if node.stage == "statistics")
    for name in dict.fromkeys((*scalars, *(name for node in averages for name in node.outputs))):
        if cut.made.get(name) in here:
            yield _total(setting, name, (name,), None)
    for weight, values in cut.parts.items():
        mine = tuple(value for value in values if cut.made[value] in here)
        if mine:
            yield _total(setting, f"{weight}@grad", mine, weight, alone=len(mine) == len(values))


def _total(setting: Setting, value: str, mine: tuple[str, ...], weight: str | None, alone: bool = True) -> Total:
    """A total: of a weight it is placed as that, but it is a sum over mesh axes along which all its parts are."""
    placed = [born(setting, part).placement for part in mine]
    home = placed[0] if weight is None else setting.homes[weight].placement
    pairs = zip(home, *placed, strict=True)
    placement = tuple(PARTIAL if all(x == PARTIAL for x in each) else at for at, *each in pairs)
    axes = summed_axes(placement, setting.mesh)
    stages = {setting.cut.made[part] for part in mine}
    sharded = weight is not None and alone and len(stages) == 1
    shard = shard_placement(setting, weight, placement, axes) if weight is not None and sharded else None
    return Total(value, mine, Form(placement), axes, shard, min(stages), len(stages) > 1, len(mine))


def born(setting: Setting, part: str) -> Form:
    """The form in which a part of a total is made."""
    node = setting.graph.producer(part)
    assert node is not None
    return setting.kinds.of(node).outputs[node.outputs.index(part)]


def shard_placement(setting: Setting, weight: str, held: Placement, axes: tuple[str, ...]) -> Placement | None:
    """Where ZeRO leaves a gradient that is summed over these axes: its first axis with enough elements is cut.

    An axis that is split already is cut further where that makes equal parts of each part, by mesh axes behind those
    that split it, and each part lies in one piece: of tensors one behind the other it does not. None where no axis
    serves, where nothing is sharded, and for optimizers that see all weights as one vector.
    """
    mesh, type_ = setting.mesh, setting.graph.type(weight)
    if setting.plan.shard == "none" or not axes or setting.joint:
        return None
    count = prod(mesh.extent(name) for name in axes)
    for axis in type_.axes:
        split = [name for name, at in zip(mesh.names, held, strict=True) if at == axis.name]
        already = parts(held, mesh, axis.name)
        inside = all(mesh.names.index(name) < mesh.names.index(axes[0]) for name in split)
        further = inside and axis.extent % (count * already) == 0 and not _stacked(setting, weight)
        if axis.extent >= count * already and (not split or further):
            return tuple(axis.name if name in axes else at for name, at in zip(mesh.names, held, strict=True))
    return None


def _stacked(setting: Setting, weight: str) -> bool:
    """Whether a weight holds several tensors one behind the other."""
    owner = setting.graph.value(weight).owner
    if owner is None:
        return False
    roles, indexing = setting.kinds.indexing(setting.graph.node(owner))
    return any(roles.get(role) == weight for role in indexing.stacked)


def buckets_of(setting: Setting, found: Sequence[Total]) -> tuple[Bucket, ...]:
    """The totals of a role in buckets: those of the plan, or, where it has none yet, those that it is to have.

    A bucket takes what is complete first, of one element type and summed over the same axes, up to its capacity, and
    has it in the order of the network. Those that are scattered in every microbatch are of one stage, whose backward
    pass completes them. What is not summed over ranks is in buckets behind these, which no plan lists.
    """
    of = {total.value: total for total in found}
    device = found[0].stage % setting.devices if found else 0
    given = [each for each in setting.plan.buckets if each.stage == device]
    listed = {name for each in given for name in each.members}
    made = [_bucket(setting, each.name, [of[name] for name in each.members], each.algorithm) for each in given]
    places = _places(setting)
    rest = packed((total, alike(setting, total), setting.bytes(total.value, total.form)) for total in found
                  if total.value not in listed)  # fmt: skip
    for members in sorted(rest, key=lambda members: not members[0].axes):
        members.sort(key=lambda total: places[total.value])
        made.append(_bucket(setting, f"bucket{len(made)}", members))
    return tuple(made)


def alike(setting: Setting, total: Total) -> tuple[object, ...]:
    """What totals of one bucket have in common.

    Where ranks sum nothing, those of the forward pass lie apart: the loss is read when the step is over, and gradients
    are not, so that they may lie where activations were.
    """
    sharded = total.shard is not None
    stage = total.stage if sharded and _passes(setting) else 0
    early = not total.axes and not is_gradient(total)
    return total.axes, sharded, stage, early, setting.graph.type(total.value).dtype


def is_gradient(total: Total) -> bool:
    """Whether it is that of a weight, and not the loss, a metric or an average, which the forward pass has."""
    return "@grad" in total.value


def _passes(setting: Setting) -> bool:
    """Whether whole gradients live for one microbatch only."""
    return setting.plan.shard in ("gradients", "weights")


def _bucket(setting: Setting, name: str, members: Sequence[Total], algorithm: str = "") -> Bucket:
    sharded, axes = members[0].shard is not None, members[0].axes
    passing = sharded and _passes(setting)
    at_once = passing or not (setting.many or any(total.spans for total in members))
    size = sum(setting.bytes(total.value, total.form) for total in members)
    if axes and not algorithm:
        algorithm = setting.algorithm(kind_of(sharded), size, axes)
    return Bucket(name, algorithm, tuple(members), axes, sharded, at_once, passing, size, len(members))


def kind_of(sharded: bool) -> Literal["allreduce", "reduce_scatter"]:
    """The collective of a bucket."""
    return "reduce_scatter" if sharded else "allreduce"


def _places(setting: Setting) -> dict[str, tuple[int, bool, int]]:
    """Where a total lies in its bucket: with its op in the order of the network, the gradients of weights first."""
    graph = setting.graph
    ops = {node.address: at for at, node in enumerate(graph.nodes)}
    found: dict[str, tuple[int, bool, int]] = {}
    for at, value in enumerate(graph.values):
        found[value.name] = ops.get(value.name, ops.get(value.name.rpartition(".")[0], len(ops))), True, at
        if value.owner is not None:
            found[f"{value.name}@grad"] = ops.get(value.owner, len(ops)), False, at
    return found


def allocate(setting: Setting, buckets: Sequence[Bucket], buffers: Buffers) -> None:
    """The buffers of all buckets: whole totals, their shards, and what shards of microbatches are added up in."""
    for bucket in buckets:
        _flat(setting, bucket, "", [total.form for total in bucket.members], buffers)
        shards = [Form(total.shard) for total in bucket.members if total.shard is not None]
        if bucket.sharded and (setting.many or not bucket.passing):
            for total, form in zip(bucket.members, shards, strict=True):
                type_, name = setting.graph.type(total.value), f"{total.value}.shard"
                buffers.add(Buffer(name, type_, "gradient", view_of=total.value, placement=form.placement))
        if bucket.passing:
            _flat(setting, bucket, ".total" if setting.many else ".shard", shards, buffers)


def _flat(setting: Setting, bucket: Bucket, suffix: str, forms: Sequence[Form], buffers: Buffers) -> None:
    """One flat buffer, and the members of a bucket as views of it, in these forms."""
    values = [setting.graph.value(total.value) for total in bucket.members]
    sizes = [setting.bytes(value.name, form) for value, form in zip(values, forms, strict=True)]
    dtype = values[0].type.dtype
    flat = tensor(dtype, element=sum(sizes) // DTYPE_BYTES[dtype])
    name, at = f"{bucket.name}{suffix}", 0
    buffers.add(Buffer(name, flat, "bucket"))
    for value, form, size in zip(values, forms, sizes, strict=True):
        member, kind = f"{value.name}{suffix}", value.kind
        buffers.add(Buffer(member, value.type, kind, view_of=name, offset=at, placement=form.placement))
        at += size // DTYPE_BYTES[dtype]
