"""What every plan keeps: no baseline costs less, no bound is above it, and it is the same each time it is made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dlc.driver import Options, context_of, read, training_graph
from passes.planning.plan import Planned, plan
from passes.planning.search import Effort

ROOT = Path(__file__).parents[3]
SPECS = ROOT / "specs"
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Case:
    """A network of specs/ at a reduced size, on a cluster of specs/clusters/."""

    spec: str
    cluster: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    network: str = ""  # where it is not called as the spec

    @property
    def name(self) -> str:
        words = "-".join(str(value) for value in self.parameters.values())
        return f"{self.spec}-{self.cluster}-{words}".replace(" ", "")


CLUSTERS: tuple[tuple[str, Mapping[str, object]], ...] = (
    ("titanx_pcie", {"gpus": 4}),
    ("laptop", {"cores": 4}),
    ("k80_server", {"boards": 4}),
    ("dgx_h100_pod", {"nodes": 2}),
    ("dgx1", {"nodes": 1}),
    ("a100_pod", {}),
    ("tpu_torus", {"extents": "2x4", "chips": 8}),
    ("mixed_pair", {}),
    ("dgx_h200_pod", {"nodes": 8, "taper": 2}),
    ("mixed_servers", {}),
)

NETWORKS: tuple[tuple[str, Mapping[str, object]], ...] = (
    ("alexnet", {"batch": 128, "groups": 1}),
    ("lenet5", {"batch": 64}),
    ("vgg16", {"batch": 64, "size": 64}),
    ("googlenet", {"batch": 64, "size": 112}),
    ("gpt2_xl", {"batch": 64, "hidden": 256, "heads": 8, "depth": 4, "tokens": 128, "vocab": 5000}),
    ("resnet18", {"batch": 64, "size": 64}),
    ("mlp", {"batch": 128, "hidden": 1024}),
    ("densenet121", {"batch": 64, "size": 64, "layers": "[2, 3, 3, 2]"}),
    ("unet", {}),
    ("squeezenet", {"batch": 64, "size": 96}),
    ("transformer_encoder", {"batch": 64, "tokens": 64, "vocab": 1000}),
    ("mobilenet_v1", {"batch": 64, "size": 96}),
)

CASES = [
    Case(spec, cluster, {**sizes, **parts})
    for i, (spec, sizes) in enumerate(NETWORKS)
    for cluster, parts in (CLUSTERS[(3 * i + k) % len(CLUSTERS)] for k in (0, 1, 4, 7))
]
FEW = [CASES[0], CASES[5], CASES[18], CASES[22]]


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of specs/, so that plan blocks can be written beside them."""
    folder = tmp_path_factory.mktemp("specs")
    shutil.copytree(SPECS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("data"))
    return folder


def spec_of(folder: Path, case: Case) -> Path:
    path = folder / f"{case.spec}_on_{case.cluster}.dlspec"
    imports = f'import "{case.spec}.dlspec"\nimport "clusters/{case.cluster}.dlspec"\n'
    path.write_text(f"dlspec 1\n{imports}plan {case.network or case.spec} on {case.cluster} {{ strategy = auto }}\n")
    return path


def planned(folder: Path, case: Case) -> Planned:
    options = Options({key: str(value) for key, value in case.parameters.items()}, cluster=case.cluster)
    job, context = context_of(read(str(spec_of(folder, case)), options.parameters), options)
    return plan(training_graph(job, context, options), context, context.memory.bytes, Effort())


def check(found: Planned) -> None:
    cost = found.step.objective
    for each in found.compared:
        if each.step is not None:
            assert cost <= each.step.objective * (1 + ROUNDING), each.name
    assert found.plan.bounds.step <= cost * (1 + ROUNDING)
    assert found.found.bound <= cost * (1 + ROUNDING)
    assert 0.0 <= found.plan.gap < 1.0
    assert found.step.peak <= found.space.context.memory.bytes


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_no_baseline_is_better(specs: Path, case: Case) -> None:
    check(planned(specs, case))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_baseline_is_better_anywhere(specs: Path, case: Case) -> None:
    check(planned(specs, case))


AGAIN = """
import sys
from pathlib import Path
from dlc.ir.plan_json import plan_to_json
from tests.passes.planning.test_guarantees import FEW, planned
print(plan_to_json(planned(Path(sys.argv[1]), FEW[0]).plan))
"""


def test_the_same_plan_each_time(specs: Path) -> None:
    """In processes whose sets and dictionaries of strings are ordered differently."""
    texts = set()
    for seed in ("0", "1", "2"):
        around = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", AGAIN, str(specs)]
        made = subprocess.run(command, cwd=ROOT, env=around, check=True, capture_output=True, text=True)
        texts.add(made.stdout)
    (text,) = texts
    assert json.loads(text)["network"] == "alexnet"
