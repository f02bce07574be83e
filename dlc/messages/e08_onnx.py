"""E08: ONNX models in and out."""

from __future__ import annotations

from dlc.diagnostics import Message

UNREADABLE = Message(
    "E0801",
    "`{path}` cannot be read as an ONNX model: {cause}",
    "`dlc import` reads models that pass ONNX's own checker. A file with weights in files of their own (external\n"
    "data) needs these beside it. `python -m onnx.checker MODEL.onnx` says more about a model that is damaged.",
)
UNCOVERED_NODE = Message(
    "E0802",
    "node `{node}` (`{op}`) cannot be imported: {fault}",
    "The importer has no operator of dlc for this node, for this version of it or for one of its attributes. Every\n"
    "such node of a model is named, at most twenty at a time. docs/onnx.md lists what is covered.",
)
MISSING_PACKAGE = Message(
    "E0803",
    "the Python package `onnx` is missing",
    "`dlc import` and `dlc export` read and write models with the package `onnx`, which dlc needs for nothing else:\n"
    '`pip install "dlc[onnx]"` installs it.',
)
OPEN_EXTENT = Message(
    "E0804",
    "axis {axis} of input `{input}` has no extent in the model{named}",
    "Networks of dlc have fixed extents behind the batch. Where a model leaves one open, `dlc import` has to be told:\n"
    "`-P NAME=extent`, with the model's own name for it. The first axis, the batch, may stay open.",
)
NO_COUNTERPART = Message(
    "E0805",
    "op `{address}` (`{op}`) cannot be exported: {fault}",
    "ONNX has no operator that computes the same, or none in the version that dlc writes. `dlc export` names every\n"
    "such op and writes nothing.",
)
UNSETTLED_NETWORK = Message(
    "E0806",
    "`{path}` does not settle which network is exported",
    "A model holds one network. Where a file has several, the one that its `train` block trains is exported; with\n"
    "several or no train blocks, keep one network in a file.",
)
NO_OPEN_AXIS = Message(
    "E0807",
    "the model has no open axis `{name}`",
    "`-P` of `dlc import` settles extents that the inputs of a model leave open, by the model's own names for them;\n"
    "the first axis of an input may also be called `batch`. Extents that a model fixes are changed where it was\n"
    "exported.",
)

MESSAGES = (
    UNREADABLE,
    UNCOVERED_NODE,
    MISSING_PACKAGE,
    OPEN_EXTENT,
    NO_COUNTERPART,
    UNSETTLED_NETWORK,
    NO_OPEN_AXIS,
)
