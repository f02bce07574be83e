"""Hostile networks: each expands or is refused with messages that have a place; none crashes or runs away."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.expand.networks.expansion import Expansion, expansion, network
from tests.work import counted

SPECS = Path(__file__).parents[3] / "specs"

FRAGMENTS = (
    "x", "0", "1", "-1", "2.5", "9007199254740991", "3x3", "0x0", "same", "yes", "[1, 2]", "[]", "4 GiB", '"text"',
    "x.channel", "x.width", "batch", "i", "relu", "conv", "-> relu", "-> conv(3, 3x3)", "-> repeat 3 { relu }",
    "-> repeat 99999 { relu }", "-> linear(4, tied = stem)", "+ x", "@ x", "/ 0", "* 9007199254740991",
    "if yes then x else 0", "as stem", "as a", "concat(x, x)", "sqrt(-1)", "max(1)", "bottleneck(3)", "decoder(2)",
    "x -> x", "return x", "output x", "input x: f32[2]", "(", ")", "{", "}", "->", ",", "=", "\n",
)  # fmt: skip


def mutated(text: str, draw: random.Random) -> str:
    """The text with one to four tokens deleted, doubled, swapped or replaced."""
    tokens = re.findall(r"\s+|[A-Za-z_]\w*|[\d.]+x?[\d.]*|->|\W", text)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(tokens))
        match draw.randrange(5):
            case 0:
                del tokens[place]
            case 1:
                tokens.insert(place, tokens[place])
            case 2:
                other = draw.randrange(len(tokens))
                tokens[place], tokens[other] = tokens[other], tokens[place]
            case 3:
                tokens[place] = draw.choice(FRAGMENTS)
            case _:
                tokens.insert(place, f" {draw.choice(FRAGMENTS)} ")
    return "".join(tokens)


def networks_of(name: str) -> str:
    """The parameters, blocks and network of a sample, and nothing else."""
    text = (SPECS / f"{name}.dlspec").read_text().removeprefix("dlspec 1\n")
    kept = [part for part in re.split(r"\n(?=[a-z])", text) if part.startswith(("param", "block", "network"))]
    return "\n".join(kept)


def check(found: Expansion) -> None:
    assert found.graphs or found.errors
    for diagnostic in found.errors:
        assert diagnostic.primary is not None
        span = diagnostic.primary.span
        assert 1 <= span.line <= found.text.count("\n") + 1
        assert span.column >= 1


@pytest.mark.parametrize("name", ["lenet5", "resnet50", "gpt2"])
def test_mutated_samples_give_graphs_or_messages(name: str) -> None:
    draw = random.Random(name)
    text = networks_of(name)
    refused = 0
    for _ in range(40):
        with counted(1_000 * len(text)):
            found = expansion(mutated(text, draw))
        check(found)
        refused += bool(found.errors)
    assert refused > 10


MANY = 3_000


@pytest.mark.parametrize(
    "body",
    [
        "y = x" + " + x" * MANY,
        "y = x -> linear(1" + " + 1" * MANY + ")",
        "y = x -> linear(" + "- " * MANY + "1)",
        "y = " + "- " * MANY + "x",
        "y = x -> linear(" + "if no then 1 else " * MANY + "2)",
        "y = " + "if no then x else " * MANY + "x",
        "y = if " + "not " * MANY + "yes then x else x -> relu",
        "y = x" + " -> relu" * MANY,
        "y = " + "relu(" * 99 + "x" + ")" * 99,
        "y = " + "(x + " * 99 + "x" + ")" * 99,
        "y = x" + " -> repeat 1 { relu" * 99 + " }" * 99,
        "y = x -> linear(" + "[" * 90 + "1" + "]" * 90 + "[0]" * 90 + ")",
        "y = x -> linear(" + "max(1, " * 90 + "1" + ")" * 90 + ")",
        "y = " + "(if yes then " * 99 + "x" + " else x)" * 99,
        "y = x -> linear(8, tied = x" + ".a" * MANY + ")",
        "y = x -> linear(8, tied = x" + "[0]" * MANY + ")",
        "y = x -> linear(8" + ", 8" * MANY + ")",
        "y = concat(x" + ", x" * MANY + ", axis = feature)",
    ],
    ids=lambda body: body[:24],
)
def test_deep_and_long_expressions(body: str) -> None:
    with counted(100_000 + 500 * len(body)):
        found = network(body)
    check(found)


@pytest.mark.parametrize("nesting", ["repeat 1 { relu -> ", "(x + ", "relu(", "max(1, "])
def test_deep_expressions_inside_deep_blocks(nesting: str) -> None:
    inner = "b{} " if nesting.startswith("repeat") else "b{}(x) "
    if nesting.startswith("max"):
        body = "x -> linear(" + nesting * 90 + "x.feature" + ")" * 90 + ") -> b{}"
    else:
        closing = {"r": " }", "(": ")"}["r" if nesting.startswith("repeat") else "("]
        head = "x -> " if nesting.startswith("repeat") else ""
        body = head + nesting * 90 + inner + closing * 90
    blocks = "block b0(x) {\n  return x -> relu\n}\n"
    blocks += "\n".join(f"block b{n}(x) {{\n  return {body.replace('{}', str(n - 1))}\n}}" for n in range(1, 32))
    check(network("y = x -> b31", blocks))


def test_many_statements_in_reverse_order() -> None:
    count = 3000
    body = "\n".join(["y = a0 -> relu", *(f"a{n} = a{n + 1} -> relu" for n in range(count)), f"a{count} = x -> relu"])
    found = network(body)
    assert found.addresses == [*(f"a{n}.relu" for n in range(count, -1, -1)), "y.relu"]


def test_a_long_circle_is_shortened() -> None:
    body = "\n".join([*(f"a{n} = a{n + 1} -> relu" for n in range(3000)), "a3000 = a0 -> relu", "y = a0 -> relu"])
    found = network(body)
    assert [d.code for d in found.errors] == ["E0203"]
    assert len(found.errors[0].message) < 200


def test_thousands_of_mistakes_end_soon() -> None:
    text = "y = x" + "".join(f"\nb{n} = c{n} -> relu" for n in range(2_000))
    with counted(200 * len(text)):
        found = network(text)
    assert len(found.errors) == 100
