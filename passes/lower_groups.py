"""Batch norm over groups of samples that lie on several ranks: what is summed between its phases."""

from __future__ import annotations

from dataclasses import dataclass

from dlc.ir.graph import Graph, Node
from dlc.ir.plan import Plan
from dlc.ir.tensor import TensorType, tensor


def spans_shards(node: Node, plan: Plan) -> bool:
    """Whether a group of consecutive samples has members on two ranks."""
    group = node.attr("group")
    return isinstance(group, int) and any(start % group for start, _ in plan.shards)


@dataclass(frozen=True, slots=True)
class Phase:
    """One kernel of a phased op: the roles that it needs and gives, and those of them that are summed over ranks."""

    name: str
    needs: tuple[str, ...]
    gives: tuple[str, ...]
    summed: tuple[str, ...] = ()

    def tables(self, graph: Graph, node: Node) -> tuple[tuple[str, TensorType], ...]:
        """(role, type) of each table that is summed: one row a group, one column a channel."""
        x = graph.type(node.inputs[0])
        channels = x.shape[1]
        group = node.attr("group")
        assert isinstance(group, int)
        groups = -(-graph.batch // group)
        return tuple((role, tensor(x.dtype, group=groups, channel=channels)) for role in self.summed)


GROUP_PHASES = {
    "forward": (
        Phase("sums", ("x",), ("sums",), ("sums",)),
        Phase("squares", ("x", "sums"), ("squares",), ("squares",)),
        Phase("apply", ("x", "scale", "shift", "sums", "squares"), ("y", "batch_mean", "batch_rstd")),
    ),
    "dx": (
        Phase("grad_sums", ("dy", "x", "batch_mean", "batch_rstd"), ("dy_sums", "dyx_sums"), ("dy_sums", "dyx_sums")),
        Phase(
            "grad_apply",
            ("dy", "x", "scale", "batch_mean", "batch_rstd", "dy_sums", "dyx_sums"),
            ("dx", "dscale", "dshift"),
        ),
    ),
}
