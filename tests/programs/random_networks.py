"""Random networks over all operators, as texts: statements that the compiler refuses are left out.

Every statement reads values that there are, mostly the latest ones; its arguments are drawn without regard to whether
they fit, and the compiler's own shape rules say what became of it. So the generator knows no shape rule itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from random import Random

from dlc.diagnostics import DiagnosticError
from dlc.driver import read
from dlc.ir.graph import Graph, Node

LARGEST = 400
"""Elements of a sample: larger results are left out."""

Value = tuple[tuple[str, int], ...]
"""The axes behind the batch, and their extents."""

INPUTS = (
    "f32[batch, channel = 4, height = 6, width = 5]",
    "f32[batch, channel = 3, height = 1, width = 1]",
    "f32[batch, channel = 4, length = 9]",
    "f32[batch, channel = 2, depth = 4, height = 3, width = 4]",
    "f32[batch, seq = 5, width = 6]",
    "f32[batch, seq = 1, width = 4]",
    "f32[batch, feature = 7]",
    "f32[batch, rows = 3, feature = 4]",
    "i32[batch, seq = 4]",
)

ELEMENTWISE = (
    "relu", "tanh", "sigmoid", "silu", "hard_swish", "leaky_relu(0.1)", "elu", "elu(alpha = 0.5)", "gelu",
    "gelu(approximate = tanh)", "dropout(0.3)", "layernorm", "rmsnorm", "softmax", "log_softmax", "flatten",
)  # fmt: skip
POOLS = ("global_avgpool", "global_maxpool", "bn", "bn(group = 2)", "bn(group = 3)", "groupnorm(2)", "lrn(size = 3)")
SEQUENCES = ("transpose", "position_embedding(3)", "merge_heads", "causal_mask -> softmax", "embedding(6, 4)")


@dataclass
class Network:
    """Statements that the compiler took, and the types of the values that they bind."""

    rng: Random
    batch: int
    inputs: dict[str, str] = field(default_factory=dict)
    statements: list[str] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def text(self, *last: str) -> str:
        lines = [*(f"input {name}: {type_}" for name, type_ in self.inputs.items()), *self.statements, *last]
        return f"dlspec 1\nparam batch = {self.batch}\nnetwork net {{\n  " + "\n  ".join(lines) + "\n}\n"

    def value(self) -> str:
        """A value to read: one that nothing has read yet, or any."""
        unread = [name for name in self.unread if name in self.values]
        return self.rng.choice(unread if unread and self.rng.random() < 0.7 else list(self.values))

    def axis(self, name: str) -> str:
        return self.rng.choice(self.values[name] or (("feature", 1),))[0]

    def add(self, statement: str, folder: Path) -> bool:
        """Take a statement if the compiler does, and its results are not too large."""
        bound = [name.strip() for name in statement.split(" = ")[0].split(",")]
        graph = graph_of(self.text(statement, *(f"output {name}" for name in bound)), folder)
        if graph is None or _numerically_hopeless(graph):
            return False
        types = {name: graph.type(value) for name, value in graph.outputs}
        if any(prod(type_.shape[type_.batched :]) > LARGEST for type_ in types.values()):
            return False
        self.statements.append(statement)
        self.unread = [name for name in self.unread if not _reads(statement, name)] + bound
        for name, type_ in types.items():
            self.values[name] = tuple((axis.name, axis.extent) for axis in type_.axes[type_.batched :])
        return True


def graph_of(text: str, folder: Path) -> Graph | None:
    """The network of a text, None where the compiler refuses it."""
    path = folder / "trial.dlspec"
    path.write_text(text)
    try:
        return read(str(path)).spec.jobs[0].graph
    except DiagnosticError:
        return None


def _numerically_hopeless(graph: Graph) -> bool:
    """Whether something normalises single numbers, or two batch norms may follow one another: the running mean of the
    second one is nothing but rounding."""
    norms = [node for node in graph.nodes if node.op == "bn"]
    return len(norms) > 1 or any(_normalises_one(graph, node) for node in graph.nodes)


def _normalises_one(graph: Graph, node: Node) -> bool:
    """Whether each number is normalised by itself: what comes of it is noise, which another norm would blow up."""
    if not node.inputs:
        return False
    x = graph.type(node.inputs[0])
    match node.op:
        case "softmax" | "log_softmax":
            return x.shape[int(str(node.attr("axis")))] == 1
        case "layernorm" | "rmsnorm":
            return x.shape[-1] == 1
        case "groupnorm":
            return prod(x.shape[1:]) == node.attr("groups")
    return False


def _reads(statement: str, name: str) -> bool:
    return name in statement.split(" = ", 1)[1].replace("(", " ").replace(")", " ").replace(",", " ").split()


def windowed(net: Network) -> str:
    """A convolution, a pool, or another operator with windows."""
    draw = net.rng
    window, stride = draw.choice(("1", "2", "3", "2x3", "3x1", "5")), draw.choice(("1", "1", "2", "2x1"))
    pad = draw.choice(("0", "1", "same", "valid", "2"))
    dilation, groups, bias = draw.choice((1, 1, 2)), draw.choice((1, 1, 2)), draw.choice(("yes", "no"))
    rest = f"{window}, stride = {stride}, pad = {pad}"
    filters = draw.choice((2, 3, 4))
    conv = f"conv({filters}, {rest}, dilation = {dilation}, groups = {groups}, bias = {bias})"
    ceil, count = "no" if pad == "same" else draw.choice(("yes", "no")), draw.choice(("yes", "no"))
    return draw.choice(
        (
            conv,
            conv,
            f"weight_norm({conv})",
            f"conv_transpose({filters}, {rest}, dilation = {dilation}, groups = {groups}, bias = {bias})",
            f"depthwise_conv({rest}, dilation = {dilation}, bias = {bias})",
            f"local_conv({filters}, {rest}, bias = {bias})",
            f"maxpool({rest}, ceil = {ceil})",
            f"avgpool({rest}, ceil = {ceil}, count_pad = {count})",
            f"upsample({draw.choice((1, 2, 3))}{draw.choice(('', ', mode = linear'))})",
        )
    )


def sequential(net: Network) -> str:
    """A recurrent network, attention, or an embedding."""
    draw = net.rng
    bias, both, causal = (f"{name} = {draw.choice(('yes', 'no'))}" for name in ("bias", "bidirectional", "causal"))
    returns, truncate = draw.choice(("sequence", "last")), draw.choice((0, 1, 2, 9))
    options = f"layers = {draw.choice((1, 2))}, {both}, truncate = {truncate}, returns = {returns}, {bias}"
    return draw.choice(
        (
            f"rnn(3, {options}, nonlinearity = {draw.choice(('tanh', 'relu'))})",
            f"lstm(3, {options})",
            f"gru(3, {options})",
            f"attention({draw.choice((1, 2))}, {causal}, {bias})",
            f"split_heads({draw.choice((1, 2, 3))})",
            *SEQUENCES,
        )
    )


def moved(net: Network, name: str) -> str:
    """Elements in other places."""
    draw, axis = net.rng, net.axis(name)
    extents = [extent for _, extent in net.values[name]]
    names = [other for other, _ in net.values[name]]
    order = draw.sample(names, len(names))
    start, stop = draw.choice(("", ", start = 1", ", start = -2")), draw.choice(("", ", stop = 2", ", stop = -1"))
    shape = draw.choice(([prod(extents)], [1, prod(extents)], extents[::-1], [prod(extents[:1]), prod(extents[1:])]))
    mode = draw.choice(("constant", "reflect", "edge"))
    return draw.choice(
        (
            f"slice({axis}{start}{stop}, step = {draw.choice((1, 2, -1, -2))})",
            f"slice({axis})",
            f"pad({draw.choice((0, 1, 2))}, mode = {mode})",
            f"pad([{draw.choice((0, 1))}, {draw.choice((0, 2))}], axis = {axis}, mode = {mode}, value = 0.5)",
            f"transpose(order = [{', '.join(order)}])",
            "transpose",
            f"reshape([{', '.join(map(str, shape))}])",
            f"reshape([{', '.join(map(str, extents))}], axes = [{', '.join(f'{n}_' for n in names)}])",
            f"softmax(axis = {axis})",
            f"log_softmax(axis = {axis})",
        )
    )


def dense(net: Network, name: str) -> str:
    """Linear maps of the last axis, by weights of their own or by those of another statement."""
    draw = net.rng
    width = net.values[name][-1][1] if net.values[name] else 1
    own = [statement.split(" = ")[0] for statement in net.statements if statement.endswith("-> linear(4)")]
    tied = [f"linear(4, tied = {other}.linear.weight)" for other in own]
    turned = [f"linear({w}, tied = transpose({other}.linear.weight))" for other in own for w in (4, 6, 7)]
    return draw.choice(
        (
            "linear(4)",
            "linear(4)",
            f"linear({draw.choice((1, 3, 6))}, bias = no)",
            f"weight_norm(linear({draw.choice((2, 5))}))",
            f"repeat 2 {{ linear({width}) -> tanh }}",
            f"repeat 2 {{ weight_norm(linear({width})) -> tanh }}",
            *tied,
            *tied,
            *turned,
        )
    )


def combined(net: Network, name: str) -> str:
    """Arithmetic of values, parameters and numbers; joined values; products of matrices."""
    draw, other = net.rng, net.value()
    alike = [n for n, value in net.values.items() if value == net.values[name]]
    same, axis, second = draw.choice(alike), net.axis(name), net.axis(name)
    some = [pair for pair in net.values[name] if draw.random() < 0.6] or list(net.values[name][-1:])
    drawn = [(n, draw.choice((extent, extent, 1))) for n, extent in some]
    parameter = (
        f"parameter([{', '.join(str(e) for _, e in drawn)}], axes = [{', '.join(n for n, _ in drawn)}], value = 0.5)"
    )
    sign = draw.choice("+-*")
    *_, rows, width = (1, 1, *(extent for _, extent in net.values[name]))
    return draw.choice(
        (
            f"{name} {sign if same != name else '+'} {same}",
            f"{name} {draw.choice('+*')} {name}",
            f"{name} {sign} {other}",
            f"{name} / ({same} * {same} + 1)",
            f"2 / ({name} * {name} + 1)",
            f"1 - {name}",
            f"{name} / 2 + 0.5",
            f"{name} {sign} {parameter}",
            f"{parameter} / ({name} * {name} + 0.5)",
            f"({parameter} -> gelu) {sign} {name}",
            f"{name} {sign} ({name} -> slice({axis}, stop = 1))",
            f"({name} -> slice({axis}, stop = 1)) {sign} ({name} -> slice({second}, start = -1))",
            f"concat({name}, {same}, {name}, axis = {axis})",
            f"concat({name}, axis = {axis})",
            f"concat({name}, {other}, axis = {axis})",
            f"{name} @ transpose({same})",
            f"{name} @ {other}",
            f"{name} @ parameter([{width}, 3], axes = [{axis}, made], value = 0.3)",
            f"parameter([3, {rows}], axes = [made, {axis}], value = 0.3) @ {name}",
        )
    )


KINDS: tuple[Callable[[Network, str], str], ...] = (
    lambda net, name: f"{name} -> {net.rng.choice(ELEMENTWISE)}",
    lambda net, name: f"{name} -> {net.rng.choice(POOLS)}",
    lambda net, name: f"{name} -> {windowed(net)}",
    lambda net, name: f"{name} -> {windowed(net)} -> {net.rng.choice(ELEMENTWISE)}",
    lambda net, name: f"{name} -> {sequential(net)}",
    lambda net, name: f"{name} -> {moved(net, name)}",
    lambda net, name: f"{name} -> {dense(net, name)}",
    combined,
)

LOSSES = (
    "cross_entropy(logits, data.label)",
    "cross_entropy(logits, data.label, smoothing = 0.1)",
    "hinge(logits, data.label)",
    "0.5 * cross_entropy(logits, data.label) + 0.5 * hinge(logits, data.label)",
    *(f"{loss}(logits, data.wanted)" for loss in ("mse", "half_mse", "l1", "huber", "bce", "kl", "reconstruction")),
)


def random_network(seed: int, folder: Path) -> str:
    """The text of a spec: a network of some ten statements, trained on synthetic samples; `folder` is for trials."""
    rng = Random(seed)
    net = Network(rng, rng.choice((3, 4, 5, 7)))
    for name in ("x", "z")[: rng.choice((1, 1, 2))]:
        net.inputs[name] = rng.choice(INPUTS)
    for name, type_ in net.inputs.items():
        assert net.add(f"{name}0 = {name} -> {'embedding(6, 4)' if 'i32' in type_ else 'tanh'}", folder)
    for number in range(rng.choice((4, 8, 12))):
        _extend(net, number, folder)
    parts = [name for name in net.unread if rng.random() < 0.85] or net.unread[-1:]
    batched = [part for part in parts if net.add(f"flat_{part} = {part} -> flatten -> linear(3) -> tanh", folder)]
    joined = [f"flat_{part}" for part in batched]
    assert net.add(f"logits = concat({', '.join(joined)}, axis = feature) -> linear(5)", folder)
    further = [name for name in net.values if name[0] == "v" and rng.random() < 0.15]
    outputs = [f"output {name}" for name in ("logits", *further)]
    return net.text(*outputs) + _training(net, rng)


def _extend(net: Network, number: int, folder: Path) -> None:
    """One statement more, after as many tries as it takes."""
    for _ in range(60):
        name = net.value()
        if net.values[name] and net.rng.random() < 0.1:
            parts = net.rng.choice(("2", "3", "[1, 1, 2]", "[2, 3]"))
            count = 3 if parts in ("3", "[1, 1, 2]") else 2
            bound = ", ".join(f"v{number}{'abc'[i]}" for i in range(count))
            statement = f"{bound} = {name} -> split({parts}, axis = {net.axis(name)})"
        else:
            statement = f"v{number} = {net.rng.choice(KINDS)(net, name)}"
        if net.add(statement, folder):
            return


TRAINING = """train net {{
  data      = synthetic(samples = {samples}, classes = 5, test = {test}, last = {last})
  loss      = {loss}
  metrics   = [accuracy(logits, data.label), perplexity(logits, data.label)]
  optimizer = {optimizer}
  lr        = constant(0.01)
  steps     = 3
}}
cluster cores {{
  device core {{
    kind        = cpu
    memory      = 4 GiB
    bandwidth   = 10 GB/s
    compute.f32 = 50 GFLOP/s
  }}
  link shm {{ bandwidth = 8 GB/s, latency = 1 us }}
  topology {{ core[3] over shm }}
}}
plan net on cores {{
  layout = {layout}
}}
"""


def _training(net: Network, rng: Random) -> str:
    """Some steps, the second one of them on a last partial batch where `last` is keep."""
    remainder = rng.choice((1, 2))
    return TRAINING.format(
        samples=net.batch + remainder + 2,
        test=2 / (net.batch + remainder + 2),
        last=rng.choice(("keep", "drop")),
        loss=rng.choice(LOSSES),
        optimizer=rng.choice(("sgd(momentum = 0.9)", "adam")),
        layout=rng.choice(("auto", "NCHW", "NHWC", "CHWN")),
    )
