"""Limits and objectives of a plan block hold in the plan and in its program."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.driver import Compiled
from dlc.ir.program import Buffer, Compute
from passes.planning.program_traffic import sent_by
from passes.planning.traffic import sent
from tests.passes.planning.ordered import deep, planned, spec
from tests.slices import first


@pytest.mark.parametrize("limit", first(1, [40, 100, 20]))
def test_no_kernel_has_a_larger_workspace_than_the_limit(tmp_path: Path, limit: int) -> None:
    free = planned(tmp_path, spec(""))
    made = planned(tmp_path, spec(f"limit workspace <= {limit} KiB"))
    assert largest_workspace(free) > limit * 1024
    assert largest_workspace(made) <= limit * 1024
    assert any(op.microbatch > 1 for op in made.plan.ops)
    assert made.plan.predicted.step_seconds > free.plan.predicted.step_seconds


def largest_workspace(made: Compiled) -> int:
    """Bytes of the kernel that has most."""
    sizes = [0]
    for role in made.program.roles:
        held: dict[str, Buffer] = {buffer.name: buffer for buffer in role.buffers}
        for segment in role.segments:
            for each in segment.instructions:
                names = each.workspaces if isinstance(each, Compute) else ()
                sizes.append(sum(held[name].type.bytes for name in names))
    return max(sizes)


def test_a_bubble_is_within_its_limit(tmp_path: Path) -> None:
    orders = "strategy = pipeline\npipeline.schedule = gpipe\n{}"
    free = planned(tmp_path, deep(orders.format("pipeline.microbatches = 4")))
    assert bubble(free) == pytest.approx(3 / 7, abs=0.05)
    made = planned(tmp_path, deep(orders.format("limit bubble <= 0.2")))
    assert bubble(made) <= 0.2
    assert made.plan.microbatches > 4


def bubble(made: Compiled) -> float:
    """The idle share of the pipeline: what its stages compute and receive, beside the time that they take together.
    On cores that do not overlap the senders of messages wait as well."""
    assert made.planned is not None
    step, plan = made.planned.step, made.plan
    busy = plan.microbatches * sum(stage.forward + stage.backward + stage.weights for stage in plan.stages)
    busy += plan.microbatches * sum(2 * 2 * stage.send for stage in plan.stages)  # both ways, at both ends
    devices = dict(plan.mesh)["pipeline"]
    return 1 - busy / (devices * (step.objective - step.parts.sums - step.parts.update))


@pytest.mark.parametrize(
    "orders",
    [
        pytest.param("", marks=pytest.mark.slow),
        "strategy = hybrid(data = 2, model = 4)\nshard = none\nlimit memory <= 700 KiB",
    ],
)
def test_a_device_sends_no_more_than_the_limit(tmp_path: Path, orders: str) -> None:
    free = planned(tmp_path, spec(orders))
    before = sent_by(free.program, free.context.cluster)
    limit = int(0.9 * before)
    made = planned(tmp_path, spec(f"{orders}\nlimit communication <= {limit} B"))
    assert sent_by(made.program, made.context.cluster) <= limit
    assert not orders or made.plan.predicted.peak_bytes <= 700 * 1024


@pytest.mark.parametrize("strategy", ["data", "model", "hybrid(pipeline = 4, data = 2)", "hybrid(data = 2, model = 4)"])
def test_bytes_that_plans_count_are_those_that_programs_send(tmp_path: Path, strategy: str) -> None:
    """But for the loss and the sums of the smallest tensors, which other algorithms are faster at."""
    made = planned(tmp_path, spec(f"strategy = {strategy}\nallreduce = ring"))
    assert made.planned is not None
    counted, in_program = sent(made.planned.space, made.planned.step), sent_by(made.program, made.context.cluster)
    assert counted == pytest.approx(in_program, rel=0.15)


def test_the_least_memory_comes_before_the_time(tmp_path: Path) -> None:
    orders = "strategy = data\npipeline.microbatches = 1\nrecompute = none\n{}"
    made = planned(tmp_path, spec(orders.format("objective = memory")))
    others = [planned(tmp_path, spec(orders.format(f"shard = {s}"))) for s in ("none", "optimizer", "gradients")]
    others.append(planned(tmp_path, spec(orders.format("shard = weights"))))
    least = min(other.plan.predicted.peak_bytes for other in others)
    assert made.plan.predicted.peak_bytes <= least
    assert made.plan.shard == "weights"
    fast = planned(tmp_path, spec(orders.format("")))
    assert made.plan.predicted.peak_bytes < fast.plan.predicted.peak_bytes


def test_the_least_communication_comes_before_the_time(tmp_path: Path) -> None:
    orders = "strategy = hybrid(data = 2, model = 4)\nlimit memory <= 2 MiB\nrecompute = none\nshard = none\n{}"
    made = planned(tmp_path, spec(orders.format("objective = communication")))
    fast = planned(tmp_path, spec(orders.format("")))
    assert sent_by(made.program, made.context.cluster) < sent_by(fast.program, fast.context.cluster)
    assert made.plan.predicted.step_seconds > fast.plan.predicted.step_seconds
    again = planned(tmp_path, spec(orders.format("")))
    assert again.plan == fast.plan
