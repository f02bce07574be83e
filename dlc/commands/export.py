"""Make an ONNX model of a network: its graph for inference, with its first weights or those of a file.

Ops that ONNX cannot express are named, and nothing is written.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from math import prod

from dlc import driver
from dlc.commands.answer import Answer
from dlc.commands.arguments import add_parameters, parameters_of
from dlc.folders import write_bytes

EXAMPLES = """\
  dlc export specs/resnet50.dlspec -o resnet50.onnx
  dlc export specs/lenet5.dlspec --load weights.npz -o lenet5.onnx"""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", metavar="FILE", help="a .dlspec file")
    parser.add_argument("-o", dest="out", metavar="MODEL.onnx", required=True, help="the model to write")
    parser.add_argument("--load", metavar="W.npz", help="weights, .npz or .safetensors (default: the first weights)")
    add_parameters(parser)


def run(arguments: Namespace) -> Answer:
    """Write the model."""
    source = driver.read(arguments.file, parameters_of(arguments))
    model = driver.export_onnx(source, arguments.load)
    write_bytes(arguments.out, model.SerializeToString())
    graph = model.graph
    count = sum(prod(tensor.dims) for tensor in graph.initializer)
    text = f"wrote {arguments.out}: network `{graph.name}`, {len(graph.node):,} nodes, {count:,} numbers"
    document = {"out": arguments.out, "network": graph.name, "nodes": len(graph.node), "numbers": count}
    return Answer(text, document, diagnostics=source.spec.warnings, sources=source.texts)
