"""A train block for a network that came without one, so that `dlc run` predicts with it and can train it on."""

from __future__ import annotations

from dlc.frontends.onnx.arguments import NOWHERE, name, number
from dlc.frontends.onnx.translation import Translation
from dlc.syntax import ast


def train_block(made: Translation, network: str) -> tuple[tuple[str, ...], tuple[ast.Train, ...]]:
    """The network's outputs and its train block; none where there is no weight that it could train.

    An output of one axis is taken for classes; where a softmax makes it, what comes before that is an output too, which
    is what cross-entropy takes. One with an axis more than the tokens that are read is taken for the next tokens, and
    any other is compared with a target of its shape.
    """
    outputs = [made.places[output] for output in made.model.outputs]
    classes: dict[str, ast.Expr]
    if not made.weights or not outputs:
        return tuple(outputs), ()
    first = made.flows[made.model.outputs[0]].type
    read = made.flows[made.model.inputs[0]].type
    if read.dtype == "i32" and first.axes[:-1] == read.axes:
        classes, loss = {}, call("cross_entropy", name(outputs[0]), _field("next"))
    elif len(first.axes) == 2:
        logits = _before_softmax(made) or outputs[0]
        outputs += [logits] if logits not in outputs else []
        classes = {"classes": number(first.shape[-1])}
        loss = call("cross_entropy", name(logits), _field("label"))
    else:
        classes, loss = {}, call("mse", name(outputs[0]), _field("target"))
    samples = ast.Binary("*", number(8), name("batch"), NOWHERE, NOWHERE)
    settings = {
        "data": call("synthetic", samples=samples, **classes),
        "loss": loss,
        "optimizer": call("sgd", momentum=number(0.9)),
        "lr": call("constant", number(0.001)),
        "epochs": number(1),
        **({"precision": name("f64")} if made.double else {}),
    }
    written = tuple(ast.Setting(key, value, NOWHERE, NOWHERE) for key, value in settings.items())
    return tuple(outputs), (ast.Train(network, written, NOWHERE, NOWHERE),)


def call(callee: str, *values: ast.Expr, **named: ast.Expr) -> ast.Call:
    """`callee(values, name = value)`."""
    positional = tuple(ast.Argument(None, value, NOWHERE) for value in values)
    by_name = tuple(ast.Argument(key, value, NOWHERE) for key, value in named.items())
    return ast.Call(callee, (*positional, *by_name), NOWHERE, NOWHERE)


def _field(field: str) -> ast.Attribute:
    return ast.Attribute(name("data"), field, NOWHERE)


def _before_softmax(made: Translation) -> str | None:
    """What the softmax reads that makes the first output; None where none does, or it is an input."""
    node = next((node for node in made.model.nodes if made.model.outputs[0] in node.outputs), None)
    if node is None or node.op != "Softmax" or node.inputs[0] in made.model.inputs:
        return None
    return made.places.get(node.inputs[0])
