"""Profiles: strictly read, and which samples speak for a kernel."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlc.cluster.topology import Device
from dlc.cost.compute import seconds
from dlc.cost.factors import Place, fitted, place
from dlc.cost.profile import COLD_BYTES, LAST_BYTES, LAST_SHARE, Own, Profile, Rates, Sample
from dlc.cost.profile_json import profile_document, read_profile, read_type
from dlc.inspect.decisions import source
from dlc.ir.plan import Figure
from dlc.ir.tensor import TensorType, tensor
from dlc.ops import operator
from dlc.ops.operator import Shapes

CORE = Device("core", bandwidth=1e10, compute=(("f32", 5e10),))
ROW = {"op": "relu", "pass": "forward", "inputs": ["f32[n = 8]"], "outputs": ["f32[n = 8]"], "seconds": 1e-6}


def value(elements: int) -> TensorType:
    return tensor("f32", batch=4, width=elements // 4)


def sample(elements: int, taken: float, kernels: str = "", threads: int = 1, layout: str = "") -> Sample:
    shapes = Shapes((value(elements),), (value(elements),), {})
    return Sample("relu", "forward", "", layout, shapes, taken, 0.1, kernels, threads)


def priced(elements: int, device: Device, profile: Profile | None) -> Figure:
    op = operator("relu")
    assert op is not None
    return seconds(op, "forward", Shapes((value(elements),), (value(elements),), {}), "", "", device, profile)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kernel": []}, "a profile has no `kernel`, it has `schema`, `device`"),
        ({"kernels": [{**ROW, "second": 1}]}, "a kernel has no `second`"),
        ({"kernels": [{**ROW, "seconds": -1.0}]}, "`seconds` is a number above 0, not -1.0"),
        ({"kernels": [{**ROW, "threads": 0}]}, "`threads` is a whole number above 0, not 0"),
        ({"kernels": [{**ROW, "inputs": ["f32 8"]}]}, "`f32 8` is no type"),
        ({"kernels": [{**ROW, "spread": "wide"}]}, "`spread` is a number, not 'wide'"),
        ({"call": True}, "`call` is a number above 0"),
        ({"messages": [{"kind": "allreduce", "ranks": 2, "seconds": []}]}, "has no sizes"),
        ({"rates": [{"threads": 1, "compute": {"f32": "fast"}, "bandwidth": 1e9}]}, "`compute` is a number above 0"),
    ],
)
def test_what_is_not_of_the_form_is_said(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_profile({"schema": 2, "device": "core", **change})


def test_a_row_without_its_time_is_refused() -> None:
    with pytest.raises(KeyError, match="seconds"):
        read_profile({"schema": 2, "device": "core", "kernels": [{n: v for n, v in ROW.items() if n != "seconds"}]})


def test_types_are_read_as_they_are_printed() -> None:
    for type_ in (tensor("f32"), tensor("i32", batch=3), tensor("f64", batch=3, channel=2, height=5, width=7)):
        assert read_type(str(type_)) == type_


def test_a_document_has_what_the_profile_has() -> None:
    made = Profile("core", 1e-6, samples=(sample(64, 1e-5, "c", 2, "NHWC"), sample(128, 2e-5)), spread=0.25)
    assert read_profile(json.loads(json.dumps(profile_document(made)))) == made


def test_samples_of_the_own_family_and_threads_speak_first() -> None:
    numpy, c, two = (
        sample(4096, taken, *which) for taken, which in ((1e-5, ("numpy",)), (2e-5, ("c",)), (3e-5, ("c", 2)))
    )
    profile = Profile("core", samples=(numpy, c, two))
    in_c, both = replace(CORE, kernels="c"), replace(CORE, kernels="c", cores=2)
    assert [profile.alike("relu", "forward", "", "", device) for device in (CORE, in_c, both)] == [[numpy], [c], [two]]
    assert profile.alike("relu", "forward", "", "", replace(both, cores=4)) == [two]
    assert Profile("core", samples=(c,)).alike("relu", "forward", "", "NHWC", CORE) == [c]  # better than none
    assert profile.alike("relu", "forward", "fast", "", CORE) == []
    assert [priced(4096, device, profile).seconds for device in (CORE, in_c, both)] == [1e-5, 2e-5, 3e-5]
    assert priced(4096, both, profile).source == "measured"


def test_samples_in_nhwc_speak_for_blocks_of_channels() -> None:
    rows, columns = sample(8, 1e-6, layout="NHWC"), sample(8, 2e-6, layout="NCHW")
    profile = Profile("core", samples=(columns, rows))
    assert profile.alike("relu", "forward", "", "NCHW8c", CORE) == [rows]
    assert Profile("core", samples=(columns,)).alike("relu", "forward", "", "NCHW8c", CORE) == [columns]


def test_a_factor_is_that_of_the_nearest_samples() -> None:
    """Small kernels took three times what their phases say, large ones once."""
    sizes = (2**12, 2**13, 2**22, 2**23)
    taken = [priced(n, CORE, None).seconds * (3.0 if n < 2**16 else 1.0) for n in sizes]
    profile = Profile("core", samples=tuple(map(sample, sizes, taken)), spread=0.5)
    small, large = (priced(n, CORE, profile).seconds / priced(n, CORE, None).seconds for n in (6000, 6 * 2**20))
    assert small == pytest.approx(3.0, rel=0.01)
    assert large == pytest.approx(1.0, rel=0.01)
    found = priced(6000, CORE, profile)
    assert (found.source, found.spread < 0.1) == ("interpolated", True)


def test_threads_that_were_not_measured_cost_what_the_phases_say_of_them() -> None:
    """One thread was measured at half of its rates; two of them are twice as fast by the rates alone."""
    rates = (Rates(1, (("f32", 5e10),), 1e10), Rates(2, (("f32", 1e11),), 2e10))
    big = 2**24
    one = priced(big, CORE, Profile("core", rates=rates)).seconds
    profile = Profile("core", rates=rates, samples=(sample(big, 2 * one),))
    assert priced(big, CORE, profile).seconds == pytest.approx(2 * one)
    assert priced(big, replace(CORE, cores=2), profile).seconds == pytest.approx(one, rel=0.01)


RATES = (Rates(1, (("f32", 1e11),), 1e10), Rates(2, (("f32", 2e11),), 1.5e10))


def test_ranks_beside_each_other_share_the_rate_of_memory() -> None:
    """Two threads reach 1.5 times the bytes of one: each of two ranks gets three quarters, and so each of four."""
    assert [Profile("core", rates=RATES, beside=n).crowding(1) for n in (1, 2, 4)] == pytest.approx([1, 4 / 3, 4 / 3])
    assert Profile("core", rates=RATES, beside=2).crowding(2) == 1.0  # that no more threads gain was not measured
    assert Profile("core", beside=2).crowding(1) == 1.0


def test_what_was_measured_alone_takes_longer_beside_other_ranks() -> None:
    """A pass over large arrays as much longer as memory is shared, a call on small ones not at all; nothing of it says
    that the kernel itself is another one."""
    known = Profile("core", 0.0, rates=RATES, samples=(sample(2**24, 1e-2), sample(2**23, 5e-3)))
    shared = replace(known, beside=2)
    for size in (2**24, 2**23, 3 * 2**20):
        alone, beside = (priced(size, CORE, profile) for profile in (known, shared))
        assert beside.seconds == pytest.approx(4 / 3 * alone.seconds)
        assert replace(beside, seconds=alone.seconds) == alone
    costly = replace(known, call=1.0, samples=())
    assert priced(64, CORE, replace(costly, beside=2)).seconds == pytest.approx(priced(64, CORE, costly).seconds)


def test_a_single_sample_may_be_off_by_two() -> None:
    known = fitted([place(1e-3, 1e-4, 1e-3)], [1.5])
    assert known.spread == 1.0
    assert known.at(Place(0.0, 0.0, 0.0)) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="no samples"):
        fitted([], [])


def test_sources_say_how_far_figures_may_be_off() -> None:
    assert source(Figure(1.0, "interpolated", "compute", 0.123)) == "interpolated 12 %"
    assert source(Figure(1.0, "measured", "compute", 0.02)) == "measured 2 %"
    assert source(Figure(1.0)) == "analytic"
    assert Figure(1.0, spread=0.25).interval == (0.8, 1.25)


def test_the_recorded_profile_can_be_read() -> None:
    record = Path(__file__).resolve().parents[2] / "benchmarks" / "records" / "profile.json"
    profile = read_profile(json.loads(record.read_text(encoding="utf-8")))
    assert len(profile.samples) > 300
    assert profile.gemm
    assert profile.call is not None
    assert priced(10_000, replace(CORE, kernels="c"), profile).source == "interpolated"


def test_what_steps_go_over_says_how_warm_kernels_and_python_are() -> None:
    x = tensor("f32", batch=2, feature=8)
    warm = Sample("relu", "forward", "", "", Shapes((x,), (x,), {}), 2e-6, cold=8e-6)
    large = replace(warm, op="tanh", seconds=1e-3, cold=0.0)
    own = Own(5e-5, 1e-6, 1e-5, 7e-6, cast=1e-9, decode=2e-5)
    known = Profile("here", samples=(warm, large), own=own)
    assert read_profile(profile_document(known)) == known
    few, half, many = (known.in_steps(share * COLD_BYTES, 0.5, 1000.0) for share in (0.0, 0.5, 9.0))
    assert [each.samples[0].seconds for each in (few, half, many)] == pytest.approx([2e-6, 5e-6, 8e-6])
    assert {each.samples[1].seconds for each in (few, half, many)} == {1e-3}
    assert [each.own and each.own.call for each in (few, half, many)] == pytest.approx([1e-6, 6e-6, 1.1e-5])
    wide = tensor("f32", batch=2**10, feature=2**9)
    middling = Sample("relu", "forward", "", "", Shapes((wide,), (wide,), {}), 1e-4, cold=3e-4)
    assert Profile("here", samples=(middling,)).in_steps(LAST_BYTES / 2).samples[0].seconds == pytest.approx(2e-4)
    in_c = Profile("here", samples=(replace(warm, kernels="c"),)).in_steps(LAST_BYTES / 2)
    assert in_c.samples[0].seconds == pytest.approx(2e-6 + 6e-6 * (LAST_SHARE + (1 - LAST_SHARE) / 2))
    assert half.own is not None
    assert half.own.load == pytest.approx(7e-6 + 1e-5 + 1e-6)
    assert half.in_steps(9.0 * COLD_BYTES, 1.0, 1000.0) == half, "it is that of the network by now"
