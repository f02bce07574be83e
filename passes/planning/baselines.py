"""Plans that anyone would think of, each the best of its kind: what a plan is compared with, and never worse than."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dlc.ir.graph import Graph
from passes.context import Context
from passes.planning.strategies import MAX_STAGES, Strategy, as_written, divisors, microbatch_counts, strategy


@dataclass(frozen=True, slots=True)
class Baseline:
    """A kind of plan and the strategies that it may take; the first that fits in the order of J stands for it."""

    name: str
    strategies: tuple[Strategy, ...]


def baselines(graph: Graph, context: Context, units: int) -> tuple[Baseline, ...]:
    """Data parallelism; model parallelism; one weird trick (A. Krizhevsky, arXiv:1404.5997); Megatron-LM's tensor
    parallelism within data parallelism (M. Shoeybi et al., arXiv:1909.08053); the best pure pipeline."""
    ranks = context.ranks
    if ranks == 1:
        return ()
    found = [
        Baseline("data parallelism", (strategy(data=ranks, families=("data", "any")),)),
        Baseline("model parallelism", (strategy(model=ranks, families=("any", "model")),)),
        Baseline("one weird trick", (strategy(data=ranks, families=("weird", "any")),)),
        Baseline("Megatron tensor parallelism", tuple(_megatron(context))),
        Baseline("pure pipeline", tuple(_pipelines(graph, context, units))),
    ]
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


def _pipelines(graph: Graph, context: Context, units: int) -> Iterator[Strategy]:
    """All ranks in one row."""
    if context.ranks <= min(units, MAX_STAGES):
        for count in microbatch_counts(graph, context, context.ranks):
            yield strategy(pipeline=context.ranks, microbatches=count, schedule="one_f_one_b")
