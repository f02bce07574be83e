"""Published speed-ups beside those of Paleo (Qi, Sparks, Talwalkar, 2017), which dlc's model must be closer to.

Devices compute as fast as in Paleo's own prediction for one device (of MXNet's two networks as in that for AlexNet), so
what is compared is how the models scale. Distances are mean ratios: |log(predicted / published)|.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from math import exp, log
from typing import Any

import pytest

from dlc.cluster.collectives import seconds
from dlc.cluster.topology import Cluster
from tests.published.predict import Network, calibrated, cluster, predict, print_table, published, slowed
from tests.slices import later

NIN = Network("nin_imagenet")
OWT = Network("alexnet_owt")
ALEXNET = Network("alexnet", (("groups", "1"),))
INCEPTION = Network("inception_v3", (("aux", "no"),))

CAFFE = ("fft", "winograd", "direct")
"""Algorithms that Caffe had not in 2015: its convolutions were im2col and a matrix product."""
CONVNET2 = ("fft", "winograd", "im2col", "implicit_gemm", "cudnn")
"""Algorithms that cuda-convnet2 had not: its convolutions were direct sums."""

Speedups = Mapping[int, float]


@cache
def cases() -> Mapping[str, Any]:
    return {row["case"]: row for row in published("paleo_predictions")["rows"]}


def paleo(case: str) -> Speedups:
    """Paleo's prediction, of the exchange that its authors took for the case."""
    key = next(key for key in cases()[case] if key.startswith(("tree_speedup", "butterfly_speedup")))
    return {int(workers): speedup for workers, speedup in cases()[case][key].items()}


def measured(case: str) -> Speedups:
    key = next(key for key in cases()[case] if key.startswith("published"))
    return {int(workers): speedup for workers, speedup in cases()[case][key].items()}


def one_device(case: str) -> float:
    """Paleo's seconds of a step on one device."""
    first = cases()[case]["rows"][0]
    assert first["workers"] == 1
    return float(first["comp_ms"]) / 1e3


def distance(predicted: Speedups, found: Speedups) -> float:
    return sum(abs(log(predicted[workers] / value)) for workers, value in found.items()) / len(found)


def judge(case: str, predicted: Speedups, bound: float) -> None:
    """Print, and require that dlc is closer than Paleo, and within the bound that was reached."""
    found, theirs = measured(case), paleo(case)
    rows = [(w, value, predicted[w], theirs[w], predicted[w] / value, theirs[w] / value) for w, value in found.items()]
    own, other = distance(predicted, found), distance(theirs, found)
    print_table(case, ("devices", "published", "dlc", "Paleo", "dlc ratio", "Paleo ratio"), rows)
    print(f"mean ratio: dlc {exp(own):.3f}, Paleo {exp(other):.3f}")
    assert own < other
    assert own < bound


@pytest.mark.parametrize(
    ("case", "batch", "bound"), [("FireCaffe NiN strong bs256", 256, 0.15), ("FireCaffe NiN strong bs1024", 1024, 0.17)]
)
def test_firecaffe(case: str, batch: int, bound: float) -> None:
    """The same batch on ever more GPUs: with few samples kernels are less efficient, which Paleo leaves out.

    FireCaffe sums by trees. A larger batch is compared with the rate of one GPU at 256 samples.
    """
    alone = one_device("FireCaffe NiN strong bs256")
    machine, _ = calibrated(cluster("titan"), NIN, 256, alone, without=CAFFE)
    found = {
        workers: alone * batch / 256 / predict(NIN, machine, batch, ranks=workers, allreduce="tree", without=CAFFE).step
        for workers in measured(case)
    }
    judge(case, found, bound)
    theirs = paleo(case)
    for workers, value in measured(case).items():
        assert abs(log(found[workers] / value)) < abs(log(theirs[workers] / value))


def test_one_weird_trick() -> None:
    """Convolutions by batch, linear layers by feature: Krizhevsky measured that, Paleo predicts data parallelism."""
    case = "OWT weak data parallel K20"
    machine, _ = calibrated(cluster("convnet2"), OWT, 128, one_device(case), without=CONVNET2)
    compute = predict(OWT, machine, 128, ranks=1, without=CONVNET2).compute
    found = {gpus: gpus * compute / (compute + hybrid(machine, 128 * gpus, gpus)) for gpus in measured(case)}
    judge(case, found, 0.08)


def hybrid(machine: Cluster, batch: int, gpus: int) -> float:
    """Seconds of communication of a step of the hybrid (cost-models.md §5).

    The gradients of the convolutions are summed; each linear layer, split by output feature, gathers its input and
    reduce-scatters the gradient of it; the loss gathers the logits.
    """
    ranks = tuple(range(gpus))
    convolutions = 4 * (64 * 3 * 121 + 192 * 64 * 25 + 384 * 192 * 9 + 256 * 384 * 9 + 256 * 256 * 9)
    total = seconds("ring", convolutions, ranks, machine)
    for features in (9216, 4096, 4096):
        size = 4 * batch * features
        total += seconds("allgather", size, ranks, machine) + seconds("reduce_scatter", size, ranks, machine)
    return total + seconds("allgather", 4 * batch * 1000, ranks, machine)


@pytest.mark.parametrize(
    ("case", "network", "samples", "bound"),
    [
        ("MXNet AlexNet weak bs512 K80 20 Gb/s", ALEXNET, 512, 0.06),
        later(("MXNet Inception-v3 weak bs32 K80 20 Gb/s", INCEPTION, 32, 0.07)),
    ],
)
def test_mxnet(case: str, network: Network, samples: int, bound: float) -> None:
    """Sums go on behind the backward pass, which Paleo leaves out; within a server all share one bus."""
    alone = one_device("MXNet AlexNet weak bs512 K80 20 Gb/s")
    _, efficiency = calibrated(cluster("p2_16xlarge"), ALEXNET, 512, alone)
    found = dict[int, float]()
    for workers in measured(case):
        machine = slowed(cluster("p2_16xlarge", servers=-(-workers // 16)), efficiency)
        single = predict(network, machine, samples, ranks=1)
        found[workers] = workers * single.step / predict(network, machine, samples * workers, ranks=workers).step
    judge(case, found, bound)
