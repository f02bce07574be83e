"""Kernels of GPUs: tiles and waves of products, tensor cores, passes over memory, and which algorithms there are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dlc.cluster.topology import Device
from dlc.cost.compute import seconds
from dlc.cost.gpu import BY_LAYOUT, gpu_phases
from dlc.cost.rates import HALF_INTENSITY, gpu_efficiency
from dlc.ir.graph import Attr
from dlc.ir.request import Request
from dlc.ir.tensor import TensorType, tensor
from dlc.ops import operator
from dlc.ops.operator import LAYOUTS, Operator, Shapes
from passes.options import candidates, operations, rules_of
from tests.cost.test_compute import CORE, conv_shapes
from tests.passes.sample_networks import lenet

V100 = Device("v100", kind="gpu", bandwidth=9e11, compute=(("f32", 1.57e13), ("f16", 1.25e14)), launch=5e-6, cores=80)
ALGORITHMS = ("direct", "im2col", "cudnn", "implicit_gemm", "winograd(2)", "winograd(4)", "fft", "fft_tiled")


def op(name: str) -> Operator:
    found = operator(name)
    assert found is not None
    return found


def in_half(shapes: Shapes) -> Shapes:
    def cast(types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        return tuple(type_.with_dtype("f16") for type_ in types)

    return Shapes(cast(shapes.inputs), cast(shapes.outputs), shapes.attrs)


def conv_seconds(algorithm: str, layout: str = "NHWC", *, half: bool = False, device: Device = V100) -> float:
    shapes = conv_shapes("forward", n=64, c=256, k=256, extent=28)
    return seconds(op("conv"), "forward", in_half(shapes) if half else shapes, algorithm, layout, device).seconds


# Matrix products.


def test_large_products_reach_what_is_documented() -> None:
    for multiprocessors in (1, 80):
        assert gpu_efficiency(8192, 8192, 8192, 1, multiprocessors) == pytest.approx(0.8, rel=0.03)
        assert gpu_efficiency(8192, 8192, 8192, 1, multiprocessors, HALF_INTENSITY["tensor"]) == pytest.approx(
            0.7, rel=0.03
        )


def test_one_tile_more_than_multiprocessors_takes_a_wave_more() -> None:
    """80 tiles of 128 x 128, and 81: of these the library makes smaller ones, which are less efficient."""
    even, odd = gpu_efficiency(80 * 128, 128, 512, 1, 80), gpu_efficiency(81 * 128, 128, 512, 1, 80)
    assert odd < 0.95 * even
    assert gpu_efficiency(128, 128, 512, 80, 80) == even  # as many products of one tile each


def test_products_with_a_large_k_are_cut_along_it() -> None:
    assert gpu_efficiency(128, 128, 100_000, 1, 80) > 10 * gpu_efficiency(128, 128, 500, 1, 80)


def test_a_product_of_few_rows_costs_what_its_matrix_takes_to_read() -> None:
    """A linear layer of eight samples."""
    x, y, w = tensor("f32", batch=8, feature=4096), tensor("f32", batch=8, feature=4096), (4096, 4096)
    weight = tensor("f32", out=w[0], **{"in": w[1]})
    found = seconds(op("linear"), "forward", Shapes((x, weight), (y,), {"bias": False}), "", "", V100)
    assert found.bound == "memory"
    assert found.seconds == pytest.approx(weight.bytes / (0.8 * 9e11) + 5e-6, rel=0.02)


@pytest.mark.parametrize("multiprocessors", [1, 24, 132])
def test_efficiency_is_a_share_and_symmetric(multiprocessors: int) -> None:
    rng = np.random.default_rng(3)
    for m, n, k, products in rng.integers(1, 5000, (200, 4)).tolist():
        share = gpu_efficiency(m, n, k, products, multiprocessors)
        assert 0 < share < 0.85
        assert share == gpu_efficiency(n, m, k, products, multiprocessors)


# Element types and layouts.


def test_tensor_cores_multiply_half_precision() -> None:
    assert conv_seconds("implicit_gemm", half=True) < conv_seconds("implicit_gemm") / 4
    assert conv_seconds("implicit_gemm", half=True) < conv_seconds("implicit_gemm", "NCHW", half=True)
    assert conv_seconds("implicit_gemm") == conv_seconds("implicit_gemm", "NCHW")
    plain = replace(V100, compute=(("f32", 1.57e13),))
    assert conv_seconds("implicit_gemm", half=True, device=plain) > conv_seconds("implicit_gemm") * 0.9


def test_the_library_is_priced_below_the_own_kernel_of_the_same_kind() -> None:
    for half in (False, True):
        for layout in ("NCHW", "NHWC"):
            assert conv_seconds("cudnn", layout, half=half) < conv_seconds("implicit_gemm", layout, half=half)


def test_only_products_profit_from_tensor_cores() -> None:
    for algorithm in ("direct", "winograd(2)", "fft"):
        assert conv_seconds(algorithm, half=True) > 0.45 * conv_seconds(algorithm)


# Passes over memory.


def test_elements_go_through_memory_once_and_norms_read_their_input_twice() -> None:
    x, c = tensor("f32", batch=64, channel=256, height=56, width=56), tensor("f32", channel=256)
    once = 2 * x.bytes / (0.8 * 9e11)
    relu = seconds(op("relu"), "forward", Shapes((x,), (x,), {}), "", "NCHW", V100)
    assert relu.seconds == pytest.approx(once + 5e-6)
    norm = Shapes((x, c, c), (x, c, c), {"group": 64})
    for layout in LAYOUTS:
        found = seconds(op("bn"), "forward", norm, "", layout, V100).seconds
        assert found == pytest.approx(1.5 * once + 1e-5, rel=0.01)


def test_attention_of_half_of_the_heads_takes_half() -> None:
    """But for the read of x."""

    def forward(heads: int) -> float:
        inner = 64 * heads
        x = tensor("f32", batch=16, seq=512, width=1024)
        into = tensor("f32", out=3 * inner, **{"in": 1024})
        out = tensor("f32", out=1024, **{"in": inner})
        qkv, context = tensor("f32", batch=16, seq=512, width=3 * inner), tensor("f32", batch=16, seq=512, width=inner)
        table = tensor("f32", batch=16, heads=heads, query=512, key=512)
        attrs: dict[str, Attr] = {"heads": 16, "causal": False, "in_proj_bias": False, "out_proj_bias": False}
        return seconds(
            op("attention"), "forward", Shapes((x, into, out), (x, qkv, table, context), attrs), "", "", V100
        ).seconds

    assert forward(8) == pytest.approx(forward(16) / 2, rel=0.1)


# What there is.


@pytest.mark.parametrize("stage", ["forward", "dx", "dw"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_has_a_model_no_better_than_the_peaks(stage: str, algorithm: str) -> None:
    shapes = conv_shapes(stage, n=32, c=64, k=64, extent=56)
    parts = gpu_phases(op("conv"), stage, shapes, algorithm, "NCHW")
    touched = sum(t.bytes for t in (*shapes.inputs, *shapes.outputs))
    assert sum(part.bytes for part in parts) >= touched
    found = seconds(op("conv"), stage, shapes, algorithm, "NCHW", V100)
    assert found.seconds > max(sum(part.flops for part in parts) / 1.57e13, touched / 9e11)


def test_columns_that_are_never_stored_save_their_traffic() -> None:
    shapes = conv_shapes("forward", n=32, c=64, k=64, extent=56)
    stored, implicit = (
        sum(part.bytes for part in gpu_phases(op("conv"), "forward", shapes, name, "NCHW"))
        for name in ("im2col", "implicit_gemm")
    )
    assert stored > implicit + 2 * 9 * shapes.inputs[0].bytes


@pytest.mark.parametrize("stage", ["forward", "dx", "dw"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_algorithms_that_no_layout_matters_to_have_the_same_phases_in_all(stage: str, algorithm: str) -> None:
    whole = conv_shapes(stage, n=32, c=64, k=64, extent=56)
    half = Shapes(
        tuple(replace(t, dtype="bf16") for t in whole.inputs),
        tuple(replace(t, dtype="bf16") for t in whole.outputs),
        whole.attrs,
    )
    for shapes in (whole, half):
        made = {gpu_phases(op("conv"), stage, shapes, algorithm, layout) for layout in LAYOUTS}
        assert len(made) == 1 or algorithm.partition("(")[0] in BY_LAYOUT


def test_implicit_gemm_and_cudnn_are_for_gpus_alone() -> None:
    graph = lenet()
    operation = next(found for found in operations(graph) if found.forward.op == "conv")
    request = Request(graph.name, "cluster")

    def found(kernels: str) -> dict[str, str | None]:
        each = candidates(graph, operation, rules_of(request, kernels=kernels), graph.batch)
        return {c.algorithm: c.excluded for c in each if c.layout == "NCHW"}

    for name in ("implicit_gemm", "cudnn"):
        assert found("gpu")[name] is None
        assert found("cpu")[name] == "because the kernel family `numpy` has no kernel for it"
    assert found("accelerator")["cudnn"] == "because devices of kind `accelerator` have no kernel for it"
    assert found("cpu")["im2col"] is found("gpu")["im2col"] is None
    with pytest.raises(ValueError, match="implicit_gemm"):
        conv_seconds("implicit_gemm", device=CORE)
