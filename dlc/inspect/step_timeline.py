"""The simulated training step of a program, each instruction at the price that the planner knows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from dlc.cost.communication import allreduce_seconds
from dlc.cost.compute import priced
from dlc.cost.phases import Phase
from dlc.cost.price import default_price
from dlc.cost.timeline import Timeline, simulate
from dlc.ir.graph import Graph, Node
from dlc.ir.plan import OpPlan, Plan
from dlc.ir.program import Collective, Compute, Copy, Instruction, Load, Program, Role
from passes.context import Context
from passes.lower import UPDATE_STAGES
from passes.prices import Prices
from passes.survey import slowest


def step_timeline(graph: Graph, plan: Plan, program: Program, context: Context) -> Timeline:
    """One `train_step` on all ranks, in predicted seconds."""
    device = slowest(context.cluster, context.ranks)
    placed = any(role.mesh is not None for role in program.roles)
    price = default_price(program, context.cluster, context.profile) if placed else _price(graph, plan, context)
    return simulate(program, "train_step", price, overlap=device.overlap)


def _price(graph: Graph, plan: Plan, context: Context) -> Callable[[Instruction, Role, int], float]:
    device = slowest(context.cluster, context.ranks)
    ops = {op.address: op for op in plan.ops}

    @cache
    def prices(samples: int) -> Prices:
        return Prices(graph, device, samples, context.profile)

    def moved(role: Role, names: tuple[str, ...], samples: int) -> float:
        """Reading and writing these buffers once."""
        size = sum(role.buffer(name).type.with_extent("batch", samples).bytes for name in names)
        return priced((Phase(bytes=2.0 * size),), "f32", device, context.profile).seconds

    def price(instruction: Instruction, role: Role, samples: int) -> float:
        match instruction:
            case Compute(kernel=("convert", _, _), inputs=(source,)):
                return prices(samples).conversion(role.buffer(source).type)
            case Compute():
                node = graph.node(instruction.address)
                share = 1 / _parts(instruction, node, role)
                return share * prices(samples).figure(node, *_decided(node, ops.get(node.base))).seconds
            case Collective(algorithm=algorithm, bytes=size):
                return allreduce_seconds(algorithm, size, role.ranks, context.cluster, device)
            case Load(buffers=buffers):
                return moved(role, buffers, samples)
            case Copy(source=source):
                return moved(role, (source,), samples)
        raise ValueError(f"{type(instruction).__name__} has no price")

    return price


def _decided(node: Node, op: OpPlan | None) -> tuple[str, str]:
    """The layout and algorithm by which the planner priced a node; "" for those that it does not decide about."""
    if op is None or all(part.stage != node.stage for part in op.passes):
        return "", ""
    return op.layout, op.algorithm(node.stage)


def _parts(instruction: Compute, node: Node, role: Role) -> int:
    """Into how many kernels a node was lowered: batch norm across ranks has several, which share its price."""
    if instruction.kernel[1] == node.stage:
        return 1
    parts = [
        i for i in role.segment(_segment(node)).instructions if isinstance(i, Compute) and i.address == node.address
    ]
    return max(1, len(parts))


def _segment(node: Node) -> str:
    if node.stage in UPDATE_STAGES:
        return "update"
    return "forward" if node.stage in ("forward", "loss", "metric") else "backward"
