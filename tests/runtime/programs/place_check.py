"""What moves of arrays on a mesh must do, on whatever world: shared by the tests on threads and those under MPI.

Every rank draws the same case from a seed, so that it knows what all others hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

Values = np.ndarray[Any, Any]

ALGORITHMS = (
    "tree", "butterfly", "ring", "rabenseifner", "shared", "mpi", "hierarchical", "hierarchical_ring",
    "hierarchical_halving", "embedded_ring",
)  # fmt: skip
NAMES = ("data", "model", "seq")


def mesh_of(rng: np.random.Generator, ranks: int) -> dict[str, int]:
    """One to three axes over so many ranks."""
    shapes = [s for n in (1, 2, 3) for s in product(range(1, ranks + 1), repeat=n) if np.prod(s) == ranks]
    shape = shapes[rng.integers(len(shapes))]
    return dict(zip(NAMES, shape, strict=False))


@dataclass
class Draw:
    """A tensor, and how its axes are written."""

    axes: list[str]
    shape: tuple[int, ...]
    samples: int

    def spec(self, placement: dict[str, int]) -> str:
        """The spec where each mesh axis cuts the tensor axis of that number, -1 for none."""
        return " ".join(
            axis + ("/" + "+".join(found) if (found := [name for name, on in placement.items() if on == at]) else "")
            for at, axis in enumerate(self.axes)
        )


def draw(rng: np.random.Generator, batch: int) -> Draw:
    """A tensor of one to three axes, stacked ones and samples among them, of a microbatch that may not be full."""
    samples = int(rng.integers(0, batch + 1))
    axes, shape = list[str](), list[int]()
    for at in range(rng.integers(1, 4)):
        kind, extent = rng.integers(4), int(rng.integers(1, 9))
        if at == 0 and kind == 0:
            per = int(rng.choice([1, 1, 2, 3]))
            axes.append("N" if per == 1 else f"N:{per}")
            shape.append(-(-samples // per))
        elif kind == 1:
            count = int(rng.integers(2, 4))
            axes.append(f"{count}*{extent}")
            shape.append(count * extent)
        else:
            axes.append(str(extent))
            shape.append(extent)
    return Draw(axes, tuple(shape), samples)


def inside(box: Any, whole: Values) -> Values:
    """What a box has of a whole."""
    indices = [np.concatenate([np.arange(*run) for run in runs] or [np.arange(0)]) for runs in box]
    return whole[np.ix_(*indices)] if indices else whole


def part(place: Any, array: Values, whole: Values, number: int | None = None) -> Values:
    """What a rank holds of a whole, as the array's spec says."""
    known = place._arrays.of(array)
    return inside(place.grid.box(known.spec, place.number if number is None else number, known.samples), whole)


def check_moves(runtime: Any, world: Any, seed: int) -> None:
    """From any placement to any other over some axes, copied and summed, one and several arrays at once."""
    rng = np.random.default_rng(seed)
    mesh, batch = mesh_of(rng, world.size), int(rng.integers(1, 9))
    place = runtime.Place(world, mesh, batch=batch)
    over = [name for name in mesh if rng.integers(2)] or [next(iter(mesh))]
    table, wholes, pairs, sums, drawn = {}, [], [], [], int(rng.integers(1, 3))
    tensors = [draw(rng, batch)]
    tensors += [draw(rng, batch) for _ in range(drawn - 1)]
    for at, tensor in enumerate(tensors):
        tensor.shape = tuple(
            -(-tensors[0].samples // int(axis[2:] or 1)) if axis.startswith("N") else extent
            for axis, extent in zip(tensor.axes, tensor.shape, strict=True)
        )
        count = len(tensor.shape)
        kept = {name: -1 if name in over else int(rng.integers(-1, count)) for name in mesh}
        free = [-1, *(at for at in range(count) if at not in kept.values())]  # what others cut, a group has a part of
        before, after = (kept | {name: int(rng.choice(free)) for name in over} for _ in range(2))
        summed, apart = kept, kept | {name: int(rng.choice(free[1:])) for name in over if free[1:]}
        after = {name: after[name] for name in (*(n for n in mesh if n not in over), *rng.permutation(over))}
        for title, placement in (("x", before), ("y", after), ("p", summed), ("q", apart)):
            table[f"{title}{at}"] = runtime.Array(tensor.spec(placement), dtype=("f8", "i4")[at % 2])
        wholes.append(rng.integers(-50, 50, tensor.shape))
    a = runtime.Arrays(table, place, "f8").at(tensors[0].samples)
    weights = rng.integers(1, 5, world.size)
    for at, whole in enumerate(wholes):
        x, p = getattr(a, f"x{at}"), getattr(a, f"p{at}")
        x[...] = part(place, x, whole)
        p[...] = part(place, p, whole) * weights[place.index("+".join(over))]
        pairs.append((x, getattr(a, f"y{at}"), whole))
        if table[f"q{at}"] != table[f"p{at}"]:
            sums.append((p, getattr(a, f"q{at}"), whole))
    text = "+".join(over)
    factor = sum(weights[: place.grid.index(over, 0)[0]])
    for _ in range(2):
        for _, y, _ in (*pairs, *sums):
            y.fill(99)
        place.all_to_all([x for x, *_ in pairs], [y for _, y, _ in pairs], over=text)
        if sums:
            place.reduce_scatter([p for p, *_ in sums], [q for _, q, _ in sums], over=text)
        for _, y, whole in pairs:
            assert np.array_equal(y, part(place, y, whole)), (seed, world.rank, table)
        for _, q, whole in sums:
            assert np.array_equal(q, part(place, q, whole) * factor), (seed, world.rank, table)


def check_halos(runtime: Any, world: Any, seed: int) -> None:
    """Rows of neighbours, however far away, and back again; pads with which a part's windows give the whole's, and
    inner rows of these results while the halo is on its way."""
    rng = np.random.default_rng(seed)
    mesh = mesh_of(rng, world.size)
    place = runtime.Place(world, mesh, batch=4)
    names = list(mesh)[:2]
    table, halos, windows, extents, cuts = {}, list[Any](), list[Any](), list[int](), list[str]()
    for window, name in enumerate(names):
        size, stride, pad = int(rng.integers(1, 6)), int(rng.integers(1, 4)), int(rng.integers(0, 3))
        pad = min(pad, size - 1)
        extent = int(rng.integers(max(size - 2 * pad, 1), 15))
        results = (extent + 2 * pad - size) // stride + 1
        halos.append(runtime.Halo(window + 1, results, pad, size - 1 - pad, stride, window=window))
        windows.append((size, stride, pad))
        extents.append(extent)
        cuts.append(f"{extent}/{name}")
    text = " ".join(["2", *cuts, "2"])
    table["x"] = runtime.Array(text)
    for at in range(len(halos)):
        table[f"wide{at}"] = runtime.Array(text, halo=tuple(halos[: at + 1]))
        table[f"back{at}"] = runtime.Array(text, halo=tuple(halos[:at]))
    table["y"] = runtime.Array(" ".join(["2", *(f"{h.results}/{n}" for h, n in zip(halos, names, strict=True)), "2"]))
    a = runtime.Arrays(table, place, "f8").at()
    whole = rng.integers(-9, 9, (2, *extents, 2)).astype(float)
    a.x[...] = part(place, a.x, whole)
    at = a.x
    for number, name in enumerate(names):
        wide, back = getattr(a, f"wide{number}"), getattr(a, f"back{number}")
        for _ in range(2):
            place.halo(at, wide, over=name)
            assert np.array_equal(wide, part(place, wide, whole)), (seed, world.rank, table)
            place.halo_sum(wide, back, over=name)
        times = np.zeros_like(whole)
        group = place.grid.group([name], place.number)
        for other in group:
            mask = np.zeros_like(whole)
            known = place._arrays.of(wide)
            box = place.grid.box(known.spec, other, 0)
            indices = [np.concatenate([np.arange(*run) for run in runs] or [np.arange(0)]) for runs in box]
            mask[np.ix_(*indices)] = 1
            times += mask
        assert np.array_equal(back, part(place, back, whole * times)), (seed, world.rank, table)
        at = wide
    shards = [
        runtime.shard(halo.results, *place.grid.index([n], place.number)) for halo, n in zip(halos, names, strict=True)
    ]
    expected = _windows(np.pad(whole, ((0, 0), *((pad, pad) for *_, pad in windows), (0, 0))), windows)
    for axis, (start, stop) in enumerate(shards):
        expected = expected.take(np.arange(start, stop), axis + 1)
    if all(start < stop for start, stop in shards):
        pads = place.pads(at, [(pad, pad) for _, _, pad in windows])
        mine = _windows(np.pad(at, ((0, 0), *pads, (0, 0))), windows)
        assert np.array_equal(mine, expected), (seed, world.rank, table, pads)
    _check_rows(place, a, names, windows, expected)


def _check_rows(place: Any, a: Any, names: list[str], windows: list[Any], expected: Values) -> None:
    """The last halo is on its way when the inner rows are computed: none of it is read, and none of the rest left."""
    wide, source = getattr(a, f"wide{len(names) - 1}"), getattr(a, f"wide{len(names) - 2}", a.x)

    def kernel(x: Values, y: Values, *room: Values, pad: Any, layout: str) -> None:
        assert len(room) == any(map(any, pad))
        y[...] = _windows(np.pad(x, ((0, 0), *pad, (0, 0))), windows)

    for _ in range(2):
        wide.fill(np.nan)
        a.y.fill(np.nan)
        place.halo(source, wide, over=names[-1], begin=True)
        pads = {"pad": [(pad, pad) for _, _, pad in windows], "layout": "NHWC"}
        place.interior(kernel, wide, a.y, [a.x], **pads)
        place.wait(wide)
        place.border(kernel, wide, a.y, [a.x], **pads)
        assert np.array_equal(a.y, expected), (place.world.rank, a.y.shape, windows)


def _windows(padded: Values, windows: list[Any]) -> Values:
    """Sums over windows along the axes behind the first."""
    for at, (size, stride, _) in enumerate(windows):
        count = (padded.shape[at + 1] - size) // stride + 1
        padded = sum(padded.take(np.arange(count) * stride + step, at + 1) for step in range(size))
    return padded


def levels_of(rng: np.random.Generator, extents: list[int]) -> tuple[int, ...]:
    """Ranks along axes of these extents as nodes: a factor or two of their number, or none."""
    ranks, found = int(np.prod(extents)), list[int]()
    while len(found) < rng.integers(0, 4):
        factors = [size for size in range(2, ranks + 1) if ranks % size == 0]
        if not factors:
            break
        found.append(int(rng.choice(factors)))
        ranks //= found[-1]
    return (*found, ranks) if ranks > 1 and found else tuple(found) if len(found) > 1 else ()


def check_sums(runtime: Any, world: Any, seed: int, algorithms: tuple[str, ...] = ALGORITHMS) -> None:
    """Every algorithm over some axes: the sum, with the same bits on all ranks that hold the same."""
    rng = np.random.default_rng(seed)
    mesh = mesh_of(rng, world.size)
    over = [name for name in mesh if rng.integers(2)] or [next(iter(mesh))]
    nested = {"+".join(over): levels} if (levels := levels_of(rng, [mesh[name] for name in over])) else {}
    place = runtime.Place(world, mesh, batch=4, levels=nested)
    size = int(rng.choice([0, 1, 5, 33, 300]))
    parts = place.grid.index(over, 0)[0]
    given = (rng.standard_normal((parts, size)) * 10.0 ** rng.integers(0, 5, (parts, 1))).astype("f4")
    text, mine = "+".join(over), given[place.index("+".join(over))]
    table: dict[str, Any] = {"x": runtime.Array(str(size)), "y": runtime.Array(str(size))}
    table |= {"b": runtime.Array(str(size), shared=text), "m": runtime.Array(f"{size} 2")}
    a = runtime.Arrays(table, place, "f4").at()
    expected, bound = given.astype("f8").sum(0), parts * np.finfo("f4").eps * np.abs(given).sum(0) + 1e-30
    for algorithm in algorithms:
        bits = []
        for target in (a.x, a.b, a.y):
            a.x[...], a.b[...] = mine, mine
            if target is a.y:
                place.allreduce(a.x, a.y, over=text, algorithm=algorithm, begin=True)
                place.wait(a.y)
            else:
                place.allreduce(target, over=text, algorithm=algorithm)
            assert np.all(np.abs(target - expected) <= bound), (seed, algorithm, mesh, over)
            bits.append(target.tobytes().hex())
        columns = [a.m[:, 0], a.m[:, 1]]
        for column in columns:
            column[...] = mine
        place.allreduce(columns, over=text, algorithm=algorithm)
        assert all(np.all(np.abs(column - expected) <= bound) for column in columns), (seed, algorithm)
        assert len({tuple(each) for each in world.allgather(bits)}) == 1, (seed, algorithm, mesh, over)


def check_interleavings(runtime: Any, world: Any, seed: int) -> None:
    """Collectives begun in one order and waited for in another, each rank its own, with messages between them."""
    rng = np.random.default_rng(seed)
    stages = next((n for n in (2, 3) if world.size % n == 0), 1)
    rest = mesh_of(rng, world.size // stages)
    place = runtime.Place(world, {"pipeline": stages} | rest, batch=4)
    axes = list(rest)
    table: dict[str, Any] = {f"b{at}": runtime.Array("40") for at in range(6)}
    table |= {f"s{at}": runtime.Array("7 3") for at in range(4)} | {f"r{at}": runtime.Array("7 3") for at in range(4)}
    table |= {"t0": runtime.Part("s0", f"7/{axes[0]} 3"), "u0": runtime.Part("r0", f"7/{axes[0]} 3")}
    a = runtime.Arrays(table, place, "f8").at()
    own = np.random.default_rng([seed, world.rank])
    plan = [(at, "+".join(rng.permutation(axes)[: rng.integers(1, len(axes) + 1)])) for at in range(6)]
    chosen = [str(rng.choice(ALGORITHMS)) for _ in plan]
    base = np.arange(40.0)
    for turn in range(2):
        for at, over in plan:
            bucket = getattr(a, f"b{at}")
            bucket[...] = (base + at + turn) * (1 + place.index(over))
            place.allreduce(bucket, over=over, algorithm=chosen[at], begin=True)
            if at < 4 and place.stage + 1 < stages:
                sent = a.t0 if at == 0 else getattr(a, f"s{at}")
                sent[...] = world.rank * 10 + at + turn
                place.send(sent, to=1, name="y")
        for at in range(4) if place.stage else ():
            received = a.u0 if at == 0 else getattr(a, f"r{at}")
            place.receive(received, source=-1, name="y")
            assert (received == (world.rank - place.grid.size) * 10 + at + turn).all(), (seed, at)
        for at in own.permutation(6):
            over, bucket = plan[at][1], getattr(a, f"b{at}")
            place.wait(bucket)
            place.wait(bucket)
            parts = place.grid.index(over.split("+"), 0)[0]
            assert np.array_equal(bucket, (base + at + turn) * parts * (parts + 1) / 2), (seed, at, chosen[at])
        for at in own.permutation(4) if place.stage + 1 < stages else ():
            place.sent(a.t0 if at == 0 else getattr(a, f"s{at}"))
        assert place.share([3.5, place.stage] if place.stage == stages - 1 else None, stages - 1)[0] == 3.5
        assert place.share(float(place.stage), stages - 1) in (float(stages - 1), float(place.stage))


def check_tensors(runtime: Any, world: Any, seed: int) -> None:
    """Whole tensors of all stages, shards and views among them, to rank 0 and back."""
    rng = np.random.default_rng(seed)
    stages = next((n for n in (2, 3) if world.size % n == 0), 1)
    rest = mesh_of(rng, world.size // stages)
    place = runtime.Place(world, {"pipeline": stages} | rest, batch=4)
    described, wholes = list[Any](), dict[str, Values]()
    for stage in range(stages):
        weights: dict[str, Any] = {"bucket": runtime.Array("200")}
        states, tensors = {}, {}
        for at in range(3):
            tensor = draw(rng, 4)
            tensor.axes[0] = "5" if tensor.axes[0].startswith("N") else tensor.axes[0]
            shape = tuple(eval(axis) for axis in tensor.axes)
            placement = {name: int(rng.integers(-1, len(shape))) for name in rest}
            weights[f"w{at}"] = runtime.Array(tensor.spec(placement))
            states[f"w{at}_m"] = runtime.Array(tensor.spec(placement), dtype="f4")
            for kind, name in (("w", f"w{at}"), ("s", f"w{at}_m")):
                tensors[f"stage{stage}.{name}"] = f"{kind}.{name}"
                wholes[f"stage{stage}.{name}"] = rng.integers(0, 99, shape).astype("f8")
        cut = next(iter(rest))
        weights["v"] = runtime.View("bucket", "6 5", offset=20)
        weights["v_shard"] = runtime.Part("v", f"6 5/{cut}")
        weights["tied"] = runtime.Array(f"4/{cut} 3")
        tensors |= {f"stage{stage}.v": "w.v_shard", "tied": "w.tied"}
        wholes |= {f"stage{stage}.v": rng.integers(0, 99, (6, 5)), "tied": rng.integers(0, 99, (4, 3))}
        described.append(runtime.Tables(weights, states, {}, {}, tensors))
    w, s = (
        runtime.Arrays(t, place, "f8").at() for t in (described[place.stage].weights, described[place.stage].states)
    )
    found = runtime.Tensors(place, described, w, s, runtime.Arrays({}, place, "f8").at(), "f8")
    assert found.names() == list(wholes) or set(found.names()) == set(wholes)
    for name in found.names():
        found.scatter(name, wholes[name] if world.rank == 0 else None)
    for name in reversed(found.names()):
        whole = found.gather(name)
        assert (whole is not None) == (world.rank == 0)
        assert whole is None or np.array_equal(whole, wholes[name]), (seed, name)
        assert whole is None or whole.dtype == found.dtype(name)
        stage_has = found.own(name)
        if stage_has is not None:
            assert np.array_equal(stage_has, part(place, stage_has, wholes[name])), (seed, name)
    found.draw("tied", lambda array, value: np.copyto(array, np.arange(12.0).reshape(4, 3) * value), value=2)
    if place.world.rank == 0:
        assert np.array_equal(found.own("tied"), part(place, found.own("tied"), np.arange(12.0).reshape(4, 3) * 2))


CHECKS = (check_moves, check_halos, check_sums, check_interleavings, check_tensors)
