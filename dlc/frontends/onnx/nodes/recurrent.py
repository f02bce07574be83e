"""Recurrent networks of one layer; PyTorch's exporter writes a node for each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlc.frontends.onnx.cover import Cover
from dlc.frontends.onnx.flow import Flow, UncoveredError, joined
from dlc.frontends.onnx.model import OnnxNode
from dlc.frontends.onnx.nodes.shapes import sliced
from dlc.frontends.onnx.translation import Translation, replaced_batch
from dlc.ir.graph import Attr

if TYPE_CHECKING:
    from dlc.frontends.onnx.model import Array

INPUT, WEIGHT, STATE_WEIGHT, BIAS, LENGTHS, STATE, CELL, PEEPHOLES = range(8)
"""The inputs of LSTM; RNN and GRU have the first six."""

EVERY, LAST = range(2)
"""The outputs: every state, and the last one; that of an LSTM's cell is not covered."""


@dataclass(frozen=True, slots=True)
class Cell:
    """An op of dlc, the places of its gates among those of ONNX, and the activations that it has."""

    op: str
    gates: tuple[int, ...]
    activations: tuple[str, ...]


CELLS = {
    "RNN": Cell("rnn", (0,), ("Tanh",)),
    "GRU": Cell("gru", (1, 0, 2), ("Sigmoid", "Tanh")),  # z, r, h in ONNX; r, z, n here
    "LSTM": Cell("lstm", (0, 2, 3, 1), ("Sigmoid", "Tanh", "Tanh")),  # i, o, f, c in ONNX; i, f, g, o here
}


def recurrent(node: OnnxNode, made: Translation) -> None:
    """States of every element [seq, ways, batch, hidden], and the last ones [ways, batch, hidden].

    With `layout = 1` both begin with the batch. dlc has the states of both ways side by side.
    """
    cell, way = CELLS[node.op], node.get("direction", "forward")
    batch_first = node.get("layout", 0) == 1
    _refuse(node, made, cell, made.model.types[node.input(INPUT)].shape[1 if batch_first else 0])
    x = made.value(node)
    if x.at != (0 if batch_first else 1):
        raise UncoveredError(f"axis {0 if batch_first else 1} of its input is the batch, other nodes take another")
    args = _arguments(node, cell)
    weights = _weights(node, made, cell)
    ways = 1 + (way == "bidirectional")
    extents = (ways, node.get("hidden_size", 0))
    seq = x.type.names[1]
    source = x.apply("slice", axis=seq, step=-1) if way == "reverse" else x
    if not _is_used(node, made, EVERY):
        last = source.apply(cell.op, weights, **args, returns="last")
        made.bind(node, _placed(made, last, extents, 0 if batch_first else 1), LAST)
        return
    states = source.apply(cell.op, weights, **args)
    states = states.apply("slice", axis=seq, step=-1) if way == "reverse" else states
    made.bind(node, _placed(made, states, (x.extents[0], *extents), 0 if batch_first else 2), EVERY)
    if _is_used(node, made, LAST):
        last = _last_states(made.flows[node.outputs[EVERY]], way)
        made.bind(node, _placed(made, last, extents, 0 if batch_first else 1), LAST)


def _is_used(node: OnnxNode, made: Translation, output: int) -> bool:
    name = node.outputs[output] if output < len(node.outputs) else ""
    return bool(name) and (name in made.model.outputs or bool(made.model.readers(name)))


def _placed(made: Translation, flow: Flow, extents: tuple[int, ...], at: int) -> Flow:
    return replaced_batch(made.sampled(flow, extents), at)


def _refuse(node: OnnxNode, made: Translation, cell: Cell, length: int) -> None:
    """What the operators of dlc do not have."""
    import numpy as np

    lengths = made.constant(node, LENGTHS)
    if lengths is not None and (lengths != length).any():
        raise UncoveredError("its sequences have different lengths")
    for index in (STATE, CELL):
        start = made.constant(node, index)
        if start is not None and np.any(start):
            raise UncoveredError("its state does not start at zero")
    if node.input(PEEPHOLES):
        raise UncoveredError("it has peepholes")
    if node.op == "GRU" and not node.get("linear_before_reset", 0):
        raise UncoveredError("attribute `linear_before_reset` is 0: the reset gate is applied to the state")
    given = set(zip(*[iter(node.get("activations", ()))] * len(cell.activations), strict=True))
    known = {cell.activations, *([("Relu",)] if node.op == "RNN" else [])}
    if not given <= known or len(given) > 1:
        raise UncoveredError(f"attribute `activations` is {list(node.get('activations', ()))}")


def _arguments(node: OnnxNode, cell: Cell) -> dict[str, Attr]:
    args: dict[str, Attr] = {"hidden": node.get("hidden_size", 0), "bias": bool(node.input(BIAS))}
    args["bidirectional"] = node.get("direction", "forward") == "bidirectional"
    if node.op == "RNN" and "Relu" in node.get("activations", ()):
        args["nonlinearity"] = "relu"
    return args


def _weights(node: OnnxNode, made: Translation, cell: Cell) -> dict[str, Array]:
    """By PyTorch's names, the gates in its order. ONNX has the biases of input and state one behind the other."""
    import numpy as np

    found: dict[str, Array] = {}
    inputs, states, biases = (made.constant(node, index) for index in (WEIGHT, STATE_WEIGHT, BIAS))
    assert inputs is not None
    assert states is not None
    for way in range(len(inputs)):
        suffix = "_l0_reverse" if way else "_l0"
        kinds = {"weight_ih": inputs[way], "weight_hh": states[way]}
        if biases is not None:
            kinds["bias_ih"], kinds["bias_hh"] = np.split(biases[way], 2)
        found |= {f"{kind}{suffix}": _reordered(array, cell.gates) for kind, array in kinds.items()}
    return found


def _reordered(array: Array, gates: Sequence[int]) -> Array:
    import numpy as np

    parts = np.split(array, len(gates))
    return np.concatenate([parts[gate] for gate in gates])


def _last_states(states: Flow, way: str) -> Flow:
    """What each way has come to: at the last element, backwards at the first; from [seq, ways, hidden]."""
    length = states.extents[0]
    ends = {"forward": (length - 1,), "reverse": (0,), "bidirectional": (length - 1, 0)}[way]
    parts = [
        sliced(sliced(states, 1, slice(end, end + 1)), 2, slice(index, index + 1)) for index, end in enumerate(ends)
    ]
    return parts[0] if len(parts) == 1 else joined("concat", *parts, axis=states.type.names[2])


_ATTRIBUTES = ("activations", "direction", "hidden_size", "layout", "linear_before_reset")

TABLE = {
    op: Cover(
        recurrent,
        versions=(7, 14, 22),
        attributes=_ATTRIBUTES,
        constants=tuple(range(WEIGHT, PEEPHOLES + 1)),
        results=2,
    )
    for op in CELLS
}
