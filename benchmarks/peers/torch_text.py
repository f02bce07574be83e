"""A network as the PyTorch program that somebody would write: straight-line functional calls in an nn.Module.

PyTorch's own fused functions are used where it has them, ReLU works in place where nothing else reads its operand, and
statistics of batch norms move as nn.BatchNorm2d moves them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from dlc.ir.graph import Graph, Node

HEAD = '''"""`{name}` in PyTorch, written from dlc's graph."""

import torch
from torch import nn
from torch.nn import functional as F


class Network(nn.Module):
    def __init__(self, weights, statistics):
        super().__init__()
        for name, value in weights.items():
            self.register_parameter(name, nn.Parameter(value))
        for name, value in statistics.items():
            self.register_buffer(name, value)

    def forward(self, {inputs}{masks}):
'''

REWRITES = ("conv", "bn", "add", "linear")
"""Ops whose gradients need no values of their result, so that ReLU may overwrite it."""


@dataclass(frozen=True, slots=True)
class Written:
    """The text of a PyTorch module, and what it is given.

    Weights, statistics and masks are address -> attribute or parameter; with masks, dropout keeps what they say.
    """

    text: str
    weights: dict[str, str]
    statistics: dict[str, str]
    inputs: tuple[str, ...]
    masks: dict[str, str]


def write(graph: Graph, masked: bool = False) -> Written:
    """The module of a graph with its loss, which is what forward() gives; `masked`: dropout's masks are given."""
    weights = {value.name: _name(value.name) for value in graph.of_kind("weight")}
    statistics = {value.name: _name(value.name) for value in graph.of_kind("statistic")}
    nodes = [node for node in graph.nodes if node.stage in ("forward", "loss")]
    dropped = {node.address: f"mask_{_name(node.address)}" for node in nodes if node.op == "dropout"} if masked else {}
    names = {**{name: _name(name) for name in (*graph.inputs, *graph.fields)}}
    names |= {name: f"self.{attribute}" for name, attribute in (*weights.items(), *statistics.items())}
    reads = Counter(name for node in nodes for name in node.inputs)
    made, lines = {name: node for node in nodes for name in node.outputs}, list[str]()
    for node in nodes:
        y = names[node.outputs[0]] = _name(node.outputs[0])
        given = [names[name] for name in node.inputs]
        source = made.get(node.inputs[0])
        alone = source is not None and source.op in REWRITES and reads[node.inputs[0]] == 1
        if node.address in dropped:
            lines.append(f"{y} = {given[0]} * {dropped[node.address]}")
        else:
            lines.append(f"{y} = {_call(graph, node, given, alone)}")
    inputs = (*graph.inputs, *graph.fields)
    head = HEAD.format(
        name=graph.name,
        inputs=", ".join(map(_name, inputs)),
        masks="".join(f", {mask}" for mask in dropped.values()),
    )
    body = "".join(f"        {line}\n" for line in (*lines, f"return {names[graph.loss]}"))
    return Written(head + body, weights, statistics, inputs, dropped)


def _call(graph: Graph, node: Node, given: list[str], alone: bool) -> str:
    """The expression of a node. `alone`: its first operand is read by nothing else, and may be overwritten."""
    if node.op == "relu":
        return f"F.relu({given[0]}{', inplace=True' if alone else ''})"
    return CALLS[node.op](graph, node, given)


def _name(address: str) -> str:
    return re.sub(r"\W+", "_", address).strip("_")


def _conv(graph: Graph, node: Node, given: list[str]) -> str:
    pad = tuple(before for before, _ in node.attr("pad"))
    assert all(before == after for before, after in node.attr("pad")), "pads of PyTorch's convolutions are symmetric"
    bias = given[2] if node.attr("bias") else "None"
    settings = f"{node.attr('stride')}, {pad}, {node.attr('dilation')}, {node.attr('groups')}"
    return f"F.conv2d({given[0]}, {given[1]}, {bias}, {settings})"


def _bn(graph: Graph, node: Node, given: list[str]) -> str:
    x, scale, shift, mean, variance = given
    assert node.attr("group") == graph.batch, "PyTorch's batch norms work on the whole batch"
    return f"F.batch_norm({x}, {mean}, {variance}, {scale}, {shift}, True, {node.attr('momentum')}, {node.attr('eps')})"


def _pool(name: str) -> Callable[[Graph, Node, list[str]], str]:
    def call(graph: Graph, node: Node, given: list[str]) -> str:
        pad = tuple(before for before, _ in node.attr("pad"))
        assert all(before == after for before, after in node.attr("pad")), "pads of PyTorch's pools are symmetric"
        counted = f", count_include_pad={node.attr('count_pad')}" if name == "avg" else ""
        settings = f"{node.attr('window')}, {node.attr('stride')}, {pad}, ceil_mode={node.attr('ceil')}"
        return f"F.{name}_pool2d({given[0]}, {settings}{counted})"

    return call


def _arithmetic(sign: str) -> Callable[[Graph, Node, list[str]], str]:
    def call(graph: Graph, node: Node, given: list[str]) -> str:
        scalar = dict(node.attrs).get("scalar")
        return f" {sign} ".join(given if scalar is None else (*given, repr(scalar)))

    return call


def _lrn(graph: Graph, node: Node, given: list[str]) -> str:
    settings = ", ".join(str(node.attr(name)) for name in ("size", "alpha", "beta", "k"))
    return f"F.local_response_norm({given[0]}, {settings})"


def _cross_entropy(graph: Graph, node: Node, given: list[str]) -> str:
    x, label = given
    if len(graph.type(node.inputs[0]).shape) > 2:
        x, label = f"{x}.flatten(0, 1)", f"{label}.flatten()"
    return f"F.cross_entropy({x}, {label}, label_smoothing={node.attr('smoothing')})"


def _slice(graph: Graph, node: Node, given: list[str]) -> str:
    before = ":, " * int(node.attr("axis"))
    return f"{given[0]}[{before}{node.attr('start')}:{node.attr('stop')}:{node.attr('step')}]"


def _recurrent(kind: str) -> Callable[[Graph, Node, list[str]], str]:
    def call(graph: Graph, node: Node, given: list[str]) -> str:
        """nn.LSTM's and nn.GRU's own function; back-propagation through pieces begins with detached states."""
        assert node.attr("returns") == "sequence"
        assert (node.attr("bidirectional"), node.attr("bias")) == (False, True)
        layers, length = node.attr("layers"), graph.type(node.inputs[0]).shape[1]
        start = f"{given[0]}.new_zeros({layers}, {graph.batch}, {node.attr('hidden')})"
        settings = f"[{', '.join(given[1:])}], True, {layers}, 0.0, True, False, True"
        piece = node.attr("truncate") or length
        if piece == length:
            state = f"({start}, {start})" if kind == "lstm" else start
            return f"torch.{kind}({given[0]}, {state}, {settings})[0]"
        assert (layers, kind) == (1, "gru"), "pieces are for one layer"
        return f"pieces({given[0]}, {start}, [{', '.join(given[1:])}], {piece})"

    return call


PIECES = '''
def pieces(x, state, weights, length):
    """A GRU, whose gradients go back through so many steps."""
    found = []
    for piece in x.split(length, dim=1):
        y, state = torch.gru(piece, state.detach(), weights, True, 1, 0.0, True, False, True)
        found.append(y)
    return torch.cat(found, dim=1)


def attend(x, in_weight, in_bias, out_weight, out_bias, heads, causal):
    """Attention of a sequence to itself."""
    n, length, width = x.shape
    q, k, v = F.linear(x, in_weight, in_bias).view(n, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return F.linear(y.transpose(1, 2).reshape(n, length, -1), out_weight, out_bias)
'''
"""What stands behind the module."""


def _attention(graph: Graph, node: Node, given: list[str]) -> str:
    assert (node.attr("in_proj_bias"), node.attr("out_proj_bias")) == (True, True)
    return f"attend({', '.join(given)}, {node.attr('heads')}, {node.attr('causal')})"


CALLS: dict[str, Callable[[Graph, Node, list[str]], str]] = {
    "conv": _conv,
    "bn": _bn,
    "maxpool": _pool("max"),
    "avgpool": _pool("avg"),
    "global_avgpool": lambda graph, node, given: f"F.adaptive_avg_pool2d({given[0]}, 1)",
    "lrn": _lrn,
    "gelu": lambda graph, node, given: f"F.gelu({given[0]}, approximate={str(node.attr('approximate'))!r})",
    "tanh": lambda graph, node, given: f"torch.tanh({given[0]})",
    "flatten": lambda graph, node, given: f"{given[0]}.flatten(1)",
    "linear": lambda graph, node, given: f"F.linear({', '.join(given)})",
    "dropout": lambda graph, node, given: f"F.dropout({given[0]}, {node.attr('p')})",
    "concat": lambda graph, node, given: f"torch.cat(({', '.join(given)}), {node.attr('axis')})",
    "add": _arithmetic("+"),
    "mul": _arithmetic("*"),
    "cross_entropy": _cross_entropy,
    "embedding": lambda graph, node, given: f"F.embedding({', '.join(given)})",
    "position_embedding": lambda graph, node, given: f"{given[1]}",
    "layernorm": lambda graph, node, given: (
        f"F.layer_norm({given[0]}, {given[1]}.shape, {given[1]}, {given[2]}, {node.attr('eps')})"
    ),
    "slice": _slice,
    "lstm": _recurrent("lstm"),
    "gru": _recurrent("gru"),
    "attention": _attention,
}
"""Op -> the expression of a node, of the expressions of its operands."""
