"""The characters of a text that a network is trained on, counted before its program is written.

The program counts them again when it reads the file; here a mistake is found early, with its place in the spec.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from dlc.diagnostics import Diagnostic, Label
from dlc.ir.graph import Graph
from dlc.ir.training import Training
from dlc.messages.e03_shapes import WRONG_CLASSES
from passes.classes import fed_classes

READ_AT_MOST = 16 * 2**20
"""Bytes of the largest text that is counted here."""


def too_few_classes(graph: Graph, training: Training, root: str) -> Iterator[Diagnostic]:
    """E0308 for each table of tokens and each row of logits with fewer classes than the text has characters.

    Nothing is said of a text that is not there or cannot be read: whoever runs the program may have it.
    """
    if training.data.kind != "text":
        return
    found = _distinct(os.path.join(root, str(training.data.get("file"))), root)
    for name, classes in fed_classes(graph).items():
        if found is not None and classes.count < found:
            node = classes.node
            helps = (f"an embedding and logits of {found}",)
            labels = (Label(training.data.span, f"{found} distinct characters"),) if training.data.span else ()
            logits = {value: output for output, value in graph.outputs}
            short = node.address if name in graph.inputs else logits.get(node.inputs[0], node.inputs[0])
            yield WRONG_CLASSES.at(
                node.span, secondary=labels, helps=helps, output=short, found=classes.count, needed=found
            )


def _distinct(path: str, root: str) -> int | None:
    """How many distinct characters a text has; None where it is no file inside the root, too large or no text."""
    inside = os.path.commonpath([os.path.realpath(path), os.path.realpath(root)]) == os.path.realpath(root)
    try:
        if not inside or not os.path.isfile(path) or os.path.getsize(path) > READ_AT_MOST:
            return None
        with open(path, encoding="utf-8", newline="") as stream:
            return len(set(stream.read().removeprefix("\ufeff")))
    except (OSError, UnicodeDecodeError):
        return None
