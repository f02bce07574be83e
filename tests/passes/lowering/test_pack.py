"""Weights packed once: which are, what the proof makes of faults in it, and that no number is another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backends.numpy_mpi.kernels.native import find_compiler
from dlc.cluster.topology import Device
from dlc.cost.memory import peak_bytes
from dlc.cost.packing import gain
from dlc.cost.price import default_price
from dlc.cost.timeline import makespan
from dlc.driver import Compiled, Options, compile_spec, emit_files, read
from dlc.ir.program import Compute, Entry, Instruction, Program, Row, Segment
from dlc.ir.storage import storages_of
from dlc.proof import check, packs
from dlc.proof.forms import Forms
from dlc.proof.memory import Content, Layout
from dlc.proof.rules import Rules
from dlc.proof.state import At, State
from dlc.proof.terms import Meaning, after
from dlc.proof.updates import changes_of
from dlc.verification import compare
from tests.clusters import BOX
from tests.programs.random_plans import in_turns

SPEC = (
    """dlspec 1

param batch = 8

network net {{
  input image: f32[batch, channel = 16, height = 9, width = 10]
  one    = image -> conv(20, 3x3, pad = 1) -> relu
  two    = one -> conv(20, 3x3, pad = 1)
  three  = two -> relu -> conv(20, 3x3, pad = 1) -> add(one)
  logits = three -> maxpool(2x2) -> flatten -> linear(5)
  output logits
}}

train net {{
  data      = synthetic(samples = 32, classes = 5)
  loss      = cross_entropy(logits, data.label)
  metrics   = [accuracy(logits, data.label)]
  optimizer = sgd(momentum = 0.9)
  lr        = constant(0.01)
  steps     = 3
}}

"""
    + BOX
    + """\

plan net on box {{
  kernels = c
  layout  = NHWC
  pin **.conv {{ algorithm = {algorithm} }}
  {plan}
}}
"""
)

FOUR = "pipeline.microbatches = 4; pack = yes"
CALLS = {"pack": ["one.conv", "two.conv", "three.conv"], "pack_dx": ["three.conv@dx", "two.conv@dx"]}

pytestmark = pytest.mark.skipif(not find_compiler(), reason="there is no C compiler")


def compiled(folder: Path, plan: str = FOUR, ranks: int = 1, algorithm: str = "direct") -> Compiled:
    path = folder / "net.dlspec"
    path.write_text(SPEC.format(ranks=ranks, plan=plan.replace("; ", "\n  "), algorithm=algorithm))
    return compile_spec(read(str(path)), Options())


def packing(program: Program) -> dict[str, list[str]]:
    """By segment the calls that it packs for."""
    return {
        segment.name: [made.address for made in segment.instructions if isinstance(made, Compute)]
        for role in program.roles
        for segment in role.segments
        if segment.name.startswith("pack")
    }


def reading(program: Program) -> list[Compute]:
    """The calls that read what is packed."""
    made = (each for role in program.roles for segment in role.segments for each in segment.instructions)
    return [each for each in made if isinstance(each, Compute) and each.packs]


def entry(program: Program, name: str) -> list[str]:
    return [row.segment for each in program.roles[0].entries if each.name == name for row in each.schedule]


def test_what_several_microbatches_read_is_packed_once(tmp_path: Path) -> None:
    program = compiled(tmp_path).program
    assert {name: sorted(found) for name, found in packing(program).items()} == {
        name: sorted(wanted) for name, wanted in CALLS.items()
    }
    assert entry(program, "train_step")[:4] == ["begin", "pack", "pack_dx", "load"]
    assert entry(program, "eval_step")[:3] == ["pack", "load", "predict"]
    assert entry(program, "predict")[:3] == ["pack", "load_inputs", "predict"]
    assert {made.kernel[0] for made in reading(program)} == {"conv", "conv_relu"}


@pytest.mark.parametrize(
    ("plan", "algorithm"),
    [("pipeline.microbatches = 1", "direct"), ("pipeline.microbatches = 4; pack = no", "direct"), (FOUR, "im2col")],
)
def test_nothing_is_packed_where_that_gains_nothing(plan: str, algorithm: str, tmp_path: Path) -> None:
    """One batch reads each weight once a pass; a plan may forbid it; NumPy's kernels read weights as they lie."""
    program = compiled(tmp_path, plan, algorithm=algorithm).program
    assert not packing(program)
    assert not reading(program)


def test_the_price_decides(tmp_path: Path) -> None:
    """Of two microbatches the call that packs takes longer forward than it saves, unless the weights are large."""
    small = compiled(tmp_path, "pipeline.microbatches = 2").program
    assert list(packing(small)) == ["pack_dx"]
    kernel = ("conv_forward", "pack", "direct")
    core = Device("core", memory=2**30, bandwidth=10e9, compute=(("f32", 100e9),))
    gains = [gain(kernel, size, size, reads, "f32", core) for size in (2**12, 2**22) for reads in (1, 2, 4)]
    assert gains[0] < 0
    assert gains[1] < 0
    assert gains[3] < 0 < gains[4] < gains[5]


def test_each_stage_asks_its_own_device(tmp_path: Path) -> None:
    """Whatever is packed of little weights, the call of C costs more than it saves where memory is a hundred times as
    fast: on the second device of a pipeline, not on the first."""
    fast = "device core { kind = cpu, memory = 1 GiB, bandwidth = 1000 GB/s, compute.f32 = 100 GFLOP/s }"
    path = tmp_path / "net.dlspec"
    text = SPEC.format(ranks=2, plan="strategy = pipeline\n  pipeline.microbatches = 4", algorithm="direct")
    slow = fast.replace("core", "first").replace("1000 GB/s", "10 GB/s")
    text = text.replace("  link shm", f"  {slow}\n  {fast.replace('core', 'second')}\n  link shm", 1)
    path.write_text(text.replace("core[2] over shm", "pair over shm { first\n    second }"))
    program = compile_spec(read(str(path)), Options()).program
    packed = {role.ranks: [b.name for b in role.buffers if b.kind == "packed"] for role in program.roles}
    assert len(packed[(0,)]) > 0
    assert packed[(1,)] == []


def test_weights_that_come_within_a_microbatch_are_packed_in_each_call(tmp_path: Path) -> None:
    """Where each rank keeps a shard of the weights, an op's are gathered before its call."""
    program = compiled(
        tmp_path, "strategy = data; shard = weights; pipeline.microbatches = 2; pack = yes", ranks=2
    ).program
    assert not packing(program)


def test_packs_are_left_out_where_memory_does_not_suffice(tmp_path: Path) -> None:
    """Those that save least for their bytes first; within the memory that a program without any takes, all of them."""
    bare, whole = (
        peak_bytes(compiled(tmp_path, f"pipeline.microbatches = 4; pack = {choice}").program)
        for choice in ("no", "yes")
    )
    assert bare < whole
    some = compiled(tmp_path, f"{FOUR}; limit memory <= {(bare + whole) // 2} B").program
    assert 0 < sum(map(len, packing(some).values())) < sum(map(len, CALLS.values()))
    assert peak_bytes(some) <= (bare + whole) // 2
    none = compiled(tmp_path, f"{FOUR}; limit memory <= {bare} B").program
    assert not packing(none)


def test_a_step_is_predicted_to_take_less(tmp_path: Path) -> None:
    """By three of four times what packing takes, less what reading it from memory does."""
    made = [compiled(tmp_path, f"pipeline.microbatches = 4; pack = {choice}") for choice in ("yes", "no")]
    times = [
        makespan(each.program, "train_step", default_price(each.program, each.context.cluster), 0.0) for each in made
    ]
    price = default_price(made[0].program, made[0].context.cluster)
    role = made[0].program.roles[0]
    spent = sum(
        price(each, role, role.largest_shard)
        for segment in role.segments
        if segment.name.startswith("pack")
        for each in segment.instructions
    )
    assert 0 < times[1] - times[0] < 3 * spent


@pytest.mark.parametrize(
    ("plan", "ranks", "algorithm"),
    [
        pytest.param(FOUR, 1, "direct", marks=pytest.mark.slow),
        (FOUR, 1, "winograd(4)"),
        ("strategy = data; shard = optimizer; pipeline.microbatches = 2; pack = yes", 2, "direct"),
        pytest.param(
            "strategy = pipeline; pipeline.microbatches = 4; pack = yes", 2, "winograd(2)", marks=pytest.mark.slow
        ),
    ],
)
def test_programs_compute_what_the_serial_one_does(plan: str, ranks: int, algorithm: str, tmp_path: Path) -> None:
    made = compiled(tmp_path, plan, ranks, algorithm)
    assert reading(made.program)
    verdict = compare(made, emit_files(made), plan, 2, run=in_turns)
    assert verdict.passed, verdict


MLP = """dlspec 1
param batch = 128
network net {
  input x: f32[batch, feature = 40]
  logits = x -> linear(96) -> relu -> linear(64) -> relu -> linear(32)
  output logits
}
train net {
  data      = synthetic(samples = 256, classes = 32)
  loss      = cross_entropy(logits, data.label)
  optimizer = adam
  lr        = constant(0.01)
  steps     = 3
}
cluster laptop {
  device core { kind = cpu, memory = 1 GiB, bandwidth = 10 GB/s, compute.f32 = 100 GFLOP/s }
  link shm { bandwidth = 8 GB/s, latency = 1 us }
  topology { core[1] over shm }
}

plan net on laptop {
  kernels = c
  pipeline.microbatches = 4
  pack = yes
}
"""


def test_linear_maps(tmp_path: Path) -> None:
    (tmp_path / "net.dlspec").write_text(MLP)
    made = compile_spec(read(str(tmp_path / "net.dlspec")), Options(ranks=1))
    found = packing(made.program)
    assert found["pack"] == ["logits.linear", "logits.linear_2", "logits.linear_3"]
    assert sorted(found["pack_dx"]) == ["logits.linear_2@dx", "logits.linear_3@dx"]
    verdict = compare(made, emit_files(made), "linear maps", 2, run=in_turns)
    assert verdict.passed, verdict


# --- faults ------------------------------------------------------------------------------------------------------


def changed(program: Program, change: Callable[[Instruction], Instruction]) -> Program:
    (role,) = program.roles
    segments = tuple(Segment(s.name, tuple(map(change, s.instructions))) for s in role.segments)
    return replace(program, roles=(replace(role, segments=segments),))


def scheduled(program: Program, change: Callable[[tuple[Row, ...]], tuple[Row, ...]]) -> Program:
    (role,) = program.roles
    entries = tuple(
        Entry(each.name, change(each.schedule)) if each.name == "train_step" else each for each in role.entries
    )
    return replace(program, roles=(replace(role, entries=entries),))


def of_another(made: Instruction) -> Instruction:
    """`two` packs the weights of `three`, which are as large."""
    if isinstance(made, Compute) and made.kernel[1] == "pack" and made.address == "two.conv":
        return replace(made, inputs=("three.conv.weight", "three.conv.bias"))
    return made


def for_another(made: Instruction) -> Instruction:
    """`two` reads what is packed for `three`."""
    if not isinstance(made, Compute) or made.packs != ("two.conv.packed",):
        return made
    members = tuple(each for each in map(for_another, made.members) if isinstance(each, Compute))
    return replace(made, packs=("three.conv.packed",), members=members)


def in_another_order(made: Instruction) -> Instruction:
    """What is packed is for images of another width."""
    if isinstance(made, Compute) and made.kernel[1] == "pack" and made.address == "two.conv":
        return replace(made, attrs=tuple((name, 11 if name == "width" else value) for name, value in made.attrs))
    return made


def without(name: str) -> Callable[[tuple[Row, ...]], tuple[Row, ...]]:
    return lambda rows: tuple(row for row in rows if row.segment != name)


def late(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The weights are packed behind the update."""
    return (*without("pack")(rows), Row("pack"))


FAULTS: dict[str, tuple[Callable[[Program], Program], str]] = {
    "another weight": (lambda program: changed(program, of_another), "three.conv.weight"),
    "another's": (lambda program: changed(program, for_another), "packed by direct in NHWC for three.conv"),
    "another order": (lambda program: changed(program, in_another_order), "width = 11"),
    "never": (lambda program: scheduled(program, without("pack")), "before it is written"),
    "for gradients never": (lambda program: scheduled(program, without("pack_dx")), "before it is written"),
    "too late": (lambda program: scheduled(program, late), "before it is written"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str, tmp_path: Path) -> None:
    made = compiled(tmp_path)
    change, words = FAULTS[fault]
    assert check(made.program, made.graph) == ()
    found = check(change(made.program), made.graph)
    assert any(words in problem.sentence for problem in found), found


def test_what_was_packed_before_an_update_is_stale_behind_it(tmp_path: Path) -> None:
    """Packed again it is not: the version of a weight is a part of what is packed of it."""
    made = compiled(tmp_path)
    (storage,) = storages_of(made.program)
    layout, forms = Layout(made.graph, storage), Forms()
    rules = Rules(made.graph, layout.mesh, storage.microbatches, forms)
    changes = changes_of(made.program, made.graph)
    state = State(made.program, "train_step", Meaning(made.graph), rules, layout, (0, 1, 2, 3), changes)
    at, name = At(Row("pack"), 0), "two.conv.packed"
    segment = made.program.roles[0].segment("pack")
    pack = next(each for each in segment.instructions if isinstance(each, Compute) and name in each.outputs)
    reader = next(each for each in reading(made.program) if each.packs == (name,))
    reader = reader.members[0] if reader.members else reader
    packs.pack(state, at, pack)
    assert packs.holds(state, at, reader, name)
    before = state.read(at, pack, "two.conv.weight")
    assert before is not None
    updated = after("two.conv.weight@update", "two.conv.weight")
    state.memory.write("two.conv.weight", 0, Content(updated, before.form))
    assert not packs.holds(state, at, reader, name)
    assert "behind two.conv.weight@update" in next(iter(state.found.values())).sentence
    packs.pack(state, at, pack)
    assert packs.holds(state, at, reader, name)
