"""Mistakes in networks: the code, the words, the place, and what is silenced by an earlier mistake."""

from __future__ import annotations

import pytest

from tests.expand.networks.expansion import IMAGE, expansion, network
from tests.work import counted

MISTAKES = [
    # names
    ("y = z -> relu", "E0201", "`z` is not defined in network `net`", "z"),
    ("a = x -> relu\na = x -> tanh\ny = a -> relu", "E0202", "`a` is defined twice", "a"),
    ("x = y -> relu\ny = x -> relu", "E0202", "`x` is defined twice", "x"),
    ("a = b -> relu\nb = a -> tanh\ny = x + a", "E0203", "`a` depends on itself: `a` -> `b` -> `a`", "a"),
    ("y = y -> relu", "E0203", "`y` depends on itself: `y` -> `y`", "y"),
    ("y = x -> cnov(3)", "E0201", "`cnov` is not defined in network `net`", "cnov"),
    ("y = x -> batch_norm", "E0201", "`batch_norm` is not defined in network `net`", "batch_norm"),
    ("y = relu", "E0201", "`relu` is not defined in network `net`", "relu"),
    # arguments
    ("y = x -> linear(4, baes = no)", "E0206", "`linear` has no argument `baes`", "baes = no"),
    ("y = x -> linear", "E0205", "`linear` needs an argument `features`", "linear"),
    ("y = x -> relu(3)", "E0210", "`relu` takes no arguments in brackets, it is given 1", "3"),
    ("y = x -> linear(4, features = 5)", "E0209", "argument `features` of `linear` is given twice", "features = 5"),
    ("y = x -> linear(4, x = x)", "E0209", "argument `x` of `linear` is given twice", "x = x"),
    ("y = relu()", "E0204", "`relu` takes 1 value, it is given 0", "relu()"),
    ("y = x -> linear(0)", "E0213", "`features` of `linear` is an integer from 1 up, not the number 0", "0"),
    ("y = x -> linear(2.5)", "E0213", "`features` of `linear` is an integer from 1 up, not the number 2.5", "2.5"),
    ("y = x -> linear(4, bias = 1)", "E0213", "`bias` of `linear` is `yes` or `no`, not the number 1", "1"),
    ("y = x -> dropout(1)", "E0213", "`p` of `dropout` is a number from 0 up and below 1, not the number 1", "1"),
    ("y = x -> relu(x)", "E0210", "`relu` takes no arguments in brackets, it is given 1", "x"),
    ("y = 3 -> relu", "E0219", "`relu` needs a value of the network, not the number 3", "3"),
    ("y = [x, x] -> relu", "E0219", "`relu` needs a value of the network, not a list of 2", "[x, x]"),
    (
        "y = x -> transpose(order = [feature, 3])",
        "E0213",
        "`order` of `transpose` is the name of an axis or a list of names, not a list of 2",
        "[feature, 3]",
    ),
    (
        "y = x -> pad([1, -1], axis = feature)",
        "E0213",
        "`amount` of `pad` is an integer from 0 up, one for each axis such as `1x2`, or a list of pairs such as "
        "`[[1, 0], [2, 2]]`, not a list of 2",
        "[1, -1]",
    ),
    (
        "y, z = x -> split(0, axis = feature)",
        "E0213",
        "`n` of `split` is an integer from 1 up or a list of them, not the number 0",
        "0",
    ),
    (
        "y, z = x -> split(4, axis = feature)",
        "E0226",
        "2 names are bound to a list of 4",
        "y, z = x -> split(4, axis = feature)",
    ),
    (
        "y = x -> split(2, axis = feature) -> relu",
        "E0219",
        "`relu` needs a value of the network, not a list of 2",
        None,
    ),
    ("y = x -> softmax(axis = 3)", "E0213", "`axis` of `softmax` is the name of an axis, not the number 3", "3"),
    # expressions
    ("y = x -> linear(1 / 0)", "E0214", "this divides by zero", "1 / 0"),
    ("y = x / 0", "E0214", "this divides by zero", "/"),
    ("y = x -> linear(9007199254740991 * 2)", "E0215", "the result of `*` is 2**53 or more in magnitude", None),
    ("y = x -> linear(sqrt(-1))", "E0215", "the result of `sqrt` is no finite number", "sqrt(-1)"),
    ("y = x -> linear(3 + 3x3)", "E0216", "`+` needs numbers, not the window 3x3", "3x3"),
    ("y = if 3 then x else x", "E0216", "`if` needs yes or no, not the number 3", "3"),
    ("y = x -> repeat 1.5 { relu }", "E0216", "`repeat` needs an integer from 0 up, not the number 1.5", "1.5"),
    ("y = x -> linear([1, 2][2])", "E0221", "there is no item 2 in a list of 2", "2"),
    ("y = x -> linear(x.chanel)", "E0306", "there is no axis `chanel` in f32[batch = 4, feature = 8]", "x.chanel"),
    ("y = x -> linear((x -> relu).feature)", "E0229", "`relu` computes a value where a constant is needed", "relu"),
    ("a, b = x -> relu\ny = a + b", "E0226", "2 names are bound to the value `a.relu`", "a, b = x -> relu"),
    ("y = x -> linear(8, tied = z.weight)", "E0227", "there is no weight `z.weight`", "z.weight"),
    ("y = 3", "E0219", "`output` needs a value of the network, not the number 3", "y"),
    # shapes
    ("y = x -> softmax(axis = width)", "E0306", "there is no axis `width` in f32[batch = 4, feature = 8]", "width"),
    ("y = x + (x -> linear(4))", "E0303", "`+` needs equal shapes", "+"),
    (
        "a = x -> linear(5)\ny = a -> linear(5, tied = a.linear.weight)",
        "E0318",
        "`a.linear.weight` is f32[out = 5, in = 8], this `linear` needs f32[out = 5, in = 5]",
        "a.linear.weight",
    ),
]


@pytest.mark.parametrize(("body", "code", "message", "marked"), MISTAKES)
def test_mistakes(body: str, code: str, message: str, marked: str | None) -> None:
    expansion = network(body)
    (error,) = expansion.errors
    assert (error.code, error.message) == (code, message)
    assert error.primary is not None
    span = error.primary.span
    line = expansion.text.split("\n")[span.line - 1]
    if marked is not None:
        assert line[span.column - 1 : span.end_column - 1] == marked


def test_a_similar_name_is_offered() -> None:
    error = network("stem = x -> relu\ny = stm -> relu").errors[0]
    assert error.helps == ("there is a value with a similar name: `stem`",)
    assert network("y = x -> linera(3)").errors[0].helps == ("there is an operator with a similar name: `linear`",)
    error = network("y = x -> linear(4, baes = no)").errors[0]
    assert error.helps == ("there is an argument with a similar name: `bias`",)


def test_an_operator_used_as_a_name_shows_the_arrow() -> None:
    assert network("y = relu").errors[0].helps == ("it is an operator or a block, called as `x -> relu`",)


def test_several_mistakes_are_shown_together_and_silence_what_follows() -> None:
    expansion = network(
        """
        a = x -> linear(0)
        b = a -> conv(3, 3x3) -> linear(-1)
        c = x -> softmax(axis = z)
        y = a + b -> linear(4, bia = no)
        """
    )
    assert [d.code for d in expansion.errors] == ["E0206", "E0213", "E0213", "E0306"]


def test_a_mistake_in_a_repeat_is_shown_once_with_its_chain() -> None:
    blocks = """
    block inner(x) {
      return x -> conv(4, 9x9)
    }
    block outer(x) {
      return x -> relu -> inner
    }
    """
    expansion = network("y = x -> repeat 3 { outer }", blocks, IMAGE)
    assert expansion.error.code == "E0302"
    lines = [(frame.what, frame.span.line) for frame in expansion.error.chain]
    assert lines == [("y[0]", 12), ("block outer", 7), ("block inner", 4)]


def test_a_block_outside_repeats_is_named_by_its_address() -> None:
    blocks = "block b(x) {\n  return x -> conv(4, 9x9)\n}"
    chain = network("y = x -> relu -> b", blocks, IMAGE).error.chain
    assert [(frame.what, frame.span.line) for frame in chain] == [("y.b", 7), ("block b", 3)]


@pytest.mark.parametrize(
    ("block", "codes"),
    [
        ("block b(x) {\n  return z -> relu\n}", ["E0201"]),
        ("block b(x) {\n  return x -> relu(slope = 3)\n}", ["E0206"]),
        ("block b(x) {\n  return x -> b\n}", ["E0208"]),
        ("block b(x) {\n  return x -> c\n}\nblock c(x) {\n  return x -> b\n}", ["E0208"]),
        ("block b(x, x) {\n  return x -> relu\n}", ["E0202"]),
        ("block b(x) {\n  y = x -> relu\n}", ["E0222"]),
        ("block b(x) {\n  return x\n  return x\n}", ["E0222"]),
        ("block b(x) {\n  output x\n  return x\n}", ["E0222"]),
        ("block b(x, n = m) {\n  return x -> linear(n)\n}", []),
        ("block b(x, n = m + 1) {\n  return x -> linear(n)\n}", ["E0201"]),
    ],
)
def test_unused_blocks_are_checked(block: str, codes: list[str]) -> None:
    assert sorted(network("y = x -> relu", block).codes) == sorted(codes)


def test_names_in_branches_that_are_not_taken_are_checked() -> None:
    assert network("y = if yes then x -> relu else z").codes == ["E0201"]


def test_recursion_shows_the_way() -> None:
    blocks = "block b(x) {\n  return x -> c\n}\nblock c(x) {\n  return x -> b\n}"
    error = network("y = x -> b", blocks).error
    assert error.message == "block `b` expands itself"
    assert error.notes == ("through `b` -> `c` -> `b`",)


@pytest.mark.parametrize(
    "text",
    [
        "network n {\n  input x: f32[2, feature = 3]\n}",
        "network n {\n  output y\n}",
        "network n {\n}",
    ],
)
def test_networks_have_inputs_and_outputs(text: str) -> None:
    assert "E0222" in expansion(text).codes


@pytest.mark.parametrize(
    "type_",
    [
        "f33[2, feature = 3]",
        "f32[feature = 3, batch = 2]",
        "f32[2, 3]",
        "f32[2, feature = 0]",
        "f32[2, feature = 1.5]",
        "f32[2, feature = 3, feature = 4]",
        "f32[2, feature = no]",
    ],
)
def test_wrong_inputs(type_: str) -> None:
    assert {d.code for d in network("y = x -> relu", type_=type_).errors} == {"E0220"}


def test_inputs_share_one_batch() -> None:
    assert network("input z: f32[5, feature = 8]\ny = x + z").codes == ["E0220"]


def test_an_unused_value_is_a_warning() -> None:
    expansion = network("a = x -> relu\ny = x -> tanh")
    assert expansion.codes == ["W0202"]
    assert expansion.addresses == ["a.relu", "y.tanh"]


@pytest.mark.parametrize(
    ("body", "blocks", "note"),
    [
        ("y = x -> repeat 1000000000 { relu }", "", "`repeat 1000000000`"),
        ("y = x -> repeat 1000 { repeat 1000 { relu } }", "", "`repeat 1000`, each of at least 1,000 ops"),
        ("y = x -> repeat 400 { b }", "block b(x) {\n  return x -> repeat 400 { relu }\n}", "`repeat 400`, each of"),
        ("y = x -> repeat n { relu }", "param n = 100001", "`repeat 100001`"),
        ("y = x -> b(1000000)", "block b(x, n) {\n  return x -> repeat n { relu }\n}", "`repeat 1000000`"),
        ("y = x -> repeat 1000000000 { repeat 0 { relu } }", "", "`repeat 1000000000`"),
        ("y = x -> repeat 1000000 * x.feature { relu }", "", ""),
    ],
)
def test_networks_are_bounded_quickly(body: str, blocks: str, note: str) -> None:
    with counted(10_000_000):
        error = network(body, blocks).error
    assert (error.code, error.message) == ("E0211", "the network expands to more than 100,000 ops")
    assert note in "".join(error.notes)


def test_doubling_blocks_are_bounded_quickly() -> None:
    doubled = "\n".join(f"block b{n}(x) {{\n  return x -> b{n - 1} -> b{n - 1}\n}}" for n in range(1, 31))
    for first in ("x -> relu", "x"):
        with counted(1_000_000):
            found = network("y = x -> b30", f"block b0(x) {{\n  return {first}\n}}\n{doubled}")
        assert found.codes == ["E0211"]


def test_blocks_nest_no_deeper_than_bounded() -> None:
    nested = "\n".join(f"block b{n}(x) {{\n  return x -> b{n - 1} -> relu\n}}" for n in range(1, 200))
    assert network("y = x -> b199", f"block b0(x) {{\n  return x -> relu\n}}\n{nested}").codes == ["E0212"]
