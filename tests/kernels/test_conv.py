"""Convolution: every algorithm in every layout, forward and both gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backends.numpy_mpi.kernels import CONV_ALGORITHMS
from backends.numpy_mpi.kernels.conv_winograd import F2, F4, Matrices
from dlc.ir.graph import Attr
from dlc.ops.conv import CONV
from dlc.ops.operator import LAYOUTS
from tests.kernels.calling import Known, Op, image, linear_gradient, relative_error
from tests.slices import first

ALGORITHMS = tuple(CONV_ALGORITHMS)
WAYS = tuple((algorithm, layout) for algorithm in ALGORITHMS for layout in LAYOUTS)

ROUNDING = {"direct": 2e-6, "im2col": 2e-6, "fft": 2e-6, "fft_tiled": 2e-6, "winograd(2)": 2e-6, "winograd(4)": 2e-5,
            "implicit_gemm": 2e-6, "cudnn": 2e-6}  # fmt: skip
"""Relative error in f32; reliability.md gives 7e-6 as the largest of F(4,3), here with a margin for the weights'
gradient, which sums over all pixels."""


def draw_case(rng: np.random.Generator, window: tuple[int, int] | None = None) -> tuple[Any, dict[str, Attr]]:
    """A small convolution: half of them may be computed by Winograd's algorithms."""
    groups = int(rng.choice([1, 1, 2]))
    n, into, out = (int(v) for v in rng.integers(1, 4, 3))
    args: dict[str, Attr] = {
        "filters": out * groups,
        "window": (3, 3),
        "pad": draw_pad(rng),
        "groups": groups,
        "bias": bool(rng.integers(2)),
    }
    if rng.integers(2):
        args |= {name: pair(rng, 1, high) for name, high in (("window", 4), ("stride", 3), ("dilation", 3))}
    height, width = (int(v) for v in rng.integers(5, 9, 2))
    return image("f64", n, into * groups, height, width), args


def pair(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    first, second = rng.integers(low, high, 2)
    return (int(first), int(second))


def draw_pad(rng: np.random.Generator) -> Attr:
    pads: tuple[Attr, ...] = (0, 1, 3, "same", ((0, 2), (1, 0)))
    return pads[int(rng.integers(len(pads)))]


def legal(x: Any, args: dict[str, Attr]) -> Iterator[Op]:
    for algorithm, layout in WAYS:
        op = Op(CONV, (x,), args, layout=layout, algorithm=algorithm)
        if all(op.excluded(stage) is None for stage in ("forward", "dx", "dw")):
            yield op


def draw_known(op: Op, rng: np.random.Generator) -> Known:
    return op.draw(rng) | {"dy": rng.standard_normal(op.types["y"].shape)}


def by_definition(known: Known, op: Op) -> Any:
    """y from the formula, with Python loops over taps and channels of a group."""
    attrs: dict[str, Any] = dict(op.inferred.attrs)
    x, w, (sh, sw), (dh, dw) = known["x"], known["weight"], attrs["stride"], attrs["dilation"]
    padded = np.pad(x, ((0, 0), (0, 0), *attrs["pad"]))
    y = np.zeros(op.types["y"].shape)
    k_group = w.shape[0] // attrs["groups"]
    rows, columns = y.shape[2], y.shape[3]
    for k in range(w.shape[0]):
        for c in range(w.shape[1]):
            source = padded[:, (k // k_group) * w.shape[1] + c]
            for a, b in np.ndindex(*w.shape[2:]):
                tap = source[
                    :, a * dh : a * dh + (rows - 1) * sh + 1 : sh, b * dw : b * dw + (columns - 1) * sw + 1 : sw
                ]
                y[:, k] += w[k, c, a, b] * tap
    return y + known["bias"][:, None, None] if "bias" in known else y


@pytest.mark.parametrize("seed", first(2, range(10)))
def test_results_and_gradients_of_drawn_shapes(seed: int) -> None:
    """y against the formula; gradients against central differences of one way that is legal, in float64."""
    rng = np.random.default_rng(seed)
    for _ in range(21):
        x, args = draw_case(rng)
        ways = list(legal(x, args))
        known = draw_known(ways[0], rng)
        differentiated = ways[int(rng.integers(len(ways)))]
        expected = {f"d{role}": linear_gradient(differentiated, known, role) for role in differentiated.inputs}
        expected["y"] = by_definition(known, ways[0])
        for op in ways:
            found = op.backward(op.forward(known))
            errors = {role: relative_error(found[role], value) for role, value in expected.items()}
            assert max(errors.values()) < 1e-12, (op.algorithm, op.layout, args, x, errors)


@pytest.mark.parametrize(("algorithm", "layout"), WAYS)
def test_larger_images_and_blocks(algorithm: str, layout: str) -> None:
    """Several tiles and several blocks of samples agree with direct: in f64 up to rounding, in f32 within bounds."""
    rng = np.random.default_rng(5)
    args: dict[str, Attr] = {"filters": 6, "window": 3, "pad": ((1, 2), (0, 1)), "bias": True}
    for dtype, bound in (("f64", 1e-12), ("f32", ROUNDING[algorithm])):
        direct = Op(CONV, (image("f64", 5, 40, 37, 42),), args, algorithm="direct")
        known = draw_known(direct, rng)
        known = {role: array.astype(np.float32).astype(np.float64) for role, array in known.items()}
        expected = direct.backward(direct.forward(known))
        op = Op(CONV, (image(dtype, 5, 40, 37, 42),), args, algorithm=algorithm, layout=layout)
        cast = {role: array.astype(dtype.replace("f", "float")) for role, array in known.items()}
        found = op.backward(op.forward(cast))
        for role in ("y", "dx", "dweight", "dbias"):
            assert found[role].dtype == cast["x"].dtype
            assert relative_error(found[role], expected[role]) < bound, role


@pytest.mark.parametrize(("algorithm", "layout"), WAYS)
def test_fewer_samples_than_declared(algorithm: str, layout: str) -> None:
    """Workspaces are those of the declared batch, the arrays hold what is left of the samples."""
    rng = np.random.default_rng(6)
    op = Op(CONV, (image("f64", 7, 2, 9, 11),), {"filters": 4, "window": 3, "pad": 1, "groups": 2}, layout, algorithm)
    known = draw_known(op, rng)
    whole = op.forward(known)
    for n in (0, 1, 4):
        part = known | {"x": known["x"][:n], "dy": known["dy"][:n]}
        found = op.backward(op.forward(part))
        assert relative_error(found["y"], whole["y"][:n]) < 1e-13
        padded = known | {"dy": np.concatenate([known["dy"][:n], np.zeros_like(known["dy"][n:])])}
        expected = op.backward(whole | padded)
        assert relative_error(found["dx"], expected["dx"][:n]) < 1e-13
        assert relative_error(found["dweight"], expected["dweight"]) < 1e-12


@pytest.mark.parametrize(
    ("args", "channels", "extent"),
    [
        ({"filters": 6, "window": 5}, 1, 32),
        ({"filters": 16, "window": 5}, 6, 14),
        ({"filters": 120, "window": 5}, 16, 5),
        ({"filters": 32, "window": 1}, 24, 14),
        ({"filters": 8, "window": 7, "stride": 2, "pad": 3}, 3, 40),
        ({"filters": 12, "window": 3, "pad": "same", "groups": 4}, 8, 20),
    ],
)
def test_shapes_of_known_networks(args: dict[str, Attr], channels: int, extent: int) -> None:
    rng = np.random.default_rng(7)
    ways = list(legal(image("f64", 4, channels, extent, extent), args))
    known = draw_known(ways[0], rng)
    expected = ways[0].backward(ways[0].forward(known))
    for op in ways[1:]:
        found = op.backward(op.forward(known))
        for role in ("y", "dx", "dweight", "dbias"):
            assert relative_error(found[role], expected[role]) < 1e-12, (op.algorithm, op.layout, role)


@pytest.mark.parametrize(
    ("args", "algorithm", "reason"),
    [
        ({"window": 3, "stride": 2}, "winograd(4)", "the stride is 2"),
        ({"window": 3, "stride": (1, 2)}, "winograd(2)", "the stride is 1x2"),
        ({"window": 5}, "winograd(2)", "the window is 5x5"),
        ({"window": 3, "dilation": 2}, "winograd(4)", "the dilation is 2"),
        ({"window": 3, "stride": 2}, "fft", "the stride is 2"),
        ({"window": 3, "stride": 3}, "fft_tiled", "the stride is 3"),
        ({"window": 3}, "implicit_gemm", "it is for other devices"),
        ({"window": 3}, "cudnn", "it is for other devices"),
        ({"window": 3, "stride": 2, "dilation": 2}, "direct", None),
        ({"window": 3, "stride": 2, "dilation": 2}, "im2col", None),
        ({"window": 5, "dilation": 2}, "fft", None),
    ],
)
def test_legality_in_words(args: dict[str, Attr], algorithm: str, reason: str | None) -> None:
    op = Op(CONV, (image("f32", 2, 3, 12, 12),), {"filters": 4, **args}, algorithm=algorithm)
    assert {op.excluded(stage) for stage in ("forward", "dx", "dw")} == {reason}


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_tiles_too_inexact_for_half_precision_are_known(dtype: str) -> None:
    """They can be pinned, but are not taken otherwise."""
    x, args = image(dtype, 2, 3, 12, 12), {"filters": 4, "window": 3}
    for algorithm in CONV.algorithms:
        op = Op(CONV, (x,), args, algorithm=algorithm.name)
        for stage in ("forward", "dx", "dw"):
            inexact = algorithm.inexact(stage, op.shapes(stage)) is not None
            assert algorithm.excluded(stage, op.shapes(stage)) is None
            assert inexact == (algorithm.name == "winograd(4)" and dtype != "f32")


def test_counts_of_winograd() -> None:
    """F(2×2) multiplies 2.25 times less than direct, F(4×4) 4 times, where tiles fit the image."""
    x, args = image("f32", 8, 16, 16, 16), {"filters": 32, "window": 3, "pad": 1}
    counts = {}
    for algorithm in CONV.algorithms:
        op = Op(CONV, (x,), args, algorithm=algorithm.name)
        counts[algorithm.name] = {s: algorithm.cost(s, op.shapes(s)) for s in ("forward", "dx", "dw")}
    direct = 8 * 16 * 32 * 16 * 16 * 9
    for stage in ("forward", "dx", "dw"):
        assert counts["direct"][stage].macs == counts["im2col"][stage].work == direct
        assert counts["winograd(2)"][stage].macs * 2.25 == direct
        assert counts["winograd(4)"][stage].macs * 4 == direct
    assert counts["direct"]["forward"].depth == 4 + 2 + 2
    assert counts["direct"]["dx"].depth == 5 + 2 + 2
    assert counts["direct"]["dw"].depth == 3 + 4 + 4
    tiles = 8 * 4 * 4
    terms = (32 * 16 * 6 * (9 + 18), 16 * tiles * 2 * 6**3, 32 * tiles * 6 * (24 + 16), 32 * 16 * tiles * 36)
    assert counts["winograd(4)"]["forward"].work == sum(terms)


def test_workspaces_are_bounded_by_blocks() -> None:
    """Columns of a large layer fill a cache, not the memory."""
    op = Op(CONV, (image("f32", 256, 64, 56, 56),), {"filters": 64, "window": 3, "pad": 1}, algorithm="im2col")
    (columns,) = (w for w in op.workspaces("forward") if w.role == "columns")
    assert columns.type.bytes == 64 * 9 * 56 * 56 * 4
    plain = replace(op, operands=(image("f32", 8, 64, 14, 14),), args={"filters": 64, "window": 1})
    assert plain.workspaces("forward") == ()


@pytest.mark.parametrize("matrices", [F2, F4])
def test_winograd_matrices_are_exact(matrices: Matrices) -> None:
    """Aᵀ[(G g)∘(Bᵀ d)] is the correlation of g and d for all pairs of unit vectors, in two dimensions."""
    m, alpha = matrices.m, matrices.m + 2
    found = np.einsum("yp,pk,pd->ykd", matrices.output, matrices.filters, matrices.data)
    expected = np.zeros((m, m, 3, 3, alpha, alpha))
    for i, j, a, b in np.ndindex(m, m, 3, 3):
        expected[i, j, a, b, i + a, j + b] = 1
    assert np.abs(found - expected.reshape(found.shape)).max() < 1e-14
