"""Convolution with ReLU in C: just what the function without it gives, changed as NumPy's kernels of ReLU do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.c import conv_direct, conv_winograd
from backends.numpy_mpi.c.conv import Conv
from backends.numpy_mpi.c.source import CFunction
from backends.numpy_mpi.kernels import IN_TILES, KERNELS
from backends.numpy_mpi.kernels.elementwise import relu_dx, relu_forward
from dlc.ops import operator
from dlc.ops.fusion import FUSIONS
from tests.c.bound import DTYPES
from tests.c.building import build, call, runnable
from tests.kernels.calling import Op, image, kernel

pytestmark = pytest.mark.skipif(not runnable(), reason="there is no C compiler")

Make = Callable[..., CFunction]
WAYS: dict[str, tuple[Make, Make]] = {
    "direct": (conv_direct.forward, conv_direct.dx),
    "winograd(2)": (partial(conv_winograd.forward, m=2), partial(conv_winograd.dx, m=2)),
    "winograd(4)": (partial(conv_winograd.forward, m=4), partial(conv_winograd.dx, m=4)),
}
N, ROWS, COLUMNS = 3, 9, 10
CONVS = [
    Conv(12, 20, ROWS, COLUMNS, (3, 3), pad=((1, 1), (1, 1)), bias=True),
    Conv(16, 32, ROWS, COLUMNS, (3, 3)),
    Conv(12, 20, ROWS, COLUMNS, (3, 3), (2, 2), ((1, 1), (1, 1))),
    Conv(6, 9, ROWS, COLUMNS, (1, 1), (2, 2), groups=3, bias=True),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("algorithm", WAYS)
def test_sums_pass_a_relu(algorithm: str, dtype: str, tmp_path: Path) -> None:
    for number, plain in enumerate(replace(conv, dtype=dtype) for conv in CONVS):
        if algorithm != "direct" and (plain.stride != (1, 1) or plain.groups > 1):
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        convs = (plain, replace(plain, relu=True))
        made = [make(conv, runnable()[0], f"f{at}{int(conv.relu)}")
                for at, make in enumerate(WAYS[algorithm]) for conv in convs]  # fmt: skip
        library = build(made, runnable()[0], [dtype], folder)
        rng = np.random.default_rng(number)

        def drawn(*shape: int, rng: Any = rng) -> Any:
            return rng.standard_normal(shape).astype(DTYPES[dtype])

        numbers = [N, ROWS, *plain.pad[0]]
        weight, bias = drawn(plain.filters, plain.channels // plain.groups, *plain.window), drawn(plain.filters)
        x, dy = drawn(N, ROWS, COLUMNS, plain.channels), drawn(N, *plain.outputs, plain.filters)
        given = np.maximum(drawn(*x.shape), 0)
        dy[0, 0, 0, 0] = np.inf
        y = [np.full_like(dy, 7) for _ in range(3)]
        reads = (x, weight, *([bias] if plain.bias else []))
        call(library, made[0], (*reads, y[0]), numbers)
        relu_forward(y[0], y[1])
        call(library, made[1], (*reads, y[2]), numbers)
        assert np.array_equal(y[1], y[2], equal_nan=True)
        dx = [np.full_like(x, 7) for _ in range(3)]
        call(library, made[2], (dy, weight, dx[0]), numbers)
        with np.errstate(invalid="ignore"):
            relu_dx(dx[0], given, dx[1])
        call(library, made[3], (dy, weight, given, dx[2]), numbers)
        assert np.array_equal(dx[1], dx[2], equal_nan=True)


def test_numpys_kernels_do_what_the_single_ones_do() -> None:
    told: dict[str, Any] = {"filters": 4, "window": (3, 3), "pad": ((1, 1), (1, 1)), "bias": True}
    conv = operator("conv")
    assert conv is not None
    for algorithm in IN_TILES:
        op = Op(conv, (image("f64", 2, 3, 6, 6),), {**told, "pad": "same"}, layout="NHWC", algorithm=algorithm)
        x, weight, bias = (op.store(role, array) for role, array in op.draw(np.random.default_rng(3)).items())
        rooms = {stage: [np.empty(each.type.shape) for each in op.workspaces(stage)] for stage in ("forward", "dx")}
        y = [np.empty((2, 6, 6, 4)) for _ in range(3)]
        kernel("conv", "forward", algorithm)(x, weight, bias, y[0], *rooms["forward"], **told, layout="NHWC")
        relu_forward(y[0], y[1])
        kernel("conv_relu", "forward", algorithm)(x, weight, bias, y[2], *rooms["forward"], **told, layout="NHWC")
        assert np.array_equal(y[1], y[2])
        given, dx = np.maximum(np.roll(x, 1), 0), [np.empty_like(x) for _ in range(3)]
        kernel("conv", "dx", algorithm)(y[0], weight, dx[0], *rooms["dx"], **told, layout="NHWC")
        relu_dx(dx[0], given, dx[1])
        kernel("conv_relu", "dx", algorithm)(y[0], weight, given, dx[2], *rooms["dx"], **told, layout="NHWC")
        assert np.array_equal(dx[1], dx[2])


def test_every_chain_has_a_kernel() -> None:
    for fusion in FUSIONS.values():
        for algorithm, _ in fusion.ways:
            assert (fusion.op, fusion.stage, algorithm) in KERNELS
