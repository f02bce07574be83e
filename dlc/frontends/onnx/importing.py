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

    `batches` says where the model has the batch among the axes of its inputs and outputs, None where it has none: the
    network has it first.
    """

    network: str
    text: str
    weights: Mapping[str, Array]
    places: Mapping[str, str]
    batches: Mapping[str, int | None]


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
    heading = [f"From the ONNX model {network}. Its weights are in the .npz file of this file's name."]
    heading += ["The train block is made up: data, loss and optimizer are yours to choose."] if train else []
    text = to_source(ast.File(out, 1, items, NOWHERE), heading)
    batches = {value: made.flows[value].at for value in (*model.inputs, *model.outputs)}
    return Imported(network, text, made.weights, made.places, batches)


def _translated(model: Model, path: str) -> Translation:
    """With the batch as the first axis of the inputs; else as the second, which recurrent networks have; else without.

    The first way in which all nodes are covered is taken.
    """
    tried = []
    for start in (0, 1, None):
        made = _translate(model, path, start)
        if not made.problems:
            return made
        tried.append(made)
    raise DiagnosticError(min(tried, key=lambda made: len(made.problems)).problems)


def _translate(model: Model, path: str, start: int | None) -> Translation:
    made = Translation(model, start)
    try:
        made.inputs()
        for node in model.nodes:
            made.node(node, TABLE)
        if not made.problems:
            _require_computed(made)
    except UncoveredError as error:
        made.problems.append(UNREADABLE.at(None, path=path, cause=str(error)))
    return made


def _require_computed(made: Translation) -> None:
    for output in made.model.outputs:
        if output not in made.flows:
            raise UncoveredError(f"its output `{output}` depends on no input")
