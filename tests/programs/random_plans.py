"""Random plans for random networks: meshes, strategies, schedules, sharding, recomputation, and pins of partitions.

What the planner says cannot be had is asked for no longer, one request after the other, so that every case ends in a
plan. A case is a text: what fails is printed as a spec that reproduces it, without the requests and statements that it
does not take. `python -m tests.programs.random_plans` runs 2,000 cases on virtual ranks and 150 under mpiexec, in an
hour or two; it may be interrupted and goes on where it was. Kernels are NumPy's, with `DLC_KERNELS=c` those in C.
"""

from __future__ import annotations

import os
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count as counting
from itertools import islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from traceback import extract_tb

from dlc.diagnostics import DiagnosticError
from dlc.driver import Compiled, Options, compile_job, context_of, emit_files, read
from dlc.ir.graph import Graph
from dlc.ops.indexing import indexing_of
from dlc.verification import Runner, compare, launched, variants, without_rounding
from passes.differentiate import operator_of, roles
from tests.oracle.programs import EmittedProgram
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
RANKS = (2, 2, 3, 4, 4, 4, 6, 8)
STATEMENT = re.compile(r"^(  (\w+) = (\w+) .*\n)", re.MULTILINE)

STEPS = 2
CASES, REAL_CASES = 2000, 150
MOST_PROCESSES = 4
"""Ranks of cases under mpiexec."""


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

    def smaller(self) -> Iterator[Callable[[Case], Case]]:
        """Ways to make it smaller: without one of its requests, and without one of its statements, whose result is then
        left out of concatenations, and elsewhere is what it was made of. Some lead to texts that are no specs."""
        for line in reversed(self.lines):
            yield lambda case, line=line: replace(case, lines=tuple(each for each in case.lines if each != line))
        for line, name, source in reversed(STATEMENT.findall(self.network)):
            yield lambda case, line=line, name=name, source=source: replace(
                case, network=_without(case.network, line, name, source)
            )


def _without(network: str, line: str, name: str, source: str) -> str:
    if line not in network:  # it reads something else by now
        return network
    return re.sub(rf"\b{name}\b", source, re.sub(rf"\b{name}, |, {name}\b", "", network.replace(line, "")))


def ranks_of(seed: int) -> int:
    """How many ranks the case of that number has."""
    return Random(f"plan {seed}").choice(RANKS)


def random_case(seed: int, folder: Path) -> Case:
    """The case of that number, with all that its generator thought of."""
    draw = Random(f"plan {seed}")
    network = random_network(seed, folder).partition("cluster cores")[0]
    ranks = draw.choice(RANKS)
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
    if draw.random() < 0.4:
        yield "overlap = yes"


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
    return compiled_spec(path, precision=precision, exact=exact, variant=variant)


def compiled_spec(path: Path, *, precision: str | None, exact: bool, variant: int = 0) -> Compiled:
    """The program of a spec, in one of the variants of training that are verified."""
    options = Options(exact=exact, precision=precision)
    source = read(str(path))
    job, context = context_of(source, options)
    if exact:
        context = without_rounding(context, job.graph)
    known = list(variants(context.training, exact=exact))
    chosen = known[variant % len(known)]
    return compile_job(source, job, context.with_(training=chosen.training), options)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a case: what others have that are wrong for the same reason, and all of it."""

    kind: str
    text: str


def in_turns(program: str, ranks: int, root: str, steps: int, record: str, *options: str) -> None:
    """Runs a program's folder on virtual ranks of this process, as a rehearsal does: messages are rendezvous."""
    given = dict(zip((name.removeprefix("--") for name in options[::2]), options[1::2], strict=True))
    perturb = {"perturb": int(given.pop("perturb"))} if "perturb" in given else {}
    EmittedProgram(Path(program), root, ranks, rendezvous=True).run(steps=steps, record=record, **given, **perturb)


def fault(case: Case, number: int, folder: Path, run: Runner) -> Fault | None:
    """What is wrong with the program of a case; one in four is exact, one in four in f32."""
    exact, precision = number % 4 == 0, "f32" if number % 4 == 1 else "f64"
    try:
        made, compiled = compiled_case(
            case, folder, precision=None if exact else precision, exact=exact, variant=number // 4
        )
        verdict = compare(compiled, emit_files(compiled), "case", STEPS, run=run)
    except DiagnosticError as error:
        codes = sorted({each.code for each in error.diagnostics if each.is_error})
        return Fault(" ".join(codes), f"{error}")
    except Exception as error:
        place = extract_tb(error.__traceback__)[-1]
        return Fault(f"{Path(place.filename).name}:{place.lineno}", f"{type(error).__name__}: {error}")
    if verdict.passed:
        return None
    return Fault("differs", f"{verdict.failed[:3]} on {compiled.plan.mesh} of {made.lines}")


def failure(number: int, folder: Path, run: Runner) -> str:
    """What is wrong with the case of that number and the smallest spec found that shows it, "" for nothing."""
    case = random_case(number, folder)
    wrong = fault(case, number, folder, run)
    if wrong is None:
        return ""
    for smaller in case.smaller():
        other = smaller(case)
        found = fault(other, number, folder, run) if other != case else None
        if found is not None and found.kind == wrong.kind:
            case = other
    return f"case {number}: {wrong.text}\n{case.text}"


def real_numbers(count: int) -> Iterator[int]:
    """The first cases that so many processes can run, as many as asked for."""
    return islice((number for number in counting() if ranks_of(number) <= MOST_PROCESSES), count)


def main(arguments: list[str]) -> int:
    """1 where a case fails, 2 where it was interrupted."""
    asked = _asked(arguments)
    log = Path(asked.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    done = set(re.findall(r"^(\w+ \d+) passed", log.read_text(), re.MULTILINE)) if log.exists() else set()
    todo = [("virtual", number) for number in range(asked.first, asked.cases)]
    todo += [("mpiexec", number) for number in real_numbers(asked.mpi)]
    todo = [(kind, number) for kind, number in todo if f"{kind} {number}" not in done]
    failed = 0
    print(f"{len(done)} cases have passed as {log} says, {len(todo)} are left")
    try:
        for at, (kind, number) in enumerate(todo, 1):
            with TemporaryDirectory(prefix="dlc-plans-") as folder:
                wrong = failure(number, Path(folder), in_turns if kind == "virtual" else launched)
            failed += bool(wrong)
            line = f"{kind} {number} {'failed' if wrong else 'passed'}"
            with log.open("a") as stream:
                print(line, wrong, file=stream)
            print(f"{line}, {at} of {len(todo)}, {failed} failed", wrong, sep="\n" if wrong else "", flush=True)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here")
        return 2
    return int(failed > 0)


def _asked(arguments: list[str]) -> Namespace:
    parser = ArgumentParser(
        prog="python -m tests.programs.random_plans", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument("--cases", type=int, default=CASES, help="cases on virtual ranks (%(default)s)")
    parser.add_argument("--mpi", type=int, default=REAL_CASES, help="cases under mpiexec (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case on virtual ranks")
    parser.add_argument("--log", default="build/random_plans.log", help="what has passed, and how others fail")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    os.environ.setdefault("DLC_KERNELS", "numpy")
    raise SystemExit(main(sys.argv[1:]))
