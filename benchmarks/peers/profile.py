"""Where the time of an emitted program's step goes: kernel by kernel, with what the plan predicted of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from backends.numpy_mpi.emission import Emission
from benchmarks.peers.dlc_worker import Call
from dlc.cost.price import default_price
from dlc.driver import Compiled, emitted_program
from dlc.ir.program import Compute, Role
from dlc.ir.ranks import schedule
from dlc.ir.storage import local
from dlc.ops import operator
from dlc.ops.operator import Shapes

PASSES = ("forward", "dx", "dw")
"""Those whose products are counted; anything else is told by the bytes that it moves."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One call of a step: seconds measured and predicted, work in multiply-adds and bytes; `family` is c or numpy."""

    address: str
    op: str
    stage: str
    way: str
    family: str
    seconds: float
    predicted: float
    macs: int
    bytes: int

    @property
    def rate(self) -> str:
        """What it computes or moves in a second."""
        if self.macs and self.bytes < self.macs:
            return f"{2e-9 * self.macs / self.seconds:7.1f} GFLOP/s"
        return f"{1e-9 * self.bytes / self.seconds:7.1f} GB/s" if self.bytes else ""


def kernels(made: Compiled, steps: Sequence[Sequence[Call]]) -> list[Kernel]:
    """The calls of a step, the median of all steps, each with the instruction it carries out.

    Calls of functions that carry out no instruction of the step, such as conversions of views, have no address.
    """
    taken = [median(each) for each in zip(*([call.seconds for call in step] for step in steps), strict=True)]
    program, names = emitted_program(made), [call.name for call in steps[0]]
    emission = Emission(made.graph, made.plan, program, made.context.training)
    (role,) = program.roles
    waiting = [(emission.kernel(compute).function, compute) for compute in _computes(role)]
    price = default_price(program, made.context.cluster, made.context.profile)
    found = []
    for at, (name, seconds) in enumerate(zip(names, taken, strict=True)):
        known = next((index for index, (function, _) in enumerate(waiting) if function == name), None)
        family = "c" if steps[0][at].compiled else "numpy"
        if known is None:
            found.append(Kernel("", name, "", "", family, seconds, 0.0, 0, 0))
            continue
        compute = waiting.pop(known)[1]
        found.append(_described(role, compute, family, seconds, price(compute, role, role.largest_shard)))
    return found


def _computes(role: Role) -> Iterator[Compute]:
    segments = {segment.name: segment for segment in role.segments}
    for row in schedule(role, "train_step"):
        yield from (made for made in segments[row.segment].instructions if isinstance(made, Compute))


def _described(role: Role, compute: Compute, family: str, seconds: float, predicted: float) -> Kernel:
    op, stage, algorithm = compute.kernel
    inputs, outputs = (
        tuple(local(role, role.buffer(name), role.largest_shard, 1) for name in names)
        for names in (compute.inputs, compute.outputs)
    )
    macs, moved = 0, sum(type_.bytes for type_ in (*inputs, *outputs))
    known = operator(op)
    if known is not None and stage in PASSES:
        macs = known.cost(stage, Shapes(inputs, outputs, dict(compute.attrs))).macs
    way = " ".join(filter(None, (algorithm, compute.layout)))
    return Kernel(compute.address, op, stage, way, family, seconds, predicted, macs, moved)


def lines(found: Sequence[Kernel], step: float, most: int = 40) -> Iterator[str]:
    """A table by kind of kernel, and one of the longest kernels; `step` is what the step took with the stopwatches."""
    inside = sum(each.seconds for each in found)
    yield f"step {step * 1e3:.2f} ms, in kernels {inside * 1e3:.2f} ms; beside them {(step - inside) * 1e3:.2f} ms"
    yield ""
    yield f"{'kernels of a kind':42} {'calls':>5} {'ms':>9} {'predicted':>9} {'share':>6}"
    for name, group in _by_kind(found):
        yield f"{name:42} {len(group):5d} {_columns(group, step)}"
    yield ""
    yield f"{'kernel':87} {'ms':>9} {'predicted':>9} {'share':>6}"
    for each in sorted(found, key=lambda kernel: -kernel.seconds)[:most]:
        name = f"{each.op} {each.stage} {each.way}, {each.family}"
        yield f"{each.address[-36:]:36} {name:34} {each.rate:>16} {_columns([each], step)}"


def _by_kind(found: Iterable[Kernel]) -> list[tuple[str, list[Kernel]]]:
    groups: dict[str, list[Kernel]] = {}
    for each in found:
        groups.setdefault(f"{each.op} {each.stage} {each.way}, {each.family}", []).append(each)
    return sorted(groups.items(), key=lambda group: -sum(each.seconds for each in group[1]))


def _columns(group: Sequence[Kernel], step: float) -> str:
    seconds, predicted = sum(each.seconds for each in group), sum(each.predicted for each in group)
    return f"{seconds * 1e3:9.3f} {predicted * 1e3:9.3f} {seconds / step:6.1%}"
