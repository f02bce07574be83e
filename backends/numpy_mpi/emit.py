"""Program to folder: train.py, the kernels and the runtime that it uses, the plan, and a launcher."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files as resources

import dlc
from backends.numpy_mpi.emission import Emission
from backends.numpy_mpi.folder import kernel_files, launcher, runtime_files
from backends.numpy_mpi.kernels import EXACT_INITIALISE, IN_PARTS, INITIALISE, KEY, Kernel
from backends.numpy_mpi.mesh.emit import train_text
from backends.numpy_mpi.names import identifiers
from backends.numpy_mpi.rates import rates_function, rates_module
from backends.numpy_mpi.segments import SegmentWriter
from backends.numpy_mpi.setting import (
    classes,
    dataset_call,
    initialisation,
    input_shapes,
    interchangeable,
    length_call,
    sample_shapes,
    weight_names,
)
from backends.numpy_mpi.tables import NUMPY_TYPES, array_tables, bucket_table
from backends.numpy_mpi.text import import_line, literal, literal_map, table
from dlc.ir.plan_json import plan_to_json
from dlc.ir.program import Compute, Role, Row
from passes.differentiate import operator_of

RUNTIME_NAMES = (
    "Array", "Arrays", "Loader", "N", "Profile", "Progress", "Result", "Trace", "load_weights",
    "own_samples", "require_finite", "run", "save_arrays", "save_weights", "shard",
)  # fmt: skip


def emit(emission: Emission) -> dict[str, bytes]:
    """File name -> content of the emitted folder; the same emission gives the same bytes."""
    used = _used_kernels(emission)
    on_mesh = any(role.mesh is not None for role in emission.program.roles)
    text = train_text(emission, used, _shown(emission)) if on_mesh else _train(emission, used)
    found = {"train.py": text.encode(), "rates.py": rates_module(emission.training).encode()}
    found.update(kernel_files(used))
    found.update(runtime_files(emission.training.data))
    found["plan.json"] = plan_to_json(emission.plan).encode()
    found["launch.sh"] = launcher(emission.program).encode()
    found["ruff.toml"] = resources("backends.numpy_mpi").joinpath("templates/ruff.toml").read_bytes()
    return dict(sorted(found.items()))


def _used_kernels(emission: Emission) -> tuple[Kernel, ...]:
    """Each kernel that some instruction calls and those of the first weights, once, in the order of the program."""
    called = (
        emission.kernel(instruction)
        for role in emission.program.roles
        for segment in role.segments
        for instruction in segment.instructions
        if isinstance(instruction, Compute)
    )
    first = EXACT_INITIALISE if emission.exact else INITIALISE
    parts = (IN_PARTS,) if any(op.microbatch > 1 for op in emission.plan.ops) else ()
    return tuple(dict.fromkeys((*called, *_shown(emission).values(), first, KEY, *parts)))


def _shown(emission: Emission) -> dict[str, Kernel]:
    """Metric -> the function that makes what is shown of its total."""
    graph = emission.graph
    ops = {name: operator_of(graph.node(value)) for name, value in emission.program.metrics}
    return {name: emission.kernels["totals", op.finish, ""] for name, op in ops.items()}


def _train(emission: Emission, used: tuple[Kernel, ...]) -> str:
    """The text of train.py: Python decides here, the template prints."""
    import jinja2

    source = resources("backends.numpy_mpi").joinpath("templates/train.py.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(source).render(_fields(emission, used))


def _fields(emission: Emission, used: tuple[Kernel, ...]) -> dict[str, object]:
    program, plan, training, graph = emission.program, emission.plan, emission.training, emission.graph
    (role,) = program.roles
    names = identifiers(role)
    writer = SegmentWriter(emission, role, names)
    tables = array_tables(role, names, program.dtype, plan)
    texts = writer.segments()
    inputs, sample = input_shapes(graph), sample_shapes(graph, training.data)
    calls = {text.name: f"{text.name}({text.parameters})" for text in texts}
    return {
        "version": dlc.__version__,
        "spec": plan.spec.replace("\\", "/").rpartition("/")[2] or "the spec",
        "name": program.name,
        "quoted_name": literal(program.name),
        "ranks": program.ranks,
        "command": "python train.py" if program.ranks == 1 else f"mpiexec -n {program.ranks} python -I train.py",
        "batch": program.batch,
        "threads": plan.threads,
        "seed": training.seed,
        "dtype": NUMPY_TYPES[program.dtype],
        "imports": _imports(emission, used, tables),
        "sample": "INPUTS" if sample == inputs else literal_map(sample),
        "classes": literal_map(classes(graph)),
        "inputs": literal_map(inputs),
        "metrics": f"{{{', '.join(f'{literal(n)}: {kernel.function}' for n, kernel in _shown(emission).items())}}}",
        "interchangeable": interchangeable(graph),
        **tables,
        "names": table((names[address], literal(address)) for address in weight_names(graph)),
        "buckets": bucket_table(plan, names, role),
        "outputs": literal_map({name: names[buffer] for name, buffer in program.outputs}),
        "rates": rates_function(training.rates),
        "initialisation": initialisation(graph, names),
        "constants": writer.constants(),
        "segments": texts,
        "train_step": [
            {"segment": row.segment, "call": _step_call(row.segment, calls)} for row in _schedule(role, "train_step")
        ],
        "eval_calls": [calls[row.segment] for row in _schedule(role, "eval_step") if row.segment != "load"],
        "trained": _tuple_display(writer.trained()),
        "predict_call": calls["predict"],
        "total_call": calls.get("total", ""),
        "data": dataset_call(emission),
        "shuffle": bool(training.data.get("shuffle")),
        "last": literal(training.data.get("last")),
        "length": length_call(training.length),
        "loss": names[program.loss or ""],
    }


def _schedule(role: Role, entry: str) -> tuple[Row, ...]:
    return next(found.schedule for found in role.entries if found.name == entry)


def _tuple_display(names: tuple[str, ...]) -> str:
    """A tuple with one name a line."""
    return "\n".join(["(", *(f"    {literal(name)}," for name in names), ")"]) if names else "()"


def _step_call(segment: str, calls: Mapping[str, str]) -> str:
    """How main calls a segment of a training step; loading takes this rank's part of the batch."""
    return calls[segment].replace("indices", "indices[start:stop]") if segment == "load" else calls[segment]


def _imports(emission: Emission, used: tuple[Kernel, ...], tables: Mapping[str, str]) -> list[str]:
    """Import lines in isort's order: the standard library and numpy stand in the template."""
    modules: dict[str, set[str]] = {f"kernels.{kernel.module}": set() for kernel in used}
    for kernel in used:
        modules[f"kernels.{kernel.module}"].add(kernel.function)
    modules["rates"] = {piece.kind for piece in emission.training.rates}
    rows = {name for name in ("Scratch", "View") if any(f" {name}(" in text for text in tables.values())}
    modules["runtime"] = {*RUNTIME_NAMES, *rows, emission.training.data.kind}
    return [import_line(module, sorted(names)) for module, names in sorted(modules.items())]
