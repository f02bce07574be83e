"""What expressions mean, and what they do not."""

from __future__ import annotations

import pytest

from dlc.syntax import ast
from tests.syntax.reading import errors, show, statements, value


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


def test_names_that_begin_like_reserved_words() -> None:
    assert show(value("iffy + order * thence - asp")) == "((iffy + (order * thence)) - asp)"


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
