"""Where kernels are tested, by DLC_CUDA_DEVICE: on a GPU by CuPy (`gpu`), on what stands for CuPy's arrays
(`emulated`), or without it on the processor."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from backends.cupy_mpi.kernels.engines import OnStandIns
from backends.cupy_mpi.kernels.gpu import Gpu
from backends.cupy_mpi.kernels.on_cpu import OnCpu
from backends.cupy_mpi.runtime import emulated
from backends.cupy_mpi.runtime.numbers import Numbers

WHERE = os.environ.get("DLC_CUDA_DEVICE", "")


@cache
def device() -> Any:
    """What engines use of the runtime's module `device`."""
    return _device(import_module("cupy")) if WHERE == "gpu" else stand_in()


@cache
def stand_in() -> Any:
    """The same on the processor, wherever kernels are tested."""
    return _device(emulated)


def _device(cp: Any) -> Any:
    return SimpleNamespace(
        cp=cp,
        on_device=lambda array: isinstance(array, cp.ndarray),
        host=lambda array: array.get(),
        copy=lambda target, source: target.set(source),
        RANK=SimpleNamespace(
            numbers=Numbers(lambda size: cp.zeros(size, "uint8"), lambda target, source: target.set(source)),
            agreement=None,
            graphs=SimpleNamespace(aside=lambda run, *arguments, **named: run(*arguments, **named)),
        ),
    )


def engine(text: str, dtype: type) -> Any:
    """The kernels of a text."""
    if not WHERE:
        return OnCpu(text, dtype)
    return Gpu(text, dtype, device()) if WHERE == "gpu" else OnStandIns(text, dtype, device())


def put(memory: Any) -> Any:
    """An array of the processor where kernels work on it."""
    return device().cp.asarray(memory) if WHERE else memory


def get(memory: Any) -> Any:
    """What it holds then, for the processor."""
    return memory.get() if WHERE else memory
