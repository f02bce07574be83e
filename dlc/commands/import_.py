"""Make a spec of an ONNX model, with its weights beside it as .npz.

What dlc has no operator for is named, node by node, and nothing is written.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING

from dlc import driver
from dlc.commands.answer import Answer, UsageError
from dlc.commands.arguments import add_parameters, parameters_of
from dlc.folders import write_bytes, write_text

if TYPE_CHECKING:
    from dlc.frontends.onnx.importing import Imported

EXAMPLES = """\
  dlc import model.onnx -o net.dlspec              # and net.npz
  dlc import gpt2.onnx -o gpt2.dlspec -P batch=8 -P seq=128
  dlc run net.dlspec --load net.npz --predict out.npz --input in.npz"""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", metavar="MODEL.onnx", help="a model of ONNX")
    parser.add_argument("-o", dest="out", metavar="NET.dlspec", required=True, help="the spec to write; NET.npz beside")
    add_parameters(parser)


def run(arguments: Namespace) -> Answer:
    """Write both files; `-P` settles axes that the model leaves open."""
    from dlc.frontends.onnx.importing import import_file

    base, suffix = os.path.splitext(arguments.out)
    if suffix != ".dlspec":
        raise UsageError(f"`{arguments.out}` is not the name of a spec: it ends in .dlspec")
    imported = import_file(arguments.model, _extents(arguments), arguments.out)
    weights = f"{base}.npz"
    write_bytes(weights, _archive(imported))
    write_text(arguments.out, imported.text)
    _require_sound(arguments.out, imported)
    count = sum(array.size for array in imported.weights.values())
    document = {
        "out": arguments.out,
        "weights": weights,
        "network": imported.network,
        "numbers": count,
        "batches": dict(imported.batches),
    }
    text = f"wrote {arguments.out} and {weights}: network `{imported.network}`, {count:,} numbers in its weights"
    text += "".join(f"\n{line}" for line in _moved(imported))
    return Answer(text, document)


def _moved(imported: Imported) -> list[str]:
    """Where the model has its batch elsewhere than the network, which has it first."""
    places = sorted({at for at in imported.batches.values() if at})
    lines = [f"where the model has the batch as axis {place}, the network has it as the first" for place in places]
    if None in imported.batches.values():
        lines.append("the model has no batch: the network has one before all axes")
    return lines


def _extents(arguments: Namespace) -> dict[str, int]:
    """The `-P` settings, which are extents here."""
    given = parameters_of(arguments)
    for name, value in given.items():
        if not value.isascii() or not value.isdigit() or not int(value):
            raise UsageError(f"`-P {name}={value}` is no extent: a whole number, 1 or more")
    return {name: int(value) for name, value in given.items()}


def _archive(imported: Imported) -> bytes:
    import numpy as np

    stream = BytesIO()
    np.savez(stream, allow_pickle=False, **imported.weights)
    return stream.getvalue()


def _require_sound(path: str, imported: Imported) -> None:
    """That what was written is a network with these very weights; anything else is a defect of dlc."""
    (job,) = driver.read(path).spec.jobs
    shapes = {value.name: value.type.shape for value in job.graph.of_kind("weight", "statistic")}
    if shapes != _shapes(imported.weights):
        raise ValueError(f"{path} has the weights {shapes}, not {_shapes(imported.weights)}")


def _shapes(weights: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    return {name: getattr(array, "shape", ()) for name, array in weights.items()}
