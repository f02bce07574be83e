"""A Program on a mesh to the text of train.py: tables of arrays, a function a segment, and schedules by stage."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files as resources
from textwrap import wrap

import dlc
from backends.numpy_mpi.emission import Emission
from backends.numpy_mpi.kernels import Kernel
from backends.numpy_mpi.mesh import bodies, listing, scratch
from backends.numpy_mpi.mesh.blocks import TABLE, Folding, Function, Node, described, tree
from backends.numpy_mpi.mesh.bundles import Bundles
from backends.numpy_mpi.mesh.calls import Calls
from backends.numpy_mpi.mesh.modes import merged
from backends.numpy_mpi.mesh.rows import schedule_text, slots_of
from backends.numpy_mpi.mesh.settings import Settings
from backends.numpy_mpi.mesh.specs import NUMPY_TYPES, Arrays
from backends.numpy_mpi.mesh.statements import Statement
from backends.numpy_mpi.mesh.tables import Rows
from backends.numpy_mpi.mesh.tree import Blocks, Path
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
from backends.numpy_mpi.text import WIDTH, call, import_line, literal, literal_map
from dlc.ir.program import Compute, Load, Program, Receive, Role, Row, Segment, Send
from dlc.ir.storage import writes
from dlc.ir.tensor import NARROW
from dlc.ir.training import Training
from dlc.ops.indexing import indexing_of
from passes.differentiate import operator_of, roles
from passes.lowering.widen import COPIES, MASTER

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
    "tables": ("Array", "Bucket", "Member", "Part", "Statistic", "Temporary", "View", "Weight"),
}
"""What tables and functions name, by the module of the runtime that has it."""

TITLES = {
    "begin": "Before the first microbatch: what is added to begins at zero.",
    "load": "This rank's part of the samples of a microbatch, and of their labels.",
    "forward": "The network, its loss and its metrics.",
    "backward": "The gradients, summed over the ranks as soon as they are complete.",
    "weights": "The gradients by weights, apart from those by activations.",
    "reduce": "What microbatches have added up, summed over the ranks.",
    "unscale": "The gradients of the loss, of which until now they were so many times the scale.",
    "update": "One step of the optimizer.",
    "copies": "Weights in half precision, made of those in f32.",
    "predict": "The network in inference mode, as far as its outputs.",
    "evaluate": "Loss and metrics of what was predicted, added to the totals.",
    "load_inputs": "This rank's part of the samples of a microbatch.",
    "sent": "What was sent has gone, its arrays are free.",
}

BOTH = "The network, in training with its loss and its metrics."

PARAMETERS = ("a", "w", "g", "s", "at", "place")
"""Of each segment's function: the namespaces, the microbatch, and the rank."""

TITLES_OF_BLOCKS = {
    "forward": "The forward pass",
    "backward": "The backward pass",
    "weights": "The gradients by weights",
    "update": "A step of the optimizer",
    "predict": "Inference",
    "evaluate": "The evaluation",
    TABLE: "The arrays",
}


@dataclass(frozen=True, slots=True)
class SegmentText:
    """One function of train.py."""

    name: str
    parameters: tuple[str, ...]
    title: str
    body: str


@dataclass
class RoleText:
    """What the template prints of a role."""

    emission: Emission
    role: Role
    index: int
    stacked: Mapping[str, int]
    blocks: Blocks
    windows: dict[str, str]
    settings: Settings
    calls: Calls = field(init=False)
    in_both: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        emission = self.emission
        microbatches, dtype = emission.plan.microbatches, element_type(emission)
        arrays = Arrays(self.role, dtype, microbatches, self.stacked, self.blocks, self.windows)
        self.calls = Calls(self.emission, arrays, self.settings)

    @property
    def suffix(self) -> str:
        """What the names of this role's tables and functions end in."""
        return str(self.index) if len(self.emission.program.roles) > 1 else ""

    @property
    def arrays(self) -> Arrays:
        """Its arrays."""
        return self.calls.arrays

    def title(self, segment: str) -> str:
        """The function of a segment."""
        return function_name(self.emission.program, self.index, segment)

    def trees(self) -> list[Node]:
        """The statements of its segments by block."""
        located = [(segment, list(self._located(segment))) for segment in self.role.segments if segment.instructions]
        bundles = Bundles(self.rows.made())
        statements = {
            segment.name: [(path, bundles.together(statement)) for path, statement in several]
            for segment, several in located
        }
        for name in [each for each in statements if re.fullmatch(r"forward\d*", each)]:
            self._with_inference(statements, name, name.replace("forward", "predict"))
        return [tree((), _kind(segment), statements[segment.name]) for segment, _ in located]

    def _with_inference(self, statements: dict[str, list[tuple[Path, Statement]]], training: str, other: str) -> None:
        """One function for training and inference, where they have enough in common."""
        both = merged(statements[training], statements[other]) if other in statements else []
        if both:
            statements[training] = both
            arguments = tuple((each,) for each in (*PARAMETERS, "training=False"))
            statements[other] = [((), Statement((self.title(training),), arguments))]
            self.in_both.add(training)

    def _located(self, segment: Segment) -> Iterator[tuple[Path, Statement]]:
        if not segment.name.endswith(".sent"):
            return self.calls.statements(segment.instructions)
        sends = self.role.segment(segment.name.removesuffix(".sent")).instructions
        return self.calls.sent([each for each in sends if isinstance(each, Send) and not each.blocking])

    def segments(self, trees: Sequence[Node]) -> list[SegmentText]:
        """The functions of its segments, in order."""
        return [
            SegmentText(
                self.title(segment.name),
                (*PARAMETERS, *(["training=True"] if segment.name in self.in_both else [])),
                BOTH if segment.name in self.in_both else TITLES[found.kind],
                "\n".join(bodies.lines(found.body, ())),
            )
            for segment, found in zip((s for s in self.role.segments if s.instructions), trees, strict=True)
        ]

    def schedule(self, entry: str, updates: bool | None = None) -> str:
        """The rows of an entry as text; of a training step those of the update, or all others."""
        rows = self._rows(entry)
        if updates is not None:
            rows = [row for row in rows if (row.segment == "update") == updates]
        return schedule_text(rows, self.title, self.emission.plan.microbatches)

    def _rows(self, entry: str) -> list[Row]:
        rows = next(found.schedule for found in self.role.entries if found.name == entry)
        return [row for row in rows if self.role.segment(row.segment).instructions]

    @property
    def slots(self) -> dict[int, int]:
        """(Virtual) stage -> how many slots its microbatches take turns in, where that is more than one."""
        found = slots_of(self._rows("train_step"), self.title)
        return {int(at.group()): count for name, count in found.items() if (at := re.search(r"\d+", name))}

    def table(self) -> Node:
        """The rows of its arrays by block."""
        return tree((), TABLE, self.rows.located())

    @cached_property
    def rows(self) -> Rows:
        """The rows of its arrays; its statements are known before."""
        return Rows(self.arrays, self.emission.graph, dict(self._tensors()))

    def _tensors(self) -> Iterator[tuple[str, str]]:
        """What is kept from step to step and summed gradients: (name in the network, buffer that holds it)."""
        graph, known = self.emission.graph, self.arrays.names
        for value in graph.of_kind("weight", "statistic", "state", "constant"):
            has_master = graph.has_value(f"{value.name}{MASTER}")
            held = f"{value.name}{MASTER}" if has_master else value.name
            if held in known and not value.name.endswith(MASTER):
                yield value.name, held
        for weight, gradient in self._gradients():
            yield f"{weight}@grad", gradient

    def _gradients(self) -> Iterator[tuple[str, str]]:
        """(weight, the buffer of its summed gradient), as its update reads them."""
        for made in self.role.segment("update").instructions if self._updates else ():
            if isinstance(made, Compute) and made.kernel[1] == "update" and "lr" in made.runtime:
                weights = [name for name in map(_weight, made.inputs) if name in self._weights]
                yield from zip(weights, made.inputs[len(weights) :], strict=False)

    @property
    def _updates(self) -> bool:
        return any(segment.name == "update" for segment in self.role.segments)

    @property
    def _weights(self) -> frozenset[str]:
        return frozenset(value.name for value in self.emission.graph.of_kind("weight"))

    def holds(self, name: str | None) -> bool:
        """Whether it has a buffer of that name."""
        return name is not None and name in self.arrays.names

    def outputs(self) -> dict[str, tuple[str, ...]]:
        """Function that makes them -> outputs."""
        made: dict[str, list[str]] = {}
        for title, buffer in self.emission.program.outputs:
            segment = next(
                (s for s in self.role.segments if s.name.startswith("predict") and self._makes(s, buffer)), None
            )
            if segment is not None:
                made.setdefault(self.title(segment.name), []).append(title)
        return {name: tuple(titles) for name, titles in made.items()}

    def layouts(self) -> dict[str, str]:
        """In which order in memory it reads images."""
        loads = (i for segment in self.role.segments for i in segment.instructions if isinstance(i, Load))
        found = {self.calls.fed(name): self.role.buffer(name).layout for load in loads for name in load.buffers}
        return {name: layout for name, layout in found.items() if layout not in ("", "NCHW")}

    def _makes(self, segment: Segment, buffer: str) -> bool:
        """Whether a segment of predictions makes a buffer, or what it is a view of: it is not sent by another role."""
        if not self.holds(buffer):
            return False
        places = self.arrays.storage.places
        storage = places[buffer].storage
        made = (each for each in segment.instructions if not (isinstance(each, Receive) and each.buffer == buffer))
        filled = {places[name].storage for each in made for name in writes(each)}
        return storage in filled or self.role.buffer(storage).kind == "input"


def _kind(segment: Segment) -> str:
    """What segments of all (virtual) stages have in common in their names."""
    return "sent" if segment.name.endswith(".sent") else re.sub(r"\d+$", "", segment.name)


def function_name(program: Program, role: int, segment: str) -> str:
    """The function of a role's segment: in a pipeline with the number of the (virtual) stage."""
    if len(program.roles) == 1:
        return segment
    found = re.fullmatch(r"([a-z_]+?)(\d*)(\.sent)?", segment)
    assert found is not None
    name, chunk, sent = found.groups()
    return f"{name}{role + int(chunk or 0) * len(program.roles)}{'_sent' if sent else ''}"


def _weight(name: str) -> str:
    """The weight that a buffer holds: all of it, a shard, or the master."""
    return name.removesuffix(MASTER).removesuffix(".shard")


def element_type(emission: Emission) -> str:
    """The type of arrays whose table says no other."""
    return "f32" if emission.program.dtype in NARROW else emission.program.dtype


def stacked_weights(emission: Emission) -> dict[str, int]:
    """The weights that hold several tensors one behind the other, each of which is cut, and how many."""
    found: dict[str, int] = {}
    graph, plan = emission.graph, emission.plan
    for node in graph.forward:
        by_role = roles(node)
        space = indexing_of(operator_of(node), {r: graph.type(v) for r, v in by_role.items()}, dict(node.attrs))
        if space.stacked:
            cut = {each.axis for each in plan.op(node.address).partition}
            found.update({by_role[r]: n for r, (axis, n) in space.stacked.items() if axis in cut and r in by_role})
    return found


def train_text(emission: Emission, used: tuple[Kernel, ...], shown: Mapping[str, Kernel]) -> str:
    """The text of train.py: Python decides here, the template prints."""
    import jinja2

    source = resources("backends.numpy_mpi").joinpath("templates/train.py.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(source).render(_fields(emission, used, shown))


def _fields(emission: Emission, used: tuple[Kernel, ...], shown: Mapping[str, Kernel]) -> dict[str, object]:
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
    folding = Folding([*rows, *(each for several in trees for each in several)], blocks.titles(graph.blocks))
    roles_ = [_role(*each) for each in zip(parts, trees, rows, strict=True)]
    inputs, sample = input_shapes(graph), sample_shapes(graph, training.data)
    totals = next(part for part in parts if part.holds("totals"))
    functions = [_block(function) for function in folding.functions]
    text = str((roles_, functions, windows))
    runtime = {*RUNTIME_NAMES, training.data.kind}
    if emission.scaled:
        runtime = runtime - {"require_finite"} | {"skipped"}
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
        "imports": list(_imports(emission, used, runtime, f"{text} Stage(")),
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
        "states": literal(part.rows.states),
        "segments": segments,
        "functions": functions.strip(),
        "train": literal(part.schedule("train_step", updates=False)),
        "update": literal(part.schedule("train_step", updates=True)),
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


def _imports(emission: Emission, used: tuple[Kernel, ...], runtime: set[str], text: str) -> Iterator[str]:
    """Import lines in isort's order: the standard library and numpy stand in the template."""
    modules: dict[str, set[str]] = {}
    for kernel in used:
        modules.setdefault(f"kernels.{kernel.module}", set()).add(kernel.function)
    modules["rates"] = {piece.kind for piece in emission.training.rates}
    modules["runtime"] = runtime
    for module, names in TABLES.items():
        modules[f"runtime.{module}"] = {name for name in names if re.search(rf"\b{name}\(", text)}
    return (import_line(module, sorted(names)) for module, names in sorted(modules.items()) if names)


def words(names: list[str]) -> str:
    """Names as one text of several lines."""
    lines = wrap(" ".join(names), WIDTH - 10, break_long_words=False, break_on_hyphens=False)
    return "\n".join(["(", *(f"    {literal(line + ' ')}" for line in lines), ")"])
