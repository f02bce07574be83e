"""What `rnn`, `lstm` and `gru` have in common: layers, directions, the result, weights and counts.

`op(hidden, layers = 1, bidirectional = no, returns = sequence | last, truncate = 0, bias = yes)` reads x
[batch, seq, width] one element after the other and carries a state [batch, hidden] from each to the next; it starts at
zero. Further layers read the states of the layer below. The backward direction reads the last element first, its states
stand beside those of the forward direction. `truncate = n` stops the gradient of the state at every n-th element that a
direction has read, as if the sequence had been cut there and the state carried over as a number; 0 never stops it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dlc.ir.graph import Attr, Init
from dlc.ir.tensor import BATCH, Axis, TensorType, tensor
from dlc.ops.attributes import flag, integer, word
from dlc.ops.counting import lg, touched
from dlc.ops.extents import smaller
from dlc.ops.indexing import over_batch
from dlc.ops.operands import floating
from dlc.ops.operator import Cost, Gradient, Inferred, OperandError, Operator, Parameter, Shapes, Weight

PARAMETERS = (
    Parameter("hidden", "int", required=True, minimum=1),
    Parameter("layers", "int", default=1, minimum=1),
    Parameter("bidirectional", "bool", default=False),
    Parameter("returns", "choice", default="sequence", choices=("sequence", "last")),
    Parameter("truncate", "int", default=0, minimum=0),
    Parameter("bias", "bool", default=True),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """What is computed at one element, for each number of the state.

    `gates` sums over input and state, `kept` further numbers for the backward pass. Besides the products: `work`
    operations, of which `depth` one after the other; `work_back` and `depth_back` of the backward pass.
    """

    gates: int
    kept: int
    work: int
    depth: int
    work_back: int
    depth_back: int


def recurrent(name: str, cell: Cell, *further: Parameter) -> Operator:
    """The operator that repeats a cell; `further` parameters decide nothing about shapes."""
    parameters = (*PARAMETERS, *further)
    return Operator(
        name,
        _shape_rule(name, cell, tuple(p.name for p in parameters)),
        _count(cell),
        parameters=parameters,
        weights_by=weights_by,
        saved=("history",),
        gradients=(Gradient("dx", ("dy", "x", "weights", "history"), ("x", "weights")),),
        indexing=over_batch,
    )


def weights_by(attrs: Mapping[str, Attr]) -> tuple[str, ...]:
    """PyTorch's names and order: `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`, then `…_l0_reverse`, …"""
    kinds = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if flag(attrs, "bias") else ()))
    ways = ("", "_reverse") if flag(attrs, "bidirectional") else ("",)
    return tuple(f"{kind}_l{layer}{way}" for layer in range(integer(attrs, "layers")) for way in ways for kind in kinds)


def _shape_rule(
    name: str, cell: Cell, order: tuple[str, ...]
) -> Callable[[tuple[TensorType, ...], Mapping[str, Attr]], Inferred]:
    def infer(operands: tuple[TensorType, ...], attrs: Mapping[str, Attr]) -> Inferred:
        """x [batch, seq, width] -> y [batch, seq, hidden·directions], or [batch, hidden·directions]; E0301 otherwise.

        The history holds, for each sample, gates and states of all layers, directions and elements.
        """
        (x,) = operands
        floating(name, x)
        if len(x.axes) != 3 or x.axes[0].name != BATCH:
            helps = ("with `returns = sequence` the recurrent layer before gives one",) if len(x.axes) == 2 else ()
            needed = "batch, a sequence and features"
            raise OperandError("E0301", operand=0, helps=helps, op=name, needed=needed, found=x)
        batch, seq, width = x.axes
        hidden, ways = integer(attrs, "hidden"), 1 + flag(attrs, "bidirectional")
        whole = word(attrs, "returns") == "sequence"
        y = TensorType(x.dtype, (batch, *((seq,) if whole else ()), Axis(width.name, ways * hidden)))
        room = integer(attrs, "layers") * ways * (cell.gates + cell.kept + 1) * seq.extent * hidden
        return Inferred(
            (y,),
            attrs=tuple((key, attrs[key]) for key in order),
            weights=tuple(_weight(role, cell, x, attrs) for role in weights_by(attrs)),
            saved=(("history", TensorType(x.dtype, (batch, Axis("numbers", room)))),),
        )

    return infer


def _weight(role: str, cell: Cell, x: TensorType, attrs: Mapping[str, Attr]) -> Weight:
    """All of them are U(±1/√hidden) at first, as in PyTorch; the gates lie one below the other."""
    hidden, ways = integer(attrs, "hidden"), 1 + flag(attrs, "bidirectional")
    below = x.shape[-1] if "_l0" in role else ways * hidden
    columns = {"weight_ih": {"in": below}, "weight_hh": {"in": hidden}}.get(role[:9], {})
    type_ = tensor(x.dtype, **{"out": cell.gates * hidden, **columns})
    return Weight(role, type_, Init("kaiming_uniform", fan_in=hidden, fan_out=hidden))


def _count(cell: Cell) -> Callable[[str, Shapes], Cost]:
    def cost(pass_: str, shapes: Shapes) -> Cost:
        """Multiply-adds of each layer: rows·gates·hidden·(width + hidden), twice that in the backward pass.

        The longest chain goes through the sequence, and through the layers: these may run one element behind each
        other, unless the one above needs the last element first. The first element has no state before it.
        """
        x = shapes.inputs[0 if pass_ == "forward" else 1]
        (batch, seq, width), attrs = x.shape, shapes.attrs
        hidden, layers, ways = integer(attrs, "hidden"), integer(attrs, "layers"), 1 + flag(attrs, "bidirectional")
        widths = layers * hidden + width + (layers - 1) * ways * hidden
        macs = batch * seq * ways * cell.gates * hidden * widths
        units = batch * seq * layers * ways * hidden
        if pass_ == "forward":
            links = _steps(seq, layers, ways) - 1
            depth = lg(width) + cell.depth + links * (lg(hidden) + 1 + cell.depth)
            return Cost(macs, macs + cell.work * units, depth, touched(shapes))
        links = _steps(smaller(seq, integer(attrs, "truncate") or seq), layers, ways) - 1
        depth = cell.depth_back + links * (lg(cell.gates * hidden) + 1 + cell.depth_back) + lg(batch * seq)
        return Cost(2 * macs, 2 * macs + cell.work_back * units, depth, touched(shapes))

    return cost


def _steps(seq: int, layers: int, ways: int) -> int:
    return seq * layers if ways == 2 else seq + layers - 1
