"""Recurrent networks in ONNX: a node for each layer, between transpositions, as PyTorch's exporter writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dlc.frontends.onnx.exporting import Export
from dlc.ir.graph import Node

if TYPE_CHECKING:
    from dlc.frontends.onnx.model import Array

GATES = {"rnn": (0,), "gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}
"""The places of ONNX's gates among dlc's, which are PyTorch's: z, r, h of r, z, n; i, o, f, c of i, f, g, o."""


def recurrent(made: Export, node: Node) -> None:
    """x [batch, seq, width] is turned to [seq, batch, width]; states come as [seq, ways, batch, hidden]."""
    attrs: dict[str, Any] = dict(node.attrs)
    known, at, layers = made.roles(node), node.address, attrs["layers"]
    below = made.add("Transpose", [known["x"]], f"{at}.by_element", perm=[1, 0, 2])
    ways = 1 + attrs["bidirectional"]
    for layer in range(layers):
        states, last = f"{at}.states_l{layer}", f"{at}.last_l{layer}"
        _layer(made, node, layer, below, states, last)
        if layer + 1 < layers:
            turned = made.add("Transpose", [states], f"{at}.turned_l{layer}", perm=[0, 2, 1, 3])
            shape = made.constant(f"{at}.shape_l{layer}", [0, 0, ways * attrs["hidden"]])
            below = made.add("Reshape", [turned, shape], f"{at}.joined_l{layer}")
    whole = attrs["returns"] == "sequence"
    turned = made.add(
        "Transpose", [states if whole else last], f"{at}.by_sample", perm=[2, 0, 1, 3] if whole else [1, 0, 2]
    )
    shape = made.constant(f"{at}.shape", [*([0, 0] if whole else [0]), ways * attrs["hidden"]])
    made.add("Reshape", [turned, shape], known["y"])


def _layer(made: Export, node: Node, layer: int, x: str, states: str, last: str) -> None:
    attrs: dict[str, Any] = dict(node.attrs)
    ways = ("", "_reverse") if attrs["bidirectional"] else ("",)
    kinds = {"W": ("weight_ih",), "R": ("weight_hh",)} | ({"B": ("bias_ih", "bias_hh")} if attrs["bias"] else {})
    inputs = [x]
    for name, parts in kinds.items():
        inputs.append(f"{node.address}.{name}_l{layer}")
        made.initialisers[inputs[-1]] = _stacked(
            made, node, [[f"{part}_l{layer}{way}" for part in parts] for way in ways]
        )
    settings: dict[str, Any] = {
        "hidden_size": attrs["hidden"],
        "direction": "bidirectional" if len(ways) == 2 else None,
    }
    if node.op == "gru":
        settings["linear_before_reset"] = 1
    if node.op == "rnn" and attrs["nonlinearity"] == "relu":
        settings["activations"] = ["Relu"] * len(ways)
    made.add(node.op.upper(), inputs, states, last, **settings)


def _stacked(made: Export, node: Node, roles: Sequence[Sequence[str]]) -> Array:
    """The weights of each way, with the gates in ONNX's order, biases one behind the other."""
    import numpy as np

    owned = dict(zip(made.roles(node), node.inputs, strict=False))
    weights = [[_reordered(made.weights[owned[role]], GATES[node.op]) for role in way] for way in roles]
    return np.stack([np.concatenate(way) for way in weights])


def _reordered(array: Array, gates: Sequence[int]) -> Array:
    import numpy as np

    parts = np.split(array, len(gates))
    return np.concatenate([parts[gate] for gate in gates])
