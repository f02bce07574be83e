"""What a step does besides its kernels: in its price, by J and by simulation, and beside what programs take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from backends.numpy_mpi.timing.steps import LOAD
from dlc import driver
from dlc.cli import main
from dlc.cluster.detect import machine
from dlc.cost.compute import call_work
from dlc.cost.price import default_price
from dlc.cost.profile import COLD_BYTES, Own, Profile
from dlc.cost.profile_json import profile_document, read_profile
from dlc.driver import Compiled, Options
from dlc.inspect.op_times import BESIDES
from dlc.ir.program import Compute, Load
from dlc.ir.ranks import schedule
from dlc.job import profile_of
from dlc.op_times import op_times
from dlc.validation import chosen

SPECS = Path(__file__).resolve().parents[2] / "specs"
OWN = Own(5e-5, 2e-6, 1e-5, 7e-6)


def made(profile: Path | None = None) -> Compiled:
    source = driver.read(str(SPECS / "mlp.dlspec"), {})
    cluster = machine(1)
    devices = tuple(replace(each, profile=str(profile) if profile else None) for each in cluster.devices)
    return chosen(source, Options(kernels="numpy"), replace(cluster, devices=devices))


@pytest.fixture(scope="module")
def plain() -> Compiled:
    return made()


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    path = tmp_path_factory.mktemp("profile") / "profile.json"
    path.write_text(json.dumps(profile_document(Profile("here", own=OWN))), encoding="utf-8")
    return made(path)


def test_a_profile_knows_how_many_ranks_share_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(profile_document(Profile("here", own=OWN))), encoding="utf-8")
    source = driver.read(str(SPECS / "mlp.dlspec"), {})
    for ranks in (1, 2):
        (device,) = machine(ranks).devices
        cluster = replace(machine(ranks), devices=(replace(device, profile=str(path)),))
        profile = profile_of(source, cluster, Options())
        assert profile == Profile("here", own=OWN, beside=ranks)
    assert profile_of(source, machine(2), Options()) is None


def test_samples_that_lie_innermost_are_read_value_by_value(plain: Compiled) -> None:
    (role,) = plain.program.roles
    load = next(each for segment in role.segments for each in segment.instructions if isinstance(each, Load))
    prices = default_price(plain.program, plain.context.cluster)
    inside = replace(role, name="inside", buffers=tuple(replace(b, layout="CHWN") for b in role.buffers))
    assert prices(load, role, 64) < prices.seconds(load, inside, 64, next(iter(prices.devices.values())))


def test_the_step_itself_is_a_part_of_its_seconds(plain: Compiled, priced: Compiled) -> None:
    for made, own in ((plain, 0.0), (priced, OWN.step)):
        predicted = made.plan.predicted
        parts = predicted.compute_seconds + predicted.conversion_seconds + predicted.communication_seconds
        assert predicted.own_seconds == own
        assert predicted.step_seconds == predicted.objective == pytest.approx(parts + own)
        assert predicted.low_seconds < predicted.step_seconds < predicted.high_seconds
    assert dict(priced.plan.sources)["step"] == "measured, 50 us besides its ops"


def test_calls_loads_and_the_step_are_priced_by_j_and_by_simulation(plain: Compiled, priced: Compiled) -> None:
    (role,) = priced.program.roles
    segments = {segment.name: segment.instructions for segment in role.segments}
    rows = [made for row in schedule(role, "train_step") for made in segments[row.segment]]
    prices = default_price(priced.program, priced.context.cluster, priced.context.profile)
    calls = sum(prices.call_work(each, role, role.largest_shard) for each in rows if isinstance(each, Compute))
    loads = sum(len(each.buffers) for each in rows if isinstance(each, Load))
    assert calls > 20 * OWN.call
    before, after = plain.plan.predicted, priced.plan.predicted
    more = calls + loads * OWN.load + OWN.step
    assert after.own_seconds == OWN.step
    assert after.simulated_seconds - before.simulated_seconds == pytest.approx(more, rel=1e-6)
    # J has calls of the network's ops; Programs have a few of their own
    assert more * 0.8 < after.objective - before.objective < more * 1.2


def test_a_call_costs_more_where_its_operands_fill_the_caches() -> None:
    profile = Profile("here", own=OWN)
    assert call_work(0.0, profile) == OWN.call
    assert call_work(COLD_BYTES / 2, profile) == pytest.approx(OWN.call + OWN.cold / 2)
    assert call_work(9e9, profile) == OWN.call + OWN.cold
    assert call_work(9e9) == 0.0


def test_each_call_of_a_step_is_told_beside_its_price(priced: Compiled) -> None:
    found = op_times(priced, 7, 1, 60.0)
    (role,) = priced.program.roles
    segments = {segment.name: segment.instructions for segment in role.segments}
    computes = [each for row in schedule(role, "train_step") for each in segments[row.segment]
                if isinstance(each, Compute)]  # fmt: skip
    assert sorted(each.address for each in found if each.address) == sorted(each.address for each in computes)
    assert [each.op for each in found if not each.address] == [LOAD, BESIDES]
    assert all(each.seconds > 0.0 and each.predicted > 0.0 for each in found)
    assert {each.source for each in found if each.op == "linear"} == {"analytic"}


def test_validate_shows_the_calls(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["validate", str(SPECS / "mlp.dlspec"), "--kernels", "numpy", "--seconds", "0.01", "--ops", "--json"]
    assert main(command) == 0
    (row,) = json.loads(capsys.readouterr().out)["trials"]
    assert {each["op"] for each in row["ops"]} >= {"linear", "relu", "sgd", LOAD, BESIDES}
    assert main([*command[:2], "--ops", "-n", "2"]) == 2
    assert "`--ops` times the calls of one rank" in capsys.readouterr().err


def test_a_fit_may_leave_nothing_for_a_call() -> None:
    known = Profile("here", own=replace(OWN, call=0.0))
    assert read_profile(profile_document(known)) == known
