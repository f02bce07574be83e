"""Losses in PyTorch; a mean is over `count` samples, of which those at hand may be a part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional

from tests.operators.case import Reference

Tensors = Mapping[str, Tensor]


def of_the_batch(loss: Tensor, samples: int, attrs: Mapping[str, Any]) -> Tensor:
    """A mean over the samples at hand as their part of the mean over the whole batch."""
    return loss * samples / attrs.get("count", samples)


def labelled(tensors: Tensors) -> tuple[Tensor, Tensor]:
    """One row for each label."""
    logits = tensors["logits"]
    return logits.reshape(-1, logits.shape[-1]), tensors["label"].reshape(-1).long()


def cross_entropy(tensors: Tensors, attrs: Mapping[str, Any]) -> Tensor:
    loss = functional.cross_entropy(*labelled(tensors), label_smoothing=attrs["smoothing"])
    return of_the_batch(loss, len(tensors["logits"]), attrs)


def hinge(tensors: Tensors, attrs: Mapping[str, Any]) -> Tensor:
    return of_the_batch(functional.multi_margin_loss(*labelled(tensors)), len(tensors["logits"]), attrs)


def mse(tensors: Tensors, attrs: Mapping[str, Any]) -> Tensor:
    loss = functional.mse_loss(tensors["prediction"], tensors["target"])
    return of_the_batch(loss, len(tensors["prediction"]), attrs)


def half_mse(tensors: Tensors, attrs: Mapping[str, Any]) -> Tensor:
    return mse(tensors, attrs) / 2


def l1(tensors: Tensors, attrs: Mapping[str, Any]) -> Tensor:
    loss = functional.l1_loss(tensors["prediction"], tensors["target"])
    return of_the_batch(loss, len(tensors["prediction"]), attrs)


def huber(tensors: Tensors, attrs: Mapping[str, Any]) -> Tensor:
    loss = functional.huber_loss(tensors["prediction"], tensors["target"], delta=attrs["delta"])
    return of_the_batch(loss, len(tensors["prediction"]), attrs)


def bce(tensors: Tensors, attrs: Mapping[str, Any]) -> Tensor:
    loss = functional.binary_cross_entropy_with_logits(tensors["logits"], tensors["target"])
    return of_the_batch(loss, len(tensors["logits"]), attrs)


def kl(tensors: Tensors, attrs: Mapping[str, Any]) -> Tensor:
    """The rows of a sequence count as samples do: `batchmean` of all rows."""
    temperature = attrs["temperature"]
    pupil, teacher = (x.reshape(-1, x.shape[-1]) / temperature for x in (tensors["logits"], tensors["target"]))
    divergence = functional.kl_div(
        functional.log_softmax(pupil, dim=-1), functional.softmax(teacher, dim=-1), reduction="batchmean"
    )
    return of_the_batch(divergence * temperature**2, len(tensors["logits"]), attrs)


def reconstruction(tensors: Tensors, attrs: Mapping[str, Any]) -> Tensor:
    prediction, target = tensors["prediction"], tensors["target"]
    loss = functional.mse_loss(prediction.flatten(1), target.flatten(1), reduction="sum") / len(prediction)
    return of_the_batch(loss, len(prediction), attrs)


REFERENCES: dict[str, Reference] = {
    "cross_entropy": cross_entropy,
    "hinge": hinge,
    "mse": mse,
    "half_mse": half_mse,
    "l1": l1,
    "huber": huber,
    "bce": bce,
    "kl": kl,
    "reconstruction": reconstruction,
}
