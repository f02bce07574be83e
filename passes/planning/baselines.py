"""Plans that anyone would think of, each the best of its kind: what a plan is compared with, and never worse than."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dlc.ir.graph import Graph
from passes.context import Context
from passes.planning.strategies import (
    MAX_STAGES,
    Strategy,
    as_written,
    divisors,
    microbatch_counts,
    of_all_weights,
    strategy,
)


@dataclass(frozen=True, slots=True)
class Baseline:
    """A kind of plan and the strategies that it may take; the first that fits in the order of J stands for it."""

    name: str
    strategies: tuple[Strategy, ...]


def baselines(graph: Graph, context: Context, units: int) -> tuple[Baseline, ...]:
    """Data parallelism; model parallelism; one weird trick (A. Krizhevsky, arXiv:1404.5997); Megatron-LM's tensor
    parallelism within data parallelism (M. Shoeybi et al., arXiv:1909.08053), and that in a pipeline of servers
    (D. Narayanan et al., arXiv:2104.04473); the best pure pipeline."""
    ranks = context.ranks
    if ranks == 1:
        return ()
    found = [
        Baseline("data parallelism", (strategy(data=ranks, families=("data", "any")),)),
        Baseline("model parallelism", (strategy(model=ranks, families=("any", "model")),)),
        Baseline("one weird trick", (strategy(data=ranks, families=("weird", "any")),)),
        Baseline("Megatron tensor parallelism", tuple(_megatron(context))),
        Baseline("Megatron in a pipeline", tuple(_three_ways(graph, context, units))),
        Baseline("pure pipeline", tuple(_pipelines(graph, context, units))),
    ][: 1 if of_all_weights(context) else None]
    written = ((each.name, tuple(as_written(one, context) for one in each.strategies)) for each in found)
    return tuple(Baseline(name, strategies) for name, strategies in written if strategies)


def _megatron(context: Context) -> Iterator[Strategy]:
    """Model axes within an innermost group of the cluster, data parallelism around it."""
    levels = context.cluster.levels
    inside = levels[-1].count if levels else context.ranks
    for model in divisors(context.ranks):
        if 1 < model <= max(2, min(inside, 8)):
            data = context.ranks // model
            yield strategy(data=data, model=model, families=("data", "model"))


def _three_ways(graph: Graph, context: Context, units: int) -> Iterator[Strategy]:
    """The model axis fills an innermost group of the cluster, pipelines of data-parallel stages go over the groups.

    States are sharded over the data axis, which costs no traffic. Few plans, and near to good ones where memory is
    short: the search begins with them.
    """
    levels = context.cluster.levels
    model = levels[-1].count if len(levels) > 1 else 1
    groups = context.ranks // model if model > 1 and context.ranks % model == 0 else 1
    for pipeline in divisors(groups):
        if 1 < pipeline <= min(units, MAX_STAGES):
            shard = "optimizer" if pipeline < groups else "none"
            for count in microbatch_counts(graph, context, pipeline)[-2:]:
                yield strategy(
                    pipeline,
                    groups // pipeline,
                    model,
                    ("data", "model"),
                    microbatches=count,
                    schedule="one_f_one_b",
                    shard=shard,
                )


def _pipelines(graph: Graph, context: Context, units: int) -> Iterator[Strategy]:
    """All ranks in one row."""
    if context.ranks <= min(units, MAX_STAGES):
        for count in microbatch_counts(graph, context, context.ranks):
            yield strategy(pipeline=context.ranks, microbatches=count, schedule="one_f_one_b")
