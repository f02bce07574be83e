"""The specs at a size that a test can train: every layer and branch is there, with few channels and small images."""

from __future__ import annotations

RESNET: dict[str, object] = {"batch": 4, "size": 64, "filters": 4, "classes": 10, "group": 2}
DENSENET: dict[str, object] = {"batch": 8, "size": 64, "growth": 4, "classes": 10, "group": 4}
GPT: dict[str, object] = {"batch": 4, "tokens": 16, "hidden": 32, "heads": 4, "depth": 2, "vocab": 80}
GPT |= {"corpus": "data/alice.txt"}

REDUCED: dict[str, dict[str, object]] = {
    "alexnet": {"batch": 4, "size": 67, "filters": [8, 12, 16, 16, 12], "hidden": 64, "classes": 10},
    "autoencoder": {"batch": 8},
    "char_lm": {"batch": 8, "tokens": 16, "hidden": 16},
    "denoising_autoencoder": {"batch": 8},
    "densenet121": DENSENET | {"layers": [2, 3, 4, 3]},
    "densenet169": DENSENET | {"layers": [2, 3, 5, 5]},
    "googlenet": {"batch": 4, "size": 80, "divisor": 8, "classes": 10},
    "gpt2": {"batch": 4, "tokens": 16, "hidden": 32, "n_heads": 4, "depth": 3, "vocab": 80, "microbatches": 2}
    | {"corpus": "data/alice.txt"},
    "gpt2_xl": GPT,
    "gpt_96": GPT | {"depth": 3},
    "gru": {"batch": 4, "tokens": 10, "piece": 4, "hidden": 12},
    "inception_v3": {"batch": 8, "size": 107, "divisor": 16, "classes": 10, "group": 8},
    "lenet5": {"batch": 8},
    "lstm": {"batch": 4, "tokens": 8, "hidden": 12},
    "mlp": {"hidden": 32},
    "mobilenet_v1": {"batch": 8, "size": 64, "alpha": 0.125, "classes": 10, "group": 4},
    "nin": {"batch": 4, "size": 16, "filters": [[12, 10, 8], [12, 12, 12], [12, 12]]},
    "resnet18": RESNET,
    "resnet50": RESNET | {"blocks": [2, 3, 3, 2]},
    "resnet1001": {"batch": 4, "size": 16, "blocks": 3, "filters": 4, "group": 2},
    "resnet101": RESNET | {"blocks": [2, 2, 4, 2]},
    "resnet152": RESNET | {"blocks": [2, 3, 4, 2]},
    "squeezenet": {"batch": 4, "size": 64, "first": 12, "squeeze": 4, "classes": 10},
    "transformer_encoder": {"batch": 4, "tokens": 12, "vocab": 50, "hidden": 32, "heads": 4, "depth": 2},
    "treenet": {"batch": 4, "size": 16, "filters": 8},
    "unet": {"batch": 3, "size": 188, "filters": 2},
    "vgg16": {"batch": 4, "size": 32, "filters": [4, 8, 12, 16, 16], "hidden": 64, "classes": 10},
    "vgg19": {"batch": 4, "size": 32, "filters": [4, 8, 12, 16, 16], "hidden": 64, "classes": 10},
    "wide_resnet": {"batch": 4, "size": 16, "blocks": 2, "widen": 2, "narrow": 4, "group": 2},
}
"""Spec -> the parameters (`-P`) that reduce it: at most some 200,000 weights, a step in a second or less."""
