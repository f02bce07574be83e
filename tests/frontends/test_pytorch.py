"""Networks that PyTorch exports import, and compute what it computes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: nothing that it exports is imported")

import torch
from torch import Tensor, nn
from torch.nn import functional

from dlc.frontends.onnx.importing import Imported, import_file
from tests.frontends.evaluate import evaluate
from tests.frontends.node_tests import expanded, without_batch

pytestmark = pytest.mark.oracle


class MobileBlock(nn.Module):
    """As in MobileNet v3: relu6, a depthwise convolution, squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Hardswish())
        self.squeeze = nn.Sequential(nn.Conv2d(8, 2, 1), nn.ReLU(), nn.Conv2d(2, 8, 1), nn.Hardsigmoid())
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.stem(x))
        y = y * self.squeeze(y.mean((2, 3), keepdim=True))
        y = functional.interpolate(y, scale_factor=2.0, mode="nearest")
        return functional.log_softmax(self.head(functional.adaptive_avg_pool2d(y, 1).flatten(1)), -1)


class Decoder(nn.Module):
    """A decoder block with a causal mask, written out; the exact gelu is that of opset 17, an error function."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, 6, 8))
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.positions
        y = self.norm(x)
        batch, seq, width = y.shape
        q, k, v = (part(y).view(batch, seq, 2, width // 2).transpose(1, 2) for part in (self.q, self.k, self.v))
        mask = torch.triu(torch.full((seq, seq), -torch.inf), 1)
        weights = (q @ k.transpose(-2, -1) / 2 + mask).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(batch, seq, width))
        return (x + self.down(functional.gelu(self.up(x))))[:, -1]


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module], *, last: bool, **more: Any) -> None:
        super().__init__()
        self.words, self.body, self.last = nn.Embedding(20, 8), kind(8, 6, batch_first=True, **more), last
        self.head = nn.Linear(12 if more.get("bidirectional") else 6, 20)

    def forward(self, x: Tensor) -> Tensor:
        states, end = self.body(self.words(x))
        return self.head(end[-1] if self.last else states)


class Unet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.above = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.InstanceNorm2d(4, affine=True), nn.PReLU())
        self.below = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU())
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.above(x)
        return torch.cat([a, self.up(self.below(a))], 1)


IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randint(0, 20, (3, 7), generator=torch.Generator().manual_seed(0))

NETWORKS: dict[str, tuple[Any, Tensor]] = {
    "mobile": (MobileBlock, IMAGE),
    "decoder": (Decoder, IMAGE.reshape(8, 6, 8)),
    "lstm": (lambda: Recurrent(nn.LSTM, last=False, num_layers=2, bidirectional=True), TOKENS),
    "gru": (lambda: Recurrent(nn.GRU, last=True), TOKENS),
    "rnn": (lambda: Recurrent(nn.RNN, last=True, nonlinearity="relu"), TOKENS),
    "unet": (Unet, IMAGE[:, :1]),
}


def imported(name: str, folder: Path) -> tuple[Imported, np.ndarray, np.ndarray]:
    """The import of a network, its input and its output."""
    torch.manual_seed(0)
    make, x = NETWORKS[name]
    network = make().eval()
    path = folder / "net.onnx"
    axes = {"x": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes}
        torch.onnx.export(network, (x,), str(path), opset_version=17, dynamo=False, **names)
    return import_file(str(path), {"batch": len(x)}, "net.dlspec"), x.numpy(), network(x).detach().numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs(name: str, tmp_path: Path) -> None:
    found, x, expected = imported(name, tmp_path)
    graph = expanded(found)
    values = evaluate(graph, {"x": x}, found.weights)
    y = without_batch(values[dict(graph.outputs)["y"]], found.batches["y"])
    assert np.abs(y - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_decoder_reads_as_it_would_be_written(tmp_path: Path) -> None:
    text = imported("decoder", tmp_path)[0].text
    for line in ("split_heads(2)", "split_heads(2) -> transpose", "causal_mask", "merge_heads", "-> gelu"):
        assert line in text
    assert text.count("linear(8)") == 5
    assert "reshape" not in text
    assert "Erf" not in text
