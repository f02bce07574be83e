"""Parameters and multiply-adds of the specs: those that are published, and those that add up by hand.

`published.json` says where its numbers come from. The rest is summed here layer by layer, from the papers' tables; the
totals that are written out are torchvision's, but where another source is named.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from dlc.driver import read
from dlc.inspect.network import OpRow, op_rows
from dlc.ir.graph import Graph

SPECS = Path(__file__).parents[2] / "specs"
PUBLISHED = json.loads((Path(__file__).parent / "published.json").read_text())["networks"]


def network(name: str, **parameters: Any) -> Graph:
    """The only network of a spec."""
    (job,) = read(str(SPECS / f"{name}.dlspec"), {key: str(value) for key, value in parameters.items()}).spec.jobs
    return job.graph


def sums(rows: Iterable[OpRow], op: str) -> tuple[int, int]:
    """Parameters and multiply-adds of all ops of one kind."""
    chosen = [row for row in rows if row.op == op]
    return sum(row.parameters for row in chosen), sum(row.macs for row in chosen)


@pytest.mark.parametrize(
    ("name", "parameters", "published"),
    [
        ("alexnet", {}, "AlexNet-2012 227 g=2"),
        ("alexnet", {"groups": 1}, "AlexNet-2012 227 g=1"),
        ("vgg16", {}, "VGG-16"),
        ("vgg16", {"convs": [2, 2, 4, 4, 4]}, "VGG-19"),
        ("vgg19", {}, "VGG-19"),
        ("googlenet", {"aux": "no"}, "GoogLeNet v1 (no aux)"),
        ("resnet18", {}, "ResNet-18"),
        ("resnet18", {"blocks": [3, 4, 6, 3]}, "ResNet-34"),
        ("resnet50", {}, "ResNet-50 v1.5"),
        ("resnet50", {"v1": "yes"}, "ResNet-50"),
        ("resnet50", {"v1": "yes", "blocks": [3, 4, 23, 3]}, "ResNet-101"),
        ("resnet101", {}, "ResNet-101"),
        ("resnet101", {"blocks": [3, 4, 6, 3], "v1": "no"}, "ResNet-50 v1.5"),
        ("resnet152", {}, "ResNet-152"),
        ("densenet121", {}, "DenseNet-121 k32"),
        ("densenet121", {"layers": [6, 12, 48, 32]}, "DenseNet-201 k32"),
        ("densenet169", {}, "DenseNet-169 k32"),
    ],
)
def test_published_counts(name: str, parameters: dict[str, Any], published: str) -> None:
    graph, expected = network(name, **parameters), PUBLISHED[published]
    rows = op_rows(graph)
    found = {"params": graph.parameters, "forward_macs": sum(row.macs for row in rows)}
    found["params_without_bn"] = graph.parameters - sums(rows, "bn")[0]
    found["conv_params"], found["conv_macs"] = sums(rows, "conv")
    found["fc_params"], found["fc_macs"] = sums(rows, "linear")
    assert found == expected


Layer = tuple[int, int]
"""Parameters, and multiply-adds for one sample."""


def conv(c: int, k: int, window: int, pixels: int, extra: int = 1, groups: int = 1) -> Layer:
    """A convolution of c channels to k by windows of so many places; `extra` parameters a filter: 1 for a bias, 2 for a
    batch norm in its place."""
    weights = c * k * window // groups
    return weights + extra * k, weights * pixels


def linear(c: int, k: int, rows: int = 1) -> Layer:
    """A linear map with bias of so many rows."""
    return c * k + k, c * k * rows


def nin() -> list[Layer]:
    first = [conv(3, 192, 25, 32**2), conv(192, 160, 1, 32**2), conv(160, 96, 1, 32**2)]
    second = [conv(96, 192, 25, 16**2), conv(192, 192, 1, 16**2), conv(192, 192, 1, 16**2)]
    return [*first, *second, conv(192, 192, 9, 8**2), conv(192, 192, 1, 8**2), conv(192, 10, 1, 8**2)]


def auxiliary_of_googlenet() -> list[Layer]:
    return [layer for c in (512, 528) for layer in (conv(c, 128, 1, 4**2), linear(2048, 1024), linear(1024, 1000))]


def squeezenet(stem: Layer, extents: Iterable[int]) -> list[Layer]:
    layers, c = [stem], 64 if stem[0] < 2000 else 96
    for i, extent in enumerate(extents):
        s, pixels = 16 * (1 + i // 2), extent**2
        layers += [conv(c, s, 1, pixels), conv(s, 4 * s, 1, pixels), conv(s, 4 * s, 9, pixels)]
        c = 8 * s
    return [*layers, conv(512, 1000, 1, 13**2)]


def mobilenet(alpha: float = 1) -> list[Layer]:
    c = int(32 * alpha)
    layers = [conv(3, c, 9, 112**2, 2)]
    extents = (112, 56, 56, 28, 28, 14, 14, 14, 14, 14, 14, 7, 7)
    for k, extent in zip((64, 128, 128, 256, 256, *[512] * 6, 1024, 1024), extents, strict=True):
        k, pixels = int(k * alpha), extent**2
        layers += [conv(c, c, 9, pixels, 2, groups=c), conv(c, k, 1, pixels, 2)]
        c = k
    return [*layers, linear(c, 1000)]


def wide_resnet(blocks: int, widen: int) -> list[Layer]:
    """Batch norm stands before each convolution, on its input: two parameters for each of c channels."""
    layers, c = [conv(3, 16, 9, 32**2, 0)], 16
    for k, extent in ((16 * widen, 32), (32 * widen, 16), (64 * widen, 8)):
        pixels = extent**2
        for _ in range(blocks):
            layers += [(2 * c, 0), conv(c, k, 9, pixels, 0), (2 * k, 0), conv(k, k, 9, pixels, 0)]
            layers += [conv(c, k, 1, pixels, 0)] if c != k else []
            c = k
    return [*layers, (2 * c, 0), linear(c, 10)]


def inception_v3() -> list[Layer]:
    """Without the auxiliary classifier; convolutions as (channels, filters, places of the window), by extent."""
    stem = {149: [(3, 32, 9)], 147: [(32, 32, 9), (32, 64, 9)], 73: [(64, 80, 1)], 71: [(80, 192, 9)]}
    table: dict[int, list[tuple[int, int, int]]] = stem | {35: [], 17: [], 8: []}
    for c, pool in ((192, 32), (256, 64), (288, 64)):
        table[35] += [(c, 64, 1), (c, 48, 1), (48, 64, 25), (c, 64, 1), (64, 96, 9), (96, 96, 9), (c, pool, 1)]
    table[35] += [(288, 64, 1), (64, 96, 9)]
    table[17] += [(288, 384, 9), (96, 96, 9)]
    for c in (128, 160, 160, 192):
        table[17] += [(768, 192, 1), (768, c, 1), (c, c, 7), (c, 192, 7), (768, 192, 1)]
        table[17] += [(768, c, 1), (c, c, 7), (c, c, 7), (c, c, 7), (c, 192, 7)]
    table[17] += [(768, 192, 1), (768, 192, 1), (192, 192, 7), (192, 192, 7)]
    table[8] += [(192, 320, 9), (192, 192, 9)]
    for c in (1280, 2048):
        table[8] += [(c, 320, 1), (c, 384, 1), (384, 384, 3), (384, 384, 3), (c, 192, 1)]
        table[8] += [(c, 448, 1), (448, 384, 9), (384, 384, 3), (384, 384, 3)]
    return [conv(*layer, extent**2, 2) for extent, layers in table.items() for layer in layers] + [linear(2048, 1000)]


def auxiliary_of_inception() -> list[Layer]:
    return [conv(768, 128, 1, 5**2, 2), conv(128, 768, 25, 1, 2), linear(768, 1000)]


def encoder(vocab: int, tokens: int, d: int, depth: int, classes: int) -> list[Layer]:
    attention = [linear(d, d, tokens)] * 4 + [(0, 2 * tokens * tokens * d)]
    layer = [*attention, linear(d, 4 * d, tokens), linear(4 * d, d, tokens), (4 * d, 0)]
    return [(vocab * d, 0), (tokens * d, 0), *depth * layer, linear(d, classes)]


def gpt(d: int = 768, depth: int = 12, tokens: int = 1024) -> list[Layer]:
    """The encoder's layers with norms in other places, one more norm, and logits from the tied table of tokens."""
    body = encoder(50257, tokens, d, depth, 1)[:-1]
    return [*body, (2 * d, 0), (0, 50257 * d * tokens)]


def formula(d: int, depth: int, tokens: int = 1024, vocab: int = 50257) -> int:
    """12·l·h²·(1 + 13/(12·h) + (V + s)/(12·l·h)) of cost-models.md §5 (Narayanan et al., 2021), and the last norm."""
    return 12 * depth * d * d + 13 * depth * d + (vocab + tokens) * d + 2 * d


def resnet1001(blocks: int = 111) -> list[Layer]:
    """Three convolutions a block and 9·111 + 2 layers in all; the projections of the first blocks are not counted."""
    layers, c = [conv(3, 16, 9, 32**2, 0)], 16
    for mid, extent in ((16, 32), (32, 16), (64, 8)):
        pixels, k = extent**2, 4 * mid
        layers.append(conv(c, k, 1, pixels, 0))
        for _ in range(blocks):
            layers += [(2 * c, 0), conv(c, mid, 1, pixels, 0), (2 * mid, 0), conv(mid, mid, 9, pixels, 0)]
            layers += [(2 * mid, 0), conv(mid, k, 1, pixels, 0)]
            c = k
    return [*layers, (2 * c, 0), linear(c, 10)]


def treenet(heads: int) -> list[Layer]:
    branch = [conv(32, 32, 25, 16**2), conv(32, 64, 25, 8**2), linear(1024, 64), linear(64, 10)]
    return [conv(3, 32, 25, 32**2), *heads * branch]


def unet() -> list[Layer]:
    """Every convolution without pads takes two rows and columns away, of 572."""
    layers, extent, c = [], 572, 1
    for k in (64, 128, 256, 512, 1024):
        layers += [conv(c, k, 9, (extent - 2) ** 2), conv(k, k, 9, (extent - 4) ** 2)]
        extent, c = (extent - 4) // 2, k
    extent *= 2
    for k in (512, 256, 128, 64):
        layers += [(4 * 2 * k * k + k, 4 * 2 * k * k * extent**2)]
        extent *= 2
        layers += [conv(2 * k, k, 9, (extent - 2) ** 2), conv(k, k, 9, (extent - 4) ** 2)]
        extent -= 4
    assert extent == 388
    return [*layers, conv(64, 2, 1, extent**2)]


LENET = [conv(1, 6, 25, 28**2), conv(6, 16, 25, 10**2), conv(16, 120, 25, 1), linear(120, 84), linear(84, 10)]
MLP = [linear(64, 128), linear(128, 128), linear(128, 10)]
GOOGLENET = [(6_998_552, 1_582_671_872), *auxiliary_of_googlenet()]
SQUEEZENET_1_0 = squeezenet(conv(3, 96, 49, 109**2), (54, 54, 54, 27, 27, 27, 27, 13))
SQUEEZENET_1_1 = squeezenet(conv(3, 64, 9, 111**2), (55, 55, 27, 27, 13, 13, 13, 13))
INCEPTION = [*inception_v3(), *auxiliary_of_inception()]


@pytest.mark.parametrize(
    ("name", "parameters", "layers", "total"),
    [
        ("lenet5", {}, LENET, 61_706),
        ("mlp", {}, MLP, 26_122),
        ("nin", {}, nin(), 966_986),  # Caffe's model of CIFAR-10
        ("googlenet", {}, GOOGLENET, 13_378_280),  # Caffe's
        ("squeezenet", {}, SQUEEZENET_1_0, 1_248_424),
        ("squeezenet", {"first": 64, "window": 3, "pools": [1, 3]}, SQUEEZENET_1_1, 1_235_496),
        ("mobilenet_v1", {}, mobilenet(), 4_231_976),  # Keras' but for the running statistics
        ("mobilenet_v1", {"alpha": 0.5}, mobilenet(0.5), 1_331_592),
        ("wide_resnet", {}, wide_resnet(4, 10), 36_479_194),  # the paper's 36.5 million
        ("wide_resnet", {"blocks": 6, "widen": 4}, wide_resnet(6, 4), 8_949_210),  # the paper's 8.9 million
        ("inception_v3", {}, INCEPTION, 27_161_264),
        ("inception_v3", {"aux": "no"}, inception_v3(), 23_834_568),
        ("transformer_encoder", {}, encoder(37000, 512, 512, 6, 2), 38_121_474),
        ("gpt2", {}, gpt(), 124_439_808),  # the released model's
        ("gpt2_xl", {}, gpt(1600, 48), formula(1600, 48)),
        ("gpt_96", {}, gpt(12288, 96, 2048), formula(12288, 96, 2048)),  # the paper's 175 billion
        ("gpt_96", {"hidden": 2048, "heads": 16}, gpt(2048, 96, 2048), formula(2048, 96, 2048)),
        ("resnet1001", {}, resnet1001(), 10_327_706),  # the paper's 10.2 million
        ("resnet1001", {"blocks": 18}, resnet1001(18), 1_703_258),  # ResNet-164, the paper's 1.7 million
        ("treenet", {}, treenet(4), 575_016),
        ("unet", {}, unet(), 31_030_658),
    ],
)
def test_counts_by_hand(name: str, parameters: dict[str, Any], layers: list[Layer], total: int) -> None:
    graph = network(name, **parameters)
    by_hand = tuple(map(sum, zip(*layers, strict=True)))
    assert (graph.parameters, sum(row.macs for row in op_rows(graph))) == by_hand
    assert graph.parameters == total
