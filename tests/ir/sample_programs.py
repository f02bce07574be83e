"""Small sound Programs for tests: data parallel with buckets, and pipelines of several roles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

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
from dlc.ir.tensor import TensorType, tensor

F32 = 4


def shards(batch: int, ranks: int) -> tuple[tuple[int, int], ...]:
    """The batch cut into contiguous parts, as even as they can be."""
    return tuple((batch * r // ranks, batch * (r + 1) // ranks) for r in range(ranks))


def kernel(address: str, inputs: str, outputs: str = "", workspaces: str = "", stage: str = "forward") -> Compute:
    """A call of a kernel; operands are words."""
    op = address.partition("@")[0]
    return Compute(address, (op, stage, ""), tuple(inputs.split()), tuple(outputs.split()), tuple(workspaces.split()))


def data_parallel(ranks: int = 4, batch: int = 10, overlap: bool = False, width: int = 6) -> Program:
    """Two linear layers on all ranks; gradients are summed in two buckets, the loss rides in the last one."""
    x, h, w = tensor("f32", batch=batch, feature=width), tensor("f32", batch=batch, unit=width), width * width
    weight, scalar = tensor("f32", out=width, **{"in": width}), tensor("f32")
    sums = [
        Collective("b0", "allreduce", "data", "ring", "b0", w * F32, not overlap),
        Collective("b1", "allreduce", "data", "tree", "b1", (w + 2) * F32, not overlap),
    ]
    waits: list[Instruction] = [Wait("b0"), Wait("b1")] if overlap else []
    role = Role(
        "worker",
        tuple(range(ranks)),
        shards(batch, ranks),
        (
            Buffer("arena", tensor("u8", byte=256), "workspace"),
            Buffer("image", x, "input"),
            Buffer("label", tensor("i32", batch=batch), "field"),
            Buffer("seed", scalar, "constant"),
            Buffer("w1", weight, "weight"),
            Buffer("w2", weight, "weight"),
            Buffer("w1@velocity", weight, "state"),
            Buffer("b0", tensor("f32", element=w), "bucket"),
            Buffer("b1", tensor("f32", element=w + 2), "bucket"),
            Buffer("w2@grad", weight, "gradient", view_of="b0"),
            Buffer("w1@grad", weight, "gradient", view_of="b1"),
            Buffer("loss", scalar, "activation", view_of="b1", offset=w),
            Buffer("correct", scalar, "activation", view_of="b1", offset=w + 1),
            Buffer("totals", tensor("f64", entry=3), "bucket"),
            Buffer("h", h, "activation"),
            Buffer("flat", tensor("f32", batch=batch, feature=width), "activation", view_of="h"),
            Buffer("y", h, "activation"),
            Buffer("mask", h.with_dtype("u8"), "saved"),
            Buffer("y@grad", h, "gradient"),
            Buffer("h@grad", h, "gradient"),
            Buffer("l1.pack", tensor("f32", element=16), "workspace", view_of="arena"),
            Buffer("l1.tile", tensor("f32", element=16), "workspace", view_of="arena", offset=64),
            Buffer("kept", h, "activation"),
        ),
        (
            Segment("load", (Load(("image", "label")),)),
            Segment(
                "forward",
                (
                    kernel("l1", "image w1", "h", "l1.pack l1.tile"),
                    kernel("l2", "flat w2", "y mask"),
                    kernel("loss", "y label", "loss"),
                    kernel("accuracy", "y label", "correct"),
                ),
            ),
            Segment(
                "backward",
                (
                    kernel("loss@dx", "seed y label", "y@grad", stage="dx"),
                    kernel("l2@dw", "y@grad flat mask", "w2@grad", stage="dw"),
                    sums[0],
                    kernel("l2@dx", "y@grad w2", "h@grad", stage="dx"),
                    kernel("l1@dw", "h@grad image", "w1@grad", "l1.pack", stage="dw"),
                    sums[1],
                ),
            ),
            Segment(
                "update",
                (
                    *waits,
                    kernel("clip", "w1@grad w2@grad", stage="clip"),
                    kernel("w1@update", "w1 w1@grad w1@velocity", stage="update"),
                    kernel("w2@update", "w2 w2@grad", stage="update"),
                ),
            ),
            Segment(
                "evaluate",
                (
                    kernel("l1", "image w1", "h"),
                    kernel("l2", "flat w2", "y mask"),
                    kernel("loss", "y label", "loss"),
                    kernel("accuracy", "y label", "correct"),
                    kernel("totals", "loss correct", "totals"),
                ),
            ),
            Segment("totals", (Collective("totals", "allreduce", "data", "tree", "totals", 24),)),
            Segment("load_inputs", (Load(("image",)),)),
            Segment("predict", (kernel("l1", "image w1", "h"), kernel("l2", "flat w2", "y mask"), Copy("y", "kept"))),
        ),
        (
            Entry("train_step", (Row("load"), Row("forward"), Row("backward"), Row("update"))),
            Entry("eval_step", (Row("load"), Row("evaluate"))),
            Entry("eval_totals", (Row("totals"),)),
            Entry("predict", (Row("load_inputs"), Row("predict"))),
        ),
    )
    group = CommunicationGroup("data", (tuple(range(ranks)),))
    alone = CommunicationGroup("alone", tuple((rank,) for rank in range(ranks)))
    return Program(
        "mlp", batch, "f32", (role,), (group, alone), (("logits", "kept"),), "loss", (("accuracy", "correct"),)
    )


def order(stage: int, stages: int, microbatches: int, schedule: str) -> list[tuple[str, int]]:
    """(F or B, microbatch) of one stage under `gpipe` or `1f1b`."""
    if schedule == "gpipe":
        return [("F", m) for m in range(microbatches)] + [("B", m) for m in range(microbatches)]
    warm = min(stages - stage, microbatches)
    rows = [("F", m) for m in range(warm)]
    for m in range(microbatches):
        rows.append(("B", m))
        if m + warm < microbatches:
            rows.append(("F", m + warm))
    return rows


def pipeline(
    stages: int = 3, microbatches: int = 4, replicas: int = 1, schedule: str = "gpipe", batch: int = 8
) -> Program:
    """Stages of one linear layer each, one role a stage; `replicas` pipelines side by side, gradients summed.

    Rank s·replicas + r is replica r of stage s.
    """
    roles = tuple(_stage(s, stages, microbatches, replicas, schedule, batch) for s in range(stages))
    chain = tuple(tuple(s * replicas + r for s in range(stages)) for r in range(replicas))
    data = tuple(role.ranks for role in roles)
    groups = (CommunicationGroup("pipeline", chain), CommunicationGroup("data", data))
    return Program("chain", batch, "f32", roles, groups)


def _stage(s: int, stages: int, microbatches: int, replicas: int, schedule: str, batch: int) -> Role:
    value: TensorType = tensor("f32", batch=batch, feature=4)
    first, last = s == 0, s == stages - 1
    size = value.bytes
    forward: list[Instruction] = [Load(("x",))] if first else [Receive(f"y{s - 1}", "pipeline", -1, "x", size)]
    forward.append(kernel(f"s{s}", "x w", "y"))
    backward: list[Instruction] = []
    if last:
        backward.append(kernel(f"loss{s}", "y", "dy", stage="dx"))
    else:
        forward.append(Send(f"y{s}", "pipeline", 1, "y", size))
        backward.append(Receive(f"dy{s}", "pipeline", 1, "dy", size))
    backward.append(kernel(f"s{s}@dx", "dy w", "dx", stage="dx"))
    if not first:
        backward.append(Send(f"dy{s - 1}", "pipeline", -1, "dx", size))
    backward.append(kernel(f"s{s}@dw", "dy x grad", "grad", stage="dw"))
    update: list[Instruction] = [kernel(f"w{s}@update", "w grad", stage="update")]
    update.insert(0, Collective("grads", "allreduce", "data", "ring", "bucket", 64))
    rows = order(s, stages, microbatches, schedule)
    slots = microbatches if schedule == "gpipe" else min(stages - s, microbatches)
    table = [Row("reset"), *(Row({"F": "forward", "B": "backward"}[k], m, m % slots) for k, m in rows), Row("update")]
    return Role(
        f"stage{s}",
        tuple(s * replicas + r for r in range(replicas)),
        shards(batch, replicas),
        (
            Buffer("w", tensor("f32", feature=4, unit=4), "weight"),
            Buffer("x", value, "activation"),
            Buffer("y", value, "activation"),
            Buffer("dy", value, "gradient"),
            Buffer("dx", value, "gradient"),
            Buffer("bucket", tensor("f32", element=16), "bucket"),
            Buffer("grad", tensor("f32", feature=4, unit=4), "gradient", view_of="bucket"),
        ),
        (
            Segment("reset", (kernel(f"zero{s}", "w", "grad"),)),
            Segment("forward", tuple(forward)),
            Segment("backward", tuple(backward)),
            Segment("update", tuple(update)),
        ),
        (Entry("train_step", tuple(table)),),
    )


def split_in_two(program: Program) -> Program:
    """The same program with its ranks in two roles of the same code, `left` and `right`."""
    (role,) = program.roles
    half = len(role.ranks) // 2
    left = replace(role, name="left", ranks=role.ranks[:half], shards=role.shards[:half])
    right = replace(role, name="right", ranks=role.ranks[half:], shards=role.shards[half:])
    return replace(program, roles=(left, right))


def with_role(program: Program, role: Role, index: int = 0) -> Program:
    """The program with one role replaced."""
    return replace(program, roles=(*program.roles[:index], role, *program.roles[index + 1 :]))


def with_segment(program: Program, name: str, instructions: Iterable[Instruction], index: int = 0) -> Program:
    """The program with other instructions in one segment of one role."""
    role = program.roles[index]
    segments = tuple(Segment(name, tuple(instructions)) if s.name == name else s for s in role.segments)
    return with_role(program, replace(role, segments=segments), index)
