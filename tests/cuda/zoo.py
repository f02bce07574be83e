"""The specs at reduced size as programs for GPUs, with the plans that GPUs get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.driver import Compiled, Options, compile_job, context_of, emit_files, read
from dlc.folders import write_folder
from dlc.ir.training import Choice, Precision
from tests.specs.emittable import emittable
from tests.specs.reduced import REDUCED

SPECS = Path(__file__).parents[2] / "specs"

HALF = {"f16": Precision("f16", "f32", "dynamic"), "bf16": Precision("bf16", "f32")}

PLANS: Mapping[str, Mapping[str, Any]] = {
    "": {},
    "data": {"strategy": Choice("data")},
    "model": {"strategy": Choice("model")},
    "spatial": {"strategy": Choice("spatial")},
    "pipeline": {"strategy": Choice("pipeline"), "schedule": "one_f_one_b", "microbatches": 2},
    "optimizer": {"strategy": Choice("data"), "shard": "optimizer"},
    "recompute": {"recompute": "all"},
}
"""Name -> what a plan insists on, fields of `dlc.ir.request.Request`."""


@dataclass(frozen=True, slots=True)
class Case:
    """A spec in a precision under a plan of PLANS on so many ranks; `given` has parameters besides REDUCED's."""

    spec: str
    precision: str = "f32"
    ranks: int = 1
    plan: str = ""
    given: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join(filter(None, (self.spec, self.precision, self.plan, f"{self.ranks} ranks"))).replace(" ", "_")


def compiled(case: Case) -> Compiled:
    """A program for GPUs of a node; both backends can emit it."""
    parameters = {name: str(value).replace(" ", "") for name, value in {**REDUCED[case.spec], **case.given}.items()}
    source = read(str(SPECS / f"{case.spec}.dlspec"), parameters)
    options = Options(precision=None if case.precision in HALF else case.precision, kernels="numpy")
    job, context = context_of(source, options)
    context = emittable(context, job.graph.batch)
    training = replace(context.training, precision=HALF.get(case.precision, context.training.precision))
    request = replace(context.request, **PLANS[case.plan])
    context = context.with_(
        training=training, cluster=gpus(case.ranks), request=request, ranks=case.ranks, compute=case.precision
    )
    return compile_job(source, job, context.with_(profile=None), options)


def gpus(ranks: int) -> Cluster:
    """So many small GPUs of a node."""
    compute = (("f64", 1e12), ("f32", 20e12), ("f16", 200e12), ("bf16", 200e12))
    gpu = Device("gpu", kind="gpu", memory=8 * 10**9, cores=16, bandwidth=1e12, compute=compute, launch=4e-6)
    return Cluster("box", (gpu,), (Link("bus", 50e9, 1e-6),), (Group("gpu", ranks, "bus", device="gpu"),))


def write(made: Compiled, folder: Path) -> dict[str, Path]:
    """The program of each backend in a folder of its own."""
    found = {backend: folder / backend / "program" for backend in ("numpy", "cupy")}
    for backend, path in found.items():
        write_folder(emit_files(made, backend), str(path))
    return found
