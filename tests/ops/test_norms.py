"""Norms, embeddings and attention: types, weights and their first values, and how a wrapped layer is expanded."""

from pathlib import Path

import pytest

from dlc.driver import read
from dlc.ir.graph import Graph, Init
from dlc.ir.tensor import TensorType, tensor

IMAGE = tensor("f32", batch=32, channel=6, height=28, width=28)
LINE = tensor("f32", batch=4, channel=6, length=9)
VOLUME = tensor("f32", batch=4, channel=6, depth=3, height=4, width=5)
ROWS = tensor("f32", batch=32, feature=400)
HIDDEN = tensor("f32", batch=4, seq=16, width=24)


@pytest.mark.parametrize("x", [IMAGE, LINE, VOLUME, ROWS])
@pytest.mark.parametrize(("name", "given"), [("bn", {}), ("groupnorm", {"groups": 2}), ("lrn", {})])
def test_norms_of_channels_take_any_number_of_pixel_axes(infer, name: str, given: dict, x: TensorType) -> None:
    inferred = infer(name, x, **given)
    assert inferred.results == (x,)
    assert [weight.type for weight in inferred.weights if weight.trained] == [tensor("f32", channel=x.shape[1])] * (
        0 if name == "lrn" else 2
    )


@pytest.mark.parametrize("x", [IMAGE, ROWS, HIDDEN])
def test_norms_of_rows_save_what_a_row_needs(infer, x: TensorType) -> None:
    row = TensorType("f32", x.axes[:-1])
    assert infer("layernorm", x).saved == (("mean", row), ("rstd", row))
    assert infer("rmsnorm", x).saved == (("rstd", row),)
    assert [weight.role for weight in infer("rmsnorm", x).weights] == ["scale"]


def test_group_norm_saves_what_a_group_of_a_sample_needs(infer) -> None:
    table = tensor("f32", batch=32, group=3)
    assert infer("groupnorm", IMAGE, groups=3).saved == (("mean", table), ("rstd", table))


def test_defaults_are_those_of_pytorch_and_the_paper(infer) -> None:
    assert infer("rmsnorm", HIDDEN).attrs == (("eps", 2**-23),)
    assert infer("lrn", IMAGE).attrs == (("size", 5), ("alpha", 1e-4), ("beta", 0.75), ("k", 2.0))
    assert infer("groupnorm", IMAGE, groups=2).attrs == (("groups", 2), ("eps", 1e-5))


def test_attention_has_the_weights_of_pytorch(infer) -> None:
    inferred = infer("attention", HIDDEN, heads=3)
    assert inferred.results == (HIDDEN,)
    assert [(weight.role, weight.type.shape, weight.init.kind) for weight in inferred.weights] == [
        ("in_proj_weight", (72, 24), "glorot"),
        ("in_proj_bias", (72,), "constant"),
        ("out_proj_weight", (24, 24), "kaiming_uniform"),
        ("out_proj_bias", (24,), "constant"),
    ]
    assert dict(inferred.saved)["probabilities"].shape == (4, 3, 16, 16)
    without = infer("attention", HIDDEN, heads=3, bias=False)
    assert [weight.role for weight in without.weights] == ["in_proj_weight", "out_proj_weight"]
    assert infer("attention", HIDDEN, **dict(without.attrs)) == without


NETWORK = """dlspec 1
block wide(x, n) {
  return x -> weight_norm(linear(n)) as up -> tanh
}
network net {
  input image: f32[batch = 4, channel = 2, height = 6, width = 5]
  c = image -> weight_norm(conv(3, 3x3)) -> relu -> weight_norm(conv(3, 2x2, bias = no))
  f = c -> flatten -> wide(6) as first -> repeat 2 { wide(6) }
  logits = weight_norm(f, linear(10))
  output logits
}
"""


@pytest.fixture
def network(tmp_path: Path) -> Graph:
    path = tmp_path / "net.dlspec"
    path.write_text(NETWORK)
    return read(str(path)).spec.jobs[0].graph


def test_a_wrapped_layer_keeps_its_address(network: Graph) -> None:
    assert [node.address for node in network.nodes if node.op in ("conv", "linear")] == [
        "c.conv",
        "c.conv_2",
        "f.first.up",
        "f[0].up",
        "f[1].up",
        "logits.linear",
    ]


def test_its_weight_is_made_by_a_node_of_its_own(network: Graph) -> None:
    for node in network.nodes:
        if node.op in ("conv", "linear"):
            maker = network.producer(node.inputs[1])
            assert maker is not None
            assert maker.address == f"{node.address}.weight_norm"
            assert maker.inputs == (f"{maker.address}.direction", f"{maker.address}.magnitude")
            assert not network.has_value(f"{node.address}.weight")
            assert network.has_value(f"{node.address}.bias") == (node.address != "c.conv_2")


def test_the_direction_starts_as_the_weight_and_the_magnitude_as_its_norms(network: Graph) -> None:
    direction, magnitude = (network.value(f"c.conv.weight_norm.{role}") for role in ("direction", "magnitude"))
    assert direction.init == Init("kaiming_uniform", fan_in=18, fan_out=27)
    assert magnitude.init == Init("norms")
    assert direction.type.shape == (3, 2, 3, 3)
    assert magnitude.type.shape == (3, 1, 1, 1)
    assert direction.owner == magnitude.owner == "c.conv.weight_norm"
