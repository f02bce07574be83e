"""Cases of recurrent networks."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc.ir.tensor import tensor
from dlc.ops import operator
from tests.kernels.calling import Op
from tests.operators.case import Case, Draw, drawn


def recurrent(name: str, **fixed: Any) -> Draw:
    """One or two layers, one direction or both, all states or the last."""

    def draw(rng: np.random.Generator) -> Case:
        batch, seq, width, hidden = (int(extent) for extent in rng.integers((1, 1, 1, 1), (4, 5, 4, 4)))
        arguments = {
            "hidden": hidden,
            "layers": int(rng.integers(1, 3)),
            "bidirectional": bool(rng.random() < 0.5),
            "returns": str(rng.choice(["sequence", "last"])),
            "bias": bool(rng.random() < 0.7),
        }
        op = Op(operator(name), (tensor("f64", batch=batch, seq=seq, width=width),), {**arguments, **fixed})
        return small(drawn(op, rng))

    return draw


def small(case: Case) -> Case:
    """With weights that saturate no gate."""
    known = {role: value if role == "x" else value / 2 for role, value in case.known.items()}
    return Case(case.op, known, case.roles)


def rnn_relu(rng: np.random.Generator) -> Case:
    """Drawn until no sum that the activation reads is near its kink."""
    draw = recurrent("rnn", nonlinearity="relu")
    while smallest_sum(case := draw(rng)) < 0.02:
        pass
    return case


def smallest_sum(case: Case) -> float:
    """Of all layers, directions and elements; the history of a layer holds its sums, then its states."""
    history = case.op.forward(case.known)["history"]
    sums, _ = np.split(history.reshape(dict(case.op.inferred.attrs)["layers"], -1), 2, axis=1)
    return float(np.abs(sums).min())


CASES: dict[str, Draw] = {
    "rnn": recurrent("rnn"),
    "rnn/relu": rnn_relu,
    "lstm": recurrent("lstm"),
    "gru": recurrent("gru"),
}
