"""`dlc inspect`: the ops of a network with their shapes, parameters, multiply-adds, work and depth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

from dlc.inspect.tables import table
from dlc.ir.graph import Graph, Node
from dlc.ir.tensor import BATCH, TensorType
from dlc.ops import operator
from dlc.ops.operator import Cost, Shapes
from dlc.units import format_count


@dataclass(frozen=True, slots=True)
class OpRow:
    """One forward op. `macs`, `work` and `depth` are of its forward pass for one sample (cost-models.md §1)."""

    address: str
    op: str
    output: TensorType
    parameters: int
    macs: int
    work: int
    depth: int

    @property
    def statement(self) -> str:
        """The statement that the op comes from: `stage1` of `stage1[0].main.conv`."""
        return self.address.partition(".")[0].partition("[")[0]


def op_rows(graph: Graph) -> tuple[OpRow, ...]:
    """The forward ops in order."""
    return tuple(_row(graph, node) for node in graph.forward)


def _row(graph: Graph, node: Node) -> OpRow:
    cost = forward_cost(graph, node)
    weights = (graph.value(name) for name in dict.fromkeys(node.inputs))
    parameters = sum(v.type.elements for v in weights if v.kind == "weight" and v.owner == node.address)
    output = graph.type(node.outputs[0])
    return OpRow(node.address, node.op, output, parameters, cost.macs, cost.work, cost.depth)


def forward_cost(graph: Graph, node: Node) -> Cost:
    """The counts of one op's forward pass for one sample."""
    op = operator(node.op)
    if op is None:
        raise ValueError(f"no operator {node.op}")
    inputs, outputs = (
        tuple(graph.type(name).with_extent(BATCH, 1) for name in names) for names in (node.inputs, node.outputs)
    )
    return op.cost("forward", Shapes(inputs, outputs, dict(node.attrs)))


def network_document(graph: Graph, rows: Sequence[OpRow], selected: Collection[str] | None = None) -> dict[str, object]:
    """The network as `dlc inspect --json` prints it: totals of all `rows`, and the ops that are `selected`."""
    shown = [row for row in rows if selected is None or row.address in selected]
    return {
        "network": graph.name,
        "batch": graph.batch,
        "parameters": graph.parameters,
        "macs": sum(row.macs for row in rows),
        "work": sum(row.work for row in rows),
        "inputs": {name: str(graph.type(name)) for name in graph.inputs},
        "outputs": {name: str(graph.type(value)) for name, value in graph.outputs},
        "ops": [
            {
                "address": row.address,
                "op": row.op,
                "output": str(row.output),
                "parameters": row.parameters,
                "macs": row.macs,
                "work": row.work,
                "depth": row.depth,
            }
            for row in shown
        ],
    }


def network_text(graph: Graph, rows: Sequence[OpRow]) -> str:
    """The network in a few lines and a table with one row for each statement."""
    statements = [list(group) for _, group in groupby(rows, key=lambda row: row.statement)]
    cells = [
        (
            group[0].statement,
            _kinds(group),
            str(group[-1].output),
            format_count(sum(row.parameters for row in group)),
            format_count(sum(row.macs for row in group)),
        )
        for group in statements
    ]
    header = ("statement", "ops", "output", "parameters", "MACs")
    return f"{summary(graph, rows)}\n\n{table(header, cells, right=(3, 4))}"


def ops_text(graph: Graph, rows: Sequence[OpRow], selected: Collection[str] | None = None) -> str:
    """The network's summary and a table with one row for each op that is selected."""
    cells = [
        (
            row.address,
            row.op,
            str(row.output),
            format_count(row.parameters),
            format_count(row.macs),
            format_count(row.work),
            str(row.depth),
        )
        for row in rows
        if selected is None or row.address in selected
    ]
    header = ("op", "kind", "output", "parameters", "MACs", "work", "depth")
    return f"{summary(graph, rows)}\n\n{table(header, cells, right=(3, 4, 5, 6))}"


def summary(graph: Graph, rows: Sequence[OpRow]) -> str:
    """Name, sizes and totals; MACs are of the forward pass of one sample."""
    macs = format_count(sum(row.macs for row in rows))
    inputs = ", ".join(f"{name}: {graph.type(name)}" for name in graph.inputs)
    outputs = ", ".join(f"{name}: {graph.type(value)}" for name, value in graph.outputs)
    return (
        f"{graph.name}: {len(rows):,} ops, {format_count(graph.parameters)} parameters, "
        f"{macs} multiply-adds (MACs) a sample in the forward pass\n"
        f"  in   {inputs}\n"
        f"  out  {outputs}"
    )


def _kinds(rows: Sequence[OpRow]) -> str:
    """`conv, tanh`, `4 conv, 4 bn, 3 relu`."""
    counts = Counter(row.op for row in rows)
    return ", ".join(kind if number == 1 else f"{number} {kind}" for kind, number in counts.items())
