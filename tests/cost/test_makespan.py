"""The evaluation of tables against a longest path through a graph of all their events."""

from __future__ import annotations

import random
import time
from math import inf

import networkx as nx
import pytest

from dlc.cost.makespan import Cell, Rows, Work, in_flight, layers, makespan, occupancy, occupied, sends_under_way, slots
from dlc.cost.schedules import SCHEDULES, Schedule, step_seconds, table


def transfer(p: int, stages: int, d: int, cell: Cell, receives: bool) -> tuple[str, int, int] | None:
    """(phase, boundary, microbatch) of the message that a cell of device d receives or sends, if any."""
    i = cell.chunk * p + d
    if p == 1 or cell.phase == "W":
        return None
    boundary = i - 1 if receives == (cell.phase == "F") else i
    return (cell.phase, boundary, cell.microbatch) if 0 <= boundary < stages - 1 else None


def longest_path(rows: Rows, works: list[Work], sends: list[float], blocking: bool, receives: bool = False) -> float:
    """Every cell and every message is a vertex; infinite where they wait for each other in a circle. With `receives`
    a message begins when its receiver comes to it."""
    p, stages = len(rows), len(works)
    graph = nx.DiGraph()
    for d, row in enumerate(rows):
        before: object = None
        left: dict[str, object] = {}
        for cell in row:
            work = works[cell.chunk * p + d]
            backward = work.backward + (0 if any(c.phase == "W" for c in row) else work.weights)
            graph.add_node((d, cell), seconds={"F": work.forward, "B": backward, "W": work.weights}[cell.phase])
            received, sent = (transfer(p, stages, d, cell, receives) for receives in (True, False))
            for message in filter(None, (received, sent)):
                graph.add_node(message, seconds=sends[message[1]])
            chain = [received if blocking or receives else None, (d, cell), sent if blocking else None]
            for vertex in filter(None, chain):
                if before is not None:
                    graph.add_edge(before, vertex)
                before = vertex
            if received and not blocking:
                graph.add_edge(received, (d, cell))
            if cell.phase == "B":
                graph.add_edge((d, cell._replace(phase="F")), (d, cell))
            if sent and not blocking:
                graph.add_edge((d, cell), sent)
                if cell.phase in left:
                    graph.add_edge(left[cell.phase], sent)
                left[cell.phase] = sent
    if not nx.is_directed_acyclic_graph(graph):
        return inf
    ends: dict[object, float] = {}
    for vertex in nx.topological_sort(graph):
        ends[vertex] = graph.nodes[vertex]["seconds"] + max((ends[u] for u in graph.predecessors(vertex)), default=0.0)
    return max(ends.values())


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("seed", range(60))
def test_makespan_is_the_longest_path(schedule: Schedule, seed: int) -> None:
    rng = random.Random(seed)
    p, m = rng.randint(1, 5), rng.randint(1, 8)
    v = rng.randint(1, 3) if schedule == "interleaved" else 1
    works = [Work(rng.random(), rng.random(), rng.choice((0.0, rng.random()))) for _ in range(p * v)]
    sends = [rng.choice((0.0, rng.random(), 3 * rng.random())) for _ in range(p * v - 1)]
    rows = table(schedule, p, m, v, works, sends)
    assert makespan(rows, works, sends) == pytest.approx(longest_path(rows, works, sends, blocking=False))
    assert makespan(rows, works, sends, blocking=True) == pytest.approx(longest_path(rows, works, sends, blocking=True))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("seed", range(40))
def test_receives_that_block_are_work_of_the_receiver(schedule: Schedule, seed: int) -> None:
    rng = random.Random(seed)
    p, m = rng.randint(2, 5), rng.randint(1, 8)
    v = rng.randint(1, 3) if schedule == "interleaved" else 1
    works = [Work(rng.random(), rng.random(), rng.choice((0.0, rng.random()))) for _ in range(p * v)]
    sends = [rng.choice((0.0, rng.random(), 3 * rng.random())) for _ in range(p * v - 1)]
    rows = table(schedule, p, m, v)
    none = [0.0] * len(sends)
    one, two = (makespan(rows, occupied(works, sends, ends), none) for ends in (1, 2))
    assert one == pytest.approx(longest_path(rows, works, sends, blocking=False, receives=True))
    assert two >= one >= makespan(rows, works, none)


def test_a_table_that_blocks_itself_never_ends() -> None:
    right, wrong = (Cell("F", 0), Cell("B", 0)), (Cell("B", 0), Cell("F", 0))
    for rows in ((wrong, right), (right, wrong)):
        assert makespan(rows, [Work(1, 1)] * 2, [0.0]) == inf
        assert makespan(rows, [Work(1, 1)] * 2, [0.0], blocking=True) == inf


def test_messages_that_must_be_on_their_way() -> None:
    """Device 1 wants the second microbatch first."""
    first = (Cell("F", 0), Cell("F", 1), Cell("B", 1), Cell("B", 0))
    second = (Cell("F", 1), Cell("F", 0), Cell("B", 1), Cell("B", 0))
    assert sends_under_way((first, second)) == 2
    assert sends_under_way((first, first)) == 1
    with pytest.raises(ValueError, match="for ever"):
        sends_under_way(((Cell("B", 0), Cell("F", 0)), (Cell("F", 0), Cell("B", 0))))


def test_what_is_held_by_chunk() -> None:
    row = tuple(Cell(phase, i, c) for phase, i, c in (("F", 0, 0), ("F", 1, 0), ("B", 0, 0), ("F", 0, 1), ("B", 0, 1)))
    assert occupancy((row,)) == (((2, 0), (1, 1)),)
    assert in_flight((row,)) == (2,)


def test_microbatches_take_turns_in_slots() -> None:
    """The third one begins while the second is held: its slot is not free, though only two are held at once."""
    cells = (("F", 0, 0), ("F", 1, 0), ("B", 1, 0), ("F", 2, 0), ("B", 0, 0), ("B", 2, 0), ("F", 0, 1), ("B", 0, 1))
    assert slots(tuple(Cell(phase, i, c) for phase, i, c in cells)) == (3, 1)


def test_stages_and_boundaries_must_fit() -> None:
    with pytest.raises(ValueError, match="2 stages and 0 boundaries"):
        makespan(table("gpipe", 2, 2), [Work(1, 1)] * 2, [])


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("p", "m"), [(1, 3), (2, 1), (3, 8), (5, 2), (16, 40)])
def test_layers_end_when_cells_one_by_one_do(schedule: Schedule, p: int, m: int) -> None:
    """Bit for bit, where messages take no time."""
    rng = random.Random(f"{schedule} {p} {m}")
    for chunks in (2, 3) if schedule == "interleaved" else (1,):
        rows = table(schedule, p, m, chunks)
        works = [Work(rng.random(), 2 * rng.random(), rng.random()) for _ in range(p * chunks)]
        assert layers(rows).seconds(works) == makespan(rows, works, [0.0] * (p * chunks - 1))
        assert step_seconds(schedule, p, m, works, [0.0] * (p * chunks - 1)) <= layers(rows).seconds(works) * (1 + 1e-9)


def test_devices_that_wait_for_each_other_have_no_layers() -> None:
    forward, backward = (Cell("F", 0), Cell("B", 0)), (Cell("B", 0), Cell("F", 0))
    assert makespan((backward, forward), [Work(1, 1)] * 2, [0.0]) == inf
    with pytest.raises(ValueError, match="for ever"):
        layers((backward, forward))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_large_tables_take_as_much_longer_as_they_have_more_cells(schedule: Schedule) -> None:
    """64 stages; 512 microbatches take some four times as long as 128."""

    def seconds(microbatches: int) -> float:
        rows, found = table(schedule, 64, microbatches), inf
        for _ in range(3):
            start = time.process_time()
            makespan(rows, works, [0.1] * 63)
            found = min(found, time.process_time() - start)
        return found

    works = [Work(1 + d / 64, 2 - d / 64, 0.5) for d in range(64)]
    assert seconds(512) < 3 * 4 * seconds(128)
