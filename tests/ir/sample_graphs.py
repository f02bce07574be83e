"""Small Graphs for tests, built from the operators themselves, differentiated and updated by the real passes."""

from __future__ import annotations

from dlc.cluster.topology import Cluster, Device, Group
from dlc.ir.graph import Attr, Graph, Node, Pass, Value
from dlc.ir.request import Request
from dlc.ir.tensor import tensor
from dlc.ir.training import Choice, Length, Training
from dlc.ops import operator
from passes.add_updates import add_updates
from passes.context import Context
from passes.differentiate import differentiate


class Network:
    """Collects nodes and values; `op` adds a node and returns the name of its result."""

    def __init__(self, batch: int = 4) -> None:
        self.batch = batch
        self.nodes: list[Node] = []
        self.values: dict[str, Value] = {}

    def feed(self, name: str, dtype: str = "f32", kind: str = "input", **extents: int) -> str:
        self.values[name] = Value(name, tensor(dtype, batch=self.batch, **extents), kind)  # type: ignore[arg-type]
        return name

    def op(self, address: str, *inputs: str, stage: Pass = "forward", **arguments: Attr) -> str:
        op = operator(address.rpartition(".")[2].rstrip("0123456789"))
        assert op is not None
        given = {p.name: p.default for p in op.parameters if p.default is not None} | arguments
        for p in op.parameters:
            if p.like and p.name not in given:
                given[p.name] = given[p.like]
        made = op.infer(tuple(self.values[name].type for name in inputs), given)
        owned = []
        for weight in made.weights:
            name = f"{address}.{weight.role}"
            kind = "weight" if weight.trained else "statistic"
            self.values[name] = Value(name, weight.type, kind, weight.init, address)
            owned.append(name)
        for name, type_ in ((address, made.results[0]), *((f"{address}.{role}", t) for role, t in made.saved)):
            self.values[name] = Value(name, type_, "activation" if name == address else "saved")
        outputs = (address, *(f"{address}.{role}" for role, _ in made.saved))
        self.nodes.append(Node(address, op.name, stage, (*inputs, *owned), outputs, made.attrs))
        return address

    def graph(self, output: str, loss: str, metric: str) -> Graph:
        kinds = {value.name: value.kind for value in self.values.values()}
        inputs = tuple(name for name, kind in kinds.items() if kind == "input")
        fields = tuple(name for name, kind in kinds.items() if kind == "field")
        metrics = (("accuracy", metric),)
        values = tuple(self.values.values())
        return Graph(
            "net", "loss", tuple(self.nodes), values, inputs, fields, (("logits", output),), loss, metrics, self.batch
        )


def residual(batch: int = 4) -> Graph:
    """Convolutions around a skip connection, batch norm, pooling, dropout, and two linear layers."""
    net = Network(batch)
    image, label = net.feed("image", channel=2, height=6, width=6), net.feed("label", "i32", "field")
    stem = net.op("stem.conv", image, filters=4, window=(3, 3), pad=1)
    main = net.op("main.relu", net.op("main.bn", net.op("main.conv", stem, filters=4, window=(3, 3), pad=1)))
    pooled = net.op("pool.maxpool", net.op("join.add", main, stem), window=(2, 2))
    flat = net.op("head.flatten", pooled)
    left = net.op("left.linear", flat, features=5)
    right = net.op("right.dropout", net.op("right.linear", flat, features=5, bias=False), p=0.5)
    logits = net.op("logits.mul", left, right)
    loss = net.op("cross_entropy", logits, label, stage="loss")
    return net.graph(logits, loss, net.op("accuracy", logits, label, stage="metric"))


def context(clip: bool = True, momentum: float = 0.9) -> Context:
    """One rank, SGD with momentum, clipping by norm."""
    arguments = (("momentum", momentum), ("nesterov", False), ("weight_decay", 0.0))
    training = Training(
        "net",
        Choice("synthetic"),
        Choice("sgd", arguments),
        (),
        Length(1, "steps"),
        Choice("clip", (("kind", "norm"), ("bound", 1.0))) if clip else None,
        regularise=(Choice("l2", (("strength", 0.1),)),) if clip else (),
    )
    device = Device("core", memory=2**30, bandwidth=1e10, compute=(("f32", 1e11),))
    cluster = Cluster("laptop", (device,), (), (Group("core", 1, None, device="core"),))
    return Context(training, Request("net", "laptop"), cluster, 1)


def training(graph: Graph | None = None) -> Graph:
    """A graph with its backward pass, clipping and updates."""
    around = context()
    return add_updates(differentiate(graph or residual(), around), around)
