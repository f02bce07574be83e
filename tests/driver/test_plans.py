"""plan.json: applied exactly, refused where it fits no longer (E0706, E0719), and the same bytes every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dlc.diagnostics import DiagnosticError
from dlc.driver import Options, compile_file, compile_spec, emit_files, read
from dlc.folders import write_plan
from dlc.ir.program import Collective
from tests.driver.conftest import CLUSTER, Write, spec
from tests.slices import first

REPOSITORY = Path(__file__).parents[2]
LENET = REPOSITORY / "specs" / "lenet5.dlspec"
RESIDUAL = REPOSITORY / "tests" / "programs" / "residual.dlspec"
WIDE = spec("layout = NHWC").replace("batch = 8", "batch = wide").replace("network", "param wide = 8\nnetwork", 1)


def planned(path: str, **options: Any) -> str:
    """The path of the plan.json of a spec."""
    plan = str(Path(path).with_suffix(".json"))
    write_plan(compile_file(path, Options(**options)).plan, plan)
    return plan


def codes(path: str) -> list[str]:
    with pytest.raises(DiagnosticError) as error:
        compile_file(path, Options())
    return [diagnostic.code for diagnostic in error.value.diagnostics]


@pytest.mark.parametrize("options", [{}, {"ranks": 1}, {"ranks": 3}, {"parameters": {"wide": "6"}}], ids=repr)
def test_a_plan_is_applied_exactly(write: Write, options: dict[str, Any]) -> None:
    path = write(WIDE)
    once, again = compile_file(path, Options(**options)), compile_file(planned(path, **options), Options())
    assert again.plan == once.plan
    assert again.program == once.program
    assert emit_files(again) == emit_files(once)


KINDS = {
    "data": "strategy = data",
    "zero": "strategy = data, shard = optimizer",
    "zero in stages": "strategy = hybrid(pipeline = 2, data = 2), pipeline.microbatches = 2, shard = gradients",
    "features": "strategy = model",
    "stages": "strategy = hybrid(pipeline = 2, model = 2), pipeline.microbatches = 4",
    "both": "strategy = hybrid(data = 2, model = 2)",
    "pinned": "strategy = data, allreduce = ring",
}
FOUR = CLUSTER.replace("core[2] over shm", "node[2] over shm { core[2] over shm }")


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_says_what_is_summed_together(write: Write, kind: str) -> None:
    """Each of its buckets is one collective of the program, with the same members, size and algorithm."""
    cluster = FOUR if "hybrid" in KINDS[kind] else CLUSTER
    path = write(spec(KINDS[kind], cluster=cluster))
    once, again = compile_file(path, Options()), compile_file(planned(path), Options())
    assert once.plan.buckets
    assert (again.plan, again.program) == (once.plan, once.program)
    made = {}
    for device, role in enumerate(once.program.roles):
        for i in (i for segment in role.segments for i in segment.instructions):
            if isinstance(i, Collective) and i.name == i.buffer and role.buffer(i.buffer).kind == "bucket":
                members = [b for b in role.buffers if b.view_of == i.buffer]
                names = tuple(b.name for b in sorted(members, key=lambda b: b.offset))
                made[device, i.name] = (i.group, names, i.bytes, i.algorithm)
    assert made == {
        (bucket.stage, bucket.name): (bucket.group, bucket.members, bucket.bytes, bucket.algorithm)
        for bucket in once.plan.buckets
    }


def test_a_plan_may_cut_the_buckets_otherwise(write: Write) -> None:
    """The first gradient alone by a ring, the others behind it by a tree: the program does that."""
    plan = Path(planned(write(spec("strategy = data"))))
    document = json.loads(plan.read_text(encoding="utf-8"))
    (whole,) = document["buckets"]
    alone = {**whole, "name": "alone", "members": whole["members"][:1], "algorithm": "ring"}
    document["buckets"] = [alone, {**whole, "members": whole["members"][1:], "algorithm": "tree"}]
    plan.write_text(json.dumps(document), encoding="utf-8")
    compiled = compile_file(str(plan), Options())
    (role,) = compiled.program.roles
    sums = [i for i in role.segment("backward").instructions if isinstance(i, Collective)]
    assert {(i.name, i.algorithm) for i in sums} == {("alone", "ring"), (whole["name"], "tree")}
    members = [b.name for b in role.buffers if b.view_of == "alone"]
    assert members == whole["members"][:1]


def test_a_plan_decides_even_where_the_planner_would_not(write: Write) -> None:
    plan = Path(planned(write(spec())))
    document = json.loads(plan.read_text(encoding="utf-8"))
    conv = next(op for op in document["ops"] if op["address"] == "c1.conv")
    assert {part["algorithm"] for part in conv["passes"]} == {"im2col"}
    conv["layout"] = "CHWN"
    for part in conv["passes"]:
        part["algorithm"] = "fft"
    plan.write_text(json.dumps(document), encoding="utf-8")
    kernels = {
        (i.kernel, i.layout)
        for i in compile_file(str(plan), Options()).program.roles[0].segment("forward").instructions
        if getattr(i, "address", "") == "c1.conv"
    }
    assert kernels == {(("conv", "forward", "fft"), "CHWN")}


def test_a_plan_stays_on_its_cluster(write: Write) -> None:
    path = write(spec(cluster=CLUSTER + CLUSTER.replace("pair", "trio").replace("core[2]", "core[3]")))
    plan = planned(path, cluster="trio")
    compiled = compile_file(plan, Options())
    assert (compiled.plan.cluster, compiled.context.cluster.name, compiled.plan.ranks) == ("trio", "trio", 3)


def test_a_plan_finds_its_spec_beside_it(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(spec())
    monkeypatch.chdir(tmp_path)
    planned("tiny.dlspec")
    monkeypatch.chdir("/")
    assert compile_file(str(tmp_path / "tiny.json"), Options()).plan.spec == "tiny.dlspec"


@pytest.mark.parametrize("change", [("3x3", "5x5"), ("network tiny", "# a comment\nnetwork tiny")])
def test_a_plan_of_another_text_is_refused(write: Write, change: tuple[str, str]) -> None:
    plan = planned(write(spec()))
    write(spec().replace(*change))
    assert codes(plan) == ["E0706"]
    write(spec())
    assert compile_file(plan, Options()).plan.network == "tiny"


def test_a_plan_notices_a_changed_import(write: Write) -> None:
    write("dlspec 1\n" + CLUSTER, "pair.dlspec")
    plan = planned(write(spec(cluster='import "pair.dlspec"\n')))
    write("dlspec 1\n" + CLUSTER.replace("10 GB/s", "11 GB/s"), "pair.dlspec")
    assert codes(plan) == ["E0706"]


DAMAGES: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "another algorithm": ("E0719", lambda d: d["ops"][0]["passes"][0].update(algorithm="magic")),
    "an algorithm that cannot": ("E0719", lambda d: d["ops"][0]["passes"][0].update(algorithm="winograd(2)")),
    "another layout": ("E0719", lambda d: d["ops"][0].update(layout="HCNW")),
    "an op less": ("E0719", lambda d: d["ops"].pop()),
    "an op more": ("E0719", lambda d: d["ops"].append({**d["ops"][0], "address": "nowhere"})),
    "uneven shards": ("E0719", lambda d: d.update(shards=[[0, 3], [3, 8]])),
    "more ranks": ("E0719", lambda d: d.update(ranks=3)),
    "another batch": ("E0719", lambda d: d.update(batch=9)),
    "no sums": ("E0719", lambda d: d.update(buckets=[])),
    "a sum less": ("E0719", lambda d: d["buckets"][0]["members"].pop()),
    "a sum twice": ("E0719", lambda d: d["buckets"].append({**d["buckets"][0], "name": "again"})),
    "sums over another axis": ("E0719", lambda d: d["buckets"][0].update(group="model")),
    "sums of another stage": ("E0719", lambda d: d["buckets"][0].update(stage=1)),
    "another allreduce": ("E0719", lambda d: d["buckets"][0].update(algorithm="magic")),
    "another file": ("E0112", lambda d: d.update(spec="nowhere.dlspec")),
    "a word for a number": ("E0705", lambda d: d.update(batch="8")),
    "a number for a word": ("E0705", lambda d: d["ops"][0].update(layout=3)),
    "a list for an object": ("E0705", lambda d: d.update(predicted=[])),
    "another schema": ("E0705", lambda d: d.update(schema=2)),
    "a setting of none": ("E0705", lambda d: d.update(magic=1)),
    "a setting less": ("E0705", lambda d: d.pop("mesh")),
    "no number": ("E0705", lambda d: d["bounds"].update(work=float("nan"))),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_plans_are_refused(write: Write, damage: str) -> None:
    plan = Path(planned(write(spec().replace("3x3", "5x5"))))
    document = json.loads(plan.read_text(encoding="utf-8"))
    code, spoil = DAMAGES[damage]
    spoil(document)
    plan.write_text(json.dumps(document), encoding="utf-8")
    assert set(codes(str(plan))) == {code}


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 20_000, "\0", '"plan"'], ids=lambda text: repr(text[:4]))
def test_what_is_no_plan_is_refused(write: Write, text: str) -> None:
    assert codes(write(text, "plan.json")) == ["E0705"]


# Determinism.

DIGESTS = """
import hashlib, sys
from dlc.driver import Options, compile_spec, emit_files, read
from dlc.ir.plan_json import plan_to_json
from dlc.ir.text import to_text
for path in sys.argv[1:]:
    for ranks in (1, 2, 3):
        compiled = compile_spec(read(path), Options(ranks=ranks))
        made = (plan_to_json(compiled.plan), to_text(compiled.program), sorted(emit_files(compiled).items()))
        print(ranks, *(hashlib.sha256(repr(part).encode()).hexdigest() for part in made))
"""


@pytest.mark.parametrize("path", first(1, [LENET, RESIDUAL]), ids=lambda path: path.stem)
def test_bytes_do_not_depend_on_the_process(path: Path) -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", DIGESTS, path.relative_to(REPOSITORY)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "4711")
    }
    assert len(found) == 1
    assert found.pop().count("\n") == 3


def test_bytes_do_not_depend_on_the_folder(write: Write) -> None:
    files = emit_files(compile_spec(read(write(LENET.read_text(encoding="utf-8"), "lenet5.dlspec")), Options()))
    again = emit_files(compile_spec(read(str(LENET)), Options()))
    differing = {name for name in files if files[name] != again[name]}
    assert differing <= {"plan.json", "train.py"}  # they name the place of each pin
