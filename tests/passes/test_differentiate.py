"""The backward pass, node by node, as text: `y@grad = tanh@dx(y2@grad, y2)` reads as the chain rule is written."""

from __future__ import annotations

from textwrap import dedent

from dlc.ir.graph import Graph
from tests.passes.conftest import Train


def backward(graph: Graph) -> str:
    """The gradient nodes in order, a line each: outputs = ADDRESS(inputs)."""
    nodes = (node for node in graph.nodes if node.stage in ("dx", "dw", "sum"))
    return "\n".join(f"{', '.join(n.outputs)} = {n.address}({', '.join(n.inputs)})" for n in nodes)


def assert_backward(graph: Graph, expected: str) -> None:
    assert backward(graph) == dedent(expected).strip()


def test_a_chain_is_walked_backwards(trained: Train) -> None:
    graph = trained("input x: f32[4, feature = 5]\n h = x -> linear(6) -> tanh\n y = h -> linear(3)\n output y")
    assert_backward(
        graph,
        """
        y.linear@grad = loss.cross_entropy@dx(loss.cross_entropy@seed, loss.cross_entropy.probabilities, label)
        h.tanh@grad = y.linear@dx(y.linear@grad, y.linear.weight)
        y.linear.weight@grad, y.linear.bias@grad = y.linear@dw(y.linear@grad, h.tanh)
        h.linear@grad = h.tanh@dx(h.tanh@grad, h.tanh)
        h.linear.weight@grad, h.linear.bias@grad = h.linear@dw(h.linear@grad, x)
        """,
    )
    seed = graph.value("loss.cross_entropy@seed")
    assert (seed.kind, seed.init.value if seed.init else None) == ("constant", 1.0)


def test_nothing_is_computed_before_the_first_weight(trained: Train) -> None:
    graph = trained(
        """input x: f32[4, channel = 2, height = 6, width = 6]
        a = x -> relu -> maxpool(2x2)
        y = a -> conv(3, 3x3, bias = no) -> flatten
        output y"""
    )
    assert_backward(
        graph,
        """
        y.flatten@grad = loss.cross_entropy@dx(loss.cross_entropy@seed, loss.cross_entropy.probabilities, label)
        y.conv@grad = y.flatten@dx(y.flatten@grad)
        y.conv.weight@grad = y.conv@dw(y.conv@grad, a.maxpool)
        """,
    )


def test_gradients_of_a_fan_out_are_summed_once(trained: Train) -> None:
    graph = trained(
        """input x: f32[4, feature = 5]
        a = x -> linear(3)
        y = concat(a -> tanh, a -> sigmoid, a, axis = feature) -> linear(3)
        output y"""
    )
    (total,) = (node for node in graph.nodes if node.stage == "sum")
    assert (total.address, total.outputs) == ("a.linear@sum", ("a.linear@grad",))
    assert sorted(total.inputs) == [
        "a.linear@grad_y.concat@dx",
        "a.linear@grad_y.sigmoid@dx",
        "a.linear@grad_y.tanh@dx",
    ]
    (after,) = (node for node in graph.nodes if node.address == "a.linear@dw")
    assert after.inputs[0] == "a.linear@grad"


def test_a_skip_connection_needs_no_gradient_of_its_own(trained: Train) -> None:
    """The gradient of a sum is that of each operand: it is passed on, not copied."""
    graph = trained(
        """input x: f32[4, feature = 3]
        a = x -> linear(3)
        y = a + (a -> linear(3))
        output y"""
    )
    assert_backward(
        graph,
        """
        y.add@grad = loss.cross_entropy@dx(loss.cross_entropy@seed, loss.cross_entropy.probabilities, label)
        a.linear@grad_y.linear@dx = y.linear@dx(y.add@grad, y.linear.weight)
        y.linear.weight@grad, y.linear.bias@grad = y.linear@dw(y.add@grad, a.linear)
        a.linear@grad = a.linear@sum(y.add@grad, a.linear@grad_y.linear@dx)
        a.linear.weight@grad, a.linear.bias@grad = a.linear@dw(a.linear@grad, x)
        """,
    )


def test_a_value_added_to_itself_counts_twice(trained: Train) -> None:
    graph = trained("input x: f32[4, feature = 3]\n a = x -> linear(3)\n y = a + a\n output y")
    assert "a.linear@grad = a.linear@sum(y.add@grad, y.add@grad)" in backward(graph)


def test_a_value_joined_to_itself_has_two_parts(trained: Train) -> None:
    graph = trained(
        "input x: f32[4, feature = 3]\n a = x -> linear(3)\n y = concat(a, a, axis = feature) -> linear(3)\n output y"
    )
    assert (
        "a.linear@grad_y.concat@dx, a.linear@grad_y.concat@dx_2 = y.concat@dx(y.concat@grad)\n"
        "a.linear@grad = a.linear@sum(a.linear@grad_y.concat@dx, a.linear@grad_y.concat@dx_2)"
    ) in backward(graph)


def test_metrics_and_branches_that_lead_nowhere_have_no_gradients(trained: Train) -> None:
    base = "input x: f32[4, feature = 5]\n a = x -> linear(6)\n y = a -> linear(3)\n"
    plain = trained(base + "output y", metrics="[]")
    metric = trained(base + "output y", metrics="[accuracy(y, data.label), accuracy(y, data.label, top = 2)]")
    branch = trained(base + "side = a -> tanh -> linear(2)\n output y, side")
    assert backward(plain) == backward(metric) == backward(branch)
    updated = {node.base for node in branch.nodes if node.stage == "update"}
    assert updated == {"a.linear.weight", "a.linear.bias", "y.linear.weight", "y.linear.bias"}


def test_a_tied_weight_gathers_the_gradients_of_its_uses(trained: Train) -> None:
    graph = trained(
        """input x: f32[4, feature = 3]
        a = x -> linear(3)
        y = a -> tanh -> linear(3, tied = a.linear.weight)
        output y"""
    )
    assert (
        "a.linear.weight@grad = a.linear.weight@sum(a.linear.weight@grad_y.linear@dw, a.linear.weight@grad_a.linear@dw)"
    ) in backward(graph)
    updates = [node.inputs for node in graph.nodes if node.address == "a.linear.weight@update"]
    assert [inputs[:2] for inputs in updates] == [("a.linear.weight", "a.linear.weight@grad")]


def test_a_tied_weight_whose_other_use_leads_nowhere_has_one_gradient(trained: Train) -> None:
    graph = trained(
        """input x: f32[4, feature = 3]
        y = x -> linear(3)
        side = y -> tanh -> linear(3, tied = y.linear.weight)
        output y, side"""
    )
    assert "@sum" not in backward(graph)
    assert "y.linear.weight@grad, y.linear.bias@grad = y.linear@dw(y.linear@grad, x)" in backward(graph)


def test_parts_without_a_gradient_are_left_out(trained: Train) -> None:
    graph = trained(
        """input x: f32[4, feature = 5]
        a, b, c = x -> linear(6) -> split([1, 3, 2], axis = feature)
        y = concat(c, c -> tanh, axis = feature) -> linear(3)
        z = b -> relu
        output y, a, z"""
    )
    split = graph.node("a.split@dx")
    assert (split.inputs, split.outputs) == (("a.split.y2@grad",), ("a.linear@grad",))
    assert split.attr("reached") == (2,)
    assert set(graph.node("a.split.y2@sum").inputs) == {"a.split.y2@grad_y.concat@dx", "a.split.y2@grad_y.tanh@dx"}


def test_parts_with_a_gradient_are_read_in_their_order(trained: Train) -> None:
    graph = trained(
        """input x: f32[4, feature = 5]
        a, b, c = x -> linear(6) -> split(3, axis = feature)
        y = concat(c, a, axis = feature) -> linear(3)
        output y, b"""
    )
    split = graph.node("a.split@dx")
    assert (split.inputs, split.attr("reached")) == (("a.split@grad", "a.split.y2@grad"), (0, 2))


def test_batch_norm_gives_its_three_gradients_at_once(trained: Train) -> None:
    graph = trained("input x: f32[4, feature = 3]\n y = x -> linear(3) -> bn -> linear(3) as last\n output y")
    assert (
        "y.linear@grad, y.bn.scale@grad, y.bn.shift@grad = "
        "y.bn@dx(y.bn@grad, y.linear, y.bn.scale, y.bn.batch_mean, y.bn.batch_rstd)"
    ) in backward(graph)
    first = trained("input x: f32[4, feature = 3]\n y = x -> bn -> linear(3)\n output y")
    assert "x@grad, y.bn.scale@grad, y.bn.shift@grad = y.bn@dx(" in backward(first)  # they come in one node


TWO_HEADS = """input x: f32[4, feature = 5]
        a = x -> linear(6)
        y = a -> linear(3)
        z = a -> linear(3)
        output y, z"""


def test_losses_that_are_added_share_their_seed(trained: Train) -> None:
    graph = trained(TWO_HEADS, loss="cross_entropy(y, data.label) + cross_entropy(z, data.label)")
    lines = backward(graph).splitlines()
    assert [line for line in lines if line.startswith(("y.linear@grad =", "z.linear@grad ="))] == [
        "z.linear@grad = loss.cross_entropy_2@dx(loss.add@seed, loss.cross_entropy_2.probabilities, label)",
        "y.linear@grad = loss.cross_entropy@dx(loss.add@seed, loss.cross_entropy.probabilities, label)",
    ]


def test_the_weight_of_a_loss_scales_its_seed(trained: Train) -> None:
    graph = trained(TWO_HEADS, loss="cross_entropy(y, data.label) + 0.3 * cross_entropy(z, data.label)")
    (scaled,) = (node for node in graph.nodes if node.address == "loss.mul@dx")
    assert (scaled.inputs, scaled.attr("scalar")) == (("loss.add@seed", "loss.cross_entropy_2"), 0.3)
    (of_z,) = (node for node in graph.nodes if "z.linear@grad" in node.outputs)
    assert of_z.inputs[0] == scaled.outputs[0]


def test_saved_values_are_read_where_they_are_declared(trained: Train) -> None:
    graph = trained(
        """input x: f32[4, channel = 1, height = 6, width = 6]
        y = x -> conv(3, 3x3) -> maxpool(2x2) -> dropout(0.5) -> flatten -> linear(3)
        output y"""
    )
    by_address = {node.address: node.inputs for node in graph.nodes}
    assert by_address["y.maxpool@dx"] == ("y.maxpool@grad", "y.maxpool.indices")
    assert by_address["y.dropout@dx"] == ("y.dropout@grad", "y.dropout.mask")
