"""J and the simulator: they agree on what a step takes, and by both no baseline is better than the plan.

The slice in CI has small networks, where latency rules, and clusters of unlike devices. All of specs/ on all of
specs/clusters/: `pytest -m slow tests/passes/planning/test_agreement.py`, about half an hour on two cores.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from dlc.driver import Compiled, Options, SourcedError, plan_spec, read

SPECS = Path(__file__).parents[3] / "specs"
ROUNDING = 1e-9
NEAR = 0.1
"""How far from J a simulated step of the slice may be."""

FEW = (
    ("mlp", "dgx_h100_pod"),
    ("lenet5", "titanx_pcie"),
    ("autoencoder", "a100_pod"),
    ("denoising_autoencoder", "laptop"),
    ("gru", "tpu_torus"),
    ("nin", "titanx_pcie"),
    ("resnet18", "mixed_servers"),
    ("transformer_encoder", "mixed_pair"),
    ("vgg16", "titanx_pcie"),
    ("mobilenet_v1", "dgx1"),
)
ALL = [
    (spec.stem, cluster.stem)
    for spec in sorted(SPECS.glob("*.dlspec"))
    for cluster in sorted(SPECS.glob("clusters/*.dlspec"))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of specs/, for specs with other clusters beside them."""
    made = tmp_path_factory.mktemp("specs")
    shutil.copytree(SPECS, made, dirs_exist_ok=True, ignore=shutil.ignore_patterns("data"))
    return made


def planned(folder: Path, spec: str, cluster: str) -> Compiled | None:
    """The plan of a network without orders on a cluster; None where nothing fits its memory."""
    text = (folder / f"{spec}.dlspec").read_text()
    text = re.sub(r'(?ms)^(plan|cluster|device|link) .*?^}\n|^import "clusters/[^\n]*\n', "", text)
    path = folder / f"{spec}_on_{cluster}.dlspec"
    text = text.replace("dlspec 1\n", f'dlspec 1\nimport "clusters/{cluster}.dlspec"\n', 1)
    (name,) = re.findall(r"(?m)^network (\w+)", text)[-1:]
    path.write_text(f"{text}\nplan {name} on {cluster} {{\n}}\n")
    try:
        return plan_spec(read(str(path)), Options())
    except SourcedError as error:
        if any(each.code != "E0509" for each in error.diagnostics):
            raise
        return None


def check(made: Compiled) -> float:
    """Nothing that is shown beside the plan is better by J or by simulation; how far both are apart."""
    plan, predicted = made.plan, made.plan.predicted
    for each in plan.baselines:
        if not each.note:
            assert predicted.objective <= each.objective * (1 + ROUNDING), each.description
            simulated = each.simulated_seconds or each.objective  # too slow by J to be simulated
            assert predicted.simulated_seconds <= simulated * (1 + ROUNDING), each.description
    assert predicted.bubble_seconds >= 0.0
    assert made.planned is not None
    for step in (made.planned.step, *(each.step for each in made.planned.compared if each.step is not None)):
        assert step.parts.bubble >= -ROUNDING * step.objective
    return abs((predicted.simulated_seconds - predicted.own_seconds) / made.planned.step.objective - 1.0)


@pytest.mark.parametrize(("spec", "cluster"), FEW)
def test_j_and_the_simulator_agree(folder: Path, spec: str, cluster: str) -> None:
    made = planned(folder, spec, cluster)
    assert made is not None
    assert check(made) < NEAR


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "cluster"), ALL)
def test_no_baseline_is_better_by_either(folder: Path, spec: str, cluster: str) -> None:
    made = planned(folder, spec, cluster)
    if made is not None:
        check(made)
