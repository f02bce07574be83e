"""A model as a spec with its weights: the whole of `dlc import`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlc.diagnostics import DiagnosticError
from dlc.frontends.onnx.arguments import NOWHERE, name, number
from dlc.frontends.onnx.coverage import TABLE
from dlc.frontends.onnx.flow import UncoveredError
from dlc.frontends.onnx.model import Model, read_model
from dlc.frontends.onnx.names import identifier
from dlc.frontends.onnx.train import train_block
from dlc.frontends.onnx.translation import Translation
from dlc.messages.e08_onnx import UNREADABLE
from dlc.syntax import ast
from dlc.syntax.printer import to_source

if TYPE_CHECKING:
    from dlc.frontends.onnx.model import Array


@dataclass(frozen=True, slots=True)
class Imported:
    """A spec, its weights by address, and the names that the model's values have in it.

    `batched` is false where the model's first axis is no batch: then the network has one before all others.
    """

    network: str
    text: str
    weights: Mapping[str, Array]
    places: Mapping[str, str]
    batched: bool


def import_file(path: str, extents: Mapping[str, int], out: str) -> Imported:
    """The spec of a model in a file, to be written to `out`; DiagnosticError with every node that is not covered."""
    return import_model(read_model(path, extents), path, out)


def import_model(model: Model, path: str, out: str) -> Imported:
    """The spec of a model in memory; `path` is named in messages."""
    made = _translated(model, path)
    network = identifier(model.name)
    outputs, train = train_block(made, network)
    body = (*made.statements, ast.Output(tuple(map(name, outputs)), NOWHERE))
    batch = ast.Param("batch", number(made.batch.extent), NOWHERE, NOWHERE)
    items: tuple[ast.Item, ...] = (batch, ast.Network(network, body, NOWHERE, NOWHERE), *train)
    heading = [f"From the ONNX model {identifier(model.name)}; its weights are in the .npz file of this file's name."]
    heading += ["The train block is made up: data, loss and optimizer are yours to choose."] if train else []
    return Imported(
        network, to_source(ast.File(out, 1, items, NOWHERE), heading), made.weights, made.places, made.batched
    )


def _translated(model: Model, path: str) -> Translation:
    """With the first axis as the batch; where nodes work along it, with a batch before all axes."""
    batched = _translate(model, path, batched=True)
    if not batched.problems:
        return batched
    whole = _translate(model, path, batched=False)
    if whole.problems:
        raise DiagnosticError(min(batched, whole, key=lambda made: len(made.problems)).problems)
    return whole


def _translate(model: Model, path: str, *, batched: bool) -> Translation:
    made = Translation(model, batched)
    try:
        made.inputs()
    except UncoveredError as error:
        made.problems.append(UNREADABLE.at(None, path=path, cause=str(error)))
        return made
    for node in model.nodes:
        made.node(node, TABLE)
    return made
