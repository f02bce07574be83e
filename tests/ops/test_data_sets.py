"""Data sets: what a train block may say of them, and what they feed a network with."""

import pytest

from dlc.data_sets import DATA_SETS, LOADABLE, data_set
from dlc.ir.tensor import tensor


def arguments(name: str, **given) -> dict:
    found = data_set(name)
    assert found is not None
    return {parameter.name: parameter.default for parameter in found.parameters} | given


@pytest.mark.parametrize(
    ("name", "given", "shape", "classes"),
    [
        ("digits", {}, (1, 8, 8), 10),
        ("digits", {"scale": 4}, (1, 32, 32), 10),
        ("mnist", {"dir": "d", "pad": 2}, (1, 32, 32), 10),
        ("cifar10", {"dir": "d"}, (3, 32, 32), 10),
        ("images", {"dir": "d"}, (3, 224, 224), None),
        ("text", {"file": "f", "seq": 1024}, (1024,), None),
        ("synthetic", {"classes": 7}, None, 7),
        ("npz", {"file": "f"}, None, None),
    ],
)
def test_samples_and_classes(name, given, shape, classes) -> None:
    found = data_set(name)
    sample = found.sample(arguments(name, **given))
    assert (sample and sample.shape) == shape
    assert found.classes(arguments(name, **given)) == classes


def test_fields() -> None:
    image, tokens = tensor("f32", batch=32, channel=1, height=8, width=8), tensor("i32", batch=4, seq=16)
    assert data_set("digits").field_type("label", image) == tensor("i32", batch=32)
    assert data_set("text").field_type("next", tokens) == tensor("i32", batch=4, seq=16)
    assert data_set("npz").field_type("target", image) is None
    with pytest.raises(KeyError):
        data_set("digits").field_type("next", image)


def test_what_fits_a_network_input() -> None:
    digits, scaled = data_set("digits"), arguments("digits", scale=4)
    assert digits.feeds(tensor("f32", batch=32, channel=1, height=32, width=32), scaled)
    assert digits.feeds(tensor("f64", batch=32, c=1, h=32, w=32), scaled)
    assert not digits.feeds(tensor("f32", batch=32, channel=3, height=32, width=32), scaled)
    assert not digits.feeds(tensor("f32", batch=32, feature=1024), scaled)
    assert not digits.feeds(tensor("i32", batch=32, channel=1, height=32, width=32), scaled)
    assert data_set("synthetic").feeds(tensor("f32", batch=32, feature=7), arguments("synthetic"))


def test_every_data_set_has_order_and_test_share() -> None:
    for found in DATA_SETS:
        names = {parameter.name for parameter in found.parameters}
        assert {"shuffle", "last"} <= names
        assert ("test" in names) == (found.name not in ("mnist", "cifar10")), "these have a test set of their own"
    assert set(LOADABLE) < {found.name for found in DATA_SETS}
    assert data_set("imagenet") is None
