"""A network's weights outside of a program: as training starts with them, or from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dlc.diagnostics import DiagnosticError
from dlc.ir.graph import Graph, Init, Value
from dlc.messages.e07_run import E0716

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

TYPES = {"f32": "float32", "f64": "float64"}
"""Element types of networks -> NumPy's."""


def first_weights(graph: Graph, seed: int) -> dict[str, Array]:
    """All weights and statistics as a program with that seed starts with them, by address."""
    import numpy as np

    made: dict[str, Array] = {}
    for value in graph.of_kind("weight", "statistic"):
        made[value.name] = np.empty(value.type.shape, TYPES[value.type.dtype])
        if value.init is not None:
            _fill(made, value, value.init, seed)
    return made


def _fill(made: Mapping[str, Array], value: Value, init: Init, seed: int) -> None:
    from backends.numpy_mpi.kernels.initial import initialise
    from backends.numpy_mpi.kernels.philox import key

    of = made[f"{value.owner}.direction"] if init.kind == "norms" else None
    settings: dict[str, Any] = {"fan_in": init.fan_in, "fan_out": init.fan_out, "value": init.value, "of": of}
    initialise(made[value.name], kind=init.kind, key=key(seed, value.name), **settings)


def read_weights(path: str, graph: Graph) -> dict[str, Array]:
    """All weights and statistics of a network from a file of `dlc run --save`; E0716 where they are not its own."""
    from backends.numpy_mpi.runtime.failures import ProgramError
    from backends.numpy_mpi.runtime.files import load_arrays

    try:
        stored = load_arrays(path)
    except ProgramError as error:
        raise _unusable(path, str(error.text).rpartition(": ")[2], *error.notes) from None
    wanted = {value.name: value.type for value in graph.of_kind("weight", "statistic")}
    shapes = [
        f"`{name}` is {list(stored[name].shape)}, expected {list(type_.shape)}"
        for name, type_ in wanted.items()
        if name in stored and stored[name].shape != type_.shape
    ]
    names = {
        "missing": [name for name in wanted if name not in stored],
        "not in this network": [name for name in stored if name not in wanted],
    }
    notes = [f"{what}: {_listed(found)}" for what, found in names.items() if found]
    if notes or shapes:
        raise _unusable(path, f"they are not those of network `{graph.name}`", *notes, *shapes[:10])
    return {name: stored[name].astype(TYPES[type_.dtype]) for name, type_ in wanted.items()}


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(f"`{name}`" for name in names[:8]) + more


def _unusable(path: str, cause: str, *notes: str) -> DiagnosticError:
    return DiagnosticError((E0716.at(None, path=path, cause=cause, notes=notes),))
