"""The rules of language.md's section Addresses, one test each."""

from __future__ import annotations

import pytest

from tests.expand.networks.expansion import IMAGE, network

TWO = """
block two(x) {
  a = x -> relu
  return a -> tanh
}
"""


def test_the_statement_is_one_segment_and_each_op_adds_one() -> None:
    assert network("y = x -> linear(8) -> relu").addresses == ["y.linear", "y.relu"]


def test_ops_of_one_name_are_numbered_within_the_statement() -> None:
    addresses = network("a = x -> relu -> tanh -> relu -> relu\ny = a -> relu").addresses
    assert addresses == ["a.relu", "a.tanh", "a.relu_2", "a.relu_3", "y.relu"]


def test_signs_have_names() -> None:
    addresses = network("y = x + x - x * x / x").addresses
    assert sorted(addresses) == ["y.add", "y.div", "y.mul", "y.sub"]


def test_numbers_follow_the_text_not_the_order_of_computing() -> None:
    nodes = network("y = relu(tanh(relu(x)))").graph.nodes
    assert [(node.address, node.inputs[0]) for node in nodes] == [
        ("y.relu_2", "x"),
        ("y.tanh", "y.relu_2"),
        ("y.relu", "y.tanh"),
    ]
    assert [node.address for node in network("y = x + (x + x)").graph.nodes] == ["y.add_2", "y.add"]


def test_a_label_takes_the_place_of_the_name_and_is_not_counted() -> None:
    assert network("y = x -> relu as first -> relu -> relu").addresses == ["y.first", "y.relu", "y.relu_2"]


def test_a_label_on_a_head() -> None:
    assert network("y = concat(x, x, axis = feature) as both -> relu").addresses == ["y.both", "y.relu"]


def test_branches_not_taken_are_left_out() -> None:
    body = "y = if x.feature == 8 then x -> relu else x -> relu -> tanh"
    assert network(body).addresses == ["y.relu"]
    assert network("y = (if no then x -> relu else x) -> relu").addresses == ["y.relu"]


def test_a_statement_with_several_targets_bears_the_first() -> None:
    blocks = "block pair(x) {\n  return [x -> relu, x -> tanh]\n}"
    expansion = network("a, b = x -> pair\ny = a + b", blocks)
    assert expansion.addresses == ["a.relu", "a.tanh", "y.add"]
    assert expansion.graph.node("y.add").inputs == ("a.relu", "a.tanh")


def test_a_repeat_adds_its_index_to_the_segment_before_it() -> None:
    addresses = network("y = x -> relu -> repeat 2 { linear(8) -> relu -> relu }").addresses
    body = ["linear", "relu", "relu_2"]
    assert addresses == ["y.relu", *(f"y[0].{op}" for op in body), *(f"y[1].{op}" for op in body)]


def test_repeats_inside_repeats_have_an_index_each() -> None:
    addresses = network("y = x -> repeat 2 { relu -> repeat 2 { tanh } }").addresses
    assert addresses == ["y[0].relu", "y[0][0].tanh", "y[0][1].tanh", "y[1].relu", "y[1][0].tanh", "y[1][1].tanh"]


def test_a_repeat_with_a_label_has_a_segment_of_its_own() -> None:
    assert network("y = x -> repeat 2 as i { relu } as stack").addresses == ["y.stack[0].relu", "y.stack[1].relu"]


def test_a_second_repeat_needs_a_label() -> None:
    expansion = network("y = x -> repeat 2 { relu } -> repeat 2 { tanh }")
    assert [d.code for d in expansion.errors] == ["E0218"]
    labelled = network("y = x -> repeat 1 { relu } -> repeat 1 { tanh } as more")
    assert labelled.addresses == ["y[0].relu", "y.more[0].tanh"]


def test_a_block_alone_in_its_statement_adds_nothing() -> None:
    assert network("y = x -> two", TWO).addresses == ["y.a.relu", "y.tanh"]
    assert network("y = two(x)", TWO).addresses == ["y.a.relu", "y.tanh"]


def test_a_block_alone_in_its_repeat_adds_nothing() -> None:
    assert network("y = x -> relu -> repeat 1 { two }", TWO).addresses == ["y.relu", "y[0].a.relu", "y[0].tanh"]


def test_a_block_beside_an_op_adds_its_name() -> None:
    addresses = network("y = x -> two -> relu -> two", TWO).addresses
    assert addresses == ["y.two.a.relu", "y.two.tanh", "y.relu", "y.two_2.a.relu", "y.two_2.tanh"]
    assert network("y = x + (x -> two)", TWO).addresses == ["y.two.a.relu", "y.two.tanh", "y.add"]


def test_a_label_on_a_lone_block_adds_a_segment() -> None:
    assert network("y = x -> two as pair", TWO).addresses == ["y.pair.a.relu", "y.pair.tanh"]


def test_return_adds_nothing_also_through_blocks() -> None:
    blocks = TWO + "block outer(x) {\n  return x -> two\n}\n"
    assert network("y = x -> outer -> relu", blocks).addresses == ["y.outer.a.relu", "y.outer.tanh", "y.relu"]


@pytest.mark.parametrize(
    "body",
    [
        "y = x -> relu as same -> tanh as same",
        "y = x -> relu as tanh -> tanh",
        "y = x -> two as twice -> relu as twice",
    ],
)
def test_equal_addresses_ask_for_a_label(body: str) -> None:
    expansion = network(body, TWO)
    assert [d.code for d in expansion.errors] == ["E0217"]
    assert "as NAME" in expansion.errors[0].helps[0]


def test_equal_addresses_through_a_block_that_adds_nothing() -> None:
    blocks = TWO + "block outer(x) {\n  a = x -> relu\n  return a -> two\n}\n"
    (error,) = network("y = x -> outer", blocks).errors
    assert (error.code, error.message) == ("E0217", "two ops have the address `y.a.relu`")


def test_a_value_and_an_op_of_one_name_clash() -> None:
    blocks = "block b(x) {\n  weight = x -> relu as inner\n  return weight -> linear(8) as out\n}\n"
    assert network("y = x -> b", blocks).addresses == ["y.weight.inner", "y.out"]
    clash = "block b(x) {\n  c = x -> relu as weight\n  return c -> linear(8) as c\n}\n"
    assert [d.code for d in network("y = x -> b", clash).errors] == ["E0217"]


def test_unary_minus_is_a_subtraction() -> None:
    node = network("y = -x").graph.node("y.sub")
    assert dict(node.attrs) == {"scalar": 0.0, "scalar_first": True}


def test_statements_in_any_order_keep_their_addresses() -> None:
    expansion = network("y = b -> relu\nb = a -> tanh\na = x -> linear(8)")
    assert expansion.addresses == ["a.linear", "b.tanh", "y.relu"]


def test_images_keep_the_samples_addresses() -> None:
    blocks = "block conv_bn(x, n) {\n  return x -> conv(n, 3x3, pad = same, bias = no) -> bn\n}\n"
    addresses = network("stem = x -> conv_bn(4) -> relu\ny = stem -> conv_bn(4)", blocks, IMAGE).addresses
    assert addresses == ["stem.conv_bn.conv", "stem.conv_bn.bn", "stem.relu", "y.conv", "y.bn"]
