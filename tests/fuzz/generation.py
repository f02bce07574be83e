"""Valid-looking specs: a network that fits together, and the other blocks, with mistakes at a rate that is drawn first.

Calls with mistakes are drawn from the operators' own schemas, so that each argument gets values of every kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from dlc.ops import OPS
from dlc.ops.operator import Operator

NETWORK_OPS = tuple(op for op in OPS if op.role == "operator")
ANYWHERE = ("relu", "tanh", "sigmoid", "gelu(approximate = tanh)", "dropout(0.1)", "softmax", "layernorm")


def generate(random: Random) -> str:
    """One file with a network and, mostly, a cluster, a train and a plan block."""
    return _Writer(random, random.choice((0.0, 0.0, 0.01, 0.03, 0.1, 0.3))).file()


@dataclass(frozen=True, slots=True)
class _Value:
    """A value of the network; `extent` is the height and width of an image, 0 for what has none."""

    name: str
    extent: int


class _Writer:
    """Writes one file; `values` are what later statements may use, `rate` is the share of mistakes."""

    def __init__(self, random: Random, rate: float) -> None:
        self.random = random
        self.rate = rate
        self.values: list[_Value] = []
        self.written = ""  # the network, once it is written

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
        extent, shape = self.random.choice(
            (
                (32, "channel = 1, height = 32, width = 32"),
                (8, "channel = 3, height = 8, width = 8"),
                (0, "feature = 12"),
            )
        )
        first = self.pick("batch", "batch", "4", wrong=("channel = 2", "batch = batch", "0", "batch, batch", "-1"))
        self.values = [_Value("image", extent)]
        lines = [f"  input image: {self.pick('f32', wrong=('i32', 'f99', 'f64', 'bool'))}[{first}, {shape}]"]
        lines += [f"  {self.statement(index)}" for index in range(self.random.randrange(1, 8))]
        last = self.values[-1]
        joined = " -> flatten" if last.extent else ""
        lines.append(f"  logits = {last.name}{joined} -> linear(10)")
        lines.append(self.pick("  output logits", wrong=("", "  output nothing", "  output logits\n  output logits")))
        self.written = "network net {\n" + "\n".join(lines) + "\n}"
        return self.written

    def statement(self, index: int) -> str:
        """`v3 = v1 -> conv(4, 3x3, pad = same) -> relu`, and what it makes."""
        value = self.random.choice(self.values[-3:])
        text, extent = self.pick(value.name, wrong=("missing", f"v{index}", "batch", "part")), value.extent
        same = [other for other in self.values if other == value]
        if self.often(0.15):
            text = f"{text} {self.random.choice('+-*')} {self.random.choice(same).name}"
        if self.often(0.1):
            text = f"if batch > {self.random.randrange(9)} then {text} else {value.name}"
        for _ in range(self.random.randrange(1, 4)):
            link, extent = self.link(extent)
            if "repeat" in text and "repeat" in link:
                continue  # a second one would need a label
            text += f" -> {link}" + (f" as l{self.random.randrange(9)}" if self.often(0.05) else "")
        name = self.pick(f"v{index}", wrong=(value.name, "relu", "if", "net"))
        self.values.append(_Value(name, extent))
        return f"{name} = {text}"

    def link(self, extent: int) -> tuple[str, int]:
        """What may follow an arrow, and the extent behind it."""
        if self.often(self.rate):
            return self.any_call(), extent
        if self.often(0.1):
            return f"repeat {self.random.randrange(4)} as i {{ {self.pick(*ANYWHERE)} }}", extent
        if self.often(0.1):
            return self.pick(
                "part", "part(2)", "part(n = 5)", wrong=("part(1, 2, 3, 4)", "part(m = 1)", "part(x)")
            ), extent
        if self.often(0.35):
            return self.pick(*ANYWHERE), extent
        return self.on_image(extent) if extent else (f"linear({self.random.randrange(1, 20)})", 0)

    def on_image(self, extent: int) -> tuple[str, int]:
        filters = self.random.choice((1, 2, 3, 4, 6))
        window = self.random.choice([size for size in (1, 2, 3, 5, 7) if size <= extent])
        match self.random.randrange(7):
            case 0 | 1:
                return f"conv({filters}, {window}x{window}, pad = same)", extent
            case 2:
                return f"conv({filters}, {window}, bias = {self.pick('yes', 'no')})", extent - window + 1
            case 3:
                stride = self.random.randrange(1, 4)
                return f"conv({filters}, 1x1, stride = {stride})", -(-extent // stride)
            case 4:
                kind = self.pick("maxpool", "avgpool")
                return f"{kind}({window}x{window}, stride = 1)", extent - window + 1
            case 5:
                return self.pick("bn", "bn(group = 2)", "bn(eps = 1e-3, momentum = 0.2)"), extent
        return self.pick("flatten", "global_avgpool -> flatten"), 0

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
            "flag": ("yes", "no", "1"),
            "axis": ("channel", "width", "feature", "batch", "depth"),
            "number": ("0.1", "0.5", "1e-5", "0", "1", "2", "-1", "1e308"),
            "count": ("1", "2", "3", "7", "0", "-1", "2 * 3", "5 / 2", "9007199254740991"),
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
        digits = ("digits(scale = 4, test = 0.2)",) if "channel = 1, height = 32" in self.written else ()
        settings = [
            ("data", self.pick("synthetic(samples = 64)", 'npz("none.npz")', *digits,
                               wrong=("digits(scale = 4)", 'cifar10("data")', "digits", "digits(scale = 0)",
                                      "nothing()"))),
            ("loss", self.pick("cross_entropy(logits, data.label)",
                               "0.5 * cross_entropy(logits, data.label, smoothing = 0.1)",
                               "hinge(logits, data.label) + l1(logits, logits)",
                               wrong=("logits", "mse(logits, data.label)", "accuracy(logits, data.label)",
                                      "cross_entropy(logits, data.next)", "cross_entropy(v0, data.label)"))),
            ("optimizer", self.pick("sgd", "sgd(momentum = 0.9)", "adam", "rmsprop", "adagrad",
                                    "lars", "lamb(eps = 0.1)", "lbfgs(history = 2)",
                                    wrong=("lars(trust = 0)", "adam(beta1 = 2)", "sgd(0.9, 1, 2, 3, 4)", "relu", "sgd(x = 1)"))),
            ("lr", self.pick("constant(0.05)", "warmup(to = 0.4, over = 5 steps) then constant(0.1)",
                             "cosine(rate = 0.1, to = 0, over = 5 epochs)",
                             wrong=("constant(-1)", "cosine(to = 0, over = 5 epochs)", "0.1", "constant",
                                    "cosine(to = 0, over = 5 GiB)"))),
            (self.pick("epochs", "steps"), self.pick("1", "2", wrong=("0", "1.5", "5 epochs", "yes"))),
        ]  # fmt: skip
        extra = (("seed", "7"), ("clip", "norm(1.0)"), ("metrics", "[accuracy(logits, data.label)]"), ("init", "he"),
                 ("precision", "f64"), ("regularise", "[l1(1e-5), l2(0.1)]"))  # fmt: skip
        odd = (("precision", "mixed(compute = bf16, master = f32)"), ("accumulate", "2"), ("update", "hogwild"),
               ("stop", "loss(0.1)"), ("seed", "1.5"), ("compress", "topk(0.01)"), ("clip", "value(0)"),
               ("regularise", "[l1(1), l1(2)]"))  # fmt: skip
        settings += [setting for setting in extra if self.often(0.2)]
        settings += [setting for setting in odd if self.often(self.rate / 4)]
        lines = [f"  {key} = {value}" for key, value in settings if not self.often(self.rate / 4)]
        return "train net {\n" + "\n".join(lines) + "\n}"

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
        if "conv(" in self.written:
            selector = self.pick("**", "**.conv", "** where window == 3x3", "** where stride == 1x1", wrong=odd)
            right = ("algorithm = im2col", "layout = NCHW", "layout = NHWC", "algorithm = direct", "layout = CHWN")
        else:
            selector, right = self.pick("**", "logits.linear", "**.linear", wrong=odd), ("partition = replicate",)
        setting = self.pick(
            *right,
            wrong=("algorithm = winograd(4)", "algorithm = fft", "algorithm = magic", "recompute = yes", "stage = 0",
                   "partition = split(feature, over = core)", "partition = split(batch, over = none)", "layout = 3"),
        )  # fmt: skip
        return f"{self.pick('pin', 'pin', 'forbid')} {selector} {{ {setting} }}"
