"""What texts mean, and what they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.diagnostics import DiagnosticError, Span
from dlc.syntax import ast
from dlc.syntax.parser import parse

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "specs").rglob("*.dlspec"))


def value(text: str) -> ast.Expr:
    (item,) = parse(f"dlspec 1\nparam p = {text}\n", "a.dlspec").items
    assert isinstance(item, ast.Param)
    return item.default


def statements(text: str) -> tuple[ast.Statement, ...]:
    (item,) = parse(f"dlspec 1\nnetwork n {{\n{text}\n}}\n", "a.dlspec").items
    assert isinstance(item, ast.Network)
    return item.body


def rules(text: str) -> tuple[ast.PlanRule, ...]:
    (item,) = parse(f"dlspec 1\nplan n on c {{\n{text}\n}}\n", "a.dlspec").items
    assert isinstance(item, ast.Plan)
    return item.rules


def errors(text: str) -> list[str]:
    with pytest.raises(DiagnosticError) as error:
        parse(text, "a.dlspec")
    return [f"{d.code} {d.message}" for d in error.value.diagnostics]


def show(node: object) -> str:  # noqa: C901  one line for each node
    """An expression with all its brackets, so that a test shows what binds."""
    match node:
        case ast.Name(text):
            return text
        case ast.Number(number):
            return repr(number)
        case ast.Quantity(number, unit):
            return f"{number!r}_{unit}"
        case ast.Text(text):
            return repr(text)
        case ast.Window(extents):
            return "x".join(map(str, extents))
        case ast.ListOf(items):
            return f"[{', '.join(map(show, items))}]"
        case ast.Argument(name, argument):
            return f"{name}={show(argument)}" if name else show(argument)
        case ast.Call(callee, arguments):
            return f"{callee}({', '.join(map(show, arguments))})"
        case ast.Attribute(of, name):
            return f"{show(of)}.{name}"
        case ast.Index(of, index):
            return f"{show(of)}[{show(index)}]"
        case ast.Unary(operator, operand):
            return f"({operator} {show(operand)})"
        case ast.Binary(operator, left, right):
            return f"({show(left)} {operator} {show(right)})"
        case ast.If(condition, then, otherwise):
            return f"(if {show(condition)} then {show(then)} else {show(otherwise)})"
        case ast.Repeat(count, variable, body):
            return f"repeat {show(count)} as {variable} {{{' -> '.join(map(show, body))}}}"
        case ast.Link(stage, label):
            return f"{show(stage)} as {label}" if label else show(stage)
        case ast.Chain(head, links):
            return f"({' -> '.join(map(show, (head, *links)))})"
        case ast.Labelled(labelled, label):
            return f"({show(labelled)} as {label})"
    raise AssertionError(node)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_samples_parse(spec: Path) -> None:
    assert parse(spec.read_text(encoding="utf-8"), str(spec)).items


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("a + b * c - d", "((a + (b * c)) - d)"),
        ("a @ b / c", "((a @ b) / c)"),
        ("-a.b[0] * -2", "((- a.b[0]) * (- 2))"),
        ("- - 1", "(- (- 1))"),
        ("not a == b and c < d or e", "(((not (a == b)) and (c < d)) or e)"),
        ("not not a", "(not (not a))"),
        ("a or b -> f", "((a or b) -> f())"),
        ("a + b -> f -> g(1, k = 2)", "((a + b) -> f() -> g(1, k=2))"),
        ("(a -> f) + b", "((a -> f()) + b)"),
        ("(a -> f) -> g", "((a -> f()) -> g())"),
        ("a -> f as x -> g(1) as y", "(a -> f() as x -> g(1) as y)"),
        ("concat(a, b) as both -> f", "((concat(a, b) as both) -> f())"),
        ("concat(a, b) as both", "(concat(a, b) as both)"),
        ("if a then b else c -> f", "(if a then b else (c -> f()))"),
        ("if a then b -> f else if c then d else e", "(if a then (b -> f()) else (if c then d else e))"),
        ("if a then if b then c else d else e", "(if a then (if b then c else d) else e)"),
        ("1 + (if a then 2 else 3)", "(1 + (if a then 2 else 3))"),
        ("w(1) then x(2) then y", "((w(1) then x(2)) then y)"),
        ("if a then w then x else y then z", "(if a then (w then x) else (y then z))"),
        ("a -> f then b -> g", "((a -> f()) then (b -> g()))"),
        (
            "a -> repeat n * 2 as i { f(i) -> g } as stack -> h",
            "(a -> repeat (n * 2) as i {f(i) -> g()} as stack -> h())",
        ),
        ("a -> repeat 3 { repeat 2 { f } }", "(a -> repeat 3 as None {repeat 2 as None {f()}})"),
        ("f(a -> g, [1, 2], if b then 1 else 2)", "f((a -> g()), [1, 2], (if b then 1 else 2))"),
        ("f()", "f()"),
        ("[]", "[]"),
        ("[[0, 1], [1, 2]]", "[[0, 1], [1, 2]]"),
        ("q @ transpose(k) / sqrt(x.width / heads)", "((q @ transpose(k)) / sqrt((x.width / heads)))"),
    ],
)
def test_what_binds(text: str, meaning: str) -> None:
    assert show(value(text)) == meaning


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("32", "32"),
        ("007", "7"),
        ("5e-5", "5e-05"),
        ("1e3", "1000.0"),
        ("0.5", "0.5"),
        ("9007199254740991", "9007199254740991"),
        ("900 GB/s", "900_GB/s"),
        ("900GB/s", "900_GB/s"),
        ("1.5 us", "1.5_us"),
        ("1e3 FLOP/s", "1000.0_FLOP/s"),
        ("5 epochs", "5_epochs"),
        ("4 GiB / 2", "(4_GiB / 2)"),
        ("3x3", "3x3"),
        ("1x2x3", "1x2x3"),
        ("torus(4x4)", "torus(4x4)"),
        ('every(1 epoch, to = "a b # c")', "every(1_epoch, to='a b # c')"),
        ("if i == 0 then 2 else 1", "(if (i == 0) then 2 else 1)"),
        ("if i==0then 2else 1", "(if (i == 0) then 2 else 1)"),
        ("mixed(compute = f16, loss_scale = dynamic)", "mixed(compute=f16, loss_scale=dynamic)"),
    ],
)
def test_values(text: str, meaning: str) -> None:
    assert show(value(text)) == meaning


@pytest.mark.parametrize(
    "text",
    [
        "a -> (b -> f) -> g",
        "a < b < c",
        "1 + not a",
        "1 + if a then b else c",
        "if a then b",
        "f(1,)",
        "[1, 2,]",
        "a.f(1)",
        "a ->",
        "-> f",
        "f(k = )",
        "(a",
        "a)",
        "1.",
        ".5",
        "3x",
        "1_000",
        "'text'",
        "a = b",
        "a as b",
    ],
)
def test_what_is_no_value(text: str) -> None:
    assert errors(f"dlspec 1\nparam p = {text}\n")


@pytest.mark.parametrize(
    "text",
    [
        "  a = x -> f -> g",
        "  a = x\n    -> f\n    -> g",
        "  a = x -> f ->\n g",
        "  a =\n\n\n x -> f\n\n # note\n\n # note\n  -> g  # note\n # note\n",
        "  a = x # -> h\n -> f -> g",
        "\ta\t=\tx\t->\tf->g",
    ],
)
def test_lines_that_go_on(text: str) -> None:
    assert statements(text) == statements("a = x -> f -> g")


@pytest.mark.parametrize(
    "word", ["->f", "+ b", "- b", "* b", "/ b", "@ b", "== b", "!= b", "<= b", ">= b", "< b", "> b"]
)
def test_a_line_goes_on_before_an_operator(word: str) -> None:
    assert statements(f"a = x\n{word}") == statements(f"a = x {word}")


@pytest.mark.parametrize("word", ["and", "or", "then"])
def test_a_line_goes_on_before_a_word_that_joins(word: str) -> None:
    assert statements(f"a = x\n  {word} y") == statements(f"a = x {word} y")
    assert len(statements(f"a = x\n  {word}y = 1")) == 2


def test_newlines_in_brackets_and_after_words_that_end_nothing() -> None:
    text = "a = if\nb then\nc\nelse\nf(1,\n\n2\n)[\n0\n]"
    assert statements(text) == statements("a = if b then c else f(1, 2)[0]")


def test_braces_in_parentheses_separate_no_lines_of_the_parentheses() -> None:
    assert statements("a = b + (\nb\n-> repeat 2 {\nf\n-> g\n}\n)") == statements("a = b + (b -> repeat 2 { f -> g })")


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


def test_names_that_begin_like_reserved_words() -> None:
    assert show(value("iffy + order * thence - asp")) == "((iffy + (order * thence)) - asp)"


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


def test_nesting_at_its_bound() -> None:
    assert show(value("(" * 100 + "1" + ")" * 100)) == "1"
    value("f(" * 100 + ")" * 100)
    value(" + ".join("1" * 101))
    value("if a then 1 else " * 100 + "2")
    value("x" + ".y" * 100)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 101 + "1" + ")" * 101,
        "[" * 5000,
        " + ".join("1" * 102),
        "- " * 30_000 + "1",
        "not " * 30_000 + "a",
        "if a then 1 else " * 5000 + "2",
        "x" + ".y" * 30_000,
        "x" + "[0]" * 9000,
    ],
    ids=lambda text: text[:9],
)
def test_nesting_beyond_its_bound_is_a_message(text: str) -> None:
    (error,) = errors(f"dlspec 1\nparam p = {text}\n")
    assert error.startswith("E0109")


def test_long_chains_and_lists_are_not_deep() -> None:
    assert isinstance(value("x" + " -> f" * 5000), ast.Chain)
    assert isinstance(value(f"[{', '.join('1' * 5000)}]"), ast.ListOf)
