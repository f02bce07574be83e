"""Cases of losses, away from their kinks: where a prediction meets its target, or a margin is just missed."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc.ir.tensor import Axis, TensorType
from dlc.ops import operator
from tests.kernels.calling import Op
from tests.operators.case import Case, Draw, drawn

Rng = np.random.Generator


def rows(rng: Rng, last: tuple[int, int] = (2, 6)) -> TensorType:
    """A few samples of features, of sequences or of images."""
    names = (("batch",), ("batch", "seq"), ("batch", "height", "width"))[int(rng.integers(3))]
    extents = [int(rng.integers(1, 4)) for _ in names]
    axes = (*zip(names, extents, strict=True), ("feature", int(rng.integers(*last, endpoint=True))))
    return TensorType("f64", tuple(Axis(name, extent) for name, extent in axes))


def runtime(type_: TensorType, rng: Rng) -> dict[str, int]:
    """The whole batch has as many samples or more."""
    return {"count": type_.shape[0] + int(rng.integers(3))}


def away_from(values: Any, *kinks: float) -> Any:
    """Values moved until each is further from every kink than a difference's steps."""
    for kink in kinks:
        near = np.abs(values - kink) < 0.01
        values = np.where(near, kink + np.copysign(0.01, values - kink), values)
    return values


def labelled(name: str, **arguments: Any) -> Draw:
    """A loss of logits and one label a row."""

    def draw(rng: Rng) -> Case:
        logits = rows(rng)
        label = TensorType("i32", logits.axes[:-1])
        op = Op(operator(name), (logits, label), arguments, runtime=runtime(logits, rng))
        classes = rng.integers(0, logits.shape[-1], label.shape).astype(np.int32)
        values = rng.standard_normal(logits.shape)
        if name == "hinge":
            at_label = np.take_along_axis(values, classes[..., None], axis=-1)
            margins = away_from(values - at_label, -1.0)
            np.put_along_axis(margins, classes[..., None], 0, axis=-1)
            values = margins + at_label
        return drawn(op, rng, "logits", logits=values, label=classes)

    return draw


def compared(name: str, *kinks: float, **arguments: Any) -> Draw:
    """A loss of two values; their difference stays away from the kinks."""

    def draw(rng: Rng) -> Case:
        type_ = rows(rng, last=(1, 5))
        op = Op(operator(name), (type_, type_), arguments, runtime=runtime(type_, rng))
        first, target = op.inputs
        aim = rng.standard_normal(type_.shape)
        return drawn(op, rng, **{first: aim + away_from(rng.standard_normal(type_.shape), *kinks), target: aim})

    return draw


def distilled(temperature: float) -> Draw:
    """Logits of a pupil and of a teacher."""

    def draw(rng: Rng) -> Case:
        type_ = rows(rng)
        arguments = {"temperature": temperature}
        return drawn(Op(operator("kl"), (type_, type_), arguments, runtime=runtime(type_, rng)), rng)

    return draw


def reconstruction(rng: Rng) -> Case:
    """The target's elements as an image."""
    batch, channel, height, width = (int(extent) for extent in rng.integers(1, 4, 4))
    image = TensorType(
        "f64", (Axis("batch", batch), Axis("channel", channel), Axis("height", height), Axis("width", width))
    )
    flat = TensorType("f64", (Axis("batch", batch), Axis("feature", channel * height * width)))
    operands = (flat, image) if rng.random() < 0.7 else (image, flat)
    return drawn(Op(operator("reconstruction"), operands, {}, runtime=runtime(flat, rng)), rng)


CASES: dict[str, Draw] = {
    "cross_entropy": labelled("cross_entropy"),
    "cross_entropy/smoothing": labelled("cross_entropy", smoothing=0.2),
    "hinge": labelled("hinge"),
    "mse": compared("mse"),
    "half_mse": compared("half_mse"),
    "l1": compared("l1", 0.0),
    "huber": compared("huber", -1.0, 1.0),
    "huber/delta": compared("huber", -0.3, 0.3, delta=0.3),
    "bce": compared("bce"),
    "kl": distilled(1.0),
    "kl/temperature": distilled(3.0),
    "reconstruction": reconstruction,
}
