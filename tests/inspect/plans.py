"""Plans made by hand: two blocks of two layers, divided in every way that a plan can be."""

from __future__ import annotations

from dlc.ir.plan import Alternative, Bounds, Figure, OpPlan, PassPlan, Plan, Prediction, Reason, Stage
from dlc.ir.request import Split

CHOSEN, ONLY = Reason("chosen"), Reason("only")

BATCH = Split("batch", "data")
FEATURE = Split("feature", "model")


def op(address: str, *partition: Split, algorithm: str = "", seconds: float = 0.001, **more: object) -> OpPlan:
    """An op whose passes take `seconds` forward and twice as long backward."""
    passes = (
        PassPlan("forward", algorithm, Figure(seconds)),
        PassPlan("dx", algorithm, Figure(2 * seconds)),
    )
    return OpPlan(address, "", passes, partition, CHOSEN, ONLY, partition_reason=CHOSEN, **more)  # type: ignore[arg-type]


def plan(**changes: object) -> Plan:
    """Eight ranks: a pipeline of two stages, each over data 2 and model 2."""
    inner = (("data", 2), ("model", 2))
    made = Plan(
        network="net",
        cluster="pod",
        ranks=8,
        batch=64,
        mesh=(("pipeline", 2), *inner),
        shards=((0, 32), (32, 64)),
        ops=(
            op("stem", BATCH),
            *(op(f"body[{i}].up", BATCH, FEATURE, stage=i // 2) for i in range(4)),
            *(op(f"body[{i}].down", BATCH, stage=i // 2, recompute=i == 3) for i in range(4)),
            op("head", stage=1, seconds=0.004),
        ),
        buckets=(),
        predicted=Prediction(0.1, 3 * 2**30, 0.1, 0.08, 0.0, 0.01, 0.01, 0.11, 0.09, 0.13),
        bounds=Bounds(0.05, 0.02, 0.0, 0.001),
        runner_up=Alternative("data 8", 0.12, 0.15, 4 * 2**30),
        baselines=(
            Alternative("data parallelism: data 8", 0.12, 0.15, 4 * 2**30),
            Alternative("pure pipeline", 0.0, note="needs more than 8 GiB"),
        ),
        stages=(
            Stage(0, 0, inner, 0.002, 0.004, 0.0, 0.0001, 3 * 2**30),
            Stage(1, 4, inner, 0.003, 0.006, 0.0, 0.0, 2 * 2**30),
        ),
        schedule="one_f_one_b",
        microbatches=8,
        shard="optimizer",
        gap=0.004,
    )
    return made.with_(**changes)
