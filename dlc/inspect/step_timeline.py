"""The simulated training step of a program, each instruction at the price that the planner knows."""

from __future__ import annotations

from dlc.cost.price import default_price
from dlc.cost.timeline import Timeline, simulate
from dlc.ir.program import TRAIN_STEP, Program
from passes.context import Context


def step_timeline(program: Program, context: Context) -> Timeline:
    """One `train_step` on all ranks, in predicted seconds."""
    device = context.cluster.slowest(range(context.ranks))
    price = default_price(program, context.cluster, context.profile)
    return simulate(program, TRAIN_STEP, price, overlap=device.overlap)
