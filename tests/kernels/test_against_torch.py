"""Values, gradients and whole update steps against PyTorch, where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dlc.ir.graph import Attr
from dlc.ir.tensor import Axis, TensorType
from dlc.ops import operator
from dlc.ops.conv import CONV
from tests.kernels.calling import Known, Op, image, kernel, relative_error

torch = pytest.importorskip("torch", reason="PyTorch is not installed: its results are not compared with")
functional = torch.nn.functional

pytestmark = pytest.mark.oracle

BOUND = 1e-12


def compare(op: Op, known: Known, reference: Callable[..., Any], roles: tuple[str, ...]) -> None:
    """y and the gradients by `roles`, in float64; the reference takes those roles in order."""
    tensors = [torch.tensor(known[role], requires_grad=True) for role in roles]
    expected = reference(*tensors)
    known = known | {"dy": np.asarray(np.random.default_rng(0).standard_normal(expected.shape))}
    expected.backward(torch.tensor(known["dy"]))
    found = op.backward(op.forward(known))
    assert found["y"].shape == tuple(expected.shape)
    assert relative_error(found["y"], expected.detach().numpy()) < BOUND
    for role, tensor in zip(roles, tensors, strict=True):
        assert relative_error(found[f"d{role}"], tensor.grad.numpy()) < BOUND, role


@pytest.mark.parametrize("stride", [1, 2, (1, 3)])
@pytest.mark.parametrize("dilation", [1, (2, 1)])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("pad", [0, 1, (2, 0)])
def test_conv(stride: Any, dilation: Any, groups: int, pad: Any) -> None:
    args = {"filters": 6, "window": (3, 2), "stride": stride, "dilation": dilation, "groups": groups, "pad": pad}
    op = Op(CONV, (image("f64", 2, 6, 9, 8),), args, algorithm="im2col")
    settings = {"stride": stride, "padding": pad, "dilation": dilation, "groups": groups}
    known = op.draw(np.random.default_rng(1))
    compare(op, known, lambda x, w, b: functional.conv2d(x, w, b, **settings), ("x", "weight", "bias"))


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("pad", [0, 1, (1, 0)])
@pytest.mark.parametrize("stride", [1, 2, 3, (2, 4)])
@pytest.mark.parametrize("window", [2, 3, (3, 2)])
def test_pools(window: Any, stride: Any, pad: Any, ceil: bool) -> None:
    rng = np.random.default_rng(2)
    for extents in ((7, 8), (6, 5), (10, 9)):
        args: dict[str, Attr] = {"window": window, "stride": stride, "pad": pad, "ceil": ceil}
        op = Op(operator("maxpool"), (image("f64", 2, 3, *extents),), args, layout="NHWC")
        compare(op, op.draw(rng), lambda x: functional.max_pool2d(x, window, stride, pad, ceil_mode=ceil), ("x",))
        for count in (True, False):
            op = Op(operator("avgpool"), (image("f64", 2, 3, *extents),), args | {"count_pad": count}, layout="CHWN")
            compare(op, op.draw(rng), average_pool(window, stride, pad, ceil, count), ("x",))


def average_pool(window: Any, stride: Any, pad: Any, ceil: bool, count: bool) -> Callable[..., Any]:
    return lambda x: functional.avg_pool2d(x, window, stride, pad, ceil_mode=ceil, count_include_pad=count)


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid"])
def test_activations(name: str) -> None:
    op = Op(operator(name), (image("f64", 3, 4, 5, 6),), {})
    compare(op, op.draw(np.random.default_rng(3)), getattr(torch, name), ("x",))


def test_softmax() -> None:
    op = Op(operator("softmax"), (image("f64", 3, 4, 5, 6),), {"axis": "channel"}, layout="NHWC")
    compare(op, op.draw(np.random.default_rng(4)), lambda x: torch.softmax(x, dim=1), ("x",))


def test_linear() -> None:
    op = Op(operator("linear"), (image("f64", 5, 7),), {"features": 3})
    compare(op, op.draw(np.random.default_rng(5)), functional.linear, ("x", "weight", "bias"))


def test_bn() -> None:
    op = Op(operator("bn"), (image("f64", 4, 3, 5, 2),), {}, runtime={"count": 4, "position": 0})
    known = op.draw(np.random.default_rng(6))
    compare(
        op,
        known,
        lambda x, scale, shift: functional.batch_norm(x, None, None, scale, shift, training=True),
        ("x", "scale", "shift"),
    )
    found = op.call("statistics", ("x", "batch_mean", "batch_rstd"), ("mean", "variance"), op.forward(known))
    mean, variance = np.zeros(3), np.ones(3)
    kernel("bn", "update")(mean, variance, found["mean"], found["variance"], momentum=0.1)
    running = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    functional.batch_norm(torch.tensor(known["x"]), *running, training=True)
    assert relative_error(mean, running[0].numpy()) < BOUND
    assert relative_error(variance, running[1].numpy()) < BOUND


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing: float) -> None:
    rng = np.random.default_rng(7)
    label = rng.integers(0, 5, 6).astype(np.int32)
    operands = (image("f64", 6, 5), TensorType("i32", (Axis("batch", 6),)))
    op = Op(operator("cross_entropy"), operands, {"smoothing": smoothing}, runtime={"count": 6})
    compare(
        op,
        {"logits": rng.standard_normal((6, 5)), "label": label},
        lambda x: functional.cross_entropy(x, torch.tensor(label).long(), label_smoothing=smoothing),
        ("logits",),
    )


def test_mse() -> None:
    rng = np.random.default_rng(8)
    op = Op(operator("mse"), (image("f64", 4, 3), image("f64", 4, 3)), {}, runtime={"count": 4})
    known = op.draw(rng)
    compare(op, known, lambda x: functional.mse_loss(x, torch.tensor(known["target"])), ("prediction",))


RULES: list[tuple[str, int, dict[str, Any], Callable[..., Any]]] = [
    ("sgd", 0, {}, lambda p: torch.optim.SGD(p, lr=0.1)),
    ("sgd", 0, {"weight_decay": 0.1}, lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.1)),
    ("sgd", 1, {"momentum": 0.9}, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    (
        "sgd",
        1,
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    ),
    ("adagrad", 1, {"eps": 1e-10}, lambda p: torch.optim.Adagrad(p, lr=0.1)),
    (
        "adagrad",
        1,
        {"eps": 1e-3, "weight_decay": 0.1},
        lambda p: torch.optim.Adagrad(p, lr=0.1, eps=1e-3, weight_decay=0.1),
    ),
    ("rmsprop", 1, {"alpha": 0.99, "eps": 1e-8}, lambda p: torch.optim.RMSprop(p, lr=0.1)),
    (
        "rmsprop",
        2,
        {"alpha": 0.9, "eps": 1e-4, "momentum": 0.8, "weight_decay": 0.1},
        lambda p: torch.optim.RMSprop(p, lr=0.1, alpha=0.9, eps=1e-4, momentum=0.8, weight_decay=0.1),
    ),
    ("adam", 2, {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}, lambda p: torch.optim.Adam(p, lr=0.1)),
    (
        "adam",
        2,
        {"beta1": 0.8, "beta2": 0.9, "eps": 1e-4, "weight_decay": 0.1},
        lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.9), eps=1e-4, weight_decay=0.1),
    ),
    (
        "adamw",
        2,
        {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01},
        lambda p: torch.optim.AdamW(p, lr=0.1),
    ),
]


@pytest.mark.parametrize(("rule", "states", "attrs", "optimizer"), RULES)
def test_updates(rule: str, states: int, attrs: dict[str, Any], optimizer: Callable[..., Any]) -> None:
    """Five steps with a rate that changes; the weight is longer than a chunk."""
    rng = np.random.default_rng(9)
    weight = rng.standard_normal((100, 200))
    expected = torch.tensor(weight.copy(), requires_grad=True)
    kept = [np.zeros_like(weight) for _ in range(states)]
    stepper = optimizer([expected])
    for step in range(5):
        gradient = rng.standard_normal(weight.shape)
        expected.grad = torch.tensor(gradient.copy())
        rate = 0.1 / (step + 1)
        stepper.param_groups[0]["lr"] = rate
        stepper.step()
        given = gradient.copy()
        kernel(rule, "update")(weight, gradient, *kept, lr=rate, step=step, **attrs)
        assert np.array_equal(gradient, given)
        assert relative_error(weight, expected.detach().numpy()) < BOUND


def test_clipping() -> None:
    rng = np.random.default_rng(10)
    for bound in (0.1, 100.0):
        gradients = [rng.standard_normal(shape) for shape in ((3, 4), (5,), (2, 2, 2))]
        tensors = [torch.tensor(np.zeros_like(g), requires_grad=True) for g in gradients]
        for tensor, gradient in zip(tensors, gradients, strict=True):
            tensor.grad = torch.tensor(gradient.copy())
        torch.nn.utils.clip_grad_norm_(tensors, bound)
        kernel("clip", "clip")(*gradients, kind="norm", bound=bound)
        for tensor, gradient in zip(tensors, gradients, strict=True):
            assert relative_error(gradient, tensor.grad.numpy()) < BOUND


def test_first_weights_lie_as_those_of_pytorch() -> None:
    """Conv2d and Linear draw weight and bias from U(±1/√fan_in)."""
    module = torch.nn.Conv2d(3, 64, 5)
    inferred = Op(CONV, (image("f32", 2, 3, 8, 8),), {"filters": 64, "window": 5}).inferred
    for weight, parameter in zip(inferred.weights, module.parameters(), strict=True):
        assert weight.type.shape == tuple(parameter.shape)
        bound = 1 / np.sqrt(weight.init.fan_in)
        assert parameter.abs().max().item() <= bound
        assert parameter.std().item() == pytest.approx(bound / np.sqrt(3), rel=0.2)
