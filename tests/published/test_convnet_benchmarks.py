"""convnet-benchmarks: milliseconds of networks and of layers on a Titan X, by the algorithm of each library.

The device is not calibrated: its figures are the maker's. Two of the model's constants were set by hand with these
tables in view, the share of the peak that Fourier transforms reach by AlexNet's rows, that of `cudnn` by cuDNN
R2's rows of the layers L2 to L5. OverFeat and VGG-A are predictions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from math import log

import pytest

from dlc.cluster.topology import Device
from dlc.cost.compute import seconds
from dlc.cost.profile import interval
from dlc.ir.graph import Attr, Graph, Node
from dlc.ir.tensor import tensor
from dlc.ops import operator
from dlc.ops.operator import Operator, Shapes
from tests.published.predict import Network, cluster, print_table, published, trained

NETWORKS = {
    "AlexNet-OWT": (Network("alexnet_owt"), 128),
    "OverFeat-fast": (Network("overfeat_fast"), 128),
    "VGG-A": (Network("vgg_a"), 64),
}
LIBRARIES = {
    "fbfft": ("fft",),
    "Caffe": ("im2col",),
    "Torch-7": ("im2col",),
    "CuDNN[R2]": ("cudnn",),
    "cudaconvnet2": ("direct",),
    "CuDNN[R4]-fp32": ("cudnn", "fft", "fft_tiled", "winograd(2)"),
    "Nervana-neon-fp32": ("direct", "winograd(2)", "winograd(4)"),
}
"""A library and how it computes convolutions; one that cannot compute a layer so takes `cudnn` for it."""

LAYERS = {"fbfft": "fft", "Caffe": "im2col", "CuDNN R2": "cudnn", "cuda-convnet2": "direct"}
"""The same for the table of layers."""


def titan_x() -> Device:
    return cluster("titanx").devices[0]


@cache
def graph(network: str) -> Graph:
    found, batch = NETWORKS[network]
    return trained(found, batch, cluster("titanx"), 1)[0]


def measured(network: str, library: str) -> float:
    """Milliseconds forward and backward."""
    rows = published("convnet_benchmarks_titanx")["rows"]
    (row,) = (r for r in rows if r["network"] == network and r["library"].replace("(native)", "").split()[0] == library)
    return float(row["total_ms"])


@cache
def predicted(network: str, library: str) -> float:
    """Milliseconds forward and backward, without dropout and the loss, as they were measured."""
    nodes = (node for node in graph(network).nodes if node.op not in ("dropout", "cross_entropy"))
    passes = (node for node in nodes if node.stage in ("forward", "dx", "dw"))
    return 1e3 * sum(node_seconds(graph(network), node, LIBRARIES[library]) for node in passes)


def node_seconds(graph: Graph, node: Node, algorithms: Sequence[str]) -> float:
    """Seconds of a node by the fastest of these algorithms that can compute it."""
    op = operator(node.op)
    assert op is not None
    shapes = Shapes(tuple(map(graph.type, node.inputs)), tuple(map(graph.type, node.outputs)), dict(node.attrs))
    layout = "NCHW" if any(len(type_.axes) == 4 for type_ in shapes.inputs) else ""
    legal = [a.name for a in op.algorithms if a.name in algorithms and a.excluded(node.stage, shapes) is None]
    names = legal or (["cudnn"] if op.algorithms else [""])
    return min(seconds(op, node.stage, shapes, name, layout, titan_x()).seconds for name in names)


def test_networks_take_what_was_measured() -> None:
    """Each library within a factor of 1.75, by 25 % on average."""
    rows = [
        (network, library, measured(network, library), predicted(network, library))
        for network in NETWORKS
        for library in LIBRARIES
    ]
    print_table(
        "ms forward and backward on a Titan X",
        ("network", "library", "measured", "predicted", "ratio"),
        ((*row, row[3] / row[2]) for row in rows),
    )
    for network, library, found, expected in rows:
        low, high = interval(expected)
        assert expected / 2 < low <= found <= high < 2 * expected, (network, library)
    off = [abs(log(expected / found)) for *_, found, expected in rows]
    assert max(off) < log(1.75)
    assert sum(off) / len(off) < log(1.26)


@pytest.mark.parametrize("network", ["AlexNet-OWT", "OverFeat-fast"])
@pytest.mark.parametrize("library", ["Caffe", "Torch-7", "CuDNN[R2]", "cudaconvnet2"])
def test_transforms_win_where_windows_are_large(network: str, library: str) -> None:
    assert measured(network, "fbfft") < measured(network, library)
    assert predicted(network, "fbfft") < predicted(network, library)


@pytest.mark.parametrize("library", ["Caffe", "Torch-7", "CuDNN[R2]", "cudaconvnet2"])
def test_transforms_win_nothing_where_windows_are_3x3(library: str) -> None:
    """Measured they are as fast to 12 %; predicted to 25 %, while on AlexNet they are predicted to win by 40 %."""
    assert measured("VGG-A", "fbfft") == pytest.approx(measured("VGG-A", library), rel=0.12)
    assert predicted("VGG-A", "fbfft") == pytest.approx(predicted("VGG-A", library), rel=0.25)
    assert predicted("AlexNet-OWT", "fbfft") < 0.6 * predicted("AlexNet-OWT", library)


def test_tiles_of_winograd_win_where_windows_are_3x3() -> None:
    others = [library for library in LIBRARIES if library not in ("Nervana-neon-fp32", "CuDNN[R4]-fp32")]
    for figures in (measured, predicted):
        assert figures("VGG-A", "Nervana-neon-fp32") < figures("VGG-A", "CuDNN[R4]-fp32")
        assert figures("VGG-A", "CuDNN[R4]-fp32") < min(figures("VGG-A", library) for library in others)


# Single layers: stride 1, no pads.


def layer_shapes(stage: str, layer: dict[str, object]) -> Shapes:
    n, c, h, w, k, r, s = (int(str(layer[name])) for name in "NCHWKRS")
    x = tensor("f32", batch=n, channel=c, height=h, width=w)
    y = tensor("f32", batch=n, channel=k, height=h - r + 1, width=w - s + 1)
    weight = tensor("f32", out=k, **{"in": c}, height=r, width=s)
    attrs: dict[str, Attr] = {
        "filters": k,
        "window": (r, s),
        "stride": (1, 1),
        "pad": ((0, 0), (0, 0)),
        "dilation": (1, 1),
        "groups": 1,
        "bias": False,
    }
    inputs, outputs = {"forward": ((x, weight), y), "dx": ((y, weight), x), "dw": ((y, x), weight)}[stage]
    return Shapes(inputs, (outputs,), attrs)


def conv() -> Operator:
    found = operator("conv")
    assert found is not None
    return found


def layers(direction: str) -> Iterator[tuple[str, str, float, float]]:
    """(layer, library, measured, predicted milliseconds) of a direction; backward is dx and dw."""
    table = published("convnet_benchmarks_layers")
    stages = ("forward",) if direction == "forward" else ("dx", "dw")
    for row in table["rows"]:
        if row["direction"] == direction and row["library"] in LAYERS:
            algorithm = LAYERS[row["library"]]
            for name, layer in table["layers"].items():
                parts = (
                    seconds(conv(), stage, layer_shapes(stage, layer), algorithm, "NCHW", titan_x()).seconds
                    for stage in stages
                )
                yield name, row["library"], row["ms"][name], 1e3 * sum(parts)


def fastest(rows: Iterable[tuple[str, str, float, float]], layer: str, column: int) -> str:
    return min((row for row in rows if row[0] == layer), key=lambda row: row[column])[1]


def test_transforms_are_the_fastest_of_large_windows_on_single_layers_too() -> None:
    """L2 to L4: windows of 9x9, 9x9 and 7x7, forward and backward."""
    for direction in ("forward", "backward"):
        rows = list(layers(direction))
        print_table(
            f"ms {direction} of layers on a Titan X",
            ("layer", "library", "measured", "predicted", "ratio"),
            ((*row, row[3] / row[2]) for row in rows),
        )
        for layer in ("L2", "L3", "L4"):
            assert fastest(rows, layer, 2) == fastest(rows, layer, 3) == "fbfft"


def test_most_layers_take_what_was_measured_within_a_factor_of_two() -> None:
    """All but a few: of 3 channels to 118 x 118 pixels (L1), and Caffe's products of single small images."""
    rows = [*layers("forward"), *layers("backward")]
    near = [row for row in rows if 0.5 < row[3] / row[2] < 2]
    assert len(near) >= 0.8 * len(rows)
    assert all(0.3 < row[3] / row[2] < 3 for row in rows)
