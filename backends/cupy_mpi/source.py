"""The text of kernels.cu: what all kernels share, and of each file of kernels those that are asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files as resources
from itertools import chain

REAL = {"f32": "float", "f64": "double"}
"""The element type of a program's arrays -> `real` in the text."""

_NAME = re.compile(r"__global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(")


def file_text(
    dtype: str, wanted: Mapping[str, Mapping[str, Iterable[str]]], instances: Mapping[str, Iterable[str]] = {}
) -> str:
    """kernels.cu for one element type: of each file the kernels that belong to a wanted name, with their ops above.

    A kernel belongs to a name that it has, or begins with before a `_`: `bn_forward_sums` to `bn_forward`. `instances`
    has those of templates, such as `conv_direct_forward<6, 5>`, with their ops.
    """
    parts = [f"typedef {REAL[dtype]} real; /* the elements of all arrays but indices and masks */", *blocks("head")]
    for module in sorted(wanted):
        parts.append(f"/* ---- {module} ---- */")
        for block in blocks(module):
            name = kernel_of(block)
            owner = next((each for each in wanted[module] if name and belongs(name, each)), None)
            if name is None:
                parts.append(block)
            elif owner is not None:
                parts += [*_about("", wanted[module][owner]), block]
    listed = (_about(f"instance {name}: ", ops) or (f"/* instance {name} */",) for name, ops in instances.items())
    return "\n".join((*(part.strip("\n") + "\n" for part in parts), *chain.from_iterable(listed)))


def belongs(kernel: str, name: str) -> bool:
    """Whether a kernel in CUDA is one of those that a kernel of NumPy's stands for."""
    return kernel == name or kernel.startswith(f"{name}_")


def _about(what: str, ops: Iterable[str]) -> tuple[str, ...]:
    """A comment on what is for some ops; none where there are none."""
    named = ", ".join(dict.fromkeys(ops))
    return (f"/* {what}{named} */\n",) if named else ()


def kernel_of(block: str) -> str | None:
    """The kernel that a block defines; None of what several share."""
    found = _NAME.search(block)
    return found and found.group(1)


@cache
def blocks(module: str) -> tuple[str, ...]:
    """The blocks of a file: each begins with a comment at the beginning of a line."""
    text = resources("backends.cupy_mpi.kernels").joinpath(f"{module}.cu").read_text(encoding="utf-8")
    return tuple(block for block in re.split(r"(?m)^(?=/\*)", text) if block.strip())


def whole_text(module: str, dtype: str, instances: Iterable[str] = ()) -> str:
    """All kernels of a file, as tests and checks take them, and some instances of its templates."""
    wanted = {name: () for name in map(kernel_of, blocks(module)) if name is not None}
    return file_text(dtype, {module: wanted}, dict.fromkeys(instances, ()))
