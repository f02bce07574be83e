"""Theano-MPI's seconds of computing and of communication for 5120 images on one to eight GPUs.

Calibrated on AlexNet alone: what a GPU reaches on one GPU, what a link reaches on two. The rest is prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pytest

from dlc.cluster.topology import Cluster
from tests.published.predict import (
    Network,
    Prediction,
    calibrated,
    cluster,
    predict,
    print_table,
    published,
    with_links,
)

IMAGES = 5120
NETWORKS = {
    "AlexNet-128b": Network("alexnet"),
    "GoogLeNet-32b": Network("googlenet"),
    "VGG16-16b": Network("vgg16"),
    "VGG16-32b": Network("vgg16"),
    "ResNet50-64b": Network("resnet101", (("blocks", "[3, 4, 6, 3]"),)),
}
CALIBRATED_ON = "AlexNet-128b"
NCCL = "ring"
"""How NCCL 1 summed."""
LEFT_OUT = ("winograd", "fft")
"""Algorithms that Theano does not ask cuDNN for: `dnn.conv.algo_fwd` is `small`, the implicit matrix product, unless
told otherwise, and the configuration in Theano-MPI's README says nothing of it."""


@dataclass(frozen=True, slots=True)
class Row:
    """Seconds of one step on so many GPUs, computing and communication, and what is predicted."""

    model: str
    gpus: int
    compute: float
    communication: float
    predicted: Prediction


def samples(model: str) -> int:
    """Samples a GPU: `AlexNet-128b` has 128."""
    return int(model.partition("-")[2].removesuffix("b"))


def measured() -> Iterator[tuple[str, int, float, float]]:
    """(model, GPUs, seconds of computing in a step, seconds of communication in a step)."""
    for row in published("theano_mpi_bsp")["rows"]:
        for gpus, (compute, communication) in row["comp_plus_comm_s"].items():
            steps = IMAGES / (samples(row["model"]) * int(gpus))
            yield row["model"], int(gpus), compute / steps, communication / steps


@cache
def machine() -> Cluster:
    """The server, its GPUs and its links as fast as AlexNet found them."""
    figures = {(model, gpus): (compute, rest) for model, gpus, compute, rest in measured()}
    network, size = NETWORKS[CALIBRATED_ON], samples(CALIBRATED_ON)
    found, _ = calibrated(cluster("copper"), network, size, figures[CALIBRATED_ON, 1][0], without=LEFT_OUT)
    two = predict(network, found, 2 * size, ranks=2, allreduce=NCCL, without=LEFT_OUT).communication
    return with_links(found, two / figures[CALIBRATED_ON, 2][1])


def step(model: str, gpus: int) -> Prediction:
    return predict(NETWORKS[model], machine(), samples(model) * gpus, ranks=gpus, allreduce=NCCL, without=LEFT_OUT)


@cache
def rows() -> dict[tuple[str, int], Row]:
    """By model and GPUs."""
    return {
        (model, gpus): Row(model, gpus, compute, rest, step(model, gpus)) for model, gpus, compute, rest in measured()
    }


CASES = [(model, gpus) for model, gpus, _, _ in measured()]


def test_table() -> None:
    heads = ("model", "GPUs", "computing ms", "predicted", "ratio", "communication ms", "predicted", "ratio")
    print_table(
        f"Theano-MPI, calibrated on {CALIBRATED_ON}",
        heads,
        (
            (
                row.model,
                row.gpus,
                row.compute * 1e3,
                row.predicted.compute * 1e3,
                row.predicted.compute / row.compute,
                row.communication * 1e3,
                row.predicted.communication * 1e3,
                row.predicted.communication / row.communication if row.communication else "",
            )
            for row in rows().values()
        ),
    )
    assert len(rows()) == 4 * len(NETWORKS)


COMPUTING = {"AlexNet-128b": 0.03, "GoogLeNet-32b": 0.18, "VGG16-16b": 0.14, "VGG16-32b": 0.18, "ResNet50-64b": 0.28}
"""How far off each network is, relative to what was measured: just above what is reached.

Theano normalised batches and responses by ops of its own, several passes over memory each, of which VGG-16 has none:
networks with them are predicted too fast, most of all ResNet-50."""

COMMUNICATION = {"AlexNet-128b": 0.08, "GoogLeNet-32b": 0.35, "VGG16-16b": 0.13, "VGG16-32b": 0.1, "ResNet50-64b": 0.22}
"""The same of communication. Each tensor was summed by a call of its own, by dlc's buckets several at once: that counts
for GoogLeNet, with 128 small ones, and for ResNet-50."""


@pytest.mark.parametrize(("model", "gpus"), CASES)
def test_computing(model: str, gpus: int) -> None:
    row = rows()[model, gpus]
    assert row.predicted.compute == pytest.approx(row.compute, rel=COMPUTING[model])


@pytest.mark.parametrize(("model", "gpus"), [(model, gpus) for model, gpus in CASES if gpus > 1])
def test_communication(model: str, gpus: int) -> None:
    row = rows()[model, gpus]
    assert row.predicted.communication == pytest.approx(row.communication, rel=COMMUNICATION[model])


def test_communication_scales_with_parameters_not_with_the_batch() -> None:
    found = rows()
    for gpus in (2, 4, 8):
        one, two, small = (found[model, gpus] for model in ("VGG16-16b", "VGG16-32b", "ResNet50-64b"))
        assert one.predicted.communication == two.predicted.communication
        assert one.communication == pytest.approx(two.communication, rel=0.2)
        parameters = 138_357_544 / 25_557_032
        assert two.predicted.communication / small.predicted.communication == pytest.approx(parameters, rel=0.1)
        assert two.communication / small.communication == pytest.approx(parameters, rel=0.25)


def test_more_gpus_than_a_processor_has_sum_more_slowly() -> None:
    """From four GPUs to eight a step's communication takes longer by more than the data that is sent, 7/8 to 3/4."""
    found = rows()
    for model in NETWORKS:
        four, eight = found[model, 4], found[model, 8]
        assert eight.communication / four.communication > 2 * 7 / 6 * 0.85
        assert eight.predicted.communication / four.predicted.communication > 2 * 7 / 6 * 0.85
