"""The networks that are compared, and their programs: emitted by dlc for one rank of this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import gcd
from pathlib import Path
from typing import Any

from dlc.cluster.detect import usable_memory
from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.driver import Compiled, Options, compile_job, context_of, emit_files, read
from dlc.folders import write_folder
from dlc.ir.request import Request
from dlc.ir.training import Choice, Precision
from dlc.job import profile_of
from dlc.tuning import Measured, tune

SPECS = Path(__file__).resolve().parents[2] / "specs"
SAMPLES = 4
"""Batches of synthetic samples."""

COMPUTE, BANDWIDTH = 105e9, 20e9
"""What the plan takes for a core's FLOP/s and for the bytes a second that it reads and writes."""

GAIN = 1.5
"""By how much the rate of memory grows with a second core."""


@dataclass(frozen=True, slots=True)
class Network:
    """A spec with the parameters it is compared at."""

    spec: str
    batch: int
    parameters: Mapping[str, int] = field(default_factory=dict)

    @property
    def given(self) -> dict[str, str]:
        """All parameters, as of the command line."""
        return {name: str(value) for name, value in {"batch": self.batch, **self.parameters}.items()}


NETWORKS = {
    "lenet5": Network("lenet5", 64),
    "alexnet": Network("alexnet", 16),
    "vgg16": Network("vgg16", 4),
    "googlenet": Network("googlenet", 8),
    "resnet18": Network("resnet18", 8, {"group": 8}),
    "resnet50": Network("resnet50", 4, {"group": 4}),
    "densenet121": Network("densenet121", 4, {"group": 4}),
    "lstm": Network("lstm", 20),
    "gru": Network("gru", 32),
    "transformer": Network("transformer_encoder", 8, {"tokens": 128}),
    "mlp": Network("mlp", 32),
}
"""Name -> what it is. Batch norms work on the whole batch, as PyTorch's do."""


def compiled(
    network: Network,
    kernels: str,
    threads: int,
    ranks: int = 1,
    strategy: str = "auto",
    profile: str | None = None,
    tune_for: float = 0.0,
    **asked: Any,
) -> Compiled:
    """The network's training in f32 on ranks of so many cores; images are synthetic, nothing is tested or stored.

    The plan rests on a `profile` that `dlc calibrate` wrote, without one on formulas and the rates below; and on the
    kernels that may be chosen, measured as by `--tune` for so many seconds. `asked` are further fields of the request.
    """
    source = read(str(SPECS / f"{network.spec}.dlspec"), network.given)
    options = Options(precision="f32", kernels=kernels)
    job, context = context_of(source, options)
    training = replace(
        context.training, data=_data(context.training.data, network), checkpoint=None, precision=Precision("f32", "f32")
    )
    cluster = machine(threads, ranks, profile).computing_with(kernels)
    request = Request(context.request.network, cluster.name, strategy=Choice(strategy), **asked)
    context = context.with_(training=training, cluster=cluster, request=request, ranks=ranks)

    def plan(measured: Measured) -> Compiled:
        profile = profile_of(source, cluster, replace(options, measured=measured))
        return compile_job(source, job, context.with_(profile=profile), options)

    return plan(tune(plan, cluster.device_of(0), tune_for).kernels if tune_for else ())


def machine(threads: int, ranks: int = 1, profile: str | None = None) -> Cluster:
    """Devices of so many cores, one a rank; whoever has the cores, two of them reach GAIN times the bytes of one."""
    gain = 1.0 if threads * ranks == 1 else GAIN
    core = Device(
        "cores",
        memory=usable_memory() // ranks,
        cores=threads,
        bandwidth=BANDWIDTH * gain / ranks,
        compute=(("f32", threads * COMPUTE),),
        profile=profile and os.path.abspath(profile),
    )
    return Cluster("here", (core,), (Link("shm", 8e9, 1e-6),), (Group("core", ranks, "shm", device="cores"),))


def write_program(made: Compiled, folder: Path) -> None:
    """The emitted folder."""
    write_folder(emit_files(made), str(folder))


def _data(data: Choice, network: Network) -> Choice:
    """Texts as they are, for anything else synthetic samples; no share of them is for tests."""
    arguments = dict(data.arguments)
    if data.kind not in ("text", "tokens"):
        classes = arguments.get("classes") or (1000 if data.kind == "images" else 10)
        arguments = {"samples": SAMPLES * network.batch, "classes": classes, "shuffle": True, "last": "drop"}
        return Choice("synthetic", tuple({**arguments, "test": 0.0}.items()))
    return Choice(data.kind, tuple({**arguments, "test": 0.0}.items()))


def batch_norm_groups(made: Compiled) -> int:
    """The samples that batch norms work on: the batch, or the largest number that divides those of all."""
    return gcd(made.graph.batch, *(int(node.attr("group")) for node in made.graph.nodes if node.op == "bn"))
