"""The samples of the language expand to the published parameter counts, at known addresses, and fast."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.expand.networks.expansion import Expansion, expansion
from tests.work import counted

SPECS = Path(__file__).parents[3] / "specs"


def sample(name: str, **overrides: str) -> Expansion:
    text = (SPECS / f"{name}.dlspec").read_text().removeprefix("dlspec 1\n")
    return expansion(text, **overrides)


@pytest.mark.parametrize(
    ("name", "overrides", "parameters"),
    [
        ("lenet5", {}, 61_706),
        ("resnet50", {}, 25_557_032),
        ("resnet50", {"blocks": "[3,4,23,3]"}, 44_549_160),
        ("gpt2", {}, 124_439_808),
    ],
)
def test_published_parameter_counts(name: str, overrides: dict[str, str], parameters: int) -> None:
    assert sample(name, **overrides).graph.parameters == parameters


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("lenet5", "c1.conv"),
        ("lenet5", "logits.linear"),
        ("resnet50", "stem.conv_bn.conv"),
        ("resnet50", "stage3[2].main.middle.conv"),
        ("resnet50", "stage1[0].skip.project.bn"),
        ("resnet50", "stage4[2].main.relu_2"),
        ("gpt2", "body[0].a.self_attention.out"),
        ("gpt2", "body[11].b.mlp.down"),
        ("gpt2", "wte.embedding"),
    ],
)
def test_addresses_of_the_language_document(name: str, address: str) -> None:
    assert address in sample(name).addresses


def test_resnet_projects_where_the_channels_change_only() -> None:
    addresses = sample("resnet50").addresses
    assert [a for a in addresses if a.endswith("project.conv")] == [
        f"stage{n}[0].skip.project.conv" for n in (1, 2, 3, 4)
    ]


def test_a_tied_weight_is_its_owners() -> None:
    graph = sample("gpt2").graph
    assert graph.node("logits.linear").inputs == ("logits.layernorm", "wte.embedding.weight")
    assert not graph.has_value("logits.linear.weight")
    assert graph.value("wte.embedding.weight").owner == "wte.embedding"


def test_batch_follows_its_parameter() -> None:
    assert sample("lenet5").graph.batch == 32
    graph = sample("lenet5", batch="64").graph
    assert graph.batch == 64
    assert graph.type("image").shape == (64, 1, 32, 32)


def test_nodes_stand_in_topological_order() -> None:
    graph = sample("resnet50").graph
    known = {value.name for value in graph.of_kind("input", "weight", "statistic")}
    for node in graph.nodes:
        assert known.issuperset(node.inputs)
        known.update(node.outputs)


def test_inputs_then_weights_then_statistics() -> None:
    graph = sample("resnet50").graph
    node = graph.node("stem.conv_bn.bn")
    roles = ("scale", "shift", "mean", "variance")
    assert node.inputs == ("stem.conv_bn.conv", *(f"stem.conv_bn.bn.{role}" for role in roles))
    assert [graph.value(name).kind for name in node.inputs] == ["activation", *["weight"] * 2, *["statistic"] * 2]
    assert [graph.value(name).kind for name in node.outputs] == ["activation", "saved", "saved"]


def test_each_op_is_expanded_by_some_hundred_calls() -> None:
    sample("resnet50")  # what is read once and kept
    with counted() as work:
        graph = sample("resnet50").graph
    assert work.calls < 1_500 * len(graph.nodes)


def test_expansion_imports_no_heavy_library() -> None:
    heavy = "('numpy', 'networkx', 'rich', 'mpi4py')"
    code = f"import sys, dlc.expand.build; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SPECS.parent)
    assert found.stdout.strip() == "[]"
