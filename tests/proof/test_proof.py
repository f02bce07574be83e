"""The proof: sound programs pass, faults are named for what they are, microbatches that are alike are followed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dlc.driver import Options, compile_spec, context_of, read, training_graph
from dlc.ir.mesh import Mesh
from dlc.ir.program import Collective, Compute, Program
from dlc.ir.storage import title
from dlc.ir.tensor import tensor
from dlc.ops.indexing import Halo
from dlc.proof import check, entries, folding, prove
from dlc.proof.forms import covered, fringe
from dlc.proof.memory import Track, Written
from dlc.proof.terms import added, shown, term
from passes.lower import lower
from tests.mutation.bases import Base, base
from tests.mutation.editing import Site, rows_of, sites, spread, with_buffer, with_rows
from tests.mutation.faults import SCHEDULES, scaled_twice
from tests.passes.lowering.plans import by, megatron, on, plan_of, reduced
from tests.specs.reduced import REDUCED
from tests.work import counted

DATA, BOTH, TWO = by(data="batch"), by(data="batch", model="channel feature"), {"data": 2, "model": 2}
STRATEGIES: dict[str, dict[str, Any]] = {
    "serial": {"mesh": {"data": 1}, "rule": lambda _node, _space: {}},
    "data": {"mesh": {"data": 2}, "rule": DATA},
    "channels": {"mesh": TWO, "rule": BOTH},
    "rows": {"mesh": TWO, "rule": by(data="batch", model="height channel feature")},
    "sequence": {"mesh": {"model": 2}, "rule": by(model="seq")},
    "what is summed": {"mesh": TWO, "rule": by(data="batch", model="reduce channel feature")},
    "ZeRO 1": {"mesh": TWO, "rule": BOTH, "shard": "optimizer"},
    "ZeRO 3": {"mesh": {"data": 2}, "rule": DATA, "shard": "weights", "microbatches": 2},
    "recompute": {"mesh": {"data": 2}, "rule": DATA, "recompute": "all", "microbatches": 2},
    "pipeline": {"mesh": {"pipeline": 2, "data": 2}, "rule": DATA, "schedule": "one_f_one_b"}
    | {"microbatches": 2, "stages": 2},
    "zero bubble": {"mesh": {"pipeline": 2}, "rule": DATA, "schedule": "zero_bubble"}
    | {"microbatches": 2, "stages": 2},
}
SLICE = [("googlenet", "data"), ("gpt2", "pipeline"), ("lstm", "channels"), ("transformer_encoder", "ZeRO 3"),
         ("treenet", "rows"), ("autoencoder", "pipeline"), ("densenet121", "recompute")]  # fmt: skip


def sound(name: str, strategy: str) -> None:
    graph, context = reduced(name)
    choices = dict(STRATEGIES[strategy])
    if graph.batch % choices.get("microbatches", 1):
        choices["microbatches"] = 1
    plan = plan_of(graph, choices.pop("mesh"), choices.pop("rule"), **choices)
    assert check(lower(graph, plan, on(plan.ranks, context)), graph) == ()


@pytest.mark.parametrize(("name", "strategy"), SLICE)
def test_no_false_alarms(name: str, strategy: str) -> None:
    sound(name, strategy)


@pytest.mark.slow
@pytest.mark.parametrize("name", REDUCED)
def test_no_false_alarms_for_any_spec_and_strategy(name: str) -> None:
    for strategy in STRATEGIES:
        sound(name, strategy)


HALF: dict[str, dict[str, Any]] = {
    "three ways": {"mesh": {"pipeline": 2, "data": 2, "model": 2}, "rule": megatron, "schedule": "one_f_one_b"}
    | {"microbatches": 2, "stages": 2},
    "ZeRO 3": {"mesh": {"data": 2}, "rule": DATA, "shard": "weights", "microbatches": 2},
}


@pytest.mark.parametrize("case", HALF)
@pytest.mark.parametrize("widens", [False, True])
def test_half_precision(case: str, widens: bool) -> None:
    """Casts around kernels, weights made of their copies in f32; another weight's gradient is found there, too."""
    given = {key: str(value).replace(" ", "") for key, value in (REDUCED["gpt2"] | {"depth": 1}).items()}
    options, choices = Options(ranks=1), dict(HALF[case])
    job, context = context_of(read("specs/gpt2.dlspec", given), options)
    graph = training_graph(job, context, options)
    plan = plan_of(graph, choices.pop("mesh"), choices.pop("rule"), **choices)
    made = lower(graph, plan, on(plan.ranks, context).with_(widens=widens))
    assert check(made, graph) == ()
    faulty = [program for _, program in spread(scaled_twice(made), 6)]
    assert len(faulty) == 6
    assert all(check(program, graph) for program in faulty)


@pytest.mark.parametrize("name", ["lenet5", "googlenet", "inception_v3", "char_lm"])
@pytest.mark.parametrize("ranks", [1, 3])
def test_no_false_alarms_for_pure_data_parallelism(name: str, ranks: int) -> None:
    """Losses of several heads are added up as parts of sums there."""
    given = {key: str(value).replace(" ", "") for key, value in REDUCED[name].items()}
    made = compile_spec(read(f"specs/{name}.dlspec", given), Options(ranks=ranks))
    assert prove(made.program, made.graph) == ()


def test_a_large_network_takes_some_hundred_calls_an_op() -> None:
    graph, context = reduced("inception_v3", precision="f32")
    plan = plan_of(graph, {"data": 2}, DATA, shard="weights", microbatches=graph.batch // 2)
    made = lower(graph, plan, on(plan.ranks, context))
    with counted() as work:
        assert prove(made, graph) == ()
    assert work.calls < 3_000 * len(graph.nodes)


# --- what faults are called --------------------------------------------------------------------------------------


def _one(found: Base, kind: type, name: str, change: Callable[[Site], Program]) -> Program:
    (site, *_) = [s for s in sites(found.program, kind) if title(s.instruction).startswith(name)]
    return change(site)


def _halo(site: Site) -> Program:
    facts = dict(site.instruction.attrs)  # type: ignore[union-attr]
    return site.changed(attrs=tuple((facts | {"before": 0}).items()))


def _stale(found: Base) -> Program:
    """The first microbatch is loaded again, which is that of the next batch, in place of the second one."""
    rows = rows_of(found.program, 0)
    return with_rows(found.program, 0, [replace(r, microbatch=0) if r.segment == "load" else r for r in rows])


def _bare(site: Site) -> Program:
    return site.changed(attrs=tuple(pair for pair in site.instruction.attrs if pair[0] != "once"))  # type: ignore[union-attr]


def _turned(found: Base) -> Program:
    """A gradient said to be split along the other axis of its weight."""
    (buffer,) = (b for b in found.program.roles[0].buffers if b.name == "n1.linear.weight@velocity")
    return with_buffer(found.program, 0, buffer, placement=buffer.placement[::-1])


NAMED: dict[str, tuple[str, str, Callable[[Base], Program]]] = {
    "a sum is missing": (
        "zero bubble",
        "whose parts along `data` are not summed",
        lambda b: _one(b, Collective, "bucket", lambda s: s.instead()),
    ),
    "a sum is done twice": (
        "three ways",
        "which along `data` is whole: parts would be counted again",
        lambda b: _one(b, Collective, "bucket", lambda s: s.instead(s.instruction, s.instruction)),
    ),
    "a microbatch is stale": ("ZeRO 2", "of microbatch 2 in place of `n0.flatten` of microbatch 1", _stale),
    "a halo is too narrow": (
        "spatial",
        "part 0 reads rows -1 to 5 of `image` along height and has 0 to 5",
        lambda b: _one(b, Collective, "image@halo_height", _halo),
    ),
    "a bias is added on every rank": (
        "what is summed",
        "`n3.linear` is given once = nothing in place of ('model',)",
        lambda b: _one(b, Compute, "n3.linear", _bare),
    ),
    "a microbatch's part counts twice": (
        "recompute",
        "which holds twice `n0.conv.bias@grad`",
        lambda b: _one(b, Compute, "n0.conv.bias@grad.add", lambda s: s.instead(s.instruction, s.instruction)),
    ),
    "a state is another rank's": ("ZeRO 1", "`n1.linear.weight@update` works on different parts", _turned),
    "shards are not gathered": (
        "ZeRO 1",
        "of which each rank has changed its own part",
        lambda b: _one(b, Collective, "bucket0.weights", lambda s: s.instead()),
    ),
    "the largest is not found": (
        "classes",
        "is candidates for the largest",
        lambda b: _one(b, Collective, "n8.cross_entropy.sums0", lambda s: s.changed(attrs=())),
    ),
}


@pytest.mark.parametrize("fault", NAMED)
def test_faults_are_named(fault: str) -> None:
    name, sentence, plant = NAMED[fault]
    found = base(name)
    problems = [str(problem) for problem in prove(plant(found), found.graph)]
    assert any(sentence in problem for problem in problems), problems


def test_a_group_holds_the_ranks_of_its_name() -> None:
    found = base("ZeRO 1").program
    turned = {"data": "model", "model": "data"}
    groups = tuple(replace(group, name=turned[group.name]) for group in found.groups if group.name in turned)
    (problem, *_) = prove(replace(found, groups=groups), base("ZeRO 1").graph)
    assert "whose ranks are not those along the mesh's axes of that name" in problem.sentence


# --- folding -----------------------------------------------------------------------------------------------------


def test_what_is_folded_and_what_is_not_is_judged_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults in the schedules of eight microbatches, most of them in those that are not followed one by one."""
    found = base("1F1B")
    plan = plan_of(found.graph, {"pipeline": 2}, DATA, schedule="one_f_one_b", microbatches=8, stages=2)
    made = lower(found.graph, plan, on(2))
    programs = [made, *(program for fault in SCHEDULES for _, program in fault(made))]
    assert len(programs) > 100
    folded = [bool(prove(program, found.graph)) for program in programs]
    monkeypatch.setattr(entries, "followed", lambda _layouts, rows, _count: [list(each) for each in rows])
    assert folded == [bool(prove(program, found.graph)) for program in programs]
    assert folded.count(False) < len(folded) // 4  # waits for messages that are over already


def test_microbatches_that_are_alike_are_folded() -> None:
    found = base("1F1B")
    plan = plan_of(found.graph, {"pipeline": 2}, DATA, schedule="one_f_one_b", microbatches=8, stages=2)
    made = lower(found.graph, plan, on(2))
    seen: list[int] = []
    real = folding.followed

    def counted(*arguments: Any) -> Any:
        rows = real(*arguments)
        seen.append(len(rows[0]))
        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries, "followed", counted)
        assert prove(made, found.graph) == ()
    assert seen[0] < len(rows_of(made, 0)) // 2


# --- parts -------------------------------------------------------------------------------------------------------


def test_who_has_what_each_is_to_have() -> None:
    mesh, type_ = Mesh((("data", 2), ("model", 2))), tensor("f32", batch=8, channel=6)
    split = ("batch", "batch")
    assert covered(type_, mesh, split, ("batch", ""), (1,))
    assert not covered(type_, mesh, split, ("", "batch"), (0,))  # quarters 0 and 2 are not the first half
    assert not covered(tensor("f32", batch=10), mesh, split, ("batch", ""), (1,))  # 3 + 3 rows, not 5
    assert covered(type_, mesh, ("", "channel"), ("", "batch"), (1,))
    assert not covered(type_, mesh, ("", "channel"), ("", "batch"), (0,))
    assert covered(type_, mesh, ("", ""), split, ())


def test_rows_that_windows_read() -> None:
    found = fringe("height", 8, Halo(1, 1), 8, 2, pending=False)
    assert (found.rows, found.reads) == (((0, 5), (3, 8)), ((-1, 5), (3, 9)))


def test_a_write_ends_what_shares_a_byte_with_it() -> None:
    track = Track()
    for start, stop, name in ((0, 8, "a"), (8, 16, "b"), (16, 24, "c"), (4, 17, "d")):
        track.put(start, stop, Written(name, None))
    names = [track.at(byte) for byte in (0, 4, 16, 17, 24)]
    assert [None if at is None else at.name for at in names] == [None, "d", "d", None, None]


def test_sums_in_words() -> None:
    found = added([term("a", 0), term("a", 1), term("b", 2), term("b", 2)])
    assert shown(found) == "`a` of microbatches 0, 1 + twice `b` of microbatch 2"
    assert shown(frozenset()) == "zero"
