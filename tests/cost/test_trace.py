"""The Chrome trace of a timeline: slices, arrows from sends to receives, counters of memory."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from dlc.cost.timeline import Timeline, simulate
from dlc.cost.trace import MICROSECONDS, TraceEvent, to_trace, trace_lines
from dlc.ir.program import Send
from tests.cost.timelines import drawn_price, passes
from tests.ir.sample_programs import pipeline
from tests.ir.staged_programs import Shape, drawn_shape, staged


def timeline(shape: Shape, seed: int = 1, overlap: float = 0.5) -> Timeline:
    return simulate(staged(shape, meshes=False), "train_step", drawn_price(seed), overlap)


def events(found: Timeline, phase: str) -> list[TraceEvent]:
    return [event for event in to_trace(found)["traceEvents"] if event["ph"] == phase]


def test_the_lines_are_the_trace() -> None:
    found = timeline(Shape(3, 2, 2, 4, (2, 1, 2), 2, 16, 8, "1f1b", blocking=False, sums="last", offloads=True))
    text = "".join(trace_lines(found))
    assert json.loads(text) == to_trace(found)
    assert len(text.splitlines()) == len(to_trace(found)["traceEvents"]) + 2


def test_the_trace_is_what_chrome_reads() -> None:
    found = simulate(pipeline(2, 2, batch=8), "train_step", passes(1.0, 2.0))
    trace = json.loads(json.dumps(to_trace(found)))
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(slices) == sum(len(lane.events) for lane in found.lanes)
    assert max(event["ts"] + event["dur"] for event in slices) == pytest.approx(found.makespan * 1e6)
    assert {"load", "compute", "send", "receive", "collective"} == {event["cat"] for event in slices}
    names = [event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "process_name"]
    assert names == ["stage0, rank 0", "stage1, rank 1"]
    assert all(sum(event["args"].values()) > 0 for event in trace["traceEvents"] if event["ph"] == "C")


def test_an_empty_timeline_is_a_trace() -> None:
    assert json.loads("".join(trace_lines(Timeline("p", "train_step", 0.0, ()))))["traceEvents"] == []


def test_arrows_lead_from_sends_to_their_receives() -> None:
    """Every message has one tail and one head; each lies on the slice of the instruction that it belongs to."""
    for seed in range(30):
        shape = drawn_shape(Random(seed), 16)
        found = timeline(shape, seed)
        tails, heads = ({e["id"]: e for e in events(found, phase)} for phase in "sf")
        assert tails.keys() == heads.keys()
        slices = Counter((e["cat"], e["pid"], e["tid"], e["ts"]) for e in events(found, "X"))
        ends = Counter((e["cat"], e["pid"], e["tid"], e["ts"] + e["dur"]) for e in events(found, "X"))
        assert len(tails) == sum(count for (kind, *_), count in slices.items() if kind == "send")
        assert len(heads) == sum(count for (kind, *_), count in ends.items() if kind == "receive")
        assert all(slices["send", e["pid"], e["tid"], e["ts"]] for e in tails.values())
        owners = {e["args"]["name"]: e["pid"] for e in events(found, "M") if e["name"] == "process_name"}
        assert {e["pid"] for e in (*tails.values(), *heads.values())} <= set(owners.values())


def test_no_arrow_runs_backwards() -> None:
    """Also where the sender computes, and so is done with a message later than the receiver, which waits for it."""
    late = 0
    for seed in range(60):
        found = timeline(drawn_shape(Random(seed), 16), seed, overlap=0.2)
        tails, heads = ({e["id"]: e for e in events(found, phase)} for phase in "sf")
        assert all(tails[name]["ts"] <= heads[name]["ts"] for name in tails)
        ends = {(e["pid"], e["tid"], e["ts"]): e["ts"] + e["dur"] for e in events(found, "X") if e["cat"] == "send"}
        shown = [ends[e["pid"], e["tid"], e["ts"]] for e in tails.values()]
        assert all(end <= heads[name]["ts"] + 1e-3 for name, end in zip(tails, shown, strict=True))
        events_of = (event for lane in found.lanes for event in lane.events if isinstance(event.instruction, Send))
        late += sum(event.end * MICROSECONDS for event in events_of) > sum(shown) + 1e-3
    assert late


def test_an_arrow_joins_the_same_message_and_microbatch() -> None:
    found = simulate(pipeline(3, 3, batch=6), "train_step", drawn_price(3))
    on = {(e["pid"], e["tid"], e["ts"]): e for e in events(found, "X") if e["cat"] == "send"}
    off = {(e["pid"], e["tid"], e["ts"] + e["dur"]): e for e in events(found, "X") if e["cat"] == "receive"}
    heads = {e["id"]: e for e in events(found, "f")}
    for tail in events(found, "s"):
        head = heads[tail["id"]]
        sent, received = on[tail["pid"], tail["tid"], tail["ts"]], off[head["pid"], head["tid"], head["ts"]]
        assert (sent["name"], sent["args"]["microbatch"]) == (received["name"], received["args"]["microbatch"])
        assert tail["ts"] <= head["ts"]
        assert abs(tail["pid"] - head["pid"]) == 1


def test_no_two_slices_of_a_thread_overlap() -> None:
    for seed in range(20):
        by_thread: dict[tuple[int, int], list[tuple[float, float]]] = {}
        for event in events(timeline(drawn_shape(Random(seed), 16), seed), "X"):
            by_thread.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["ts"] + event["dur"]))
        for spans in by_thread.values():
            spans.sort()
            assert all(end <= begin + 1e-3 for (_, end), (begin, _) in pairwise(spans))


def test_the_counter_shows_the_peak() -> None:
    found = timeline(Shape(2, 2, 1, 3, (2, 2), 2, 12, 8))
    for lane in found.lanes:
        counted = [sum(e["args"].values()) for e in events(found, "C") if e["pid"] == lane.index]
        assert lane.peak is not None
        assert max(counted) == lane.peak.total
