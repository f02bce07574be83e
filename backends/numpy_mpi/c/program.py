"""What a program has in C: kernels.c, and compiled.py, from which train.py imports in place of NumPy's kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import PurePath

from backends.numpy_mpi.c import (
    conv_blocked,
    conv_blocked_dw,
    conv_chwn,
    conv_direct,
    conv_dw_packed,
    conv_winograd,
    conv_winograd_dw,
    linear_packed,
)
from backends.numpy_mpi.c.conv import Conv
from backends.numpy_mpi.c.conv_blocked import fits
from backends.numpy_mpi.c.general import GENERAL
from backends.numpy_mpi.c.source import CFunction, file_text
from backends.numpy_mpi.c.target import Target
from backends.numpy_mpi.emission import Emission
from backends.numpy_mpi.kernels import PACKED, PACKING, Kernel
from backends.numpy_mpi.kernels.c_conv import Function, Shape
from backends.numpy_mpi.kernels.conv_matrices import Conv as Told
from backends.numpy_mpi.text import call, import_line, literal
from dlc.ir.graph import Attr
from dlc.ir.program import Compute, Role
from dlc.ir.storage import Storage, local
from dlc.ops.blocks import BLOCKED, block_of

Made = dict[Shape, "Specialised"]

CONVOLUTIONS: dict[tuple[str, str, str], Callable[..., CFunction]] = {
    ("direct", "NHWC", "forward"): conv_direct.forward,
    ("direct", "NHWC", "dx"): conv_direct.dx,
    ("direct", "NHWC", "dw"): conv_dw_packed.best,
    ("direct", "CHWN", "forward"): conv_chwn.forward,
    ("direct", "CHWN", "dx"): conv_chwn.dx,
    ("direct", "CHWN", "dw"): conv_chwn.dw,
    **{
        ("direct", layout, stage): make
        for layout in BLOCKED
        for stage, make in (
            ("forward", conv_blocked.forward),
            ("dx", conv_blocked.dx),
            ("dw", conv_blocked_dw.dw),
        )
    },
    **{
        (f"winograd({m})", layout, stage): partial(make, m=m, blocked=layout in BLOCKED)
        for m in (2, 4)
        for layout in ("NHWC", *BLOCKED)
        for stage, make in (("forward", conv_winograd.forward), ("dx", conv_winograd.dx), ("dw", conv_winograd_dw.dw))
    },
}
"""(algorithm, layout, pass) -> what writes the function for a shape."""

PACKERS: dict[tuple[str, str, str], Callable[..., CFunction]] = {
    **{
        ("direct", layout, stage): make
        for layout, maker in (("NHWC", conv_direct), *((layout, conv_blocked) for layout in BLOCKED))
        for stage, make in (("forward", maker.pack_forward), ("dx", maker.pack_dx))
    },
    **{
        (f"winograd({m})", layout, stage): partial(make, m=m, blocked=layout in BLOCKED)
        for m in (2, 4)
        for layout in ("NHWC", *BLOCKED)
        for stage, make in (("forward", conv_winograd.pack_forward), ("dx", conv_winograd.pack_dx))
    },
}
"""(algorithm, layout, pass that reads what is packed) -> what writes the function that packs."""

TOLD = ("window", "stride", "pad", "dilation", "groups", "bias")
"""What kernels of convolution are told of the op."""

CONV, CONV_RELU = ("conv", "conv_relu"), "conv_relu"
"""Ops that convolve, and the one with a ReLU."""

BY_ROWS = "_updates"
"""How the names of kernels end that take rows of arrays."""

NUMPY_TYPES = {"f32": "np.float32", "f64": "np.float64"}

HEADER = (
    "/* Kernels of this program. compiled.py builds them where the program runs, for the processor that is there. */\n"
)


@dataclass(slots=True)
class Specialised:
    """A function made for a shape, with the most samples and rows that it is called for, and the ops it is for."""

    function: CFunction
    samples: int = 0
    rows: int = 0
    ops: list[str] = field(default_factory=list)

    @property
    def described(self) -> CFunction:
        """The function with what it is for above it."""
        return replace(self.function, text=f"/* {', '.join(dict.fromkeys(self.ops))} */\n{self.function.text}")

    @property
    def row(self) -> Function:
        """As compiled.py has it."""
        takes = bool(self.function.numbers)  # the argument, used or not; what packs does not
        scratch = max(1, self.function.scratch(self.samples, 1)) if takes else 0
        return Function(self.function.name, self.samples, self.rows, scratch)


@dataclass(frozen=True, slots=True)
class Kernels:
    """The kernels of a program that are in C: those made for their shapes, and those for any."""

    convolutions: dict[Kernel, Made]
    general: dict[Kernel, list[CFunction]]
    target: Target
    dtype: str

    @property
    def replaced(self) -> frozenset[Kernel]:
        """The NumPy kernels that train.py imports from compiled.py."""
        return frozenset((*self.convolutions, *self.general))

    def files(self) -> dict[str, bytes]:
        """`kernels.c` and `compiled.py`."""
        made = [each.described for known in self.convolutions.values() for each in known.values()]
        text = (
            f"{HEADER}\n{file_text(self.target, (self.dtype,), (*made, *chain.from_iterable(self.general.values())))}"
        )
        return {"kernels.c": text.encode(), "compiled.py": self._module().encode()}

    def modules(self) -> Iterator[Kernel]:
        """What compiled.py imports besides the NumPy kernels."""
        yield Kernel("dispatch", "kernels_of")
        if self.convolutions:
            yield Kernel("c_conv", "bound")
        yield from (Kernel(_bindings(kernel), kernel.function) for kernel in self.general)

    def _module(self) -> str:
        """The text of compiled.py."""
        rows = {kernel: {shape: each.row for shape, each in made.items()} for kernel, made in self.convolutions.items()}
        most = max((row.scratch for known in rows.values() for row in known.values()), default=0)
        lines = [
            '"""The kernels of this program in C: kernels.c, built where it runs; NumPy\'s where that cannot be."""',
            "",
        ]
        lines += ["from pathlib import Path", "", "import numpy as np", ""]
        names = sorted(
            {kernel.module for kernel in self.replaced} | {each.module for each in self.modules()} - {"dispatch"}
        )
        lines += [import_line("kernels", names)]
        lines += [import_line("kernels.c_conv", ("Function", "Shape"))] if rows else []
        lines += [import_line("kernels.dispatch", ("kernels_of",)), ""]
        source = 'Path(__file__).with_name("kernels.c")'
        lines += [call("KERNELS = kernels_of", (source, NUMPY_TYPES[self.dtype], f"scratch={most}"))]
        for kernel, known in rows.items():
            lines += ["", f"{_table(kernel)} = {{", *map(_entry, known.items()), "}"]
        lines += [""]
        bindings = {kernel: f"{_bindings(kernel)}.{kernel.function}" for kernel in self.general}
        for kernel in rows:
            bindings[kernel] = _binding(kernel)
        for kernel, binding in bindings.items():
            name = kernel.function
            replace_ = "replace_rows" if name.endswith(BY_ROWS) else "replace"
            lines += [call(f"{name} = KERNELS.{replace_}", (f"{kernel.module}.{name}", binding))]
        return "\n".join((*lines, ""))


def c_kernels(emission: Emission, used: Iterable[Kernel], target: Target) -> Kernels | None:
    """The kernels in C of a program; None where its numbers are stand-ins, or its elements are not f32 or f64."""
    dtype = emission.program.dtype
    if emission.exact or dtype not in NUMPY_TYPES:
        return None
    return kernels_in_c(emission.kernels, used, _convolutions(emission, target), target, dtype)


def kernels_in_c(
    known: Mapping[tuple[str, str, str], Kernel],
    used: Iterable[Kernel],
    convolutions: dict[Kernel, Made],
    target: Target,
    dtype: str,
) -> Kernels:
    """Those of the `known` kernels that are `used` and that there are functions in C for, with these convolutions."""
    called, general = frozenset(used), dict[Kernel, list[CFunction]]()
    for (op, stage, variant), make in GENERAL.items():
        kernel = known.get((op, stage, variant)) or known[op, stage, ""]
        if called.intersection((kernel, Kernel("packed", f"{kernel.function}_packed"))):  # which leaves calls to it
            general.setdefault(kernel, []).append(make(target, dtype))
    for key, make in linear_packed.FUNCTIONS.items():
        kernel = (PACKED | PACKING)[key]
        if kernel in called:
            general.setdefault(kernel, []).append(make(target, dtype))
    return Kernels(convolutions, general, target, dtype)


def _convolutions(emission: Emission, target: Target) -> dict[Kernel, Made]:
    """NumPy kernel -> the functions for the shapes that the program calls it with."""
    found: dict[Kernel, Made] = {}
    for role in emission.program.roles:
        cut = Storage(role, 0).microbatches
        for segment in role.segments:
            for made in segment.instructions:
                if isinstance(made, Compute) and made.kernel[0] in CONV:
                    dtype = emission.program.dtype
                    _add(found.setdefault(emission.kernel(made), {}), made, role, cut, target, dtype)
                    if made.packs:
                        _add_packing(found.setdefault(emission.packing(made), {}), made, role, cut, target, dtype)
    return {kernel: made for kernel, made in found.items() if made}


def _add(known: Made, made: Compute, role: Role, cut: int, target: Target, dtype: str) -> None:
    """Make the function for one call, unless there is no generator for it."""
    image, weights = extents(made, role, cut)
    add_shape(
        known, made.kernel, made.layout, dict(made.attrs), image, weights, target, dtype, made.address, made.packs
    )


def _add_packing(known: Made, made: Compute, role: Role, cut: int, target: Target, dtype: str) -> None:
    """Make the function that packs for a call."""
    found = called(made.kernel, made.layout, dict(made.attrs), *extents(made, role, cut))
    assert found is not None
    shape, (_, stage, algorithm) = found.shape._replace(relu=False), made.kernel
    if shape not in known:
        make, name = PACKERS[algorithm, shape.layout, stage], f"{_name(stage, algorithm, shape)}_pack_{len(known)}"
        known[shape] = Specialised(make(replace(found.conv(dtype), relu=False), target, name))
    known[shape].ops.append(made.address)


def extents(made: Compute, role: Role, cut: int) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[int, ...]]:
    """x at hand and all of it, and the weights at hand, of a call on a role whose batch is cut into so many parts."""
    names = (*made.inputs, *made.outputs)
    places = {"forward": (0, 1), "dx": (2 + (made.kernel[0] == CONV_RELU), 1), "dw": (1, 2)}
    x, weight = (role.buffer(names[at]) for at in places[made.kernel[1]])
    part, weights = (local(role, buffer, role.largest_shard, cut).shape for buffer in (x, weight))
    return (part, x.type.shape), weights


def add_shape(
    known: Made,
    kernel: tuple[str, str, str],
    layout: str,
    attrs: Mapping[str, Attr],
    image: tuple[tuple[int, ...], tuple[int, ...]],
    weights: tuple[int, ...],
    target: Target,
    dtype: str,
    address: str = "",
    packs: tuple[str, ...] = (),
) -> None:
    """Make the function for one shape, unless there is no generator for it; `image` is x at hand and all of it."""
    found = called(kernel, layout, attrs, image, weights)
    if found is None or not found.made_for(target, dtype):
        return
    shape, (_, stage, algorithm) = found.shape, kernel
    if shape not in known:
        name = f"{_name(stage, algorithm, shape)}{'_packed' * bool(packs)}_{len(known)}"
        known[shape] = Specialised(found.make(replace(found.conv(dtype), packed=bool(packs)), target, name))
    most = known[shape]
    most.samples, most.rows = max(most.samples, found.samples), max(most.rows, found.rows)
    most.ops.append(address)


@dataclass(frozen=True, slots=True)
class Called:
    """A convolution that there is a generator for: its shape, so many samples and rows, and what it is told."""

    make: Callable[..., CFunction]
    shape: Shape
    samples: int
    rows: int
    told: Told

    def made_for(self, target: Target, dtype: str) -> bool:
        """Whether the generator has code for a target: blocks of channels have to be vectors of it."""
        return self.shape.layout not in BLOCKED or fits(self.conv(dtype), target, block_of(self.shape.layout))

    def conv(self, dtype: str) -> Conv:
        """As generators see it."""
        return _conv(self.shape, self.rows, self.told, dtype)


def called(
    kernel: tuple[str, str, str],
    layout: str,
    attrs: Mapping[str, Attr],
    image: tuple[tuple[int, ...], tuple[int, ...]],
    weights: tuple[int, ...],
) -> Called | None:
    """What a call needs a function for, None where no generator has one; arguments as of `add_shape`."""
    op, stage, algorithm = kernel
    make = CONVOLUTIONS.get((algorithm, layout, stage))
    told = Told.told(**{name: value for name, value in attrs.items() if name in TOLD}, layout=layout)  # type: ignore[arg-type]
    if make is None or len(told.window) != 2:
        return None
    part, whole = image
    filters, group_channels = weights[:2]
    n, channels, _, width = part
    if width != whole[3]:
        return None  # columns are cut: what a rank reads of its neighbours is not known here
    groups = 1 if told.groups == 1 else channels // group_channels
    if groups > 1 and algorithm != "direct":
        return None
    shape = Shape(
        layout,
        channels,
        filters,
        width,
        told.window,
        told.stride,
        told.pad[1],
        told.dilation,
        groups,
        told.bias,
        op == CONV_RELU,
    )
    return Called(make, shape, n, whole[2], told)


def _conv(shape: Shape, height: int, told: Told, dtype: str) -> Conv:
    return Conv(
        shape.channels,
        shape.filters,
        height,
        shape.width,
        (told.window[0], told.window[1]),
        (told.stride[0], told.stride[1]),
        ((told.pad[0][0], told.pad[0][1]), (told.pad[1][0], told.pad[1][1])),
        (told.dilation[0], told.dilation[1]),
        shape.groups,
        shape.bias,
        dtype,
        shape.relu,
    )


def _name(stage: str, algorithm: str, shape: Shape) -> str:
    """A name that says what it computes: `direct_dx_3x3_64_to_128`."""
    window = "x".join(map(str, shape.window))
    title = f"{algorithm.replace('(', '').replace(')', '')}{'_relu' if shape.relu else ''}_{stage}"
    return f"{title}_{window}_{shape.channels}_to_{shape.filters}"


def _binding(kernel: Kernel) -> str:
    """What compiled.py binds a convolution's kernel to."""
    name = kernel.function
    for ending, function in (("_pack", "packing"), ("_packed", "bound"), ("", "bound")):
        if name.endswith(ending):
            stage = name.removesuffix(ending).rpartition("_")[2]
            told = ", relu=True" * ("_relu_" in name and function == "bound") + ", packed=True" * (ending == "_packed")
            return f'c_conv.{function}("{stage}", {_table(kernel)}{told})'
    raise AssertionError


def _table(kernel: Kernel) -> str:
    return kernel.function.upper()


def _bindings(kernel: Kernel) -> str:
    """The module that has the binding of a kernel."""
    return f"c_{PurePath(kernel.module).name}"


def _entry(row: tuple[Shape, Function]) -> str:
    """A row of a table, wrapped as ruff wraps it."""
    shape, function = (tuple(map(literal, values)) for values in row)
    return call(f"    Shape({', '.join(shape)}): Function", function, tail=",").replace("\n", "\n    ")
