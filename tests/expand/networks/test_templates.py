"""What is copied is what would have been expanded."""

from __future__ import annotations

import pytest

from dlc.expand.templates import Templates
from tests.expand.networks.expansion import network

BLOCKS = """
block unit(x, width = x.feature) {
  a = x -> linear(width) -> relu
  b = x + a
  return b -> relu as out
}
block both(x, y) { return x + y }
block pair(x) { return [x -> relu, x -> tanh] }
block deep(x, n) { return x -> repeat n { unit } -> unit }
block tied(x) {
  a = x -> linear(8)
  return a -> linear(8, tied = a.linear.weight)
}
block borrowing(x) { return x -> linear(8, tied = w.linear.weight) }
block drops(x, p) { return x -> dropout(p) }
block passes(x) { return x }
"""

BODIES = [
    "y = x -> repeat 5 { unit }",
    "y = x -> repeat 5 { unit -> relu -> unit }",
    "y = x -> repeat 5 as i { drops(i / 10) -> unit -> drops(0.5) }",
    "y = x -> repeat 3 { repeat 4 { relu -> unit } }",
    "y = x -> deep(2) -> deep(2) -> deep(3)",
    "a = x -> relu\ny = both(x, x) -> both(a) -> both(a)\n",
    "a = x -> relu\nb = x -> tanh\nc = both(a, b)\nd = both(b, a)\ne = both(a, a)\ny = c + d + e",
    "a, b = x -> pair\nc, d = a -> pair\ny = b + c + d",
    "y = x -> repeat 4 { tied }",
    "w = x -> linear(8)\ny = w -> repeat 4 { borrowing }",
    "w = x -> relu\ny = x -> repeat 4 { both(w) }",
    "a = x -> repeat 3 { linear(8) }\ny = a -> repeat 2 { linear(8, tied = a[1].linear.weight) }",
    "y = x -> drops(0) -> drops(0.0) -> drops(-0.0)",
    "a = x -> linear(4)\nb = a -> passes\ny = b -> unit -> passes -> unit",
    "y = x -> repeat 3 { passes }",
    "a = x -> linear(16)\ny = (a -> unit -> flatten -> linear(8)) + (x -> unit)",
]


@pytest.mark.parametrize("body", BODIES)
def test_copies_equal_expansions(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = network(body, BLOCKS)
    monkeypatch.setattr(Templates, "expand", lambda _self, _what, _given, _prefix, make: make())
    expanded = network(body, BLOCKS)
    assert copied.graph == expanded.graph
    assert [node.span for node in copied.graph.nodes] == [node.span for node in expanded.graph.nodes]
    assert copied.diagnostics == expanded.diagnostics


def test_messages_of_like_expansions_bear_each_its_own_chain() -> None:
    found = network(
        "y = x -> repeat 3 { narrow }", "block narrow(x) { return x -> linear(x.feature / 2) }", "f32[4, feature = 12]"
    )
    assert [d.code for d in found.errors] == ["E0213"]
    assert "y[2]" in [frame.what for frame in found.errors[0].chain]


@pytest.mark.parametrize("repeats", [33_333, 33_334])
def test_copies_count_as_ops(repeats: int) -> None:
    found = network(f"y = x -> repeat {repeats} {{ relu -> tanh -> relu }}")
    assert found.codes == ([] if repeats == 33_333 else ["E0211"])


def test_a_copy_takes_no_name_twice() -> None:
    blocks = """
    block inner(x) {
      weight = x -> linear(8)
      return weight -> relu as weight
    }
    block outer(x) {
      a = x -> inner
      return a -> linear(8) as a
    }
    """
    assert network("p = x -> inner\ny = p -> outer", blocks).codes == ["E0217"]
