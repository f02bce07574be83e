"""Graph and Plan to Program: buffers, instructions and schedules, with nothing left to decide."""

from __future__ import annotations

from dlc.ir.graph import Graph, Node
from dlc.ir.plan import Plan
from dlc.ir.program import Collective, CommunicationGroup, Compute, Entry, Load, Program, Role, Row, Segment
from dlc.ir.request import Split
from dlc.ir.tensor import BATCH
from passes.context import Context
from passes.lower_buffers import Buffers
from passes.lower_nodes import Lowering, reduced
from passes.lowering.program import lower_general

FORWARD_STAGES = ("forward", "loss", "metric")
BACKWARD_STAGES = ("dx", "dw", "dt", "sum", "statistics")
UPDATE_STAGES = ("regularise", "clip", "update")

ENTRIES = (
    Entry("train_step", (Row("load"), Row("forward"), Row("backward"), Row("update"))),
    Entry("eval_step", (Row("load"), Row("predict"), Row("evaluate"))),
    Entry("eval_totals", (Row("total"),)),
    Entry("predict", (Row("load_inputs"), Row("predict"))),
)


def lower(graph: Graph, plan: Plan, context: Context) -> Program:
    """The Program of a plan; for one that splits the batch and nothing else, what emitted programs do.

    That has one role, whose ranks each hold a shard of the batch, and the sums over all of them: segments `load`,
    `forward`, `backward` (with one collective behind the last member of each bucket), `update`, and `predict` in
    inference mode, `evaluate` and `total` for the loss and metrics of a whole set.
    """
    if not splits_the_batch_alone(graph, plan):
        return lower_general(graph, plan, context)
    buffers = Buffers(graph, plan)
    steps = Lowering(graph, plan, context, buffers)
    segments = (
        Segment("load", (Load((*graph.inputs, *graph.fields)),)),
        steps.segment("forward", _of(graph, FORWARD_STAGES)),
        reduced(steps.segment("backward", _of(graph, BACKWARD_STAGES)), plan, context.hides),
        steps.segment("update", _of(graph, UPDATE_STAGES)),
        *_inference(steps.inference(), graph),
        _totals(plan, buffers),
        Segment("load_inputs", (Load(graph.inputs),)),
    )
    ranks = tuple(range(plan.ranks))
    role = Role("worker", ranks, plan.shards, buffers.all(), segments, ENTRIES)
    outputs = tuple((name, buffers.find(value, "NCHW")) for name, value in graph.outputs)
    return Program(
        graph.name,
        plan.batch,
        context.compute,
        (role,),
        (CommunicationGroup("data", (ranks,)),),
        outputs,
        graph.loss,
        graph.metrics,
    )


def splits_the_batch_alone(graph: Graph, plan: Plan) -> bool:
    """Whether a plan is one of pure data parallelism, with the buckets that this takes.

    No op says how it is split, or each one that has samples says that it is split by them.
    """
    plain = (plan.schedule, plan.microbatches, plan.shard, plan.stages) == ("", 1, "none", ())
    if not plain or tuple(name for name, _ in plan.mesh) != ("data",) or (plan.ranks > 1 and not plan.buckets):
        return False
    if any(op.recompute or op.stage or op.microbatch > 1 for op in plan.ops):
        return False
    by_batch = (Split(BATCH, "data"),)
    if not any(op.partition for op in plan.ops):
        return True
    return all(op.partition == (by_batch if _batched(graph, op.address) else ()) for op in plan.ops)


def _batched(graph: Graph, address: str) -> bool:
    node = graph.node(address)
    return any(graph.type(name).batched for name in (*node.inputs, *node.outputs))


def _of(graph: Graph, stages: tuple[str, ...]) -> tuple[Node, ...]:
    """The nodes of some stages; by stage order within an update, by graph order otherwise."""
    return tuple(node for node in graph.nodes if node.stage in stages)


def _inference(steps: Lowering, graph: Graph) -> tuple[Segment, Segment]:
    """`predict`: the network as far as its outputs; `evaluate`: loss and metrics of these, added to the totals."""
    predict = steps.segment("predict", _leading_to_outputs(graph), outputs=graph.outputs)
    evaluate = steps.segment("evaluate", _of(graph, ("loss", "metric")))
    sums = (graph.loss or "", *(value for _, value in graph.metrics))
    add = Compute("totals", ("totals", "forward", ""), sums, ("totals",), runtime=("count",))
    return predict, Segment("evaluate", (*evaluate.instructions, add))


def _totals(plan: Plan, buffers: Buffers) -> Segment:
    total = buffers.totals()
    if plan.ranks == 1:
        return Segment("total", ())
    collective = Collective(
        "totals", "allreduce", "data", "tree", total.name, total.type.bytes, reason="a few bytes, once an evaluation"
    )
    return Segment("total", (collective,))


def _leading_to_outputs(graph: Graph) -> tuple[Node, ...]:
    """The forward nodes that the network's outputs depend on."""
    needed = {value for _, value in graph.outputs}
    kept = list[Node]()
    for node in reversed(tuple(graph.forward)):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    return tuple(reversed(kept))
