"""A small network around each operator and loss: what is trained beside PyTorch, and on several ranks."""

from __future__ import annotations

IMAGE = "image: f32[batch, channel = 4, height = 7, width = 6]"
LINE = "line: f32[batch, channel = 4, length = 9]"
VOLUME = "volume: f32[batch, channel = 2, depth = 4, height = 5, width = 4]"
SEQUENCE = "sequence: f32[batch, seq = 5, width = 6]"

OPERATORS: dict[str, tuple[str, str]] = {
    "conv": (IMAGE, "conv(6, 3x2, stride = 2, pad = same)"),
    "conv groups": (
        IMAGE,
        "conv(6, 3x3, pad = 1, groups = 2) -> tanh -> conv(4, 3x3, dilation = 2, pad = 2, bias = no)",
    ),
    "conv 1-D": (LINE, "conv(5, 3, pad = same) -> tanh -> conv(3, 2, stride = 2)"),
    "conv 3-D": (VOLUME, "conv(3, 3x3x2, pad = 1) -> tanh -> conv(2, 2, stride = 2)"),
    "depthwise_conv": (IMAGE, "depthwise_conv(3x3, pad = 1) -> tanh -> depthwise_conv(3x3, stride = 2)"),
    "conv_transpose": (IMAGE, "conv_transpose(5, 3x3, stride = 2, pad = 1) -> tanh -> conv_transpose(2, 2x2)"),
    "local_conv": (IMAGE, "local_conv(3, 3x3) -> tanh -> local_conv(2, 2x2, stride = 2)"),
    "maxpool": (IMAGE, "conv(4, 3x3) -> maxpool(2x2, ceil = yes)"),
    "maxpool 1-D": (LINE, "conv(4, 2) -> maxpool(3, stride = 2)"),
    "maxpool 3-D": (VOLUME, "conv(4, 2) -> maxpool(2)"),
    "avgpool": (IMAGE, "conv(4, 3x3) -> avgpool(3x3, stride = 2, pad = 1, count_pad = no)"),
    "avgpool 3-D": (VOLUME, "conv(4, 2) -> avgpool(2)"),
    "global_avgpool": (IMAGE, "conv(8, 3x3) -> global_avgpool"),
    "global_maxpool": (IMAGE, "conv(8, 3x3) -> global_maxpool"),
    "upsample": (IMAGE, "conv(2, 3x3) -> upsample(2) -> conv(2, 3x3) -> upsample(2, mode = linear)"),
    "bn": (IMAGE, "conv(4, 3x3, bias = no) -> bn -> relu"),
    "bn groups": (IMAGE, "conv(4, 3x3, bias = no) -> bn(group = 4) -> relu"),
    "bn of features": (IMAGE, "flatten -> linear(8) -> bn -> tanh"),
    "groupnorm": (IMAGE, "conv(4, 3x3) -> groupnorm(2) -> relu"),
    "layernorm": (SEQUENCE, "linear(6) -> layernorm"),
    "rmsnorm": (SEQUENCE, "linear(6) -> rmsnorm"),
    "lrn": (IMAGE, "conv(6, 3x3) -> relu -> lrn(size = 3, alpha = 0.1)"),
    "weight_norm": (IMAGE, "weight_norm(conv(4, 3x3)) -> tanh -> flatten -> weight_norm(linear(7))"),
    "dropout": (IMAGE, "conv(4, 3x3) -> dropout(0.3)"),
    "relu": (IMAGE, "conv(4, 3x3) -> relu"),
    "leaky_relu": (IMAGE, "conv(4, 3x3) -> leaky_relu(0.1)"),
    "elu": (IMAGE, "conv(4, 3x3) -> elu"),
    "gelu": (SEQUENCE, "linear(8) -> gelu -> linear(6) -> gelu(approximate = tanh)"),
    "silu": (IMAGE, "conv(4, 3x3) -> silu"),
    "hard_swish": (IMAGE, "conv(4, 3x3) -> hard_swish"),
    "sigmoid": (IMAGE, "conv(4, 3x3) -> sigmoid"),
    "tanh": (IMAGE, "conv(4, 3x3) -> tanh"),
    "softmax": (IMAGE, "conv(4, 3x3) -> softmax(axis = channel)"),
    "log_softmax": (SEQUENCE, "linear(8) -> log_softmax"),
    "pad": (IMAGE, "conv(4, 3x3) -> pad(1x2) -> conv(3, 3x3) -> pad([[0, 1], [2, 0]], mode = edge)"),
    "pad 3-D": (VOLUME, "conv(3, 2) -> pad(1, mode = reflect) -> conv(2, 2)"),
    "slice": (IMAGE, "conv(4, 3x3) -> slice(axis = channel, start = 1, stop = 3) -> slice(height, step = -2)"),
    "transpose": (SEQUENCE, "linear(8) -> transpose"),
    "transpose order": (
        IMAGE,
        "reshape([2, 2, 7, 6], axes = [group, channel, height, width]) "
        "-> transpose(order = [channel, group, height, width]) -> reshape([4, 7, 6]) -> conv(3, 3x3)",
    ),
    "reshape": (SEQUENCE, "linear(8) -> reshape([10, 4])"),
    "attention": (SEQUENCE, "linear(8) -> attention(2)"),
    "attention causal": (SEQUENCE, "linear(8) -> attention(4, causal = yes)"),
    "rnn": (SEQUENCE, "rnn(5, layers = 2)"),
    "lstm": (SEQUENCE, "lstm(5, layers = 2, bidirectional = yes) -> lstm(4, returns = last)"),
    "lstm truncated": (SEQUENCE, "linear(6) -> lstm(5, truncate = 2)"),
    "gru": (SEQUENCE, "gru(5, layers = 2, bidirectional = yes) -> gru(4, returns = last)"),
}
"""Name -> the input, and what stands between it and a linear classifier."""

BODIES: dict[str, tuple[str, str]] = {
    "arithmetic": (
        IMAGE,
        "a = image -> conv(4, 3x3, pad = same)\n  b = image -> conv(4, 3x3, pad = same) -> sigmoid\n"
        "  y = (a + b * image - 0.5) / (1.5 + b) * 2",
    ),
    "concat": (IMAGE, "a = image -> conv(2, 3x3)\n  b = image -> conv(3, 3x3)\n  y = concat(a, b) -> tanh"),
    "split": (IMAGE, "a, b = image -> conv(4, 3x3) -> split(2)\n  y = a * sigmoid(b)"),
    "parts": (
        IMAGE,
        "a, b, c = image -> conv(4, 3x3) -> tanh -> split([1, 2, 2], axis = height)\n"
        "  y = concat(b * c, b, axis = height)",
    ),
    "broadcasting": (
        IMAGE,
        "a = image -> conv(4, 3x3, pad = same)\n"
        "  y = a * (a -> global_avgpool -> sigmoid) - (a -> slice(width, stop = 1)) / 2",
    ),
    "matrices": (
        SEQUENCE,
        "a = sequence -> linear(6)\n  p = parameter([5, 6], value = 0.5)\n"
        "  b = a @ parameter([6, 3], axes = [width, out], value = 0.1)\n"
        "  y = concat((a @ transpose(p)) @ (p / (a * a + 1)) -> flatten, b -> flatten, axis = feature)",
    ),
    "parameter": (
        SEQUENCE,
        "y = sequence * parameter([6], axes = width, value = 1) + parameter([5, 6], axes = [seq, width]) -> tanh",
    ),
    "weights of a softmax": (
        SEQUENCE,
        "a = sequence -> linear(6)\n  p = parameter([5, 6], axes = [seq, width], value = 0.5) -> gelu -> softmax\n"
        "  y = a * p + a -> tanh",
    ),
    "places of numbers": (
        LINE,
        "y = concat(line -> flatten, line -> position_embedding(3) -> tanh -> flatten, axis = feature)",
    ),
    "heads": (
        SEQUENCE,
        "q = sequence -> linear(6) -> split_heads(2)\n  k = sequence -> linear(6) -> split_heads(2)\n"
        "  w = q @ transpose(k) / 2 -> causal_mask -> softmax\n  y = w @ q -> merge_heads",
    ),
}
"""Name -> the input, and statements that bind `y`."""


def spec(name: str) -> str:
    """The text of a spec that trains the network around an operator."""
    if name in BODIES:
        head, body = BODIES[name]
    else:
        head, chain = OPERATORS[name]
        body = f"y = {head.partition(':')[0]} -> {chain}"
    return TEXT.format(head=head, body=body, optimizer=("sgd(momentum = 0.9)", "adam")[len(name) % 2])


TEXT = """dlspec 1
param batch = 8
network net {{
  input {head}
  {body}
  logits = y -> flatten -> linear(5)
  output logits
}}
train net {{
  data      = synthetic(samples = 40, classes = 5)
  loss      = cross_entropy(logits, data.label)
  optimizer = {optimizer}
  lr        = constant(0.01)
  steps     = 5
}}
"""

LOSSES: dict[str, tuple[str, str]] = {
    "mse": ("linear(24)", "mse(y, data.sequence)"),
    "half_mse": ("linear(24)", "half_mse(y, data.sequence)"),
    "l1": ("linear(24)", "l1(y, data.sequence)"),
    "huber": ("linear(24)", "huber(y, data.sequence, delta = 0.5)"),
    "bce": ("linear(24)", "bce(y, data.sequence)"),
    "reconstruction": ("linear(24)", "reconstruction(y, data.sequence)"),
    "hinge": ("linear(5)", "hinge(y, data.label)"),
    "cross_entropy": ("linear(5)", "cross_entropy(y, data.label, smoothing = 0.1)"),
    "kl": ("linear(24)", "kl(y, data.sequence, temperature = 2)"),
    "regularised": ("linear(5)", "cross_entropy(y, data.label)\n  regularise = [l1(1e-3), l2(1e-2)]"),
    "sum": ("linear(5)", "0.7 * cross_entropy(y, data.label) + 0.3 * hinge(y, data.label)"),
}
"""Name -> the last layer, and the loss of its result `y`."""


def loss_spec(name: str) -> str:
    """The text of a spec that trains a small network with a loss."""
    layer, loss = LOSSES[name]
    return LOSS_TEXT.format(layer=layer, loss=loss)


LOSS_TEXT = """dlspec 1
param batch = 8
network net {{
  input sequence: f32[batch, feature = 24]
  y = sequence -> linear(9) -> tanh -> {layer}
  output y
}}
train net {{
  data      = synthetic(samples = 40, classes = 5)
  loss      = {loss}
  optimizer = sgd(momentum = 0.9)
  lr        = constant(0.05)
  steps     = 5
  clip      = norm(0.5)
}}
"""
