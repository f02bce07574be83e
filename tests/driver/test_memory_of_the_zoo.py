"""A limit of memory over the zoo: each network either gets a plan whose Program fits, or E0509; never E0707."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from dlc.cost.memory import peak_bytes
from dlc.driver import Compiled, Options, SourcedError, compile_spec, read
from tests.specs.reduced import REDUCED

SPECS = Path(__file__).resolve().parents[2] / "specs"

BOX = """
cluster box {
  device core {
    kind        = cpu
    memory      = 64 GB
    bandwidth   = 10 GB/s
    compute.f32 = 50 GFLOP/s
  }
  link shm { bandwidth = 8 GB/s, latency = 1 us }
  topology { core[4] over shm }
}
plan NETWORK on box {
  ORDERS
}
"""

ORDERS = (
    "strategy = auto",
    "strategy = data",
    "strategy = data; shard = weights",
    "strategy = model",
    "strategy = spatial",
    "strategy = pipeline; pipeline.microbatches = 2",
    "strategy = hybrid(pipeline = 2, data = 2); pipeline.microbatches = 2; pipeline.schedule = one_f_one_b",
    "strategy = hybrid(pipeline = 2, model = 2); pipeline.microbatches = 2; recompute = all",
)

STEPS = (0.8, 0.5, 0.2)
"""Limits: these parts of the way from a quarter of the weights to what the fastest plan takes."""

FEW = (("mlp", 2),)
"""The slice in CI: networks, and the orders by number. All: `-m slow`, an hour on two cores."""


def text(name: str, orders: str) -> str:
    """A spec of the zoo, planned on four processors under these orders."""
    written = (SPECS / f"{name}.dlspec").read_text(encoding="utf-8")
    for block in ("plan", "cluster"):
        written = re.sub(rf"\n{block} [^{{]*\{{.*?\n\}}\n", "\n", written, flags=re.DOTALL)
    written = re.sub(r"data( *)= (images|cifar10|mnist)\(.*\)", "data = synthetic(samples = 64, classes = 10)", written)
    network = re.search(r"^train (\w+)", written, re.MULTILINE)
    assert network is not None
    return written + BOX.replace("NETWORK", network[1]).replace("ORDERS", orders.replace("; ", "\n  "))


def planned(folder: Path, name: str, orders: str) -> Compiled:
    """The plan of a network of the zoo at its small size."""
    parameters = {key: str(value).replace(" ", "") for key, value in REDUCED[name].items()}
    if not (folder / "data").exists():
        shutil.copytree(SPECS, folder, dirs_exist_ok=True)
    path = folder / f"{name}.dlspec"
    path.write_text(text(name, orders), encoding="utf-8")
    return compile_spec(read(str(path), parameters), Options(ranks=4, parameters=parameters, precision="f32"))


ALL = [(name, number) for name in sorted(REDUCED) for number in range(len(ORDERS)) if (name, number) not in FEW]


def refused(folder: Path, name: str, orders: str) -> tuple[Compiled | None, set[str]]:
    """The plan, or the codes of what is said where there is none."""
    try:
        return planned(folder, name, orders), set()
    except SourcedError as error:
        return None, {found.code for found in error.diagnostics}


@pytest.mark.parametrize(("name", "number"), [*FEW, *(pytest.param(*case, marks=pytest.mark.slow) for case in ALL)])
def test_a_limit_is_kept_by_the_program(tmp_path: Path, name: str, number: int) -> None:
    free, faults = refused(tmp_path, name, ORDERS[number])
    if free is None:  # nothing of it can be cut that way
        assert faults <= {"E0512", "E0527", "E0701"}
        return
    most = peak_bytes(free.program)
    assert free.plan.predicted.peak_bytes == most
    least = sum(value.type.bytes for value in free.graph.values if value.kind == "weight") / 4
    for step in STEPS:
        limit = int(least + step * (most - least))
        made, faults = refused(tmp_path, name, f"{ORDERS[number]}; limit memory <= {limit} B")
        if made is None:
            assert faults == {"E0509"}
        else:
            assert made.plan.predicted.peak_bytes == peak_bytes(made.program) <= limit
