"""Half precision where kernels compute in f32: what a program with casts must keep to.

A kernel works on f32 alone, ranks sum in f32 alone, and what is half as wide is rounded before any kernel reads it, so
that results do not depend on which values a plan happens to keep. A program without casts is for kernels that take
half precision as it is.
"""

from __future__ import annotations

from dlc.ir.program import Collective, Compute, Program
from dlc.ir.storage import title, touched
from dlc.ir.tensor import NARROW
from dlc.ops.halves import HALVES, takes_halves
from dlc.proof.state import At, State

WIDE = "f32"
FREE = ("cast", "convert")
"""Kernels that take any elements: they put them elsewhere, and compute nothing with them."""


def has_casts(program: Program) -> bool:
    """Whether a program casts what its kernels work on."""
    made = (made for role in program.roles for segment in role.segments for made in segment.instructions)
    return any(isinstance(each, Compute) and each.kernel[0] == "cast" for each in made)


def check_kernel(state: State, at: At, made: Compute) -> None:
    """A kernel of a program with casts touches nothing in half precision, and reads what has been rounded to it.

    Those that devices have for halves touch nothing else, but for gradients of weights.
    """
    if made.kernel[0] in FREE:
        return
    as_they_are = HALVES in dict(made.attrs)
    if as_they_are and not takes_halves(made, state.role.buffer):
        state.problem("content", made, f"there is no kernel in half precision for `{title(made)}`")
    for name in () if as_they_are else touched(made):
        type_ = state.role.buffer(name).type
        if type_.dtype in NARROW:
            sentence = f"`{title(made)}` computes with `{name}` in {type_.dtype}, not in a copy in {WIDE}"
            state.problem("content", made, sentence)
    for name in made.inputs:
        if state.is_exact(at, name):
            sentence = f"`{title(made)}` reads `{name}`, which is not rounded to {_narrow(state, name)} before"
            state.problem("content", made, sentence)


def check_sum(state: State, made: Collective) -> None:
    """Ranks sum in f32."""
    type_ = state.role.buffer(made.buffer).type
    if state.changes.casts and type_.dtype in NARROW:
        state.problem("content", made, f"`{made.name}` sums `{made.buffer}` in {type_.dtype}, not in {WIDE}")


def check_pair(state: State, made: Compute, source: str, target: str) -> bool:
    """Whether a cast goes from half precision to f32 or back, between elements of the same places."""
    one, other = state.role.buffer(source).type, state.role.buffer(target).type
    types = (one.dtype, other.dtype)
    if one.axes == other.axes and WIDE in types and any(dtype in NARROW for dtype in types):
        return True
    state.problem("bytes", made, f"`{source}`, a {one}, is cast into `{target}`, a {other}")
    return False


def _narrow(state: State, name: str) -> str:
    return state.graph.type(state.layout.value(name)).dtype
