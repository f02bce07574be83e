"""`dlc calibrate`: what is measured becomes a profile that can be read, whatever of it there is."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from backends.numpy_mpi.runtime.collectives import ALGORITHMS
from backends.numpy_mpi.timing import Case, Reading, Timing, Turns
from backends.numpy_mpi.timing.cases import call_of
from backends.numpy_mpi.timing.process import Round, Row
from backends.numpy_mpi.timing.steps import LOAD, Call, Step
from dlc.calibration import measure, points
from dlc.calibration.joined import joined
from dlc.calibration.own_work import READ, work_of
from dlc.calibration.report import report
from dlc.calibration.speed import speed_now
from dlc.calibration.turns import Part, _together, passes, usual_of
from dlc.cli import main
from dlc.cluster.fabric import Fabric
from dlc.cluster.topology import Cluster, Group, Link
from dlc.cost.communication import processing
from dlc.cost.compute import seconds
from dlc.cost.profile import Messages, Own, Profile, Sample, Usual, interval
from dlc.cost.profile_json import profile_document, read_profile
from dlc.ir.mesh import Mesh
from dlc.launch import find_mpiexec
from dlc.ops import operator


def timings(cases: list[Case], factor: float = 2.0) -> list[Timing]:
    """As if each kernel took so many times what its phases say."""
    found = []
    for case in cases:
        op = operator(case.op)
        if op is None or case.op == "convert":
            continue
        taken = factor * seconds(op, case.stage, case.shapes, case.algorithm, case.layout, measure.CORE).seconds
        found.append(Timing(case, taken, 0.05, 5, taken))
    return found


@pytest.mark.parametrize("kernels", ["numpy", "c"])
def test_every_point_is_a_call_and_named_once(kernels: str) -> None:
    cases = [*points.convolutions(kernels), *points.others(kernels)]
    assert all(call_of(case).arrays for case in cases)
    names = [measure._name(case) for case in cases]
    assert len(set(names)) == len(names) > 250
    assert {case.op for case in cases} >= {"conv", "bn", "lstm", "attention", "linear", "sgd", "cross_entropy"}
    assert [measure._name(case) for case in (*points.convolutions(kernels), *points.others(kernels))] == names


def test_a_profile_comes_back_as_it_was_written() -> None:
    own = Own(3.1e-5, 1e-6, 8e-6, 1e-5, 0.2)
    found = measure.Findings(own=own, kernels=[(1, timing) for timing in timings(points.others("numpy"))])
    found.usual = Usual(2e-4, 9e-4, 6e-7, 0.06)
    profile = found.profile()
    assert (profile.own, profile.usual) == (own, found.usual)
    again = read_profile(json.loads(json.dumps(profile_document(profile))))
    assert [sample.key for sample in again.samples] == [sample.key for sample in profile.samples]
    assert again.fingerprint == profile.fingerprint
    assert json.dumps(profile_document(again)) == json.dumps(profile_document(profile))


def test_kernels_of_other_shapes_take_what_those_measured_say() -> None:
    """All took twice what their phases say: so do others, and leaving one out finds nothing off."""
    profile = measure.Findings(kernels=[(1, timing) for timing in timings(points.others("numpy"))]).profile()
    assert profile.spread < 1e-6
    op = operator("relu")
    assert op is not None
    other = next(case for case in points.others("c") if case.op == "relu")
    shapes = other.shapes.__class__(
        tuple(t.with_extent("batch", 7) for t in other.shapes.inputs),
        tuple(t.with_extent("batch", 7) for t in other.shapes.outputs),
        {},
    )
    plain, known = (seconds(op, "forward", shapes, "", "NHWC", measure.CORE, each) for each in (None, profile))
    assert known.seconds == pytest.approx(2 * plain.seconds, rel=1e-3)
    assert (plain.source, known.source) == ("analytic", "interpolated")
    assert known.interval[0] <= known.seconds <= known.interval[1]


def test_a_kernel_in_c_that_stands_in_for_numpys_says_nothing_of_its_phases() -> None:
    """Direct sums of NumPy are no faster for those in C, which took just what the phases of C say."""
    case = next(each for each in points.convolutions("c") if (each.algorithm, each.layout) == ("direct", "NHWC"))
    op, in_c = operator("conv"), replace(measure.CORE, kernels="c")
    assert op is not None
    told = (op, case.stage, case.shapes, "direct", "NHWC")
    taken = seconds(*told, in_c).seconds
    profile = Profile("here", samples=(Sample("conv", case.stage, "direct", "NHWC", case.shapes, taken, 0.1, "c"),))
    plain, known = (seconds(*told, measure.CORE, each).seconds for each in (None, profile))
    assert known == pytest.approx(plain)
    assert known > 1.5 * taken


def steps(calls: int, each: float, load: float = 2e-5) -> Step:
    """A step of 30 us and so many calls, each of so many seconds."""
    made = (Call(LOAD, load, False), *(Call("relu_forward", 1e-6, False),) * (calls - 1))
    besides = 3e-5 + calls * each
    return Step(besides + sum(call.seconds for call in made), made, besides, 100)


def test_the_step_itself_is_a_line_over_its_calls() -> None:
    made = (steps(8, 1e-6), steps(44, 1e-6), steps(20, 9e-6), steps(8, 1e-6, load=5e-5))
    turns = [[replace(step, besides=noise * step.besides) for step in made] for noise in (1.5, 1.0, 1.2)]
    own = work_of(turns, cast=1e-8)
    assert (own.step, own.call, own.cold, own.load) == pytest.approx((1.2 * 3e-5, 1.2e-6, 1.2 * 8e-6, 1e-5))
    assert (own.cast, own.decode) == pytest.approx((1e-8, 3e-5 - 1e-8 * READ))
    assert own.spread == pytest.approx(0.5 / 2.4)


def test_programs_that_fail_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> Step:
        raise RuntimeError("MemoryError")

    monkeypatch.setattr("dlc.calibration.own_work.time_step", failing)
    found = measure.measure(("step",), measure.QUICK, lambda _: nullcontext())
    assert found.profile().own is None
    assert found.notes == ["steps of programs: not measured, MemoryError"]


def test_an_interrupt_keeps_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = Turns.turn

    def interrupted(each: Turns) -> None:
        if len(each.cases) > 1:
            raise KeyboardInterrupt
        turn(each)

    monkeypatch.setattr(Turns, "turn", interrupted)
    found = measure.measure(("calls", "bandwidth", "gemm"), measure.QUICK, lambda _: nullcontext())
    assert found.interrupted
    profile = found.profile()
    assert profile.call is not None
    assert profile.usual is not None
    assert (profile.gemm, profile.bandwidth) == ((), ())
    assert "a call of NumPy" in report(profile, found)


def test_what_was_unsteady_is_left_out() -> None:
    cases = points.others("numpy")[:4]
    rough = [Timing(case, 1e-3, 0.9 if at == 1 else 0.1, 5, 8e-4) for at, case in enumerate(cases)]
    found = measure.Findings()
    measure._steady(found, 1, rough)
    assert (len(found.kernels), found.left_out) == (3, 1)
    slow = [Timing(case, 2e-3, 0.0, 5, 2e-3) for case in cases]
    measure._steady(found, 2, slow)
    assert found.left_out == 1 + 3  # slower than with one thread; of the fourth that is not known
    assert found.kernels[-1][0] == 2


def test_passes_go_over_all_parts_and_bring_them_to_one_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a machine that is half as fast in each second pass, parts are told as it is in the median over all of them."""
    made, between, taken, told = list[str](), list[int](), dict[str, float](), list[Usual | None]()
    products = iter([1e-3, 1e-3, 2e-3, 2e-3, 1e-3, 1e-3])

    def turn(each: Turns) -> None:
        made.append(each.cases[0].op)
        speed = next(products)
        each.rounds.append(Round((Row(7 * speed, 8 * speed, 0),), (Reading(speed, 1e-3, 1e-6),)))

    monkeypatch.setattr(Turns, "__enter__", lambda each: each)
    monkeypatch.setattr(Turns, "turn", turn)
    parts = [
        Part(case.op, [case], lambda found: taken.update({found[0].case.op: found[0].seconds}))
        for case in (points.call(), points.copies()[0])
    ]
    passes(parts, 3, 60.0, lambda: between.append(len(made)), lambda _: nullcontext(), None, told.append)
    assert made == ["relu", "slice"] * 3
    assert between == [2, 4, 6]
    assert told == [Usual(1e-3, 1e-3, 1e-6, 0.5)]
    assert taken["relu"] == pytest.approx(7e-3)
    assert taken["slice"] == pytest.approx(7e-3, rel=0.2)  # memory's share goes by the copies, which were as ever


def test_readings_that_lie_apart_are_a_spread_that_predictions_have() -> None:
    usual = usual_of([Reading(each, 1.0, 1.0) for each in (8.0, 9.0, 10.0, 11.0, 12.0)])
    assert usual == Usual(10.0, 1.0, 1.0, 0.1)
    low, high = interval(1.0, Profile("here", spread=0.2, usual=usual))
    assert (1 / low, high) == (pytest.approx(1.2 * 1.1), pytest.approx(1.2 * 1.1))
    assert usual_of([]) is None


def test_parts_that_fit_into_memory_are_timed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [Part(name, points.copies(), lambda _: None) for name in "abc"]
    size = sum(t.bytes for case in points.copies() for t in (*case.shapes.inputs, *case.shapes.outputs))
    monkeypatch.setattr("dlc.calibration.turns._free", lambda: 4 * size)
    assert [[part.title for part in each] for each in _together(parts)] == [["a", "b"], ["c"]]


def test_the_command_writes_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "profile.json"
    assert main(["calibrate", "--quick", "--only", "calls,bandwidth", "-o", str(out)]) == 0
    profile = read_profile(json.loads(out.read_text(encoding="utf-8")))
    assert profile.call is not None
    assert 0 < profile.call < 1e-3
    assert [run for run, _ in profile.bandwidth] == [4.0 * run for run in points.RUNS]
    assert "`profile = " in capsys.readouterr().out


def test_the_speed_is_read_again() -> None:
    """No machine multiplies matrices of 200x200 in a nanosecond, nor takes a thousand seconds for eight megabytes."""
    found = speed_now(Profile("here", usual=Usual(1e-9, 1e3, 1e-9)))
    assert found is not None
    assert found.products > 100
    assert found.copies < 0.01
    assert found.calls > 10
    assert speed_now(Profile("here")) is None


@pytest.mark.parametrize("where", ["a file/profile.json", "a folder"])
def test_where_nothing_can_be_written_nothing_is_measured(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "a folder").mkdir()
    monkeypatch.setattr(measure, "measure", lambda *_: pytest.fail("it was measured"))
    assert main(["calibrate", "-o", str(tmp_path / where)]) == 1
    assert "E0702" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a file", "a folder"]


def test_what_a_file_has_of_other_parts_stays(tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    for parts in ("calls", "bandwidth"):
        assert main(["calibrate", "--quick", "--only", parts, "-o", str(out)]) == 0
    profile = read_profile(json.loads(out.read_text(encoding="utf-8")))
    assert profile.call is not None
    assert len(profile.bandwidth) == len(points.RUNS)
    assert profile.usual is not None  # of the calls, which copies were brought to
    elsewhere = replace(profile, fingerprint=(("processor", "Imaginary 9000"),))
    out.write_text(json.dumps(profile_document(elsewhere)), encoding="utf-8")
    assert main(["calibrate", "--quick", "--only", "calls", "-o", str(out)]) == 0
    assert read_profile(json.loads(out.read_text(encoding="utf-8"))).bandwidth == ()


def test_joined_samples_are_the_newer_ones() -> None:
    older, newer = (
        measure.Findings(kernels=[(1, t) for t in timings(points.others("numpy")[:6], f)]) for f in (2.0, 3.0)
    )
    newer.kernels = newer.kernels[:2]
    both = joined(older.profile(), newer.profile())
    assert [sample.key for sample in both.samples] == [sample.key for sample in older.profile().samples]
    assert [s.seconds for s in both.samples[:2]] == [s.seconds for s in newer.profile().samples]
    assert [s.seconds for s in both.samples[2:]] == [s.seconds for s in older.profile().samples[2:]]


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--only", "gemm,disk"]) == 2
    assert "there is no part `disk`" in capsys.readouterr().err


MESSAGES = (Messages("allreduce", "ring", 2, ((1e3, 1e-5), (1e5, 9e-5), (1e6, 8e-5)), 0.2),)


def test_measured_messages_take_the_place_of_the_formulas() -> None:
    core = replace(measure.CORE, cores=1)
    cluster = Cluster("pair", (core,), (Link("shm", 8e9, 1e-6),), (Group("core", 4, "shm", device="core"),))
    profile = Profile("pair", messages=MESSAGES)
    two = replace(cluster, topology=(replace(cluster.topology[0], count=2),))
    of_two = Fabric(two, Mesh((("data", 2),)), processing(core, profile))
    found = of_two.algorithms("allreduce", 1e5, ("data",))
    plain = Fabric(of_two.cluster, of_two.mesh, processing(core)).algorithms("allreduce", 1e5, ("data",))
    assert found["ring"] == pytest.approx(9e-5)
    assert {name: found[name] for name in found if name != "ring"} == {n: plain[n] for n in plain if n != "ring"}
    assert of_two.algorithms("allreduce", 1.0, ("data",))["ring"] == pytest.approx(1e-5)  # latency alone
    assert of_two.algorithms("allreduce", 50.5e3, ("data",))["ring"] == pytest.approx(5e-5)  # half way
    assert of_two.algorithms("allreduce", 1e7, ("data",))["ring"] == pytest.approx(9e-5)  # what falls is noise
    assert of_two.spread("allreduce", "ring", ("data",)) == 0.2
    assert of_two.spread("allreduce", "tree", ("data",)) is None
    several = Fabric(cluster, Mesh((("data", 2), ("model", 2))), processing(core, profile))
    other = Fabric(cluster, Mesh((("data", 2), ("model", 2))), processing(core))
    assert several.algorithms("allreduce", 1e5, ("data",)) == other.algorithms("allreduce", 1e5, ("data",))


@pytest.mark.mpi
def test_messages_are_timed_between_processes() -> None:
    mpiexec = find_mpiexec()
    assert mpiexec is not None
    found = measure.Findings()
    measure._between_ranks(2, measure.QUICK, found)
    assert found.notes == []
    assert {each.algorithm for each in found.messages if each.kind == "allreduce"} == {*ALGORITHMS}
    assert all(0 < each.seconds < 1 for each in found.messages)
    assert [m.kind for m in found.profile().messages].count("exchange") == 1
