"""Hierarchical sums send what their price is of: as many bytes from every rank to every other."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path

import numpy as np
import pytest

from backends.numpy_mpi import runtime
from backends.numpy_mpi.runtime.collectives import HIERARCHICAL, Step
from backends.numpy_mpi.runtime.thread_world import ThreadWorld, run_threads
from dlc.cluster.rounds import Digit, Shape, flows, rounds
from dlc.driver import Compiled, Options, compile_spec, emit_files, read
from dlc.folders import write_folder
from dlc.ir.program import Collective
from dlc.verification import compare
from tests.driver.conftest import CLUSTER, spec
from tests.oracle.programs import EmittedProgram

LEVELS = ((2, 2), (3, 2), (2, 3), (2, 4), (4, 3), (5, 2), (2, 2, 2), (2, 3, 2), (3, 2, 2), (2, 2, 3))
SIZE = 2520  # values: every level's parts are of equal length
Sent = Counter[tuple[int, int]]


def planned(algorithm: str, levels: tuple[int, ...], size: int = SIZE * 8) -> Sent:
    """Bytes from rank to rank by the algorithm's rounds."""
    shape = Shape(prod(levels), digits=tuple(Digit(extent) for extent in levels))
    found: Sent = Counter()
    for made in rounds("allreduce", algorithm, shape) or ():
        for source, target in zip(*flows(made.pattern, shape), strict=True):
            found[int(source), int(target)] += round(made.share * size) * made.times
    return found


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Bytes from rank to rank in sums, as they are sent."""
    found: Sent = Counter()
    start = ThreadWorld.start

    def counted(world: ThreadWorld, step: Step, name: str, serial: int = 0) -> list[object]:
        if step.sent is not None and name.startswith(("allreduce of `x`", "allreduce of `bucket")):
            found[world.members[world.rank], world.members[step.to]] += step.sent.nbytes
        return start(world, step, name, serial)

    monkeypatch.setattr(ThreadWorld, "start", counted)
    return found


@pytest.mark.parametrize("levels", LEVELS, ids=str)
@pytest.mark.parametrize("algorithm", HIERARCHICAL)
def test_a_sum_sends_what_was_planned(algorithm: str, levels: tuple[int, ...], sent: Sent) -> None:
    def main(world: runtime.World) -> None:
        place = runtime.Place(world, {"data": world.size}, batch=world.size, levels={"data": levels})
        a = runtime.Arrays({"x": runtime.Array(str(SIZE))}, place, "f8").at()
        a.x[...] = np.arange(SIZE) + world.rank
        place.allreduce(a.x, over="data", algorithm=algorithm)
        ranks = world.size
        assert np.array_equal(a.x, np.arange(SIZE) * ranks + ranks * (ranks - 1) // 2)

    run_threads(main, prod(levels))
    assert sent == planned(algorithm, levels)
    *_, within = levels
    across = sum(size for (source, target), size in sent.items() if source // within != target // within)
    assert across * within <= 2 * SIZE * 8 * prod(levels)  # a share of the values leaves a node, not all of them


NODES = CLUSTER.replace("core[2] over shm", "node[2] over net { core[2] over shm }").replace(
    "topology", "link net { bandwidth = 1 GB/s, latency = 20 us }\n  topology"
)


@pytest.fixture
def on_two_nodes(tmp_path: Path) -> Compiled:
    """A program for two nodes of two ranks."""
    path = tmp_path / "spec.dlspec"
    path.write_text(spec("strategy = data, allreduce = hierarchical", cluster=NODES), encoding="utf-8")
    return compile_spec(read(str(path)), Options())


def test_a_program_sends_what_was_planned(on_two_nodes: Compiled, sent: Sent, tmp_path: Path) -> None:
    (group,) = on_two_nodes.program.groups
    assert group.levels == (2, 2)
    write_folder(emit_files(on_two_nodes), str(tmp_path / "program"))
    EmittedProgram(tmp_path / "program", str(tmp_path), 4).run(steps=1)
    (role,) = on_two_nodes.program.roles
    wanted: Sent = Counter()
    for made in (made for segment in role.segments for made in segment.instructions):
        if isinstance(made, Collective) and made.buffer.startswith("bucket"):
            wanted.update(planned(made.algorithm, group.levels, made.bytes))
    assert set(sent) == set(wanted) == {(0, 1), (1, 0), (2, 3), (3, 2), (0, 2), (2, 0), (1, 3), (3, 1)}
    for way, size in sent.items():
        assert abs(size - wanted[way]) <= 16  # parts of a bucket differ by an element


@pytest.mark.mpi
def test_two_nodes_under_mpi(on_two_nodes: Compiled) -> None:
    verdict = compare(on_two_nodes, emit_files(on_two_nodes), "hierarchical", steps=2)
    assert verdict.passed, verdict
