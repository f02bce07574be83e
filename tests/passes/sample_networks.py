"""Training graphs built op by op, without the language: what the planner is tested on."""

from __future__ import annotations

from dataclasses import dataclass, field

from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.ir.graph import Attr, Graph, Node, Value
from dlc.ir.request import Request
from dlc.ir.tensor import TensorType, tensor
from dlc.ir.training import Choice, Length, RatePiece, Training
from dlc.ops import operator
from passes.add_updates import add_updates
from passes.context import Context
from passes.differentiate import differentiate

TRAINING = Training(
    "net",
    Choice("synthetic"),
    Choice("sgd", (("momentum", 0.9), ("nesterov", False), ("weight_decay", 0.0))),
    (RatePiece("constant", (("rate", 0.1),), None),),
    Length(1, "epochs"),
)


def laptop(cores: int = 1, **device: object) -> Cluster:
    """Cores with the figures of specs/lenet5.dlspec."""
    core = Device("core", bandwidth=10e9, compute=(("f32", 50e9),), **device)  # type: ignore[arg-type]
    return Cluster("laptop", (core,), (Link("shm", 8e9, 1e-6),), (Group("core", cores, "shm", device="core"),))


def context(ranks: int = 1, cluster: Cluster | None = None, **request: object) -> Context:
    """A context with a default request, but for what is given."""
    asked = Request("net", "laptop", **request)  # type: ignore[arg-type]
    return Context(TRAINING, asked, cluster or laptop(ranks), ranks)


@dataclass
class Network:
    """Appends ops as the expander does; values are known by their addresses."""

    batch: int
    nodes: list[Node] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)

    def image(self, channels: int, height: int, width: int | None = None, name: str = "image") -> str:
        type_ = tensor("f32", batch=self.batch, channel=channels, height=height, width=width or height)
        self.values[name] = Value(name, type_, "input")
        self.inputs.append(name)
        return name

    def type(self, name: str) -> TensorType:
        return self.values[name].type

    def __call__(self, op_name: str, *operands: str, **given: Attr) -> str:
        op = operator(op_name)
        assert op is not None
        args = {p.name: p.default for p in op.parameters if p.default is not None} | given
        for parameter in op.parameters:
            if parameter.like and parameter.name not in args:
                args[parameter.name] = args[parameter.like]
        inferred = op.infer(tuple(map(self.type, operands)), args)
        address = f"n{len(self.nodes)}.{op_name}"
        owned = []
        for weight in inferred.weights:
            name = f"{address}.{weight.role}"
            self.values[name] = Value(name, weight.type, "weight" if weight.trained else "statistic", weight.init)
            owned.append(name)
        outputs = [address]
        self.values[address] = Value(address, inferred.results[0], "activation")
        for role, type_ in inferred.saved:
            self.values[f"{address}.{role}"] = Value(f"{address}.{role}", type_, "saved")
            outputs.append(f"{address}.{role}")
        stage = "loss" if op.role == "loss" else "metric" if op.role == "metric" else "forward"
        self.nodes.append(Node(address, op_name, stage, (*operands, *owned), tuple(outputs), inferred.attrs))  # type: ignore[arg-type]
        return address

    def classified(self, x: str, classes: int = 10) -> Graph:
        """Flattened, mapped to classes, with cross-entropy and accuracy: a graph of stage `loss`."""
        logits = self("linear", self("flatten", x), features=classes)
        self.values["data.label"] = Value("data.label", tensor("i32", batch=self.batch), "field")
        loss = self("cross_entropy", logits, "data.label")
        accuracy = self("accuracy", logits, "data.label")
        return Graph(
            "net",
            "loss",
            tuple(self.nodes),
            tuple(self.values.values()),
            tuple(self.inputs),
            ("data.label",),
            (("logits", logits),),
            loss,
            (("accuracy", accuracy),),
            self.batch,
        )

    def trained(self, x: str, classes: int = 10) -> Graph:
        """The same with backward pass and updates."""
        graph = self.classified(x, classes)
        return add_updates(differentiate(graph, context()), context())


def lenet(batch: int = 32) -> Graph:
    net = Network(batch)
    x = net("tanh", net("conv", net.image(1, 32), filters=6, window=5))
    x = net("avgpool", x, window=2)
    x = net("tanh", net("conv", x, filters=16, window=5))
    x = net("avgpool", x, window=2)
    x = net("flatten", net("tanh", net("conv", x, filters=120, window=5)))
    x = net("tanh", net("linear", x, features=84))
    return net.trained(x)


def resnet50(batch: int = 32) -> Graph:
    net = Network(batch)

    def conv_bn(x: str, filters: int, window: int, stride: int = 1) -> str:
        return net("bn", net("conv", x, filters=filters, window=window, stride=stride, pad="same", bias=False))

    x = net("relu", conv_bn(net.image(3, 224), 64, 7, 2))
    x = net("maxpool", x, window=3, stride=2, pad=1)
    for mid, count, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for index in range(count):
            stride = first if index == 0 else 1
            main = net("relu", conv_bn(x, mid, 1))
            main = net("relu", conv_bn(main, mid, 3, stride))
            main = conv_bn(main, 4 * mid, 1)
            skip = conv_bn(x, 4 * mid, 1, stride) if index == 0 else x
            x = net("relu", net("add", main, skip))
    return net.trained(net("global_avgpool", x), 1000)


def googlenet(batch: int = 32) -> Graph:
    net = Network(batch)

    def unit(x: str, filters: int, window: int, stride: int = 1) -> str:
        return net("relu", net("conv", x, filters=filters, window=window, stride=stride, pad="same"))

    def inception(x: str, a: int, b: tuple[int, int], c: tuple[int, int], d: int) -> str:
        pooled = net("maxpool", x, window=3, stride=1, pad=1)
        branches = (unit(x, a, 1), unit(unit(x, b[0], 1), b[1], 3), unit(unit(x, c[0], 1), c[1], 5), unit(pooled, d, 1))
        return net("concat", *branches, axis="channel")

    x = net("maxpool", unit(net.image(3, 224), 64, 7, 2), window=3, stride=2, pad=1)
    x = net("maxpool", unit(unit(x, 64, 1), 192, 3), window=3, stride=2, pad=1)
    for row in ((64, (96, 128), (16, 32), 32), (128, (128, 192), (32, 96), 64)):
        x = inception(x, *row)
    x = net("maxpool", x, window=3, stride=2, pad=1)
    for row in (
        (192, (96, 208), (16, 48), 64),
        *(((160, (112, 224), (24, 64), 64),) * 3),
        (256, (160, 320), (32, 128), 128),
    ):
        x = inception(x, *row)
    x = net("maxpool", x, window=3, stride=2, pad=1)
    for row in ((256, (160, 320), (32, 128), 128), (384, (192, 384), (48, 128), 128)):
        x = inception(x, *row)
    return net.trained(net("dropout", net("global_avgpool", x), p=0.4), 1000)


def densenet121(batch: int = 32, whole_concat: bool = False) -> Graph:
    """`whole_concat` joins all features anew in each layer instead of adding one to those joined so far."""
    net = Network(batch)
    x = net("relu", net("bn", net("conv", net.image(3, 224), filters=64, window=7, stride=2, pad=3, bias=False)))
    x = net("maxpool", x, window=3, stride=2, pad=1)
    for block, layers in enumerate((6, 12, 24, 16)):
        parts = [x]
        for _ in range(layers):
            joined = x if len(parts) == 1 else net("concat", *parts, axis="channel") if whole_concat else x
            y = net("conv", net("relu", net("bn", joined)), filters=128, window=1, bias=False)
            y = net("conv", net("relu", net("bn", y)), filters=32, window=3, pad=1, bias=False)
            parts.append(y)
            if not whole_concat:
                x = net("concat", x, y, axis="channel")
        x = net("concat", *parts, axis="channel") if whole_concat else x
        x = net("relu", net("bn", x))
        if block < 3:
            half = net.type(x).shape[1] // 2
            x = net("avgpool", net("conv", x, filters=half, window=1, bias=False), window=2)
    return net.trained(net("global_avgpool", x), 1000)
