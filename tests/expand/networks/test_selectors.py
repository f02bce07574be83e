"""Selectors: which ops they reach."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from dlc.diagnostics import DiagnosticError, Diagnostics
from dlc.expand.evaluate import Scope
from dlc.expand.select import matches
from dlc.ir.graph import Graph
from dlc.syntax import ast
from dlc.syntax.parser import parse
from tests.expand.networks.expansion import expansion

SPECS = Path(__file__).parents[3] / "specs"


@cache
def resnet() -> Graph:
    return expansion((SPECS / "resnet50.dlspec").read_text().removeprefix("dlspec 1\n")).graph


@cache
def gpt2() -> Graph:
    return expansion((SPECS / "gpt2.dlspec").read_text().removeprefix("dlspec 1\n")).graph


def selector(text: str) -> ast.Selector:
    file = parse(f"dlspec 1\nplan n on c {{\n  pin {text} {{ layout = NCHW }}\n}}\n", "test.dlspec")
    (plan,) = file.items
    assert isinstance(plan, ast.Plan)
    (pin,) = plan.rules
    assert isinstance(pin, ast.Pin)
    return pin.selector


def reached(text: str, graph: Graph | None = None) -> list[str]:
    return list(matches(selector(text), graph or resnet()))


def test_a_full_address() -> None:
    assert reached("stage3[2].main.middle.conv") == ["stage3[2].main.middle.conv"]


def test_everything_below_an_address() -> None:
    assert reached("stem") == ["stem.conv_bn.conv", "stem.conv_bn.bn", "stem.relu", "stem.maxpool"]
    assert reached("stage1[0].skip") == ["stage1[0].skip.project.conv", "stage1[0].skip.project.bn"]
    assert len(reached("stage1")) == 12 + 10 + 10
    assert len(reached("**")) == len(resnet().nodes)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("*.conv", 0),
        ("*.conv_bn.conv", 1),
        ("**.conv", 53),
        ("**.main.*.conv", 48),
        ("stage3[*].main.middle.conv", 6),
        ("stage3[0..3].main.middle.conv", 3),
        ("stage3[4..9].main.middle.conv", 2),
        ("stage3[7].main.middle.conv", 0),
        ("stage3.main", 0),
        ("*[1].main.middle.conv", 4),
        ("*.main.middle.conv", 16),
        ("stage1[0].**.conv", 4),
        ("stage1[0].conv.**", 0),
        ("**.**.conv", 53),
        ("stem.**", 4),
        ("**.relu_2", 16),
        ("stem.relu.relu", 0),
    ],
)
def test_wildcards_and_indices(text: str, count: int) -> None:
    assert len(reached(text)) == count


def test_several_indices_in_a_row() -> None:
    text = "network n {\n  input x: f32[2, feature = 3]\n  y = x -> repeat 2 { repeat 3 { relu } }\n  output y\n}"
    graph = expansion(text).graph
    assert reached("y[1][0..2]", graph) == ["y[1][0].relu", "y[1][1].relu"]
    assert reached("y[*][2].relu", graph) == ["y[0][2].relu", "y[1][2].relu"]
    assert reached("y[1]", graph) == [f"y[1][{i}].relu" for i in range(3)]


def test_below_an_iteration_of_the_sample() -> None:
    assert reached("body[*].a.self_attention.out", gpt2()) == [f"body[{i}].a.self_attention.out" for i in range(12)]
    assert len(reached("body[0..3]", gpt2())) == 3 * 24


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("window == 3x3 and stride == 1", lambda n: n.attr("window") == (3, 3) and n.attr("stride") == (1, 1)),
        ("window == 3", lambda n: n.attr("window") == (3, 3)),
        ("window == 7x7 or channel == 2048", lambda n: n.attr("window") == (7, 7) or n.attr("filters") == 2048),
        ("not (window == 1x1)", lambda n: n.attr("window") != (1, 1)),
        ("channel >= 1024", lambda n: n.attr("filters") >= 1024),
        ("params > 1000000", lambda n: _parameters(n.inputs[1]) > 1_000_000),
        ("flops == 2 * macs", lambda n: True),
        ("bias", lambda n: False),
        ("not bias", lambda n: True),
        ("pad == 1", lambda n: n.attr("pad") == ((1, 1), (1, 1))),
        ("height == 7", lambda n: resnet().type(n.address).extent("height") == 7),
    ],
)
def test_where(where: str, expected: object) -> None:
    convolutions = [node for node in resnet().nodes if node.op == "conv"]
    assert callable(expected)
    assert reached(f"**.conv where {where}") == [node.address for node in convolutions if expected(node)]


def _parameters(weight: str) -> int:
    return resnet().type(weight).elements


def test_flops_of_the_first_convolution() -> None:
    macs = 1024 * 64 * 3 * 7 * 7 * 112 * 112
    assert reached(f"stem.** where macs == {macs} and flops == {2 * macs}") == ["stem.conv_bn.conv"]


def test_an_attribute_that_an_op_does_not_have_keeps_it_out() -> None:
    assert set(reached("** where window == 3x3")) == {
        node.address for node in resnet().nodes if node.has("window") and node.attr("window") == (3, 3)
    }
    assert "logits.linear" not in reached("** where not (window == 3x3)")
    assert "logits.linear" in reached("** where window == 3x3 or features == 1000")


def test_parameters_of_the_file_are_in_reach() -> None:
    scope = Scope("the parameters", {"wide": 2048})
    found = matches(selector("**.conv where channel == wide"), resnet(), scope, Diagnostics())
    assert found
    assert all(resnet().type(address).extent("channel") == 2048 for address in found)


def test_an_unknown_attribute_lists_those_that_are_known() -> None:
    diagnostics = Diagnostics()
    assert matches(selector("**.conv where windw == 3x3"), resnet(), None, diagnostics) == ()
    (error,) = diagnostics.errors
    assert (error.code, error.message) == ("E0201", "`windw` is not defined in this selector")
    assert error.helps == ("there is an attribute with a similar name: `window`",)
    assert "`channel`" in error.notes[0]
    assert "`flops`" in error.notes[0]


@pytest.mark.parametrize("where", ["windw == 3x3", "window", "window > 3x3", "1 / 0 == 1"])
def test_mistakes_without_a_collector_are_raised(where: str) -> None:
    with pytest.raises(DiagnosticError):
        reached(f"**.conv where {where}")
