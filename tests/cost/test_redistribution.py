"""Redistributions: shortest paths against Dijkstra's, and every move carried out on arrays."""

from __future__ import annotations

import heapq
import random
from itertools import combinations, product
from math import inf, prod

import numpy as np
import pytest

from dlc.cluster.collectives import Processing
from dlc.cluster.fabric import Fabric
from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.cost.redistribution import Move, Redistributions
from dlc.ir.mesh import PARTIAL, REPLICATED, Mesh, Placement, largest, parts, shards
from dlc.ir.tensor import TensorType, tensor

GPU = Device("gpu", kind="gpu", bandwidth=1e12, compute=(("f32", 1e13),), launch=5e-6)
POD = Cluster(
    "pod",
    (GPU,),
    (Link("net", 2.5e10, 2e-6, shape="fat_tree", oversubscription=2.0), Link("nvlink", 3e11, 1e-6, shape="switch")),
    (Group("node", 4, "net", (Group("gpu", 4, "nvlink"),)),),
)
LOCAL = Processing(5e-6, 3e-12, 2e-12)
IMAGE = tensor("f32", batch=64, channel=256, height=14, width=14)
Step = tuple[str, tuple[str, ...], Placement, float]


def redistributions(mesh: Mesh) -> Redistributions:
    return Redistributions(Fabric(POD, mesh, LOCAL), GPU)


# Once more, one placement at a time.


def contiguous(type_: TensorType, placement: Placement, mesh: Mesh, axis: str) -> bool:
    """Whether parts along an axis are one after another in what a rank holds: nothing stands outside of it."""
    local = largest(type_, placement, mesh)
    return prod(local.shape[: local.names.index(axis)]) == 1


def too_many(type_: TensorType, placement: Placement, mesh: Mesh) -> bool:
    """Whether an axis is cut into more parts than it has elements; ranks may have no samples."""
    return any(parts(placement, mesh, axis) > type_.extent(axis) for axis in type_.names if axis != "batch")


def nested(type_: TensorType, before: Placement, after: Placement, mesh: Mesh) -> bool:
    """Whether the finer parts of an axis lie each inside of one of the coarser ones."""
    for axis in type_.names:
        coarse, fine = sorted((parts(before, mesh, axis), parts(after, mesh, axis)))
        starts = [start for start, _ in shards(type_.extent(axis), fine)]
        if starts[:: fine // coarse] != [start for start, _ in shards(type_.extent(axis), coarse)]:
            return False
    return True


def moves_from(type_: TensorType, before: Placement, fabric: Fabric) -> list[Step]:
    mesh, found = fabric.mesh, list[Step]()
    for count in range(1, len(before) + 1):
        for chosen in combinations(range(len(before)), count):
            for new in (REPLICATED, *type_.names):
                after = tuple(new if i in chosen else at for i, at in enumerate(before))
                olds = {before[i] for i in chosen}
                rest = {at for i, at in enumerate(before) if i > chosen[0] and i not in chosen} - {REPLICATED, PARTIAL}
                if len(olds) > 1 or new in olds or rest & {new, *olds}:
                    continue
                if too_many(type_, after, mesh) or not nested(type_, before, after, mesh):
                    continue
                (old,), axes = olds, tuple(mesh.names[i] for i in chosen)
                found.append(step(type_, fabric, axes, (before, old), (after, new)))
    return found


def step(
    type_: TensorType,
    fabric: Fabric,
    axes: tuple[str, ...],
    source: tuple[Placement, str],
    target: tuple[Placement, str],
) -> Step:
    mesh, (before, old), (after, new) = fabric.mesh, source, target
    had, has = (largest(type_, at, mesh).bytes for at in (before, after))
    packs = new != REPLICATED and not contiguous(type_, before, mesh, new)
    unpacks = old not in (REPLICATED, PARTIAL) and not contiguous(type_, after, mesh, old)
    if old == REPLICATED:
        return "slice", axes, after, 2 * has / GPU.bandwidth + GPU.launch if packs else 0.0
    if old == PARTIAL:
        kind, size = ("reduce_scatter" if new else "allreduce"), had
    elif new == REPLICATED:
        kind, size = "allgather", has
    else:
        whole = tuple(REPLICATED if name in axes else at for name, at in zip(mesh.names, before, strict=True))
        kind, size = "all_to_all", largest(type_, whole, mesh).bytes
    copies = packs * (2 * had / GPU.bandwidth + GPU.launch) + unpacks * (2 * has / GPU.bandwidth + GPU.launch)
    return kind, axes, after, fabric.seconds(kind, float(size), axes) + copies


def dijkstra(type_: TensorType, source: Placement, fabric: Fabric) -> dict[Placement, float]:
    if too_many(type_, source, fabric.mesh):
        return {source: 0.0}
    least, waiting = {source: 0.0}, [(0.0, source)]
    while waiting:
        cost, at = heapq.heappop(waiting)
        if cost > least[at]:
            continue
        for _, _, after, seconds in moves_from(type_, at, fabric):
            if cost + seconds < least.get(after, inf):
                least[after] = cost + seconds
                heapq.heappush(waiting, (cost + seconds, after))
    return least


CASES = [
    (Mesh((("data", 4),)), IMAGE),
    (Mesh((("data", 4), ("model", 4))), IMAGE),
    (Mesh((("data", 2), ("model", 8))), tensor("f32", batch=64, feature=9)),
    (Mesh((("pipeline", 2), ("data", 4), ("model", 2))), tensor("f16", batch=12, feature=5)),
    (Mesh((("data", 2), ("model", 2))), tensor("f32")),
    (Mesh((("data", 2), ("model", 2))), tensor("f32", batch=10, feature=7)),
    (Mesh((("data", 3), ("model", 2))), tensor("f32", batch=8, feature=11)),
]


@pytest.mark.parametrize(("mesh", "type_"), CASES)
def test_matrices_hold_the_lengths_of_shortest_paths(mesh: Mesh, type_: TensorType) -> None:
    found = redistributions(mesh)
    states = list(product((REPLICATED, PARTIAL, *type_.names), repeat=len(mesh.axes)))
    matrix = found.matrix(type_, states, states)
    for row, source in enumerate(states):
        least = dijkstra(type_, source, found.fabric)
        assert matrix[row] == pytest.approx([least.get(target, inf) for target in states], rel=1e-12)


def test_paths_are_as_long_as_the_matrix_says() -> None:
    mesh = Mesh((("pipeline", 2), ("data", 4), ("model", 2)))
    type_, found, rng = tensor("f32", batch=16, channel=3, width=6), redistributions(mesh), random.Random(1)
    for _ in range(100):
        source = tuple(rng.choice((REPLICATED, PARTIAL, *type_.names)) for _ in mesh.axes)
        target = tuple(rng.choice((REPLICATED, *type_.names)) for _ in mesh.axes)
        seconds = float(found.matrix(type_, [source], [target])[0, 0])
        if seconds == inf:
            with pytest.raises(ValueError, match="no way"):
                found.path(type_, source, target)
            continue
        path = found.path(type_, source, target)
        assert sum(move.seconds for move in path) == pytest.approx(seconds)
        at = source
        for move in path:
            assert move.before == at
            assert (move.kind, move.axes, move.after) in [s[:3] for s in moves_from(type_, at, found.fabric)]
            at = move.after
        assert at == target


def test_what_there_is_no_way_to() -> None:
    found = redistributions(Mesh((("data", 4), ("model", 4))))
    matrix = found.matrix(
        tensor("f32", batch=64, feature=3),
        [(REPLICATED, REPLICATED), (PARTIAL, REPLICATED)],
        [(REPLICATED, PARTIAL), ("batch", "feature"), ("batch", "batch"), (PARTIAL, REPLICATED)],
    )
    assert np.isinf(matrix[0, [0, 1, 3]]).all()
    assert matrix[0, 2] == 0.0  # the outermost axis in memory: a view
    assert matrix[1, 3] == 0.0
    assert 0.0 < matrix[1, 2] < inf


def test_the_usual_moves() -> None:
    found = redistributions(Mesh((("data", 4), ("model", 4))))
    linear = tensor("f32", batch=1024, feature=4096)

    def kinds(source: Placement, target: Placement) -> list[tuple[str, tuple[str, ...], int]]:
        return [(move.kind, move.axes, move.bytes) for move in found.path(linear, source, target)]

    model, whole = ("model",), linear.bytes
    assert kinds(("batch", PARTIAL), ("batch", REPLICATED)) == [("allreduce", model, whole // 4)]
    assert kinds(("batch", PARTIAL), ("batch", "feature")) == [("reduce_scatter", model, whole // 4)]
    assert kinds(("batch", "feature"), ("batch", REPLICATED)) == [("allgather", model, whole // 4)]
    assert kinds(("batch", "feature"), ("batch", "batch")) == [("all_to_all", model, whole // 4)]
    assert kinds((REPLICATED, REPLICATED), ("batch", "feature"))[0][0] == "slice"
    assert kinds(("batch", "batch"), ("batch", "batch")) == []


def test_small_sums_over_two_mesh_axes_are_one_collective() -> None:
    """Large ones are scattered within a node, summed across nodes and gathered."""
    found, target = redistributions(Mesh((("data", 4), ("model", 4)))), (REPLICATED, REPLICATED)
    (move,) = found.path(tensor("f32", feature=16), (PARTIAL, PARTIAL), target)
    assert (move.kind, move.axes, move.bytes) == ("allreduce", ("data", "model"), 64)
    large = found.path(tensor("f32", feature=1 << 24), (PARTIAL, PARTIAL), target)
    assert [move.kind for move in large] == ["reduce_scatter", "allreduce", "allgather"]


def test_moves_name_the_cheapest_algorithm() -> None:
    found = redistributions(Mesh((("data", 4), ("model", 4))))
    (move,) = found.path(IMAGE, ("batch", PARTIAL), ("batch", REPLICATED))
    assert (move.algorithm, move.seconds) == found.fabric.cheapest("allreduce", move.bytes, ("model",))


# Every move carried out: each rank an array, a collective by its definition in groups of ranks in their order.


def placed(whole: np.ndarray, placement: Placement, type_: TensorType, mesh: Mesh) -> list[np.ndarray]:
    """What each rank holds; partial sums are the whole times weights that add up to 1."""
    found = []
    for rank in range(mesh.ranks):
        part = whole
        for name, at in zip(mesh.names, placement, strict=True):
            where, extent = mesh.coordinate(rank, name), mesh.extent(name)
            if at == PARTIAL:
                part = part * ((where + 1) / sum(range(1, extent + 1)))
            elif at != REPLICATED:
                part = np.split(part, extent, axis=type_.names.index(at))[where]
        found.append(part)
    return found


def carried_out(held: list[np.ndarray], move: Move, type_: TensorType, mesh: Mesh) -> list[np.ndarray]:
    found = list(held)
    old, new = (next(p[mesh.names.index(name)] for name in move.axes) for p in (move.before, move.after))
    for group in mesh.groups(move.axes):
        together = [held[rank] for rank in group]
        if old == PARTIAL:
            together = [sum(together)] * len(group)
        elif old != REPLICATED:
            together = [np.concatenate(together, axis=type_.names.index(old))] * len(group)
        for i, rank in enumerate(group):
            cut = [together[i]] * len(group)
            found[rank] = (np.split(together[i], len(group), axis=type_.names.index(new)) if new else cut)[i]
    return found


def test_moves_bring_the_tensor_where_they_say() -> None:
    mesh, type_ = Mesh((("pipeline", 2), ("data", 2), ("model", 4))), tensor("f64", batch=16, channel=16)
    found, rng = redistributions(mesh), random.Random(2)
    whole = np.random.default_rng(0).standard_normal(type_.shape)
    seen = set()
    for _ in range(150):
        source = tuple(rng.choice((REPLICATED, PARTIAL, *type_.names)) for _ in mesh.axes)
        target = tuple(rng.choice((REPLICATED, *type_.names)) for _ in mesh.axes)
        held = placed(whole, source, type_, mesh)
        for move in found.path(type_, source, target):
            held = carried_out(held, move, type_, mesh)
            seen.add((move.kind, len(move.axes)))
        for mine, expected in zip(held, placed(whole, target, type_, mesh), strict=True):
            np.testing.assert_allclose(mine, expected)
    assert {kind for kind, _ in seen} == {"allreduce", "reduce_scatter", "allgather", "all_to_all", "slice"}
    assert max(count for _, count in seen) == 3
