"""Update rules: arguments, defaults as PyTorch's, and the states they keep."""

import inspect

import pytest

from dlc.ir.tensor import tensor
from dlc.ops import OPTIMIZERS, optimizer
from dlc.ops.operator import Shapes

WEIGHT = tensor("f32", out=84, **{"in": 400})


def defaults(name: str) -> dict:
    return {parameter.name: parameter.default for parameter in optimizer(name).parameters}


@pytest.mark.parametrize(
    ("name", "given", "states"),
    [
        ("sgd", {}, ()),
        ("sgd", {"momentum": 0.9}, ("velocity",)),
        ("sgd", {"momentum": 0.9, "nesterov": True}, ("velocity",)),
        ("adagrad", {}, ("square_sum",)),
        ("rmsprop", {}, ("square_average",)),
        ("rmsprop", {"momentum": 0.9}, ("square_average", "velocity")),
        ("adam", {}, ("mean", "square_mean")),
        ("adamw", {"weight_decay": 0.1}, ("mean", "square_mean")),
        ("lars", {}, ("velocity",)),
        ("lars", {"momentum": 0.0}, ()),
        ("lamb", {}, ("mean", "square_mean")),
    ],
)
def test_states(name, given, states) -> None:
    rule, arguments = optimizer(name), defaults(name) | given
    assert rule.states(arguments) == states
    inferred = rule.operator.infer((WEIGHT,) * (2 + len(states)), arguments)
    assert inferred.results == (WEIGHT,) * (1 + len(states))
    assert dict(inferred.attrs) == arguments


def test_states_are_those_of_the_memory_model() -> None:
    """cost-models.md §5: SGD 0, momentum 1, Adam 2 values a weight."""
    counts = [
        len(optimizer(n).states(defaults(n) | g)) for n, g in (("sgd", {}), ("sgd", {"momentum": 0.9}), ("adam", {}))
    ]
    assert counts == [0, 1, 2]


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("name", "theirs", "renamed"),
    [
        ("sgd", "SGD", {}),
        ("adagrad", "Adagrad", {}),
        ("rmsprop", "RMSprop", {}),
        ("adam", "Adam", {}),
        ("adamw", "AdamW", {}),
    ],
)
def test_defaults_are_pytorchs(name, theirs, renamed) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its defaults are not compared with")
    signature = inspect.signature(getattr(torch.optim, theirs)).parameters
    betas = dict(zip(("beta1", "beta2"), signature["betas"].default, strict=True)) if "betas" in signature else {}
    for argument, value in defaults(name).items():
        expected = betas[argument] if argument in betas else signature[argument].default
        assert value == expected, argument


def test_every_rule_is_told_the_rate() -> None:
    assert {rule.operator.runtime for rule in OPTIMIZERS if rule.joint is None} == {("lr", "step")}
    assert {rule.operator.runtime for rule in OPTIMIZERS if rule.joint} == {("lr",)}


def test_a_joint_rule_takes_all_weights_gradients_and_states() -> None:
    rule, arguments = optimizer("lbfgs"), {"history": 3}
    assert rule.joint is not None
    states = rule.joint(arguments, tensor("f64", element=WEIGHT.elements + 5))
    assert [(name, type_.shape) for name, type_ in states[:3]] == [
        ("steps", (3, WEIGHT.elements + 5)),
        ("changes", (3, WEIGHT.elements + 5)),
        ("curvatures", (3,)),
    ]
    bias = tensor("f64", out=5)
    operands = (WEIGHT, bias, WEIGHT, bias, *(type_ for _, type_ in states))
    inferred = rule.operator.infer(operands, arguments)
    assert inferred.results == (WEIGHT, bias, *(type_ for _, type_ in states))
    cost = rule.operator.cost("update", Shapes(operands, (), arguments))
    assert cost.work == (8 * 3 + 14) * (WEIGHT.elements + 5)
