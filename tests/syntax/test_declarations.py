"""What files, networks, clusters and plans mean, and what they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.diagnostics import Span
from dlc.syntax import ast
from dlc.syntax.parser import parse
from tests.syntax.reading import errors, rules, show, statements

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "specs").rglob("*.dlspec"))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_samples_parse(spec: Path) -> None:
    assert parse(spec.read_text(encoding="utf-8"), str(spec)).items


def test_statements() -> None:
    text = "input x: f32[batch, channel = 3, 224]\na, b = split(x, 2)\noutput a, b\nreturn [a, b]"
    read, bound, written, returned = statements(text)
    assert isinstance(read, ast.Input)
    assert isinstance(bound, ast.Binding)
    assert isinstance(written, ast.Output)
    assert isinstance(returned, ast.Return)
    assert (read.name, read.type.dtype) == ("x", "f32")
    assert [(axis.name, axis.extent and show(axis.extent)) for axis in read.type.axes] == [
        ("batch", None),
        ("channel", "3"),
        (None, "224"),
    ]
    assert [target.text for target in bound.targets] == ["a", "b"]
    assert [name.text for name in written.names] == ["a", "b"]
    assert show(returned.value) == "[a, b]"


def test_blocks() -> None:
    (block,) = parse("dlspec 1\nblock f(x, mid, stride = 1) {\n  return x\n}", "a").items
    assert isinstance(block, ast.Block)
    assert [(f.name, f.default and show(f.default)) for f in block.formals] == [
        ("x", None),
        ("mid", None),
        ("stride", "1"),
    ]


def test_clusters() -> None:
    text = """dlspec 1
cluster c {
  device a { kind = gpu; compute.f32 = 1 TFLOP/s, memory = 4 GiB
             launch = 5 us }
  link l { edges = [[0, 1]] }
  topology {
    node[2] over l {
      a[4] over l
      b, c[n / 2]
    }
  }
}
"""
    (cluster,) = parse(text, "a").items
    assert isinstance(cluster, ast.Cluster)
    assert [setting.key for setting in cluster.devices[0].settings] == ["kind", "compute.f32", "memory", "launch"]
    assert [link.name for link in cluster.links] == ["l"]
    (node,) = cluster.topology
    assert (node.name, node.over) == ("node", "l")
    assert [(group.name, group.over, group.count is None) for group in node.children] == [
        ("a", "l", False),
        ("b", None, True),
        ("c", None, False),
    ]


def test_rules() -> None:
    text = """  mesh { pipeline = node / 4; data = node / 2, model = a100 }
  pipeline.schedule = gpipe; limit bubble <= 0.25
  pin stage3[1].main.**.conv where window == 3x3
      and stride == 1 { algorithm = winograd(4), layout = NHWC }
  pin body[*].*[0..3][2] { recompute = yes }
  forbid ** { algorithm = fft }"""
    mesh, setting, limit, first, second, forbid = rules(text)
    assert isinstance(mesh, ast.MeshRule)
    assert isinstance(setting, ast.Setting)
    assert isinstance(limit, ast.Limit)
    assert isinstance(first, ast.Pin)
    assert isinstance(second, ast.Pin)
    assert isinstance(forbid, ast.Forbid)
    assert [axis.key for axis in mesh.axes] == ["pipeline", "data", "model"]
    assert setting.key == "pipeline.schedule"
    assert (limit.subject, limit.comparison, show(limit.bound)) == ("bubble", "<=", "0.25")
    assert first.selector.where is not None
    assert show(first.selector.where) == "((window == 3x3) and (stride == 1))"
    assert [segment.name for segment in first.selector.segments] == ["stage3", "main", "**", "conv"]
    assert first.selector.segments[0].indices == (ast.IndexSet(1, 2),)
    assert second.selector.segments == (
        ast.SelectorSegment("body", (ast.IndexSet(None, None),)),
        ast.SelectorSegment("*", (ast.IndexSet(0, 3), ast.IndexSet(2, 3))),
    )
    assert forbid.selector.segments == (ast.SelectorSegment("**"),)


WORDS = "import param block network device link cluster train plan on over topology pin forbid limit mesh repeat dlspec"


@pytest.mark.parametrize("word", WORDS.split())
def test_words_of_the_language_may_be_names_where_they_mean_nothing_else(word: str) -> None:
    text = f"dlspec 1\nparam {word} = 1\ntrain {word} {{\n  a = {word}\n  {word} = f({word} = 1)\n}}\n"
    assert len(parse(text, "a").items) == 2
    assert show(statements(f"a = 1\n{word} = {word} -> f({word}) as {word}")[1].value) == (  # type: ignore[union-attr]
        f"({word} -> f({word}) as {word})"
    )


@pytest.mark.parametrize("word", ["if", "then", "else", "and", "or", "not", "as", "where"])
@pytest.mark.parametrize(
    "place", ["param {} = 1", "train {} {{ }}", "train n {{ {} = 1 }}", "network n {{ a = b.{} }}"]
)
def test_reserved_words_are_no_names(word: str, place: str) -> None:
    assert errors(f"dlspec 1\n{place.format(word)}")[0].startswith(("E0111", "E0101"))


@pytest.mark.parametrize("word", ["input", "output", "return"])
def test_three_words_begin_no_other_statement(word: str) -> None:
    assert errors(f"dlspec 1\nnetwork n {{\n  {word} = x\n}}")


@pytest.mark.parametrize(
    "text",
    [
        "network n\n{\n}",
        "train n { a = 1, }",
        "train n { , a = 1 }",
        "train n { a = 1,, b = 2 }",
        "network n { a = 1, b = 2 }",
        "network n { a = 1; b = 2 }",
        "train n { a = 1 b = 2 }",
        "train n { } param a = 1",
        "plan n on c { pin a { } }",
        "plan n on c { pin a where { b = 1 } }",
        "plan n on c { pin a[1..] { b = 1 } }",
        "plan n on c { pin a. { b = 1 } }",
        "plan n on c { mesh { } }",
        "cluster c { topology { } }",
        "cluster c { kind = cpu }",
        "network n { input x }",
        "network n { input x: f32[] }",
        "block f { return x }",
        "plan n { }",
    ],
)
def test_what_the_grammar_refuses(text: str) -> None:
    assert errors(f"dlspec 1\n{text}\n")[0].startswith(("E0101", "E0103"))


def test_spans() -> None:
    (network,) = parse("dlspec 1\nnetwork n {\n  c = x -> conv(3) as a\n    -> relu\n}\n", "f").items
    assert isinstance(network, ast.Network)
    assert network.span == Span("f", 2, 1, 5, 2)
    assert network.name_span == Span("f", 2, 9, 2, 10)
    (binding,) = network.body
    assert isinstance(binding, ast.Binding)
    assert isinstance(binding.value, ast.Chain)
    assert binding.span == Span("f", 3, 3, 4, 12)
    first, second = binding.value.links
    assert isinstance(first.stage, ast.Call)
    assert (first.stage.callee_span, first.stage.span) == (Span("f", 3, 12, 3, 16), Span("f", 3, 12, 3, 19))
    assert first.label_span == Span("f", 3, 23, 3, 24)
    assert second.span == Span("f", 4, 8, 4, 12)
