"""What is printed is read back as the same tree, and is in house style."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.syntax import ast
from dlc.syntax.formatter import format_source
from dlc.syntax.parser import parse
from dlc.syntax.printer import to_source

ROOT = Path(__file__).resolve().parents[2]
FILES = [*sorted((ROOT / "specs").glob("**/*.dlspec")), *sorted((ROOT / "tests/syntax/golden").glob("*.dlspec"))]

HARD = """\
dlspec 1
param depth = if 2 > 1 and not 3 == 4 or 1 >= 2 then 1 - (2 - 3) - 4 else -(2 * (1 + 2)) / -3
block unit(x, n = 1) {
  a, b = [x, (x -> relu) + x]
  return concat(a, (if n == 1 then a else b), axis = feature) as both -> repeat n as i { linear(2) as l -> relu } as r
}
network net {
  input x: f32[8, feature = depth]
  z = (x + x) / 2 - x * (x - x) -> relu
  y = z -> repeat 2 { linear(4) } -> unit(n = depth) as u
  output y
}
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_are_read_back_as_they_were(path: Path) -> None:
    again(path.read_text(encoding="utf-8"))


def test_operators_keep_their_operands() -> None:
    again(HARD)


def again(text: str) -> None:
    tree = parse(text, "f.dlspec")
    printed = to_source(tree)
    assert parse(printed, "f.dlspec") == tree
    assert format_source(printed, "f.dlspec") == printed


def test_headings_are_comments() -> None:
    text = to_source(ast.File("f.dlspec", 1, (), parse("dlspec 1\n", "f.dlspec").span), ["made by a program", ""])
    assert text == "dlspec 1\n# made by a program\n#\n"


def test_long_chains_are_broken_before_their_arrows() -> None:
    links = " -> ".join(f"linear(1000{i}, bias = no)" for i in range(6))
    text = f"dlspec 1\nnetwork net {{\n  input x: f32[8, feature = 4]\n  y = x -> {links}\n  output y\n}}\n"
    tree = parse(text, "f.dlspec")
    printed = to_source(tree)
    assert parse(printed, "f.dlspec") == tree
    assert max(map(len, printed.splitlines())) < 40
