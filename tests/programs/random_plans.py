"""Random plans for random networks: meshes, strategies, schedules, sharding, recomputation, and pins of partitions.

What the planner says cannot be had is asked for no longer, one request after the other, so that every case ends in a
plan. A case is a text: what fails is printed as a spec that reproduces it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from dlc.diagnostics import DiagnosticError
from dlc.driver import Compiled, Options, compile_job, context_of, read
from dlc.ir.graph import Graph
from dlc.ops.indexing import indexing_of
from dlc.verification import variants, without_rounding
from passes.differentiate import operator_of, roles
from tests.programs.random_networks import random_network

CLUSTER = """
cluster box {{
  device core {{
    kind        = cpu
    memory      = 4 GB
    bandwidth   = 10 GB/s
    compute.f32 = 50 GFLOP/s
    compute.f64 = 25 GFLOP/s
    overlap     = {overlap}
  }}
  link shm {{ bandwidth = {bandwidth} MB/s, latency = {latency} us }}
  link bus {{ bandwidth = {slower} MB/s, latency = {latency} us }}
  topology {{ board[{boards}] over bus {{ core[{cores}] over shm }} }}
}}
"""

SCHEDULES = ("gpipe", "one_f_one_b", "interleaved", "zero_bubble")
OPTIMIZERS = ("sgd, not clipped", "sgd, clipped", "adam, clipped")


@dataclass(frozen=True, slots=True)
class Case:
    """A network, and what is asked of its plan; `lines` are those of the plan block."""

    network: str
    cluster: str
    ranks: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The spec."""
        plan = "\n".join(f"  {line}" for line in self.lines)
        return f"{self.network}{self.cluster}\nplan net on box {{\n{plan}\n}}\n"

    def smaller(self) -> Iterator[Case]:
        """The same with one request less."""
        for at in reversed(range(len(self.lines))):
            yield replace(self, lines=self.lines[:at] + self.lines[at + 1 :])


def random_case(seed: int, folder: Path) -> Case:
    """The case of that number, with all that its generator thought of."""
    draw = Random(f"plan {seed}")
    network = random_network(seed, folder).partition("cluster cores")[0]
    ranks = draw.choice((2, 2, 3, 4, 4, 4, 6, 8))
    boards, bandwidth = draw.choice([n for n in (1, 2, 3, 4) if ranks % n == 0]), draw.choice((80, 800, 8000))
    cluster = CLUSTER.format(
        boards=boards,
        cores=ranks // boards,
        bandwidth=bandwidth,
        slower=bandwidth // draw.choice((1, 4)),
        latency=draw.choice((0.1, 1, 30)),
        overlap=draw.choice((0, 0, 0.9)),
    )
    path = folder / "network.dlspec"
    path.write_text(network)
    return Case(network, cluster, ranks, tuple(_lines(draw, ranks, read(str(path)).spec.jobs[0].graph)))


def _lines(draw: Random, ranks: int, graph: Graph) -> Iterator[str]:
    mesh = _mesh(draw, ranks)
    if draw.random() < 0.85:
        yield f"strategy = {_strategy(draw, mesh)}"
    if draw.random() < 0.3:
        yield f"shard = {draw.choice(('optimizer', 'gradients', 'weights'))}"
    if draw.random() < 0.3:
        yield "recompute = all"
    if draw.random() < 0.5:
        yield f"pipeline.microbatches = {draw.choice((1, 2, 2, 3, 4))}"
    if draw.random() < 0.5:
        yield f"pipeline.schedule = {draw.choice(SCHEDULES)}"
    if draw.random() < 0.2:
        yield f"allreduce = {draw.choice(('ring', 'tree', 'butterfly', 'rabenseifner', 'shared', 'mpi'))}"
    for _ in range(draw.choice((0, 0, 1, 2, 4))):
        yield from _pin(draw, graph)


def _mesh(draw: Random, ranks: int) -> dict[str, int]:
    """The ranks along pipeline, data and model."""
    found = {"pipeline": 1, "data": 1, "model": 1}
    for prime in {2: (2,), 3: (3,), 4: (2, 2), 6: (2, 3), 8: (2, 2, 2)}[ranks]:
        found[draw.choice(tuple(found))] *= prime
    return {name: extent for name, extent in found.items() if extent > 1}


def _strategy(draw: Random, mesh: dict[str, int]) -> str:
    axes = ", ".join(f"{name} = {extent}" for name, extent in mesh.items())
    return draw.choice(("data", "model", "spatial", "pipeline", *(f"hybrid({axes})",) * 6))


def _pin(draw: Random, graph: Graph) -> Iterator[str]:
    """An op split along one of its axes over a group of the cluster, or replicated, or computed again."""
    node = draw.choice([node for node in graph.nodes if node.stage == "forward"])
    types = {role: graph.type(name) for role, name in roles(node).items()}
    axes = indexing_of(operator_of(node), types, dict(node.attrs)).axes
    if axes and draw.random() < 0.8:
        partition = f"split({draw.choice(axes)}, over = {draw.choice(('board', 'core'))})"
    else:
        partition = "replicate"
    yield f"pin {node.address} {{ {draw.choice((f'partition = {partition}',) * 4 + ('recompute = yes',))} }}"


def compiled_case(
    case: Case, folder: Path, *, precision: str | None, exact: bool, variant: int
) -> tuple[Case, Compiled]:
    """The case that can be had of what is asked for, and its program."""
    while True:
        try:
            return case, _compiled(case, folder, precision, exact, variant)
        except DiagnosticError as error:
            codes = {each.code for each in error.diagnostics if each.is_error}
            if not case.lines or not all(code.startswith("E05") for code in codes):
                raise
            case = replace(case, lines=case.lines[:-1])


def _compiled(case: Case, folder: Path, precision: str | None, exact: bool, variant: int) -> Compiled:
    path = folder / "case.dlspec"
    path.write_text(case.text)
    options = Options(exact=exact, precision=precision)
    source = read(str(path))
    job, context = context_of(source, options)
    if exact:
        context = without_rounding(context, job.graph)
    known = list(variants(context.training, exact=exact))
    chosen = known[variant % len(known)]
    return compile_job(source, job, context.with_(training=chosen.training), options)


def shrunk(case: Case, fails: Callable[[Case], bool]) -> Case:
    """The case without the requests that its failure does not need."""
    for other in case.smaller():
        if fails(other):
            return shrunk(other, fails)
    return case
