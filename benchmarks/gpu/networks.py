"""The networks that are trained and timed on a GPU, at their sizes and at those of a rehearsal without one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.cost.profile import Profile
from dlc.driver import Compiled, Options, compile_job, context_of, emit_files, read
from dlc.folders import write_folder
from dlc.ir.request import Request, Rule
from dlc.ir.tensor import NARROW
from dlc.ir.training import Choice, Precision, RatePiece

SPECS = Path(__file__).resolve().parents[2] / "specs"
SAMPLES = 4
"""Batches of synthetic samples."""

SGD = Choice("sgd", (("momentum", 0.0), ("nesterov", False), ("weight_decay", 0.0)))


@dataclass(frozen=True, slots=True)
class Network:
    """A spec with the parameters it is timed at, and those that differ where a rehearsal takes it."""

    spec: Path
    given: Mapping[str, str]
    tiny: Mapping[str, str] = field(default_factory=dict)

    def parameters(self, emulate: bool) -> dict[str, str]:
        """As of the command line."""
        return {**self.given, **(self.tiny if emulate else {})}


def _zoo(name: str, batch: int, given: Mapping[str, str] | None = None, **tiny: str) -> Network:
    return Network(SPECS / f"{name}.dlspec", {"batch": str(batch), **(given or {})}, {"batch": "2", **tiny})


NETWORKS = {
    "lenet5": _zoo("lenet5", 64),
    "resnet50": _zoo("resnet50", 64, {"group": "64"}, size="32", blocks="[1,1,1,1]", filters="4", group="2"),
    "gpt2_small": Network(
        Path(__file__).with_name("gpt2_small.dlspec"),
        {"batch": "8"},
        {"batch": "2", "tokens": "8", "hidden": "16", "heads": "2", "depth": "1", "vocab": "80"},
    ),
    "vgg16": _zoo("vgg16", 64, size="32", filters="[4,4,4,4,4]", hidden="8", classes="10"),
    "alexnet": _zoo("alexnet", 128, size="67", filters="[4,4,4,4,4]", hidden="8", classes="10"),
    "lstm": _zoo("lstm", 20, tokens="5", hidden="8"),
    "densenet121": _zoo(
        "densenet121", 64, {"group": "64"}, group="2", size="32", growth="4", layers="[1,1,1,1]", classes="10"
    ),
}
"""Name -> what it is, in the order in which they are timed. Batch norms work on the whole batch, as PyTorch's do."""


def compiled(
    name: str,
    emulate: bool,
    precision: str = "f32",
    ranks: int = 1,
    plain: bool = False,
    data: bool = False,
    rate: float | None = None,
    profile: Profile | None = None,
) -> Compiled:
    """A network's program for that many GPUs, planned by a profile where there is one.

    `plain` makes one step of SGD of it that is the gradient; with `data` its own samples are read, where there are
    any, in place of synthetic ones. Without a profile FFTs are left out of the choice: what they take on a GPU is
    known least. Half precision has its masters in f32, and no scale of the loss.
    """
    half = precision in NARROW
    network = NETWORKS[name]
    parameters = network.parameters(emulate)
    source = read(str(network.spec), parameters)
    options = Options(precision=None if half else precision)
    job, context = context_of(source, options)
    training = replace(context.training, checkpoint=None, precision=Precision(precision, "f32" if half else precision))
    if not data:
        training = replace(training, data=_data(training.data, int(parameters["batch"])))
    if plain:
        training = replace(training, optimizer=SGD, clip=None)
    if rate is not None:
        training = replace(training, rates=(RatePiece("constant", (("rate", rate),), None),))
    convolutions = tuple(node.address for node in job.graph.forward if node.op == "conv")
    span = next(node.span for node in job.graph.forward if node.span is not None)
    forbids = (Rule("algorithm", "fft", convolutions, "**", span, span),) if convolutions and profile is None else ()
    cluster = h200(ranks)
    request = Request(context.request.network, cluster.name, strategy=Choice("data"), forbids=forbids)
    context = context.with_(
        training=training, cluster=cluster, request=request, ranks=ranks, compute=precision, profile=profile
    )
    return compile_job(source, job, context, options)


def write_program(made: Compiled, folder: Path, backend: str = "cupy") -> None:
    """The emitted folder."""
    write_folder(emit_files(made, backend), str(folder))


def h200(ranks: int) -> Cluster:
    """GPUs as of its data sheet; programs do not depend on it but for the algorithms that it is thought to like."""
    gpu = Device(
        "h200",
        kind="gpu",
        memory=120 * 10**9 // ranks,
        cores=132,
        bandwidth=4.8e12,
        compute=(("f64", 33.5e12), ("f32", 66.9e12)),
        launch=4e-6,
    )
    return Cluster("here", (gpu,), (Link("host", 20e9, 1e-5),), (Group("gpu", ranks, "host", device="h200"),))


def _data(data: Choice, batch: int) -> Choice:
    """Texts as they are, for anything else synthetic samples; no share of them is for tests."""
    arguments = dict(data.arguments)
    if data.kind == "text":
        return Choice(data.kind, tuple({**arguments, "test": 0.0}.items()))
    classes = arguments.get("classes") or (1000 if data.kind == "images" else 10)
    told = {"samples": SAMPLES * batch, "classes": classes, "shuffle": True, "last": "drop", "test": 0.0}
    return Choice("synthetic", tuple(told.items()))
