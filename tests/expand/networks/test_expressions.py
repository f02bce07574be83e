"""Parameters, arithmetic, branches, arguments: what constants are worth inside networks."""

from __future__ import annotations

import pytest

from dlc.ir.tensor import tensor
from tests.expand.networks.expansion import IMAGE, expansion, network


def features(expression: str, prelude: str = "", **overrides: str) -> int:
    graph = network(f"y = x -> linear({expression})", prelude, **overrides).graph
    return graph.type("y.linear").extent("feature")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("3 * x.feature", 24),
        ("x.feature / 2", 4),
        ("2 + 3 * 4 - 1", 13),
        ("-(-5)", 5),
        ("sqrt(64) * 0 + 3", None),
        ("floor(7 / 2)", 3),
        ("ceil(7 / 2)", 4),
        ("min(3, 5) + max(3, 5)", 8),
        ("if 2 < 3 then 6 else 7", 6),
        ("if not (2 < 3) then 6 else if 1 == 1 then 7 else 8", 7),
        ("if x.feature != 8 or x.batch >= 4 and yes then 1 else 2", 1),
        ("[4, 5, 6][1]", 5),
    ],
)
def test_arithmetic(expression: str, value: int | None) -> None:
    if value is None:
        assert network(f"y = x -> linear({expression})").codes == ["E0213"]
    else:
        assert features(expression) == value


def test_parameters_may_stand_in_any_order_and_use_each_other() -> None:
    params = "param wide = 2 * narrow\nparam narrow = 3"
    assert features("wide", params) == 6
    assert features("wide", params, narrow="5") == 10
    assert features("wide", params, wide="9") == 9


@pytest.mark.parametrize(
    ("default", "override"),
    [
        ("3", "4"),
        ("0.5", "1"),
        ("yes", "no"),
        ("[3, 4]", "[3,4,23,3]"),
        ("same", "valid"),
        ("3x3", "5x5"),
        ("4 GiB", "8 GiB"),
        ('"a"', "folder/b.npz"),
    ],
)
def test_an_override_of_the_same_type_is_taken(default: str, override: str) -> None:
    assert network("y = x -> relu", f"param p = {default}", p=override).codes == []


@pytest.mark.parametrize(
    ("default", "override", "needed"),
    [
        ("3", "4.5", "an integer"),
        ("3", "yes", "an integer"),
        ("3", "six", "an integer"),
        ("0.5", "no", "a number"),
        ("yes", "1", "`yes` or `no`"),
        ("[3, 4]", "[3, x]", "a list, each item an integer"),
        ("[3, 4]", "3", "a list, each item an integer"),
        ("same", "3", "a word"),
        ("3x3", "3", "a window such as `3x3`"),
        ("4 GiB", "8", "a size such as `1 GiB`"),
        ("4 GiB", "4 us", "a size such as `1 GiB`"),
        ("3", "4\nparam q = 5", "an integer"),
        ("3", "(", "an integer"),
        ("3", "", "an integer"),
        ("3", "1 / 0", "an integer"),
    ],
)
def test_an_override_of_another_type_is_refused(default: str, override: str, needed: str) -> None:
    error = network("y = x -> relu", f"param p = {default}", p=override).error
    assert error.code == "E0224"
    assert f"is {needed}, not" in error.message


def test_an_override_of_no_parameter() -> None:
    error = network("y = x -> relu", "param batch = 3", bacth="4").error
    assert (error.code, error.message) == ("E0223", "there is no parameter `bacth`")
    assert error.helps == ("there is a parameter with a similar name: `batch`",)


def test_a_word_parameter_is_a_choice() -> None:
    graph = network("y = x -> conv(2, 3, pad = mode)", "param mode = valid", IMAGE).graph
    assert graph.node("y.conv").attr("pad") == ((0, 0), (0, 0))
    graph = network("y = x -> conv(2, 3, pad = mode)", "param mode = valid", IMAGE, mode="same").graph
    assert graph.node("y.conv").attr("pad") == ((1, 1), (1, 1))


def test_windows_pads_and_strides() -> None:
    graph = network("y = x -> conv(2, 3x5, stride = 2, pad = 1x2)", type_=IMAGE).graph
    node = graph.node("y.conv")
    assert [node.attr(name) for name in ("window", "stride", "pad")] == [(3, 5), (2, 2), ((1, 1), (2, 2))]
    assert graph.type("y.conv") == tensor("f32", batch=4, channel=2, height=4, width=4)


def test_a_pool_strides_by_its_window() -> None:
    assert network("y = x -> maxpool(2x2)", type_=IMAGE).graph.node("y.maxpool").attr("stride") == (2, 2)


def test_arguments_by_place_and_by_name() -> None:
    by_place = network("y = x -> conv(2, 2, 2)", type_=IMAGE).graph
    by_name = network("y = conv(x = x, stride = 2, window = 2, filters = 2)", type_=IMAGE).graph
    assert by_place.node("y.conv") == by_name.node("y.conv")
    assert by_place.node("y.conv").attr("stride") == (2, 2)


def test_a_value_and_a_number() -> None:
    graph = network("y = 2 - x / 4").graph
    assert dict(graph.node("y.div").attrs) == {"scalar": 4.0, "scalar_first": False}
    assert dict(graph.node("y.sub").attrs) == {"scalar": 2.0, "scalar_first": True}
    assert graph.node("y.sub").inputs == ("y.div",)


def test_signs_by_name() -> None:
    graph = network("y = x -> add(x) -> mul(3)").graph
    assert graph.node("y.add").inputs == ("x", "x")
    assert graph.node("y.mul").attr("scalar") == 3.0


def test_the_arrow_gives_the_first_operand() -> None:
    assert network("a = x -> relu\ny = a -> sub(x)").graph.node("y.sub").inputs == ("a.relu", "x")


def test_constants_have_names_too() -> None:
    assert network("n = 2 * x.feature\ny = x -> linear(n)").graph.type("y.linear").extent("feature") == 16


def test_block_arguments_and_defaults() -> None:
    blocks = "block b(x, mid, out = 2 * mid, pad = valid) {\n  return x -> conv(mid, 1) -> conv(out, 3, pad = pad)\n}"
    assert network("y = x -> b(3)", blocks, IMAGE).graph.type("y.conv_2").shape == (4, 6, 6, 6)
    assert network("y = b(x, out = 5, mid = 3, pad = same)", blocks, IMAGE).graph.type("y.conv_2").shape == (4, 5, 8, 8)


def test_the_index_of_a_repeat() -> None:
    graph = network("y = x -> repeat 3 as i { linear(10 + i) }").graph
    assert [graph.type(f"y[{i}].linear").extent("feature") for i in range(3)] == [10, 11, 12]


def test_no_repeat_is_no_op() -> None:
    assert network("y = x -> repeat 0 { linear(4) } -> relu").addresses == ["y.relu"]


def test_a_bare_word_is_an_axis_whatever_else_it_names() -> None:
    expansion = network("y = x -> softmax(axis = height)", "param height = 3", IMAGE)
    assert expansion.codes == ["W0201"]
    assert expansion.graph.node("y.softmax").attr("axis") == 2
    assert network("tanh = x -> gelu(approximate = tanh)\ny = tanh -> relu").codes == ["W0201"]


def test_lists_of_axes_are_words() -> None:
    expansion = network("y = x -> transpose(order = [width, channel, height])", "param width = 3", IMAGE)
    assert expansion.codes == ["W0201"]
    assert expansion.graph.node("y.transpose").attr("order") == (0, 3, 1, 2)
    named = network("y = x -> reshape([2, 4], axes = [row, seq])")
    assert named.graph.type("y.reshape").names == ("batch", "row", "seq")


@pytest.mark.parametrize(
    ("amount", "pairs"),
    [
        ("2", ((2, 2), (2, 2))),
        ("1x2", ((1, 1), (2, 2))),
        ("[[0, 1], [2, 1 + 1]]", ((0, 1), (2, 2))),
        ("if x.channel == 3 then 1 else 1x2", None),
    ],
)
def test_amounts_of_padding(amount: str, pairs: tuple[tuple[int, int], ...] | None) -> None:
    graph = network(f"y = x -> pad({amount})", "", IMAGE).graph
    assert graph.node("y.pad").attr("amount") == (pairs or ((1, 1), (1, 1)))


def test_parts_by_name_and_by_index() -> None:
    by_name = network("a, b = x -> split([3, 5], axis = feature)\ny = concat(b, a, axis = feature)").graph
    assert by_name.node("y.concat").inputs == ("a.split.y1", "a.split")
    by_index = network("a = x -> split(2, axis = feature)\ny = a[1] + a[0]").graph
    assert by_index.node("y.add").inputs == ("a.split.y1", "a.split")


def test_parts_leave_a_block_together() -> None:
    block = "block halves(x) {\n  return x -> split(2, axis = feature)\n}"
    graph = network("a, b = x -> halves\nc, d = a -> halves\ny = c * d + (b -> slice(feature, stop = 2))", block).graph
    assert graph.node("c.split").inputs == ("a.split",)
    assert graph.node("y.mul").inputs == ("c.split", "c.split.y1")


def test_tied_weights_in_a_block_are_found_near_before_far() -> None:
    blocks = "block b(x) {\n  one = x -> linear(8)\n  return one -> linear(8, tied = one.linear.weight) as two\n}"
    graph = network("one = x -> linear(8)\ny = one -> repeat 2 { b }", blocks).graph
    assert graph.node("y[1].two").inputs == ("y[1].one.linear", "y[1].one.linear.weight", "y[1].two.bias")


def test_tied_weights_by_index() -> None:
    body = "a = x -> repeat 2 { linear(8) }\ny = a -> linear(8, tied = a[3 - 2].linear.weight)"
    assert network(body).graph.node("y.linear").inputs[1] == "a[1].linear.weight"


def test_a_tied_weight_may_be_transposed() -> None:
    graph = network("a = x -> linear(5)\ny = a -> linear(8, tied = transpose(a.linear.weight))").graph
    assert graph.node("y.linear").inputs == ("a.linear", "a.linear.weight", "y.linear.bias")
    assert graph.node("y.linear").attr("transposed") is True
    assert not graph.node("a.linear").has("transposed")


def test_inputs_name_their_axes() -> None:
    text = "param batch = 6\nnetwork n {\n  input x: f32[batch, width = 2 + 3]\n  output x\n}"
    graph = expansion(text).graph
    assert graph.type("x") == tensor("f32", batch=6, width=5)
    assert graph.outputs == (("x", "x"),)
    assert expansion(text.replace("batch,", "7,")).graph.batch == 7


def test_extents_of_inputs_come_from_parameters_alone() -> None:
    text = "param batch = 6\nnetwork n {\n  input x: f32[batch, width = 5]\n  batch = x -> relu\n  output batch\n}"
    assert expansion(text).graph.batch == 6
    error = expansion(text.replace("width = 5", "width = wide")).error
    assert error.message == "`wide` is not defined in network `n`"


def test_several_networks_and_outputs() -> None:
    text = "network a {\n  input x: f32[2, feature = 3]\n  y = x -> relu\n  z = y -> tanh\n  output y, z\n}\n"
    first, second = expansion(text + text.replace("network a", "network b")).graphs
    assert (first.name, second.name) == ("a", "b")
    assert first.outputs == (("y", "y.relu"), ("z", "z.tanh"))
