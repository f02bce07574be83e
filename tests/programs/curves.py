"""Networks that train for some tens of steps under plans of every kind on four ranks, beside one rank.

Each program goes its own way from the same first weights, so rounding grows. How far two curves may be apart is what
noise does to the one of one rank: its samples in another order, and a unit in the last place on each weight.
`python -m tests.programs.curves [NETWORK …]` trains all of them and prints a table, that of docs/verification.md.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.numpy_mpi.runtime.trace import Trace
from dlc.driver import Compiled, Options, compile_job, context_of, emit_files, read, serial
from dlc.folders import write_folder
from dlc.ir.graph import Graph
from dlc.ir.training import Choice, RatePiece
from dlc.measure import BOUNDS, SPREAD_FACTOR
from dlc.ops.indexing import indexing_of
from dlc.verification import launched
from passes.differentiate import operator_of, roles
from tests.oracle.programs import EmittedProgram
from tests.programs.conftest import SPECS
from tests.specs.reduced import REDUCED

Array = npt.NDArray[Any]

NOISE = {"f64": 2, "f32": 8}
"""How often noise is drawn. In float32 a unit near a kink falls to its other side in a few draws of many."""

STEPS, ENDS = 30, 4
"""The loss falls from the mean of so many steps to that of as many at the end."""

CLUSTER = """
cluster box {
  device core {
    kind        = cpu
    memory      = 4 GiB
    bandwidth   = 10 GB/s
    compute.f32 = 50 GFLOP/s
    compute.f64 = 25 GFLOP/s
  }
  link shm { bandwidth = 8 GB/s, latency = 1 us }
  link bus { bandwidth = 4 GB/s, latency = 5 us }
  topology { board[2] over bus { core[2] over shm } }
}
"""

PIPELINE = ("pipeline.schedule = one_f_one_b", "pipeline.microbatches = 2")
PLANS = {
    "data": ("strategy = data",),
    "model": ("strategy = model",),
    "spatial": ("strategy = spatial",),
    "sequence": (),
    "pipeline": ("strategy = pipeline", *PIPELINE),
    "hybrid": ("mesh { pipeline = board; within = core }", *PIPELINE),
}
"""Texts have elements one behind the other in place of rows of pixels: each rank has a quarter of every sequence in all
ops that have that axis, pinned one by one.

Three kinds of parallelism in the hybrid one: two stages, whose ranks split the samples of some ops (data) and the
tensors of others (model), as `pins` say."""

ALONG = "[split(seq, over = board), split(seq, over = core)]"


@dataclass(frozen=True, slots=True)
class Network:
    """How a spec is reduced and trained; which ops the two ranks of a stage split, and by what, in the hybrid plan."""

    spec: str
    optimizer: Choice
    rate: float
    pins: tuple[tuple[str, str], ...]
    parameters: tuple[tuple[str, object], ...] = ()
    plans: tuple[str, ...] = ("data", "model", "spatial", "pipeline", "hybrid")


SGD = Choice("sgd", (("momentum", 0.9), ("nesterov", False), ("weight_decay", 0.0)))
ADAM = Choice("adam", (("beta1", 0.9), ("beta2", 0.999), ("eps", 1e-8), ("weight_decay", 0.0)))
OF_TEXTS = ("data", "model", "sequence", "pipeline", "hybrid")

NETWORKS = {
    "LeNet-5": Network("lenet5", SGD, 0.05, (("c1.conv", "batch"), ("f6.linear", "feature"))),
    "AlexNet": Network("alexnet", ADAM, 0.01, (("c1.conv", "batch"), ("f7.linear", "feature"))),
    "ResNet-50": Network(
        "resnet50",
        SGD,
        0.002,
        (("stem.conv_bn.conv", "batch"), ("stage4[1].main.expand.conv", "channel")),
        (("batch", 8), ("group", 4)),
    ),
    "GoogLeNet": Network("googlenet", ADAM, 0.01, (("stem.c1.conv", "batch"), ("i5b.b.expand.conv", "channel"))),
    "LSTM": Network("lstm", ADAM, 0.02, (("words.embedding", "batch"), ("logits.linear", "feature")), plans=OF_TEXTS),
    "GPT-2": Network(
        "gpt2",
        ADAM,
        0.01,
        (("wte.embedding", "batch"), ("body[1].b.mlp.up", "feature"), ("body[1].b.mlp.down", "reduce")),
        (("depth", 2),),
        plans=OF_TEXTS,
    ),
}


def compiled_for(network: Network, plan: str, precision: str, folder: Path) -> Compiled:
    """The program of a network under a plan on four ranks."""
    lines = list(PLANS[plan])
    if plan == "hybrid":
        lines += [f"pin {op} {{ partition = split({axis}, over = within) }}" for op, axis in network.pins]
    text = (SPECS / f"{network.spec}.dlspec").read_text()
    text = re.sub(r"\n(plan|cluster) [^{]*\{.*?\n\}\n", "\n", text, flags=re.DOTALL)
    shutil.copytree(SPECS, folder, dirs_exist_ok=True)
    path = folder / f"{network.spec}.dlspec"
    name = text.partition("\ntrain ")[2].split()[0]
    given = REDUCED[network.spec] | dict(network.parameters)
    options = Options(
        parameters={key: str(value).replace(" ", "") for key, value in given.items()}, precision=precision
    )
    if plan == "sequence":
        path.write_text(text)
        graph = read(str(path), options.parameters).spec.jobs[0].graph
        lines += [f"pin {op} {{ partition = {ALONG} }}" for op in _along("seq", graph)]
    path.write_text("\n".join([text, CLUSTER, f"plan {name} on box {{", *lines, "}\n"]))
    source = read(str(path), options.parameters)
    job, context = context_of(source, options)
    training = replace(
        context.training,
        data=_data(context.training.data, int(str(given["batch"]))),
        optimizer=network.optimizer,
        rates=(RatePiece("constant", (("rate", network.rate),), None),),
        init=None,
        checkpoint=None,
    )
    return compile_job(source, job, context.with_(training=training), options)


def _along(axis: str, graph: Graph) -> Iterator[str]:
    """The ops that have an axis."""
    for node in graph.forward:
        types = {role: graph.type(name) for role, name in roles(node).items()}
        if axis in indexing_of(operator_of(node), types, dict(node.attrs)).axes:
            yield node.address


def _data(data: Choice, batch: int) -> Choice:
    """Samples of four batches, of three classes, where a set is drawn or not at hand; else the set itself."""
    if data.kind not in ("synthetic", "images"):
        return data
    drawn = (("samples", 4 * batch), ("classes", 3), ("test", 0.0), ("shuffle", True), ("last", "drop"))
    return Choice("synthetic", drawn)


@dataclass
class Losses:
    """Stands where a program keeps its trace, and keeps its losses alone; noise is as the trace makes it."""

    losses: dict[int, float] = field(default_factory=dict)

    def __call__(self, *tables: Any, **settings: Any) -> _Kept:
        return _Kept(Trace(*tables, **settings), self.losses)

    @property
    def curve(self) -> Array:
        """The loss of each step."""
        return np.array([self.losses[step] for step in sorted(self.losses)])


@dataclass(frozen=True, slots=True)
class _Kept:
    trace: Trace
    losses: dict[int, float]

    def before(self, step: int, indices: Array) -> Array:
        return self.trace.before(step, indices)

    def gradients(self, step: int, loss: float) -> None:
        self.losses[step] = loss

    def after(self, step: int) -> None:
        pass


def trained(compiled: Compiled, **options: Any) -> Array:
    """The loss of each step of a program, on virtual ranks."""
    with TemporaryDirectory(prefix="dlc-curves-") as folder:
        write_folder(emit_files(compiled), folder)
        kept = Losses()
        program = EmittedProgram(Path(folder), compiled.source.spec.root, compiled.plan.ranks, rendezvous=True)
        program.run(kept, steps=STEPS, **options)  # type: ignore[arg-type]
    return kept.curve


def trained_in_processes(compiled: Compiled) -> Array:
    """The same, under mpiexec."""
    with TemporaryDirectory(prefix="dlc-curves-") as folder:
        program, record = f"{folder}/program", Path(folder, "record")
        write_folder(emit_files(compiled), program)
        record.mkdir()
        launched(program, compiled.plan.ranks, compiled.source.spec.root, STEPS, str(record))
        return np.array([float(np.load(step)["loss"]) for step in sorted(record.iterdir())])


ALONE: dict[bytes, tuple[Array, Array]] = {}
"""What the programs of one rank came to."""


def alone(compiled: Compiled) -> tuple[Array, Array]:
    """The losses of the same program for one rank, and by how much noise moves them up to each step."""
    one = serial(compiled)
    text = emit_files(one)["train.py"]
    if text not in ALONE:
        curve = trained(one)
        moved = [np.abs(trained(one, perturb=seed) - curve) for seed in range(1, 1 + NOISE[one.context.compute])]
        ALONE[text] = curve, np.maximum.accumulate(np.max(moved, axis=0))
    return ALONE[text]


@dataclass(frozen=True, slots=True)
class Curve:
    """The losses of a plan beside those of one rank; `bound` is how far they may be apart at each step, relatively."""

    network: str
    plan: str
    precision: str
    mesh: str
    losses: Array
    reference: Array
    bound: Array

    @property
    def differences(self) -> Array:
        """How far they are apart, relatively."""
        return np.abs(self.losses - self.reference) / np.abs(self.reference)

    @property
    def ends(self) -> tuple[float, float]:
        """The mean loss of the first steps and of the last ones."""
        return float(self.losses[:ENDS].mean()), float(self.losses[-ENDS:].mean())

    @property
    def learns(self) -> bool:
        """Whether the loss falls by a fifth at least."""
        first, last = self.ends
        return last < 0.8 * first

    @property
    def equal(self) -> bool:
        """Whether it is the curve of one rank."""
        return bool((self.differences <= self.bound).all())

    @property
    def row(self) -> str:
        """A row of the table."""
        first, last = self.ends
        worst = int((self.differences / self.bound).argmax())
        return (
            f"| {self.network} | {self.plan} | {self.mesh} | {self.precision} | {first:.3f} | {last:.3f} "
            f"| {self.differences[worst]:.1e} | {self.bound[worst]:.1e} |"
        )


def curve(name: str, plan: str, precision: str, *, processes: bool = False) -> Curve:
    """Train a network under a plan, and on one rank."""
    with TemporaryDirectory(prefix="dlc-curves-") as folder:
        compiled = compiled_for(NETWORKS[name], plan, precision, Path(folder))
        reference, moved = alone(compiled)
        losses = trained_in_processes(compiled) if processes else trained(compiled)
    bound = np.maximum(BOUNDS[precision], SPREAD_FACTOR * moved / np.abs(reference))
    mesh = " x ".join(f"{axis} {extent}" for axis, extent in compiled.plan.mesh)
    return Curve(name, plan, precision, mesh, losses, reference, bound)


HEADER = """| network | plan | mesh | precision | first losses | last losses | apart | allowed |
|---|---|---|---|---|---|---|---|"""


def main(names: list[str]) -> int:
    """1 where a network does not learn, or not as on one rank."""
    wrong = 0
    print(HEADER)
    for precision, name in product(NOISE, names or NETWORKS):
        for plan in NETWORKS[name].plans:
            found = curve(name, plan, precision)
            wrong += not (found.learns and found.equal)
            print(found.row, "" if found.learns else "does not learn", "" if found.equal else "differs", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    os.environ.setdefault("DLC_KERNELS", "numpy")
    raise SystemExit(main(sys.argv[1:]))
