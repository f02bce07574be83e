"""Extents of pools against PyTorch's, over drawn windows, strides, pads and both roundings."""

import random

import pytest

from dlc.ir.tensor import tensor
from dlc.ops.operator import OperandError

torch = pytest.importorskip("torch", reason="PyTorch is not installed: its pools are not compared with")

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("seed", range(200))
def test_extents(infer, seed) -> None:
    draw = random.Random(seed)
    window = (draw.randint(1, 5), draw.randint(1, 5))
    stride = (draw.randint(1, 4), draw.randint(1, 4))
    pad = (draw.randint(0, window[0] // 2), draw.randint(0, window[1] // 2))
    extents = tuple(draw.randint(max(1, k - 2 * p), 12) for k, p in zip(window, pad, strict=True))
    ceil, count_pad = draw.random() < 0.5, draw.random() < 0.5
    x = tensor("f32", batch=2, channel=3, height=extents[0], width=extents[1])
    given = {"window": window, "stride": stride, "pad": pad, "ceil": ceil}
    image = torch.zeros(x.shape)
    expected = torch.nn.functional.max_pool2d(image, window, stride, pad, ceil_mode=ceil)
    assert infer("maxpool", x, **given).results[0].shape == tuple(expected.shape)
    average = torch.nn.functional.avg_pool2d(image, window, stride, pad, ceil_mode=ceil, count_include_pad=count_pad)
    assert infer("avgpool", x, **given, count_pad=count_pad).results[0].shape == tuple(average.shape)


def test_pads_that_pytorch_refuses_are_refused(infer) -> None:
    image = tensor("f32", batch=1, channel=1, height=8, width=8)
    for window in range(1, 6):
        for pad in range(5):
            code = None
            try:
                infer("maxpool", image, window=window, pad=pad, stride=1)
            except OperandError as error:
                code = error.code
            assert code == ("E0319" if _refused(window, pad) else None), (window, pad)


def _refused(window: int, pad: int) -> bool:
    try:
        torch.nn.functional.max_pool2d(torch.zeros(1, 1, 8, 8), window, 1, pad)
    except RuntimeError:
        return True
    return False
