"""Specs without mistakes for the planner: small networks, clusters of every shape, and plan blocks that ask for much.

What a plan block asks for may be impossible; then a message has to say so. Everything else has a plan.
"""

from __future__ import annotations

from random import Random

RANKS = 12
"""Most ranks of a cluster."""


def planning_case(number: int) -> str:
    """The spec of that number: it depends on nothing else."""
    random = Random(f"planning {number}")
    kind = random.choice((_dense, _images, _sequence))
    batch = random.choice((4, 6, 8, 12, 16, 32))
    network, axes, last = kind(random, batch)
    cluster, groups = _cluster(random)
    free = random.random() < 0.4
    parts = ["dlspec 1", network, _train(random, last), cluster]
    return "\n".join(parts if free else [*parts, _plan(random, axes, groups)]) + "\n"


def _dense(random: Random, batch: int) -> tuple[str, tuple[str, ...], str]:
    """A chain of linear layers with diamonds in it."""
    lines, width = [], random.choice((7, 16, 48, 256))
    lines.append(f"  input x: f32[batch = {batch}, feature = {width}]")
    value = "x"
    for index in range(random.randrange(1, 5)):
        name = f"v{index}"
        other = random.choice((8, 30, 64, 512))
        match random.randrange(4):
            case 0:
                lines.append(f"  {name} = {value} + ({value} -> linear({width}) -> tanh)")
            case 1:
                lines.append(f"  {name} = {value} -> repeat {random.randrange(2, 5)} {{ linear({width}) -> relu }}")
            case 2:
                lines.append(f"  l{index}, r{index} = {value} -> linear({2 * other}) -> split(2, axis = feature)")
                lines.append(f"  {name} = l{index} * (r{index} -> sigmoid)")
                width = other
            case _:
                lines.append(f"  {name} = {value} -> linear({other}) -> relu -> dropout(0.1)")
                width = other
        value = name
    return _network(lines, f"{value} -> linear(10)"), ("batch", "feature", "reduce"), "label"


def _images(random: Random, batch: int) -> tuple[str, tuple[str, ...], str]:
    """Convolutions with norms, pools, branches and a head of linear layers."""
    size, channels = random.choice((6, 8, 9, 15)), random.choice((1, 3, 4))
    lines = [f"  input x: f32[batch = {batch}, channel = {channels}, height = {size}, width = {size}]"]
    value = "x"
    for index in range(random.randrange(1, 5)):
        name, filters = f"v{index}", random.choice((2, 4, 6, 16))
        norm = random.choice(("", "-> bn ", f"-> bn(group = {random.choice((2, batch))}) ", "-> groupnorm(1) "))
        match random.randrange(5):
            case 0:
                lines.append(f"  {name} = {value} -> conv({filters}, 3x3, pad = same) {norm}-> relu")
                channels = filters
            case 1:
                lines.append(f"  {name} = {value} + ({value} -> conv({channels}, 3x3, pad = same) {norm}-> relu)")
            case 2:
                one, two = (f"({value} -> conv({filters}, {window}, pad = same))" for window in ("1x1", "3x3"))
                lines.append(f"  {name} = concat({one}, {two}, axis = channel)")
                channels = 2 * filters
            case 3 if size >= 4:
                lines.append(f"  {name} = {value} -> conv({filters}, 3x3, stride = 2, pad = 1) {norm}-> maxpool(2x2)")
                channels, size = filters, ((size + 1) // 2) // 2
            case _:
                lines.append(f"  {name} = {value} -> depthwise_conv(3x3, pad = same) -> conv({filters}, 1x1)")
                channels = filters
        value = name
    head = random.choice(("flatten", "global_avgpool -> flatten"))
    return (
        _network(lines, f"{value} -> {head} -> linear(12) -> relu -> linear(10)"),
        ("batch", "channel", "height", "reduce"),
        "label",
    )


def _sequence(random: Random, batch: int) -> tuple[str, tuple[str, ...], str]:
    """A few layers of a transformer, or a recurrent layer, over tokens."""
    length, width, heads = random.choice((4, 6, 16)), random.choice((8, 12, 64)), random.choice((1, 2, 4))
    lines = [f"  input x: i32[batch = {batch}, seq = {length}]", f"  e = x -> embedding(40, {width})"]
    value = "e"
    for index in range(random.randrange(1, 4)):
        name = f"v{index}"
        match random.randrange(3):
            case 0:
                attention = f"layernorm -> attention({heads}, causal = {random.choice(('yes', 'no'))})"
                lines.append(f"  {name} = {value} + ({value} -> {attention})")
            case 1:
                lines.append(f"  h{index} = {value} -> layernorm -> linear({4 * width}) -> gelu -> linear({width})")
                lines.append(f"  {name} = {value} + h{index}")
            case _:
                lines.append(f"  {name} = {value} -> {random.choice(('lstm', 'gru', 'rnn'))}({width})")
        value = name
    tied = random.choice(("", ", bias = no, tied = e.embedding.weight"))
    return _network(lines, f"{value} -> linear(40{tied})"), ("batch", "seq", "width", "reduce"), "next"


def _network(lines: list[str], logits: str) -> str:
    return "\n".join(["network net {", *lines, f"  logits = {logits}", "  output logits", "}"])


def _train(random: Random, field: str) -> str:
    optimizer = random.choice(("sgd", "sgd(momentum = 0.9)", "adam", "lamb"))
    extra = random.choice(("", "", "\n  clip = norm(1.0)", "\n  precision = mixed(compute = bf16, master = f32)"))
    return (
        f"train net {{\n  data = synthetic(samples = 64)\n  loss = cross_entropy(logits, data.{field})\n"
        f"  optimizer = {optimizer}\n  lr = constant(0.1)\n  steps = 2{extra}\n}}"
    )


def _cluster(random: Random) -> tuple[str, dict[str, int]]:
    """One to three levels of at most twelve ranks in all, links of every shape; and the groups with their sizes."""
    memory = random.choice(("4 GiB", "4 GiB", "64 MiB", "2 MiB", "200 KiB"))
    device = (
        f"kind = {random.choice(('cpu', 'gpu'))}, bandwidth = 100 GB/s, compute.f32 = 1 TFLOP/s, "
        f"compute.bf16 = 4 TFLOP/s, launch = {random.choice(('0 s', '5 us'))}, overlap = {random.choice(('0', '0.8'))}"
    )
    names, groups, ranks = ["pod", "node", "core"], dict[str, int](), 1
    depth = random.randrange(1, 4)
    links, opened = list[str](), list[str]()
    for name in names[-depth:]:
        count = random.choice([n for n in (1, 2, 2, 3, 4, 6, 8) if n * ranks <= RANKS])
        ranks *= count
        groups[name] = count
        links.append(f"  link l_{name} {{ {_shape(random, count)}, latency = {random.choice(('1 us', '30 us'))} }}")
        opened.append(f"{name}[{count}] over l_{name}")
    if depth == 1 and random.random() < 0.2:
        return _mixed(random, device, memory), {"all": 3}
    topology = " { ".join(opened) + " }" * (depth - 1)
    text = "\n".join([f"  device core {{ memory = {memory}, {device} }}", *links, f"  topology {{ {topology} }}"])
    return f"cluster here {{\n{text}\n}}", groups


def _mixed(random: Random, device: str, memory: str) -> str:
    """Two devices of one kind and one that is slower."""
    slower = device.replace("100 GB/s", "50 GB/s").replace("1 TFLOP/s", f"{random.choice((300, 900))} GFLOP/s")
    return (
        f"cluster here {{\n  device core {{ memory = {memory}, {device} }}\n"
        f"  device slow {{ memory = {memory}, {slower} }}\n"
        "  link bus { bandwidth = 8 GB/s, latency = 5 us }\n  topology { all over bus { core[2] over bus; slow } }\n}"
    )


def _shape(random: Random, count: int) -> str:
    shapes = ["shape = ring", "shape = switch", "shape = all_to_all", "shape = fat_tree, oversubscription = 2"]
    shapes += ["shared = yes", "duplex = no"]
    if count % 2 == 0:
        shapes.append(f"shape = torus({count // 2}x2)")
    if count == 3:
        shapes.append("edges = [[0, 1], [1, 2]]")
    return f"bandwidth = {random.choice((1, 10, 100))} GB/s, {random.choice(shapes)}"


def _plan(random: Random, axes: tuple[str, ...], groups: dict[str, int]) -> str:
    """Orders of every kind; many cannot be kept together."""
    group = random.choice(list(groups))
    settings = {
        "strategy": ("auto", "data", "model", "spatial", "pipeline", "hybrid(data = 2)", "hybrid(model = auto)"),
        "shard": ("none", "optimizer", "gradients", "weights"),
        "recompute": ("auto", "none", "all"),
        "pipeline.schedule": ("gpipe", "one_f_one_b", "interleaved", "zero_bubble"),
        "pipeline.microbatches": ("auto", "1", "2", "4"),
        "allreduce": ("ring", "tree", "hierarchical"),
        "layout": ("NCHW", "NHWC"),
        "objective": ("memory", "communication", "step_time"),
        "overlap": ("yes", "no"),
        "kernels": ("numpy", "c"),
    }
    limits = ("memory <= 1 MiB", "memory <= 50 KiB", "workspace <= 1 KiB", "bubble <= 0.2", "communication <= 10 KB")
    partitions = [f"split({axis}, over = {group})" for axis in axes]
    rules = [
        f"{{ partition = {random.choice([*partitions, 'replicate'])} }}", "{ recompute = yes }", "{ recompute = no }",
        "{ stage = 0 }", "{ microbatch = 2 }", "{ algorithm = im2col }", "{ layout = NHWC }",
    ]  # fmt: skip
    lines = [f"{key} = {random.choice(words)}" for key, words in settings.items() if random.random() < 0.12]
    if random.random() < 0.15:
        lines.append(f"mesh {{ a = {group} }}")
    if random.random() < 0.3:
        lines.append(f"limit {random.choice(limits)}")
    for _ in range(random.randrange(3)):
        selector = random.choice(("**", "v0", "logits.linear", "v1", "**.linear", "logits"))
        lines.append(f"{random.choice(('pin', 'pin', 'forbid'))} {selector} {random.choice(rules)}")
    return "\n".join(["plan net on here {", *(f"  {line}" for line in lines), "}"])
