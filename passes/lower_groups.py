"""Batch norm over groups of samples that lie on several ranks: what is summed between its phases."""

from __future__ import annotations

from dataclasses import dataclass

from dlc.ir.graph import Attr, Graph, Node
from dlc.ir.tensor import TensorType, tensor
from passes.context import Context


def spans_shards(group: Attr, shards: tuple[tuple[int, int], ...], context: Context) -> bool:
    """Whether a group of consecutive samples may have members on two ranks.

    Where a last partial batch is used (`last = keep`), its shards may begin anywhere.
    """
    if not isinstance(group, int) or group == 1 or len(shards) == 1:
        return False
    arguments = dict(context.training.data.arguments)
    return arguments.get("last") == "keep" or any(start % group for start, _ in shards)


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
