"""A Program on a mesh to the text of train.py: tables of arrays, a function a segment, and schedules by stage."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files as resources
from typing import TYPE_CHECKING

import dlc
from backends.numpy_mpi.emission import Emission
from backends.numpy_mpi.kernels import Kernel
from backends.numpy_mpi.mesh import bodies, listing, scratch
from backends.numpy_mpi.mesh.blocks import TABLE, Folding, Function, Node, described
from backends.numpy_mpi.mesh.roles import RoleText, element_type, stacked_weights
from backends.numpy_mpi.mesh.settings import Settings
from backends.numpy_mpi.mesh.specs import NUMPY_TYPES
from backends.numpy_mpi.mesh.tree import Blocks
from backends.numpy_mpi.rates import rates_function
from backends.numpy_mpi.setting import (
    checkpoint_arguments,
    classes,
    dataset_call,
    input_shapes,
    interchangeable,
    length_call,
    sample_shapes,
    stop_call,
)
from backends.numpy_mpi.text import call, import_line, literal, literal_map
from dlc.ir.program import TRAIN_STEP
from dlc.ir.training import Training
from passes.lowering.widen import COPIES

if TYPE_CHECKING:
    import jinja2

RUNTIME_NAMES = (
    "Checkpoints",
    "Job",
    "Loader",
    "Place",
    "Progress",
    "Result",
    "Trace",
    "own_samples",
    "require_finite",
    "run",
)
UNITS = {"f16": "2.0**-10", "bf16": "2.0**-7"}
"""One unit in the last place of numbers in half precision, relative to the smallest with its exponent."""

TABLES = {
    "arrays": ("each",),
    "spec": ("Halo",),
    "stages": ("Stage",),
    "tables": ("Array", "Bucket", "Member", "Part", "Saved", "Statistic", "Temporary", "View", "Weight"),
}
"""What tables and functions name, by the module of the runtime that has it."""

ROOMS = '''\
"""What kernels work in where kernels.c cannot be built: as SCRATCH in train.py, for NumPy's kernels."""
{% for role in roles if role.scratch %}

SCRATCH{{ role.suffix }} = {
{{ role.rooms }}
}
{% endfor %}
'''

TITLES_OF_BLOCKS = {
    "forward": "The forward pass",
    "backward": "The backward pass",
    "weights": "The gradients by weights",
    "update": "A step of the optimizer",
    "pack": "The weights packed",
    "pack_dx": "The weights packed for gradients",
    "predict": "Inference",
    "evaluate": "The evaluation",
    TABLE: "The arrays",
}


def train_texts(
    emission: Emission, used: tuple[Kernel, ...], shown: Mapping[str, Kernel], replaced: Collection[Kernel]
) -> dict[str, str]:
    """The text of train.py: Python decides here, the template prints. `replaced` are those of compiled.py.

    With it that of rooms.py where both kernels in C and those of NumPy that stand in for them work in something.
    """
    source = resources("backends.numpy_mpi").joinpath("templates/train.py.j2").read_text(encoding="utf-8")
    fields = _fields(emission, used, shown, replaced)
    found = {"train.py": _template(source).render(fields)}
    if fields["has_rooms"]:
        found["rooms.py"] = _template(ROOMS).render(fields)
    return found


@cache
def _template(source: str) -> jinja2.Template:
    """A template, compiled once: that takes longer than all else that a small program is printed by."""
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(source)


def _fields(
    emission: Emission, used: tuple[Kernel, ...], shown: Mapping[str, Kernel], replaced: Collection[Kernel]
) -> dict[str, object]:
    program, plan, training, graph = emission.program, emission.plan, emission.training, emission.graph
    stacked = stacked_weights(emission)
    blocks = Blocks(tuple(node.address for node in graph.nodes if node.stage in ("forward", "loss", "metric")))
    windows: dict[str, str] = {}
    settings = Settings(emission)
    parts = [
        RoleText(emission, role, index, stacked, blocks, windows, settings) for index, role in enumerate(program.roles)
    ]
    trees = [part.trees() for part in parts]
    rows = [part.table() for part in parts]
    imported = {kernel.function for kernel in used}.union(*TABLES.values(), RUNTIME_NAMES)
    folding = Folding([*rows, *(each for several in trees for each in several)], blocks.titles(graph.blocks), imported)
    roles_ = [_role(*each) for each in zip(parts, trees, rows, strict=True)]
    inputs, sample = input_shapes(graph), sample_shapes(graph, training.data)
    totals = next(part for part in parts if part.holds("totals"))
    functions = [_block(function) for function in folding.functions]
    text = str((roles_, functions, windows))
    runtime = {*RUNTIME_NAMES, training.data.kind}
    whole = emission.library == "CuPy" and program.ranks == 1 and not emission.scaled
    if emission.scaled:
        runtime = runtime - {"require_finite"} | {"skipped"}
    if whole:
        runtime -= {"require_finite"}
    stop = stop_call(training.stop)
    runtime |= {stop.partition("(")[0]} if stop else set()
    return {
        "version": dlc.__version__,
        "spec": plan.spec.replace("\\", "/").rpartition("/")[2] or "the spec",
        "name": program.name,
        "quoted_name": literal(program.name),
        "ranks": program.ranks,
        "command": "python train.py" if program.ranks == 1 else f"mpiexec -n {program.ranks} python -I train.py",
        "batch": program.batch,
        "microbatches": plan.microbatches,
        "batches": training.accumulate,
        "stop": stop,
        "checkpoint": checkpoint_arguments(training.checkpoint),
        "threads": plan.threads,
        "seed": training.seed,
        "dtype": NUMPY_TYPES[element_type(emission)],
        "mesh": literal_map(dict(plan.mesh)),
        "levels": literal_map({group.name: group.levels for group in program.groups if group.levels}),
        "mesh_words": ", ".join(f"{extent} along `{name}`" for name, extent in plan.mesh),
        "compiled": bool(replaced),
        "library": emission.library,
        "has_rooms": plan.kernels == "c" and bool(replaced) and any(role["scratch"] for role in roles_),
        "imports": list(_imports(emission, used, replaced, runtime, f"{text} Stage(")),
        "sample": "INPUTS" if sample == inputs else literal_map(sample),
        "classes": literal_map(classes(graph)),
        "inputs": literal_map(inputs),
        "metrics": f"{{{', '.join(f'{literal(n)}: {kernel.function}' for n, kernel in shown.items())}}}",
        "constants": "\n".join(
            call(f"{name} = dict", [f"{key}={text}" for key, text in attributes.items()])
            for name, attributes in settings.constants.items()
        ),
        "interchangeable": interchangeable(graph),
        "unit": f", unit={UNITS[program.dtype]}" if program.dtype in UNITS else "",
        "rates": rates_function(training.rates),
        "windows": [f"{name} = {text}" for name, text in windows.items()],
        "functions": functions,
        "roles": roles_,
        "scaled": emission.scaled,
        "whole": whole,
        "copies": any(segment.name == COPIES for role in program.roles for segment in role.segments),
        "outputs": literal_map({name: _output(parts, buffer) for name, buffer in program.outputs}),
        "totals_stage": totals.index,
        "loss": totals.arrays.names[program.loss or ""],
        "loss_bucket": _loss_bucket(totals, program.loss or ""),
        "data": dataset_call(emission),
        "loader": _loader(training),
        "length": length_call(training.length),
    }


def _block(function: Function) -> dict[str, object]:
    """What the template prints of a block's function."""
    is_table = function.kind == TABLE
    return {
        "definition": call(f"def {function.name}", function.parameters, tail=":"),
        "title": f"{TITLES_OF_BLOCKS.get(function.kind, function.kind)} of {described(function)}.",
        "body": "\n".join(
            listing.lines(function.body, function.path, 8) if is_table else bodies.lines(function.body, function.path)
        ),
        "is_table": is_table,
    }


def _role(part: RoleText, trees: Sequence[Node], rows: Node) -> dict[str, object]:
    segments = part.segments(trees)
    functions = call("functions=", [*(segment.name for segment in segments), *([""] if len(segments) == 1 else [])], 8)
    return {
        "suffix": part.suffix,
        "rows": "\n".join(listing.lines(rows.body, ())),
        "scratch": "\n".join(scratch.lines(part.rows.scratch())),
        "rooms": "\n".join(scratch.lines(part.rows.scratch(compiled=False))),
        "states": literal(part.rows.states),
        "segments": segments,
        "functions": functions.strip(),
        "train": literal(part.schedule(TRAIN_STEP, updates=False)),
        "update": literal(part.schedule(TRAIN_STEP, updates=True)),
        "copies": part.title(COPIES) if any(segment.name == COPIES for segment in part.role.segments) else "",
        "evaluate": literal(part.schedule("eval_step")),
        "predict": literal(part.schedule("predict")),
        "slots": f"{{{', '.join(f'{stage}: {count}' for stage, count in part.slots.items())}}}",
        "outputs": literal_map(part.outputs()),
        "layouts": literal_map(part.layouts()),
    }


def _output(parts: list[RoleText], buffer: str) -> str:
    part = next(part for part in parts if part.holds(buffer) and part.outputs())
    return part.arrays.names[buffer]


def _loss_bucket(part: RoleText, loss: str) -> str:
    """The array that the loss is summed in."""
    return part.arrays.names[part.arrays.storage.places[loss].storage]


def _loader(training: Training) -> str:
    """What gives the batches of training."""
    batch = "BATCH * BATCHES" if training.accumulate > 1 else "BATCH"
    told = {"shuffle": bool(training.data.get("shuffle")), "last": training.data.get("last")}
    named = [f"{name}={literal(value)}" for name, value in told.items()]
    return call("loader = Loader", ["dataset.train", batch, "seed=SEED", *named, "layouts=job.stage.layouts"], 4)


def _imports(
    emission: Emission, used: tuple[Kernel, ...], replaced: Collection[Kernel], runtime: set[str], text: str
) -> Iterator[str]:
    """Import lines in isort's order: the standard library and numpy stand in the template."""
    modules: dict[str, set[str]] = {"compiled": {"KERNELS"}} if replaced else {}
    for kernel in used:
        module = "compiled" if kernel in replaced else f"kernels.{kernel.module}"
        modules.setdefault(module, set()).add(kernel.function)
    modules["rates"] = {piece.kind for piece in emission.training.rates}
    modules["runtime"] = runtime
    for module, names in TABLES.items():
        modules[f"runtime.{module}"] = {name for name in names if re.search(rf"\b{name}\(", text)}
    return (import_line(module, sorted(names)) for module, names in sorted(modules.items()) if names)
