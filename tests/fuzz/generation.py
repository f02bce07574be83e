"""Valid-looking specs: a network that fits together, and the other blocks, with mistakes at a rate that is drawn first.

Calls with mistakes are drawn from the operators' own schemas, so that each argument gets values of every kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from dlc.ops import OPS
from dlc.ops.operator import Operator

NETWORK_OPS = tuple(op for op in OPS if op.role == "operator")
ANYWHERE = (
    "relu", "tanh", "sigmoid", "gelu(approximate = tanh)", "dropout(0.1)", "softmax", "layernorm", "leaky_relu(0.2)",
    "elu", "silu", "hard_swish", "log_softmax", "rmsnorm",
)  # fmt: skip
INPUTS = (
    ("image", 32, "channel = 1, height = 32, width = 32"),
    ("image", 8, "channel = 1, height = 8, width = 8"),
    ("image", 8, "channel = 3, height = 8, width = 8"),
    ("line", 12, "channel = 2, length = 12"),
    ("volume", 6, "channel = 2, depth = 6, height = 6, width = 6"),
    ("rows", 6, "seq = 6, width = 8"),
    ("tokens", 6, "seq = 6"),
    ("flat", 0, "feature = 12"),
)
"""Kind of value, extent, axes: `rows` are a sequence of vectors, `line` and `volume` images of one and three axes."""

AXIS = {"image": "width", "line": "length", "volume": "depth"}
FITTING = dict.fromkeys(AXIS, "conv(4, 1)")
"""Kinds of images: an axis behind their channels, and what gives them four channels."""


def generate(random: Random) -> str:
    """One file with a network and, mostly, a cluster, a train and a plan block."""
    return _Writer(random, random.choice((0.0, 0.0, 0.01, 0.03, 0.1, 0.3))).file()


@dataclass(frozen=True, slots=True)
class _Value:
    """A value of the network; `extent` is that of each axis behind an image's channels, or of a sequence."""

    name: str
    kind: str
    extent: int


class _Writer:
    """Writes one file; `values` are what later statements may use, `rate` is the share of mistakes."""

    def __init__(self, random: Random, rate: float) -> None:
        self.random = random
        self.rate = rate
        self.values: list[_Value] = []
        self.written = ""  # the network, once it is written
        self.rows = False  # whether its logits are those of a sequence

    def file(self) -> str:
        parts = ["dlspec 1", f"param batch = {self.pick('2', '3', '4', '6', '8', wrong=('0', '1.5', 'yes'))}"]
        parts += [self.block(), self.network()]
        planned = self.often(0.8)
        if planned or self.often(0.5):
            parts.append(self.cluster())
        if self.often(0.8):
            parts.append(self.train())
        if planned:
            parts.append(self.plan())
        first, *items = parts
        self.random.shuffle(items)
        return "\n".join([first, *items]) + "\n"

    def often(self, share: float) -> bool:
        return self.random.random() < share

    def pick(self, *right: str, wrong: tuple[str, ...] = ()) -> str:
        """One of the right words, or at the rate of mistakes one of the wrong ones."""
        return self.random.choice(wrong if wrong and self.often(self.rate) else right)

    # --- networks ----------------------------------------------------------------------------------------------

    def block(self) -> str:
        arguments = self.pick("x, n = 4", "x, n = 4, k = 3x3", wrong=("x, n", "n", "x, x", "", "x, n = x"))
        body = self.pick(
            "  return x -> relu -> tanh",
            "  y = x -> tanh as first -> relu\n  return y + x",
            "  return if n > 3 then x -> relu as big else x -> tanh",
            "  return x -> repeat n { relu }",
            wrong=("  y = x -> relu", "  return y", "  return part(x)", "  return x -> linear(n)"),
        )
        return f"block part({arguments}) {{\n{body}\n}}"

    def network(self) -> str:
        kind, extent, shape = self.random.choice(INPUTS)
        first = self.pick("batch", "batch", "4", wrong=("channel = 2", "batch = batch", "0", "batch, batch", "-1"))
        self.values = [_Value("image", kind, extent)]
        dtype = self.pick("i32" if kind == "tokens" else "f32", wrong=("i32", "f99", "f64", "bool", "f32"))
        lines = [f"  input image: {dtype}[{first}, {shape}]"]
        if self.often(0.1):
            lines.append(f"  input other: {dtype}[{self.pick(first, wrong=('5', 'batch'))}, {shape}]")
            self.values.append(_Value("other", kind, extent))
        lines += [f"  {self.statement(index)}" for index in range(self.random.randrange(1, 8))]
        last = self.values[-1]
        whole = kind == "tokens" and (last.kind, last.extent) == ("rows", extent)
        rows = self.random.choice((" -> flatten", "")) if whole else " -> flatten"
        self.rows = not rows
        tied = self.pick(
            "", wrong=(", tied = v0.linear.weight", ', tied = "w"', ", tied = transpose(v0)", ", tied = 1")
        )
        lines.append(f"  logits = {last.name}{rows if last.kind != 'flat' else ''} -> linear(10{tied})")
        lines.append(self.pick("  output logits", wrong=("", "  output nothing", "  output logits\n  output logits")))
        self.written = "network net {\n" + "\n".join(lines) + "\n}"
        return self.written

    def statement(self, index: int) -> str:
        """`v3 = v1 -> conv(4, 3x3, pad = same) -> relu`, and what it makes."""
        value = self.random.choice(self.values[-3:])
        text, extent, kind = (
            self.pick(value.name, wrong=("missing", f"v{index}", "batch", "part")),
            value.extent,
            value.kind,
        )
        if kind == "tokens":
            text, kind = (
                f"{text} -> {self.pick('embedding(20, 8)', wrong=('relu', 'embedding(20)', 'linear(3)'))}",
                "rows",
            )
        elif self.often(0.15):
            text = f"{text} {self.random.choice('+-*')} {self.pick(value.name, wrong=('image', '[1]', 'yes'))}"
        elif self.often(0.05) and kind == "rows":
            text = f"({text} @ transpose({text}) -> softmax) @ {text}"
        if self.often(0.1) and value.kind != "tokens":
            text = f"if batch > {self.random.randrange(9)} then {text} else {value.name}"
        for _ in range(self.random.randrange(1, 4)):
            link, kind, extent = self.link(kind, extent)
            if "repeat" in text and "repeat" in link:
                continue  # a second one would need a label
            text += f" -> {link}" + (f" as l{self.random.randrange(9)}" if self.often(0.05) else "")
        name = self.pick(f"v{index}", wrong=(value.name, "relu", "if", "net"))
        self.values.append(_Value(name, kind, extent))
        if kind in AXIS and self.often(0.1):
            parts = self.pick(
                "split(2)", "split([1, 3])", wrong=("split(3)", "split([4, 4])", "split", "split(2, axis = batch)")
            )
            return f"{name}, w{index} = {text} -> {FITTING[kind]} -> {parts}"
        return f"{name} = {text}"

    def link(self, kind: str, extent: int) -> tuple[str, str, int]:
        """What may follow an arrow, and the kind and extent behind it."""
        if self.often(self.rate):
            return self.any_call(), kind, extent
        if self.often(0.1):
            return f"repeat {self.random.randrange(4)} as i {{ {self.pick(*ANYWHERE)} }}", kind, extent
        if self.often(0.1):
            wrong = ("part(1, 2, 3, 4)", "part(m = 1)", "part(x)")
            return self.pick("part", "part(2)", "part(n = 5)", wrong=wrong), kind, extent
        if self.often(0.35):
            return self.pick(*ANYWHERE), kind, extent
        if kind == "rows":
            return self.on_rows(extent)
        return self.on_image(kind, extent) if kind in AXIS else (self.on_flat(), kind, 0)

    def on_flat(self) -> str:
        features = self.random.randrange(1, 20)
        return self.pick(f"linear({features})", f"weight_norm(linear({features}))", f"linear({features}, bias = no)")

    def on_rows(self, extent: int) -> tuple[str, str, int]:
        hidden = self.random.randrange(1, 9)
        cell = f"{self.pick('rnn', 'lstm', 'gru')}({hidden}"
        match self.random.randrange(7):
            case 0:
                return (
                    f"{cell}, bidirectional = {self.pick('yes', 'no')}, layers = {self.pick('1', '2')})",
                    "rows",
                    extent,
                )
            case 1:
                return f"{cell}, returns = last, truncate = {self.pick('0', '2')})", "flat", 0
            case 2:
                return f"linear({hidden})", "rows", extent
            case 3:
                return (
                    f"linear(8) -> attention({self.pick('1', '2', '4')}, causal = {self.pick('yes', 'no')})",
                    "rows",
                    extent,
                )
            case 4:
                return "linear(6) -> split_heads(2) -> merge_heads", "rows", extent
            case 5:
                return f"pad([1, 0], axis = seq, mode = {self.pick('constant', 'edge')})", "rows", extent + 1
        return f"slice(seq, stop = {extent})", "rows", extent

    def on_image(self, kind: str, extent: int) -> tuple[str, str, int]:
        filters = self.random.choice((1, 2, 3, 4, 6))
        window = self.random.choice([size for size in (1, 2, 3, 5, 7) if size <= extent])
        match self.random.randrange(13):
            case 0 | 1:
                return f"conv({filters}, {window}, pad = same)", kind, extent
            case 2:
                return f"conv({filters}, {window}, bias = {self.pick('yes', 'no')})", kind, extent - window + 1
            case 3:
                stride = self.random.randrange(1, 4)
                return f"conv({filters}, 1, stride = {stride})", kind, -(-extent // stride)
            case 4:
                name = self.pick("maxpool", "avgpool")
                return f"{name}({window}, stride = 1)", kind, extent - window + 1
            case 5:
                return self.pick("bn", "bn(group = 2)", "bn(eps = 1e-3, momentum = 0.2)"), kind, extent
            case 6:
                return self.pick("groupnorm(1)", "lrn", "lrn(size = 2)", "weight_norm(conv(2, 1))"), kind, extent
            case 7:
                return f"local_conv({filters}, {window})", kind, extent - window + 1
            case 8:
                multiplier = self.pick("1", "2")
                return f"depthwise_conv({window}, multiplier = {multiplier})", kind, extent - window + 1
            case 9 if extent <= 12:
                return f"conv_transpose({filters}, {window}, stride = 2)", kind, 2 * (extent - 1) + window
            case 10 if extent <= 12:
                return f"upsample(2, mode = {self.pick('nearest', 'linear')})", kind, 2 * extent
            case 11 if extent >= 2:
                mode = self.pick("constant", "edge", "reflect")
                return (
                    f"pad(1, axis = {AXIS[kind]}, mode = {mode}) -> slice({AXIS[kind]}, 1, {extent + 1})",
                    kind,
                    extent,
                )
        return self.pick("flatten", "global_avgpool -> flatten", "global_maxpool -> flatten"), "flat", 0

    # --- calls with mistakes -----------------------------------------------------------------------------------

    def any_call(self) -> str:
        """Any operator with arguments of mostly the right kinds, on whatever comes."""
        op = self.random.choice(NETWORK_OPS)
        given = [text for parameter in self.parameters(op) for text in [self.argument(*parameter)]]
        return f"{op.name}({', '.join(given)})" if given or self.often(0.2) else op.name

    def parameters(self, op: Operator) -> list[tuple[str, str, tuple[str, ...]]]:
        kept = [p for p in op.parameters if (p.required and self.often(0.9)) or self.often(0.3)]
        extra = [("surprise", "count", ())] if self.often(0.1) else []
        return [(p.name, p.kind, p.choices) for p in kept] + extra

    def argument(self, name: str, kind: str, choices: tuple[str, ...]) -> str:
        value = self.of_kind(kind, choices) if self.often(0.8) else self.of_kind("none", ())
        return f"{name} = {value}" if self.often(0.6) else value

    def of_kind(self, kind: str, choices: tuple[str, ...]) -> str:
        words = {
            "window": ("1", "2", "3", "3x3", "2x3", "7x7", "4x4x4", "0", "99x99"),
            "pad": ("0", "1", "2", "same", "valid", "1x2", "-1"),
            "bool": ("yes", "no", "1"),
            "axis": ("channel", "width", "feature", "batch", "depth", "seq"),
            "axes": ("seq", "[height, width]", "[channel]", "[]", "[1]", "[width, width]", "batch"),
            "number": ("0.1", "0.5", "1e-5", "0", "1", "2", "-1", "1e308"),
            "int": ("1", "2", "3", "7", "0", "-1", "2 * 3", "5 / 2", "9007199254740991"),
            "counts": ("2", "[1, 1]", "[2]", "[]", "0", "[0, 2]", "9007199254740991"),
            "margins": ("1", "1x2", "[1, 0]", "[[1, 0], [0, 1]]", "[[1]]", "[]", "-1", "9007199254740991"),
            "shape": ("[4]", "[2, 2]", "[]", "[0]", "[-1, 2]", "[9007199254740991, 9007199254740991]"),
            "layer": ("linear(3)", "conv(2, 1)", "relu", "linear", "image", "linear(3, tied = v0.linear.weight)"),
            "weight": (
                "v0.linear.weight",
                "v0.weight",
                "transpose(v0.linear.weight)",
                "v0[0].conv.weight",
                "v0.bn.scale",
            ),
        }
        anything = ("same", "yes", "3x3", "1.5", "image", "[1, 2]", '"text"', "4 GiB", "-3", "3 epochs", "image.width")
        return self.random.choice(choices or words.get(kind, anything))

    # --- the other blocks --------------------------------------------------------------------------------------

    def cluster(self) -> str:
        memory = self.pick("4 GiB", "64 MiB", wrong=("16 KiB", "1 B", "4 GB/s", "4", "-1 GiB", "0 B"))
        latency = self.pick("1 us", "0 s", wrong=("1", "1 GiB", "-1 us"))
        topology = self.pick(
            "core[2] over shm", "core[3] over shm", "node[2] over shm { core[2] over shm }", "core",
            wrong=("core[0] over shm", "core[3]", "core[2] over none", "gpu[2] over shm", "core[70000] over shm",
                   "a[2] over shm { core[2] over shm }\n    b over shm { core }"),
        )  # fmt: skip
        shape = self.pick(
            "", "", "shape = ring, ", "shape = switch, ", wrong=("shape = torus(4x4), ", "shape = star, ")
        )
        return (
            "cluster here {\n"
            f"  device core {{ kind = cpu, memory = {memory}, bandwidth = 10 GB/s, compute.f32 = 50 GFLOP/s }}\n"
            f"  link shm {{ {shape}bandwidth = 8 GB/s, latency = {latency} }}\n"
            f"  topology {{ {topology} }}\n}}"
        )

    def train(self) -> str:
        settings = [
            ("data", self.pick("synthetic(samples = 64)", 'npz("none.npz")', *self.fitting(),
                               wrong=("digits(scale = 4)", 'cifar10("data")', "digits", "digits(scale = 0)",
                                      "nothing()", 'text("none.txt")', 'text("../none.txt", seq = 6)',
                                      'tokens("none.npy", seq = 0)', "tokens(none, seq = 6)"))),
            ("loss", self.loss()),
            ("optimizer", self.pick("sgd", "sgd(momentum = 0.9)", "adam", "rmsprop", "adagrad",
                                    "lars", "lamb(eps = 0.1)", "lbfgs(history = 2)",
                                    wrong=("lars(trust = 0)", "adam(beta1 = 2)", "sgd(0.9, 1, 2, 3, 4)", "relu",
                                           "sgd(x = 1)"))),
            ("lr", self.pick("constant(0.05)", "warmup(to = 0.4, over = 5 steps) then constant(0.1)",
                             "cosine(rate = 0.1, to = 0, over = 5 epochs)",
                             wrong=("constant(-1)", "cosine(to = 0, over = 5 epochs)", "0.1", "constant",
                                    "cosine(to = 0, over = 5 GiB)"))),
            (self.pick("epochs", "steps"), self.pick("1", "2", wrong=("0", "1.5", "5 epochs", "yes"))),
        ]  # fmt: skip
        metrics = f"[accuracy(logits, {self.label}), perplexity(logits, {self.label})]"
        extra = (("seed", "7"), ("clip", "norm(1.0)"), ("metrics", metrics), ("init", "he"), ("precision", "f64"),
                 ("regularise", "[l1(1e-5), l2(0.1)]"))  # fmt: skip
        odd = (("precision", "mixed(compute = bf16, master = f32)"), ("accumulate", "2"), ("update", "hogwild"),
               ("stop", "loss(0.1)"), ("seed", "1.5"), ("compress", "topk(0.01)"), ("clip", "value(0)"),
               ("regularise", "[l1(1), l1(2)]"), ("regularise", "l1(1) + l2(1)"), ("regularise", "0.1"))  # fmt: skip
        settings += [setting for setting in extra if self.often(0.2)]
        settings += [setting for setting in odd if self.often(self.rate / 4)]
        lines = [f"  {key} = {value}" for key, value in settings if not self.often(self.rate / 4)]
        return "train net {\n" + "\n".join(lines) + "\n}"

    def fitting(self) -> list[str]:
        """Data sets with samples of the network's shape."""
        found = [f"digits(scale = {scale})" for scale in (1, 4) if f"channel = 1, height = {8 * scale}" in self.written]
        return ['text("none.txt", seq = 6)', 'tokens("none.npy", seq = 6)'] if "i32" in self.written else found

    @property
    def label(self) -> str:
        return "data.next" if self.rows else "data.label"

    def loss(self) -> str:
        label = self.label
        return self.pick(
            f"cross_entropy(logits, {label})",
            f"0.5 * cross_entropy(logits, {label}, smoothing = 0.1)",
            f"hinge(logits, {label}) + l1(logits, logits)",
            f"cross_entropy(logits, {label}) - kl(logits, logits, temperature = 2) / 4",
            "mse(logits, logits) + huber(logits, logits, delta = 0.5)",
            "bce(logits, logits)",
            "reconstruction(logits, logits)",
            wrong=("logits", "mse(logits, data.target)", "accuracy(logits, data.label)", "bce(logits)", "[]",
                   "cross_entropy(logits, data.next)", "cross_entropy(v0, data.label)", "l1(logits, 1)",
                   "reconstruction(logits, data.image)", "mse(logits, image)", "kl(logits, data.label)",
                   "huber(logits, data.target, delta = 0)", "cross_entropy(logits, data.label) * mse(logits, logits)"),
        )  # fmt: skip

    def plan(self) -> str:
        rules = [f"  {self.rule()}" for _ in range(self.random.randrange(4))]
        right = ("strategy = data", "strategy = auto", "allreduce = ring", "layout = NHWC", "limit memory <= 1 GiB",
                 "allreduce = tree", "objective = step_time")  # fmt: skip
        odd = ("strategy = model", "strategy = hybrid(data = 2)", "limit memory <= 1 KiB", "limit workspace <= 0 B",
               "objective = memory", "mesh { data = core }", "mesh { data = core / 2; model = core / 2 }",
               "shard = weights", "pipeline.microbatches = 2", "overlap = no", "mesh { }",
               "limit time <= 1 s")  # fmt: skip
        rules += [f"  {setting}" for setting in right if self.often(0.1)]
        rules += [f"  {setting}" for setting in odd if self.often(self.rate / 4)]
        where = self.pick("here", wrong=("there",))
        return f"plan net on {where} {{\n" + "\n".join(rules) + "\n}"

    def rule(self) -> str:
        """A pin or forbid; algorithms only where something is convolved."""
        odd = ("v*", "v0[0]", "v0[*].conv", "** where nothing == 1", "nothing", "** where params", "*.*.*.*")
        if " conv(" in self.written:
            selector = self.pick("**", "**.conv", wrong=(*odd, "** where window == 3x3", "** where stride == 1x1"))
            right = ("algorithm = im2col", "layout = NCHW", "layout = NHWC", "algorithm = direct", "layout = CHWN")
        else:
            selector, right = self.pick("**", "logits.linear", wrong=odd), ("recompute = no",)
        setting = self.pick(
            *right,
            wrong=("algorithm = winograd(4)", "algorithm = fft", "algorithm = magic", "recompute = yes", "stage = 0",
                   "partition = split(feature, over = core)", "partition = split(batch, over = none)", "layout = 3"),
        )  # fmt: skip
        return f"{self.pick('pin', 'pin', 'forbid')} {selector} {{ {setting} }}"
