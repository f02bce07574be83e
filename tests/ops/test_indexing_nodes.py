"""Iteration spaces of the nodes of networks, as pins and the planner ask for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dlc.driver import read
from dlc.expand.pins import operator_of, split_axes
from dlc.ir.graph import Graph, Node
from dlc.ir.mesh import PARTIAL, REPLICATED
from dlc.ops.indexing import gradient_placement, operand_placement, result_placement
from dlc.ops.nodes import node_indexing, typed_roles
from tests.expand.blocks import expanded, plan

SPECS = Path(__file__).parents[2] / "specs"

NETWORK = """
network tiny {
  input image: f32[batch = 8, channel = 4, height = 8, width = 8]
  a      = image -> conv(6, 3x3, pad = 1, bias = no)
  b      = 2 * a + 1
  c      = image -> conv(8, 3x3, stride = 2, groups = 2)
  d      = image -> maxpool(2x2)
  row    = b -> flatten
  logits = row -> linear(10)
  one    = image -> conv(1, 8x8)
  output logits, c, d, one
}
"""


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return expanded(plan(network=NETWORK), tmp_path).job.graph


def only(graph: Graph, op: str, address: str = "") -> Node:
    return next(node for node in graph.forward if node.op == op and node.address.startswith(address))


def axes(graph: Graph, op: str, address: str = "") -> dict[str, int]:
    return dict(node_indexing(graph, only(graph, op, address)).extents)


def test_axes_have_as_many_parts_as_elements(graph: Graph) -> None:
    image = {"batch": 8, "channel": 6, "height": 8, "width": 8}
    assert axes(graph, "conv", "a") == image | {"reduce": 4}
    assert axes(graph, "conv", "c") == {"batch": 8, "channel": 2, "height": 3, "width": 3}, "whole groups"
    assert axes(graph, "conv", "one") == {"batch": 8, "reduce": 4}, "axes of one element are not split"
    assert axes(graph, "mul") == axes(graph, "add") == image
    assert axes(graph, "flatten") == {"batch": 8, "channel": 6}
    assert axes(graph, "linear") == {"batch": 8, "feature": 10, "reduce": 384}


def test_an_absent_bias_and_a_number_have_no_tensor(graph: Graph) -> None:
    assert set(node_indexing(graph, only(graph, "conv", "a")).tensors) == {"x", "weight", "y"}
    assert set(node_indexing(graph, only(graph, "conv", "c")).tensors) == {"x", "weight", "bias", "y"}
    assert set(node_indexing(graph, only(graph, "mul")).tensors) == {"a", "y"}


def test_placements_of_a_linear_map(graph: Graph) -> None:
    """Samples over one axis of the mesh, over the other what it sums over."""
    node = only(graph, "linear")
    space, types, partition = node_indexing(graph, node), dict(typed_roles(graph, node)), ("batch", "reduce")
    assert operand_placement(space, "x", types["x"], partition) == ("batch", "feature")
    assert operand_placement(space, "weight", types["weight"], partition) == (REPLICATED, "in")
    assert result_placement(space, "y", types["y"], partition) == ("batch", PARTIAL)
    assert gradient_placement(space, "x", types["x"], partition) == ("batch", "feature")
    assert gradient_placement(space, "weight", types["weight"], partition) == (PARTIAL, "in")
    assert gradient_placement(space, "bias", types["bias"], partition) == (PARTIAL, REPLICATED)
    assert gradient_placement(space, "bias", types["bias"], ("", "feature")) == (REPLICATED, "out")


@pytest.mark.parametrize("name", ["alexnet", "gpt2_xl", "resnet50", "transformer_encoder", "unet", "lstm"])
def test_every_node_of_a_network_is_split_by_samples(name: str) -> None:
    (job,) = read(str(SPECS / f"{name}.dlspec")).spec.jobs
    for node in job.graph.forward:
        space = node_indexing(job.graph, node)
        batched = any(type_.batched for _, type_ in typed_roles(job.graph, node))
        assert ("batch" in space.axes) == batched, node.address
        assert set(space.axes) == set(split_axes(operator_of(node), node, job.graph)), node.address


def test_blocks_that_repeat_share_their_spaces() -> None:
    (job,) = read(str(SPECS / "gpt2_xl.dlspec")).spec.jobs
    assert len({id(node_indexing(job.graph, node)) for node in job.graph.forward}) < 40
    assert len(list(job.graph.forward)) > 1000


def test_a_node_of_no_operator_is_refused(graph: Graph) -> None:
    node = only(graph, "linear")
    with pytest.raises(ValueError, match="is no node of the operator unheard"):
        typed_roles(graph, replace(node, op="unheard"))
