"""The text of kernels.cu: what all kernels share, and of each file of kernels those that are asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files as resources
from itertools import chain

REAL = {"f32": "float", "tf32": "float", "f64": "double"}
"""The element type of a program's arrays -> `real` in the text."""

FILES = {"bn_fused": "bn", **dict.fromkeys(("lstm", "gru", "rnn"), "recurrence")}
"""Modules of kernels whose CUDA text is in another's file."""

_NEEDS = re.compile(r"// needs (.+)\n")
_ALSO = re.compile(r"Also of ([\w,\s]+)\.")
_NAME = re.compile(r"__global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(")


def file_text(
    dtype: str, wanted: Mapping[str, Mapping[str, Iterable[str]]], instances: Mapping[str, Iterable[str]] = {}
) -> str:
    """kernels.cu for one element type: of each file the kernels that belong to a wanted name, with their ops above.

    A kernel belongs to a name that it has, or begins with before a `_`: `bn_forward_sums` to `bn_forward`; and to those
    that its comment names, `Also of bn_sums, bn_squares.` `instances` has those of templates, such as
    `conv_direct_forward<6, 5>`, with their ops. What a file says it needs comes whole.
    """
    parts = [f"typedef {REAL[dtype]} real; /* the elements of all arrays but indices and masks */", *blocks("head")]
    by_file: dict[str, dict[str, Iterable[str]]] = {}
    for module in sorted(wanted):
        by_file.setdefault(file_of(module), {}).update(wanted[module])
    whole = dict.fromkeys(chain.from_iterable(map(needed, by_file)))
    for module in whole:
        parts += [f"/* ---- {module} ---- */", *blocks(module)]
    for module, names in ((each, names) for each, names in by_file.items() if each not in whole):
        parts.append(f"/* ---- {module} ---- */")
        for block in blocks(module):
            owners = [each for each in names if belongs(block, each)]
            if kernel_of(block) is None:
                parts.append(block)
            elif owners:
                parts += [*_about("", chain.from_iterable(names[each] for each in owners)), block]
    listed = (_about(f"instance {name}: ", ops) or (f"/* instance {name} */",) for name, ops in instances.items())
    return "\n".join((*(part.strip("\n") + "\n" for part in parts), *chain.from_iterable(listed)))


def belongs(block: str, name: str) -> bool:
    """Whether a block's kernel is one of those that a kernel of NumPy's stands for."""
    kernel = kernel_of(block)
    return kernel is not None and (kernel == name or kernel.startswith(f"{name}_") or name in also(block))


def also(block: str) -> frozenset[str]:
    """The kernels of NumPy's that a block's comment names."""
    found = _ALSO.search(block)
    return frozenset(re.findall(r"\w+", found.group(1)) if found else ())


def file_of(module: str) -> str:
    """The file with the CUDA text of a module's kernels."""
    return FILES.get(module, module)


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
    return tuple(block for block in re.split(r"(?m)^(?=/\*)", _NEEDS.sub("", _text(module))) if block.strip())


@cache
def has_templates(module: str) -> bool:
    """Whether a module's kernels may be instances of templates."""
    files = (file_of(module), *needed(file_of(module)))
    return any(kernel_of(block) and re.search(r"(?m)^template <", block) for file in files for block in blocks(file))


@cache
def needed(module: str) -> tuple[str, ...]:
    """The files whose text stands before that of a file, which names them in its first line: `// needs conv_parts`."""
    found = _NEEDS.match(_text(module))
    names = found.group(1).split(", ") if found else []
    return tuple(dict.fromkeys(each for name in names for each in (*needed(name), name)))


def _text(module: str) -> str:
    """A file's text; "" for kernels that are products of matrices and nothing else."""
    file = resources("backends.cupy_mpi.kernels").joinpath(f"{module}.cu")
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def whole_text(module: str, dtype: str, instances: Iterable[str] = ()) -> str:
    """All kernels of a file, as tests and checks take them, and some instances of its templates."""
    module = file_of(module)
    wanted = {name: () for name in map(kernel_of, blocks(module)) if name is not None}
    return file_text(dtype, {module: wanted}, dict.fromkeys(instances, ()))
