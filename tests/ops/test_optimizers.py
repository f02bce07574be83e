"""Update rules: arguments, defaults as PyTorch's, and the states they keep."""

import inspect

import pytest

from dlc.ir.tensor import tensor
from dlc.ops import OPTIMIZERS, optimizer

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


def test_runtime_values_are_alike() -> None:
    assert {rule.operator.runtime for rule in OPTIMIZERS} == {("lr", "step")}
