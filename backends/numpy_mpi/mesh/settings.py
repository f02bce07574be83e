"""What kernels are told by name, and what all ops of a kind are told alike: a constant of the program, such as `BN`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module

from backends.numpy_mpi.emission import Emission
from backends.numpy_mpi.kernels import Kernel
from backends.numpy_mpi.text import literal
from dlc.ir.program import BORDER, ROWS, Compute
from dlc.ops.fusion import main_of
from dlc.ops.halves import HALVES
from dlc.ops.packing import PACK, WIDTH

CONVOLUTIONS = ("conv_direct", "conv_fft", "conv_fused", "conv_im2col", "conv_winograd", "packed")
"""The modules of kernels that are told what is not usual only."""

PARTS = ("once", "averaged", "parts", "copies", ROWS, BORDER, HALVES)
"""Attributes that say how a part is computed, or by which kernel: they are told in other ways than as they stand."""

OWN = ("copies",)
"""What each kernel is told for itself, even where all are told the same."""

SHARED_FROM = 2  # attributes


@dataclass
class Settings:
    """The attributes of kernels as text.

    `constants` are those that all calls of an op's kernels agree in, and the ways in which windows move; `common` has
    the names of the former.
    """

    emission: Emission
    constants: dict[str, dict[str, str]] = field(default_factory=dict)
    common: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        calls: dict[str, list[Compute]] = {}
        for made in self._computed():
            calls.setdefault(self._name(made), []).append(made)
        for name, several in calls.items():
            found = self._agreed(several)
            if len(found) >= SHARED_FROM and len(several) > 1:
                self.constants[name] = found
                self.common.add(name)

    def constant(self, made: Compute, told: Mapping[str, str]) -> str:
        """The constant of a call that is told this, "" where there is none; one for windows has all but the layout."""
        name = self._name(made)
        if name in self.common and self.constants[name].items() <= told.items():
            return name
        if "window" not in told:
            return ""
        wanted = {key: text for key, text in told.items() if key not in ("layout", WIDTH)}
        plain = known = f"{name}_{_measures(told['window'])}{_strides(told.get('stride', ''))}"
        number = 2
        while self.constants.setdefault(known, wanted) != wanted:
            known, number = f"{plain}_{number}", number + 1
        return known

    def told(self, made: Compute) -> dict[str, str]:
        """The attributes that a kernel takes by name, as text, and those of its constant that it lets pass."""
        kernel = self.emission.kernel(made)
        given = dict(made.attrs) | ({"layout": made.layout} if made.layout else {})
        kept = {name: value for name, value in given.items() if name not in PARTS or name in OWN}
        implied = _implied(kernel, kept)
        constant = self.constants[self._name(made)] if self._name(made) in self.common else {}
        return {
            name: literal(value)
            for name, value in kept.items()
            if (takes(kernel, name) and (name not in implied or implied[name] != value)) or name in constant
        }

    def _computed(self) -> Iterator[Compute]:
        for role in self.emission.program.roles:
            for segment in role.segments:
                yield from (each for each in segment.instructions if isinstance(each, Compute))

    def _name(self, made: Compute) -> str:
        """An optimizer's updates are told one thing, all else that an op's kernels compute another, fused or not."""
        made = main_of(made)
        op = made.kernel[1] if made.kernel[0] == "sums" else made.kernel[0]
        op = op.rpartition("_")[0] if made.kernel[1] == PACK else op
        return op.upper()

    def _agreed(self, several: list[Compute]) -> dict[str, str]:
        """The attributes that all calls have alike, if all kernels let them pass."""
        found: dict[str, str] | None = None
        named: dict[str, None] = {}
        for made in several:
            told = {name: literal(value) for name, value in made.attrs if name not in (*PARTS, *OWN, "layout")}
            found = told if found is None else {name: text for name, text in found.items() if told.get(name) == text}
            named.update(dict.fromkeys(self.told(made)))
        lenient = all(lets_pass(self.emission.kernel(made)) for made in several)
        return {name: text for name, text in (found or {}).items() if name in named and lenient}


def _measures(window: str) -> str:
    """`3X3` of the text `(3, 3)`."""
    return "X".join(re.findall(r"\d+", window))


def _strides(stride: str) -> str:
    """How windows move if not one by one: `_BY_2` of the text `(2, 2)`."""
    found = re.findall(r"\d+", stride)
    return f"_BY_{'X'.join(found if len(set(found)) > 1 else found[:1])}" if set(found) - {"1"} else ""


def _implied(kernel: Kernel, attrs: Mapping[str, object]) -> dict[str, object]:
    """What a kernel takes attributes for that it is not told: its own defaults, and those of `Conv.told`."""
    parameters = _parameters(kernel).items()
    usual = {name: each.default for name, each in parameters if name != "layout" and each.default is not each.empty}
    if kernel.module not in CONVOLUTIONS or "window" not in attrs:
        return usual
    window = attrs["window"]
    assert isinstance(window, tuple)
    ones, none = (1,) * len(window), ((0, 0),) * len(window)
    return {"filters": attrs["filters"], "stride": ones, "pad": none, "dilation": ones, "groups": 1, "bias": False}


@lru_cache(maxsize=4096)
def _parameters(kernel: Kernel) -> Mapping[str, inspect.Parameter]:
    function = getattr(import_module(f"backends.numpy_mpi.kernels.{kernel.module}"), kernel.function)
    return inspect.signature(function).parameters


@lru_cache(maxsize=4096)
def takes(kernel: Kernel, name: str) -> bool:
    """Whether a kernel takes this keyword: it names it, or it takes `**attrs`; `**_` only lets it pass."""
    parameters = _parameters(kernel)
    return name in parameters or any(p.kind is p.VAR_KEYWORD and p.name != "_" for p in parameters.values())


def lets_pass(kernel: Kernel) -> bool:
    """Whether a kernel may be told what it does not take."""
    return any(p.kind is p.VAR_KEYWORD for p in _parameters(kernel).values())
