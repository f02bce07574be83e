"""Every CUDA text is compiled for GPUs by NVIDIA's own compiler, and every kernel in it belongs to a binding."""

from __future__ import annotations

import re
from collections import Counter
from importlib import import_module
from importlib.resources import files

import pytest

from backends.cupy_mpi.source import FILES, also, belongs, blocks, kernel_of, whole_text
from tests.cuda.nvrtc import ARCHITECTURES, MISSING, compiled, library

MODULES = sorted(
    each.name.removesuffix(".cu")
    for each in files("backends.cupy_mpi.kernels").iterdir()
    if each.name.endswith(".cu") and each.name != "head.cu"
)

INSTANCES: dict[str, tuple[str, ...]] = {
    "conv_depthwise": (
        "depthwise_conv_forward<1, 3, 3>",
        "depthwise_conv_dx<1, 0, 1>",
        "depthwise_conv_dw<32, 3>",
    ),
    "conv_winograd": (
        "conv_winograd_filters<2, true>",
        "conv_winograd_data<2, true>",
        "conv_winograd_data<4, false>",
        "conv_winograd_output<4>",
        "conv_winograd_weights<2>",
    ),
    "conv_direct": ("conv_direct_forward<8, 1, 5, 5>", "conv_direct_dx<4, 1, 3, 3>", "conv_direct_dw<4, 5>"),
    "conv_implicit": (
        "conv_implicit_gemm_forward<32, false>",
        "conv_implicit_gemm_dx<128, true>",
        "conv_implicit_gemm_dw<64, true>",
    ),
}
"""Of templates some that programs ask for."""


@pytest.mark.skipif(library() is None, reason=MISSING)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("module", MODULES)
def test_it_is_compiled_for_a_gpu(module: str, dtype: str, architecture: str) -> None:
    text = whole_text(module, dtype, INSTANCES.get(module, ()))
    code = compiled(text, architecture)
    for name in filter(None, map(kernel_of, blocks(module))):
        assert name.encode() in code


@pytest.mark.parametrize("module", MODULES)
def test_each_kernel_belongs_to_a_binding(module: str) -> None:
    """By its name: as that of the binding, or with more words behind a `_`; and to all that its comment names."""
    modules = (module, *(other for other, file in FILES.items() if file == module))
    known = {name for each in modules for name in vars(import_module(f"backends.cupy_mpi.kernels.cu_{each}"))}
    for block in filter(kernel_of, blocks(module)):
        assert any(belongs(block, name) for name in known), kernel_of(block)
        assert also(block) <= known, kernel_of(block)


def test_no_name_is_defined_in_two_files() -> None:
    """A program has the text of several files."""
    defined = re.compile(
        r"^(?:template <.*> )?(?:struct (\w+) \{|(?:__device__|extern|__global__)[^(;]*?(\w+)\()", re.M
    )
    texts = [(each, re.sub(r"__launch_bounds__\(\d+\) ", "", block)) for each in MODULES for block in blocks(each)]
    named = {("".join(found), module) for module, text in texts for found in defined.findall(text)}
    assert ("conv_implicit_gemm_dw", "conv_implicit") in named
    assert not [name for name, times in Counter(name for name, _ in named).items() if times > 1]
