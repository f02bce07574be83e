"""What is said where no plan keeps what is asked for: the conflict, the smallest plan, and the ways out."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pytest

from dlc.diagnostics import Diagnostic, Span
from dlc.driver import Options, SourcedError, context_of, read
from dlc.units import format_bytes
from passes.planning.conflicts import Order, conflict, keeping, orders, without
from tests.passes.planning.ordered import deep, machine, planned, refused, spec
from tests.slices import first, later

NOWHERE = Span("", 0, 0, 0, 0)


# --- conflicts -------------------------------------------------------------------------------------------------------


def order(number: int) -> Order:
    return Order("setting", str(number), str(number), NOWHERE)


def test_every_order_of_a_conflict_is_needed() -> None:
    """Against families of conflicting sets, drawn at random."""
    rng = random.Random(0)
    for _ in range(200):
        count = rng.randint(1, 9)
        every = [order(i) for i in range(count)]
        bad = [frozenset(rng.sample(range(count), rng.randint(1, min(4, count)))) for _ in range(rng.randint(1, 4))]

        def keeps(kept: Sequence[Order], bad: Sequence[frozenset[int]] = bad) -> bool:
            return not any(wrong <= {int(each.text) for each in kept} for wrong in bad)

        found = conflict(every, keeps)
        assert not keeps(found)
        for left in combinations(found, len(found) - 1):
            assert keeps(left)


def test_nothing_is_to_blame_where_nothing_helps() -> None:
    assert conflict([order(0), order(1)], lambda kept: False) == ()


ALL = """strategy = hybrid(data = 4, model = 2)
shard = none
layout = NHWC
pipeline.microbatches = 2
recompute = none
limit memory <= 1 GiB
limit bubble <= 0.25
pin c1.conv { layout = CHWN, algorithm = im2col }
forbid ** { algorithm = fft }"""


def test_orders_are_taken_away_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "net.dlspec"
    path.write_text(spec(ALL), encoding="utf-8")
    request = context_of(read(str(path)), Options())[1].request
    every = orders(request)
    texts = [each.text for each in every]
    assert texts[:2] == ["limit memory <= 1 GiB", "limit bubble <= 0.25"]
    assert {"shard = none", "layout = NHWC", "strategy = hybrid(data = 4, model = 2)"} < set(texts)
    assert "pin c1.conv { layout = CHWN }" in texts
    assert keeping(request, every) == request
    assert orders(keeping(request, ())) == ()
    for each in every:
        left = without(request, each)
        assert [other.text for other in orders(left)] == [text for text in texts if text != each.text]


def test_a_mesh_stays_where_rules_speak_of_its_axes(tmp_path: Path) -> None:
    path = tmp_path / "net.dlspec"
    for rule, named in (("split(batch, over = a)", False), ("replicate", True)):
        path.write_text(spec(f"mesh {{ a = core }}\npin c1.conv {{ partition = {rule} }}"), encoding="utf-8")
        request = context_of(read(str(path)), Options())[1].request
        assert any(each.text == "mesh" for each in orders(request)) == named


# --- E0509 -----------------------------------------------------------------------------------------------------------


def size(text: str) -> float:
    """Bytes of `16.2 GiB`."""
    number, unit = text.split()
    return float(number) * {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[unit]


def needed(found: Diagnostic) -> float:
    assert found.code == "E0509"
    return size(found.message.rpartition("needs ")[2])


DATA, PLAIN = "strategy = data\n", "shard = none\nrecompute = none\n"
CHAINS = [(PLAIN, (6, 64, 2)), (DATA, (8, 64, 4)), ("", (6, 64, 2))]
LONGER = [("", (8, 64, 4)), (PLAIN, (8, 64, 4)), *((extra, (16, 4096, 4)) for extra in ("", DATA, PLAIN))]


@pytest.mark.parametrize(("extra", "chain"), first(1, [*CHAINS, *LONGER]))
def test_the_smallest_plan_fits_what_it_needs_and_no_less(
    tmp_path: Path, extra: str, chain: tuple[int, int, int]
) -> None:
    """Of chains of so many layers, with so many samples, on so many cores.

    What needs least is found among few counts of microbatches: of 6 layers under data parallelism on 2 cores 5 % less
    would do.
    """
    layers, batch, cores = chain

    def limited(size: float) -> str:
        text = deep(f"{extra}limit memory <= {int(size)} B", machine(cores))
        return text.replace("batch = 4096", f"batch = {batch}").replace("repeat 16", f"repeat {layers}")

    least = needed(refused(tmp_path, limited(50 * 2**10)))
    made = planned(tmp_path, limited(1.01 * least))
    assert made.plan.predicted.peak_bytes == pytest.approx(least, rel=0.02)
    assert refused(tmp_path, limited(0.97 * least)).code == "E0509"


def test_what_the_smallest_plan_holds_adds_up(tmp_path: Path) -> None:
    found = refused(tmp_path, spec("strategy = data\nshard = none\nlimit memory <= 50 KiB"))
    (note,) = (each for each in found.notes if each.startswith("the smallest plan"))
    parts = {name: size(text) for name, text in re.findall(r"([a-z ]+?) ([\d.]+ [KMG]?i?B)", note.partition(": ")[2])}
    parts = {name.strip(" ,"): value for name, value in parts.items()}
    assert parts["weights"] == parts["gradients"] == parts["optimizer state"] == pytest.approx(61_706 * 4, rel=0.01)
    assert sum(parts.values()) == pytest.approx(needed(found), rel=0.02)


@pytest.mark.slow
def test_the_orders_that_stand_in_the_way_are_the_fewest(tmp_path: Path) -> None:
    """Without any one of them a plan fits, with the others or without."""
    lines = ["strategy = data", "shard = none", "layout = NHWC", "pin c1.conv { algorithm = im2col }"]
    limit = "limit memory <= 900 KiB"
    found = refused(tmp_path, spec("\n".join([limit, *lines])))
    named = {label.span.line for label in found.secondary}
    first = next(i for i, line in enumerate(spec(limit).split("\n"), 1) if line == limit)
    blamed = {lines[line - first - 1] for line in named}
    assert blamed == {"strategy = data", "shard = none"}
    for each in blamed:
        planned(tmp_path, spec("\n".join([limit, *(line for line in lines if line != each)])))
    planned(tmp_path, spec(limit))
    assert refused(tmp_path, spec("\n".join([limit, *blamed]))).code == "E0509"


def applied(text: str, way: str) -> tuple[str, str, int | None]:
    """The kind of a way out, a spec's text in which it is taken, and the ranks for `-n`."""
    if raised := re.match(r"allow `(limit memory <= .*?)`", way):
        return "limit", re.sub(r"limit memory <= .*", raised[1], text), None
    if larger := re.match(r"devices with `memory = (.*?)`(?:, and `(limit memory <= .*?)`)?;", way):
        text = re.sub(r"memory      = .*", f"memory      = {larger[1]}", text)
        return "memory", re.sub(r"limit memory <= .*", larger[2], text) if larger[2] else text, None
    if way.startswith("remove"):
        away = {int(line) for line in re.findall(r"` at line (\d+)", way)}
        return "remove", "\n".join(line for i, line in enumerate(text.split("\n"), 1) if i not in away), None
    if instead := re.match(r"`(.*?) = (.*?)` instead of `(.*?)`", way):
        assert f"{instead[1]} = {instead[3]}\n" in text
        return "instead", text.replace(f"{instead[1]} = {instead[3]}\n", f"{instead[1]} = {instead[2]}\n"), None
    if devices := re.match(r"take (\d+) devices: `-n \1`", way):
        return "devices", text, int(devices[1])
    if batch := re.match(r"a batch of (\d+) fits", way):
        return "batch", re.sub(r"batch = \d+", f"batch = {batch[1]}", text, count=1), None
    precision = re.match(r"`(precision = .*?)` in `train`", way)
    assert precision, way
    return "precision", re.sub(r"(  optimizer .*\n)", rf"\1  {precision[1]}\n", text), None


@pytest.mark.parametrize(
    ("more", "limit", "ways"),
    [
        later(("overlap = no", "500 KiB", {"limit", "remove", "instead"})),
        later(("pipeline.microbatches = 1", "3 MiB", {"limit", "remove", "instead", "devices", "batch"})),
        ("pipeline.schedule = auto", "500 KiB", {"limit", "remove", "instead"}),
    ],
)
def test_every_way_out_is_one(tmp_path: Path, more: str, limit: str, ways: set[str]) -> None:
    """Each repair, done, gives a plan; its time is as it says, within the gap of the search behind it."""
    lines = ["strategy = data", "shard = none", "recompute = none", more, f"limit memory <= {limit}"]
    text = deep("\n".join(lines))
    found = refused(tmp_path, text)
    fastest = planned(tmp_path, deep("\n".join(lines[:-1]))).plan.predicted.step_seconds
    kinds = set()
    for way in found.helps:
        kind, changed, ranks = applied(text, way)
        made, times = planned(tmp_path, changed, ranks), re.search(r"takes ([\d.]+) times as long as without", way)
        seconds = made.plan.predicted.step_seconds * 4096 / made.plan.batch
        assert seconds == pytest.approx(fastest * (float(times[1]) if times else 1.0), rel=0.1), way
        kinds.add(kind)
    assert kinds == ways


ORDERS = (
    "strategy = data",
    "strategy = model",
    "strategy = pipeline",
    "shard = none",
    "shard = optimizer",
    "recompute = none",
    "pipeline.microbatches = 2",
    "pipeline.schedule = gpipe",
    "pin body[0] { partition = replicate }",
    "forbid ** { partition = split(batch, over = core) }",
    "pin body { recompute = no }",
    "pin body[3] { stage = 0 }",
)


def small(lines: Sequence[str], cluster: str) -> str:
    """The chain with eight layers and a batch of 64: programs of thousands of microbatches take long to check."""
    return deep("\n".join([*lines, ""]), cluster).replace("batch = 4096", "batch = 64").replace("repeat 16", "repeat 8")


@pytest.mark.parametrize("seed", first(0, range(8)))
def test_conflicts_are_minimal_and_ways_out_lead_out(tmp_path: Path, seed: int) -> None:
    """Of plan blocks and memories drawn at random: what is named has no plan, without any line of it there is one; and
    each way out, taken in the text, gives a plan."""
    rng = random.Random(seed)
    while True:
        lines = [line for line in ORDERS if rng.random() < 0.3]
        lines = [line for i, line in enumerate(lines) if line.split()[0] != "strategy" or i == 0]
        whole = rng.choice([60, 100, 200, 400, 800])
        cluster = machine(rng.choice([2, 4]), memory=f"{whole} KiB", more="compute.bf16 = 200 GFLOP/s")
        limit = [f"limit memory <= {int(whole * rng.choice([0.4, 0.8]))} KiB"] if rng.random() < 0.4 else []
        text = small([*limit, *lines], cluster)
        try:
            planned(tmp_path, text)
        except SourcedError as error:
            (found,) = error.diagnostics
            if found.code == "E0509":
                break
    assert found.primary is not None
    for way in found.helps:
        _, changed, ranks = applied(text, way)
        planned(tmp_path, changed, ranks)
    rows = text.split("\n")
    named = [rows[label.span.line - 1] for label in (found.primary, *found.secondary)]
    blamed = [line for line in named if line in lines]
    bound = limit if named[0] in limit else []
    assert refused(tmp_path, small([*bound, *blamed], cluster)).code == "E0509"
    for line in (*bound, *blamed):
        planned(tmp_path, small([other for other in (*bound, *blamed) if other != line], cluster))


def test_a_device_without_a_limit_of_the_plan_is_the_limit(tmp_path: Path) -> None:
    found = refused(tmp_path, deep("strategy = data\nshard = none\nrecompute = none", machine(4, memory="384 KiB")))
    assert found.code == "E0509"
    assert f"no plan fits {format_bytes(384 * 2**10)}" in found.message
    assert found.primary is not None
    assert not any(text.startswith("allow") for text in found.helps)
    assert any(text.startswith("devices with `memory = ") for text in found.helps)


@pytest.mark.slow
def test_fewer_samples_are_a_way_out(tmp_path: Path) -> None:
    text = deep("strategy = data\nshard = none\npipeline.microbatches = 8", machine(4, memory="650 KiB"))
    found = refused(tmp_path, text)
    (words,) = (each for each in found.helps if each.startswith("a batch of"))
    batch = int(words.split()[3])
    made = planned(tmp_path, text.replace("batch = 4096", f"batch = {batch}"))
    assert made.plan.predicted.peak_bytes <= 650 * 1024


@pytest.mark.slow
def test_devices_that_a_cluster_cannot_have_are_no_way_out(tmp_path: Path) -> None:
    """A torus has as many members as it was written for."""
    lines = (
        "strategy = data",
        "shard = none",
        "recompute = none",
        "pipeline.microbatches = 1",
        "limit memory <= 3 MiB",
    )
    switch = machine(4)
    torus = switch.replace("link shm {", "link shm { shape = torus(2x2),")
    ways = {cluster: refused(tmp_path, deep("\n".join(lines), cluster)).helps for cluster in (switch, torus)}
    assert any(way.startswith("take ") for way in ways[switch])
    assert any(way.startswith("allow ") for way in ways[torus])
    assert not any(way.startswith("take ") for way in ways[torus])


def test_activations_of_half_the_bytes_are_a_way_out(tmp_path: Path) -> None:
    more = "strategy = data\nshard = none\nrecompute = none\npipeline.microbatches = 1\nlimit memory <= 3700 KiB"
    text = deep(more, machine(4, more="kind = gpu\n    compute.bf16 = 200 GFLOP/s"))
    found = refused(tmp_path, text)
    assert any("`precision = mixed(compute = bf16, master = f32)` in `train`" in each for each in found.helps)
    mixed = text.replace("optimizer = sgd", "optimizer = sgd\n  precision = mixed(compute = bf16, master = f32)")
    assert planned(tmp_path, mixed).plan.predicted.peak_bytes <= 3700 * 1024


# --- E0512 and E0527 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "code", "named"),
    [
        (["strategy = data", "pin f6.linear { partition = split(feature, over = core) }", "layout = NHWC"], "E0512", 2),
        (
            [
                "forbid f6.linear { partition = replicate }",
                "forbid f6.linear { partition = split(batch, over = core) }",
                "strategy = data",
            ],
            "E0512",
            3,
        ),
        (["strategy = hybrid(data = 8)", "pipeline.microbatches = 8"], "E0512", 2),
        (["limit workspace <= 100 B", "forbid c1.conv { algorithm = direct }"], "E0512", 1),
        (["strategy = hybrid(pipeline = 2, data = 4)", "pin f6 { stage = 0 }", "pin s2 { stage = 1 }"], "E0527", 2),
        later((["strategy = data", "pin f6 { stage = 1 }"], "E0527", 2)),
        later((["strategy = hybrid(pipeline = 4, data = 2)", "limit bubble <= 0"], "E0527", 2)),
        later((["strategy = data", "shard = none", "limit communication <= 1 KB"], "E0527", 2)),
        (
            [
                "mesh { a = core / 4; b = core / 2 }",
                "pin c5.conv { partition = [split(channel, over = a), split(batch, over = b)] }",
                "strategy = model",
            ],
            "E0512",
            2,
        ),
    ],
)
def test_orders_that_cannot_all_be_kept_are_named(tmp_path: Path, lines: list[str], code: str, named: int) -> None:
    """And without any one of them there are plans."""
    found = refused(tmp_path, spec("\n".join(lines)))
    assert found.code == code
    assert found.primary is not None
    places = {found.primary.span.line, *(label.span.line for label in found.secondary)}
    assert len(places) == named
    text = spec("\n".join(lines)).split("\n")
    for line in places:
        rest = [text[line - 1]] if text[line - 1].startswith("mesh") else []
        left = [each for each in lines if each != text[line - 1]]
        if not rest:
            planned(tmp_path, spec("\n".join(left)))


def test_stages_that_ops_cannot_be_in_say_where_they_can(tmp_path: Path) -> None:
    found = refused(tmp_path, spec("strategy = hybrid(pipeline = 4, data = 2)\npin c1.tanh { stage = 3 }"))
    assert any("of 4 stages it can be in stages 0 to 1" in note for note in found.notes)
    planned(tmp_path, spec("strategy = hybrid(pipeline = 4, data = 2)\npin c1.tanh { stage = 1 }"))


def test_more_stages_than_ops_say_how_many_there_are(tmp_path: Path) -> None:
    found = refused(tmp_path, spec("strategy = pipeline", machine(16)))
    assert found.code == "E0527"
    assert any("13 ops" in text for text in found.helps)
    planned(tmp_path, spec("strategy = pipeline", machine(8)))
