"""What tests train of any spec: what a program of this version can honour."""

from __future__ import annotations

from dataclasses import replace

from dlc.data_sets import LOADABLE
from dlc.ir.request import Request
from dlc.ir.training import Choice
from passes.context import Context

SYNTHETIC = (("samples", 1024), ("classes", 10), ("test", 0.2), ("shuffle", True), ("last", "drop"))
BATCHES = 8
"""So many batches of synthetic samples suffice, a fifth of them for predictions."""


def emittable(context: Context, batch: int) -> Context:
    """Without what programs cannot honour yet and no step's numbers depend on: the plan block, checkpoints, and data
    sets without a reader, for which synthetic samples stand in. Of those there are a few batches."""
    training, data = context.training, context.training.data
    if data.kind == "synthetic" or data.kind not in LOADABLE:
        given = dict(data.arguments if data.kind == "synthetic" else SYNTHETIC)
        samples = given["samples"]
        assert isinstance(samples, int)
        data = Choice("synthetic", tuple((given | {"samples": min(samples, BATCHES * batch)}).items()))
    request = Request(context.request.network, context.request.cluster)
    return context.with_(training=replace(training, data=data, checkpoint=None), request=request)
