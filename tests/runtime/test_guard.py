"""One rank that raises, leaves, is killed or is stopped ends the whole job at once, with its rank, step and cause."""

import selectors
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from backends.numpy_mpi.runtime.failures import ProgramError
from backends.numpy_mpi.runtime.guard import describe, first_not_finite, require_finite
from backends.numpy_mpi.runtime.position import Position, Reading
from backends.numpy_mpi.runtime.star import Hub, Limits, Spoke, describe_stall
from backends.numpy_mpi.runtime.thread_world import run_threads
from backends.numpy_mpi.runtime.world import Serial, World
from tests.runtime.conftest import IS_MPICH, Run, start

END_SECONDS = 5.0


def job(fault: str, *options: str, ranks: int = 3, compiled: int = 3, **environment: str) -> Run:
    return start("job.py", ranks, str(compiled), *options, JOB_FAULT=fault, timeout=40, **environment)


@pytest.mark.mpi
def test_without_a_fault() -> None:
    run = job("-1:", "--json", "--steps", "3")
    assert (run.status, run.errors) == (0, "")
    assert run.output == '{"schema": 1, "steps": 3, "loss": 3.0, "metrics": {"ranks": 3.0}, "step_seconds": 0.05}\n'


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("raise", "failed: ArithmeticError: the seventh step is cursed"),
        ("exit", "called sys.exit(0) before the program was done"),
        ("os_exit", "ended with exit status 0 before the program was done"),
        ("kill", "was killed by signal 9 (SIGKILL)"),
        ("segfault", "was killed by signal 11 (SIGSEGV)"),
        ("terminate_supervisor", "was ended by SIGTERM"),
    ],
)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_ends_early(rank: int, how: str, cause: str) -> None:
    run = job(f"{rank}:{how}")
    assert run.status != 0
    assert run.seconds_from_fault < END_SECONDS
    assert f"error: rank {rank} {cause}\n  = note: in step 7, computing" in run.errors
    assert run.errors.count("error: ") == 1
    assert ("Traceback" in run.errors) == (how == "raise")


@pytest.mark.mpi
@pytest.mark.parametrize("rank", [0, 2])
def test_a_killed_supervisor(rank: int) -> None:
    """MPICH's launcher kills all others the moment it sees that; the hub may or may not get to say a word first."""
    run = job(f"{rank}:kill_supervisor")
    assert run.status != 0
    assert run.seconds_from_fault < END_SECONDS
    assert run.errors == "" or f"error: rank {rank} is gone: its processes were killed, or its node" in run.errors


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("stop", "rank 1 was stopped by a signal and has not gone on for 1 s\n  = note: in step 7, computing"),
        ("stop_supervisor", "rank 1 has been silent for 1 s: it was stopped, or its node is out of reach"),
    ],
)
def test_a_stopped_rank(how: str, cause: str) -> None:
    run = job(f"1:{how}", DLC_SILENCE_SECONDS="1")
    assert run.status != 0
    assert run.seconds_from_fault < 1 + END_SECONDS
    assert f"error: {cause}" in run.errors


@pytest.mark.mpi
def test_a_stall_names_the_collective_and_who_is_missing() -> None:
    run = job("1:skip", "--stall-seconds", "1")
    assert run.status != 0
    assert run.seconds_from_fault < 1 + END_SECONDS
    assert (
        "has waited for 1 s: in step 7, waiting in allreduce `gradients`\n  = note: rank 1 is missing: in step 7"
        in run.errors
    )


@pytest.mark.mpi
def test_ranks_in_different_collectives() -> None:
    run = job("1:other", DLC_STALL_SECONDS="1")
    assert run.status != 0
    assert "barrier `another barrier`" in run.errors
    assert "allreduce `gradients`" in run.errors


@pytest.mark.mpi
@pytest.mark.skipif(not IS_MPICH, reason="Open MPI's launcher ends the other ranks by itself then")
def test_a_rank_that_never_starts() -> None:
    run = job("1:early", DLC_START_SECONDS="0.8")
    assert run.status != 0
    assert run.seconds_from_fault < 1 + END_SECONDS
    assert "error: not all ranks had started after 0.8 s" in run.errors


@pytest.mark.mpi
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="siblings are known on Linux only")
def test_a_rank_that_ends_before_its_guard_stands() -> None:
    run = job("1:early")
    assert run.status != 0
    assert run.seconds_from_fault < END_SECONDS
    assert "ImportError: before the ranks know each other" in run.errors
    assert run.errors.count("error: another rank ended before all ranks had started") <= 1


@pytest.mark.mpi
@pytest.mark.parametrize("rank", [0, 1])
def test_a_mistake_found_at_the_start_is_the_one_message(rank: int) -> None:
    run = job(f"{rank}:data", ranks=4, compiled=4)
    assert run.status != 0
    assert run.seconds_from_fault < END_SECONDS
    place = f"  = note: rank {rank}, before the first step, starting"
    assert run.errors == f"error[E0715]: there is no file `digits.npz`\n{place}\n"


@pytest.mark.mpi
def test_what_all_ranks_raise_is_printed_once() -> None:
    run = job("0:all_raise")
    assert run.status != 0
    assert run.errors.count("error: rank") == 1
    assert run.errors.count("Traceback") == 1


@pytest.mark.mpi
def test_a_loss_that_is_not_finite() -> None:
    run = job("1:nan")
    assert run.status != 0
    assert "error[E0718]: the loss is nan in step 7\n  = note: it began on rank 1" in run.errors


@pytest.mark.mpi
@pytest.mark.parametrize(("compiled", "started"), [(32, 4), (1, 2), (2, 1)])
def test_another_number_of_ranks(compiled: int, started: int) -> None:
    run = job("-1:", ranks=started, compiled=compiled)
    assert run.status == 1
    ranks = "1 rank" if compiled == 1 else f"{compiled} ranks"
    assert run.errors.count(f"error[E0703]: this program was compiled for {ranks}, mpiexec started {started}\n") == 1
    assert run.errors.count("error") == 1


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("raise", "failed: ArithmeticError: the seventh step is cursed"),
        ("exit", "called sys.exit(0) before the program was done"),
    ],
)
def test_a_serial_program(how: str, cause: str) -> None:
    run = job(f"0:{how}", ranks=0, compiled=1)
    assert run.status == 1
    assert f"error: rank 0 {cause}\n  = note: in step 7, computing" in run.errors


def test_require_finite_on_one_rank() -> None:
    require_finite(Serial(), 1.0, 3)
    with pytest.raises(ProgramError, match="the loss is inf in step 3"):
        require_finite(Serial(), float("inf"), 3)


def test_require_finite_names_the_ranks_where_it_began() -> None:
    def main(world: World) -> tuple[str, ...]:
        with pytest.raises(ProgramError) as failure:
            require_finite(world, float("nan"), 0, local=float("nan") if world.rank in (1, 2) else 0.5)
        return failure.value.notes

    assert run_threads(main, 4) == [("it began on rank 1, in the loss", "it began on rank 2, in the loss")] * 4


def test_first_not_finite_tells_where_it_began() -> None:
    arrays = SimpleNamespace(image=np.ones(2), label=np.ones(2, np.int32), c1_conv=np.ones(2), c1_tanh=np.ones(2))
    assert first_not_finite(arrays) is None
    arrays.c1_conv[1] = np.inf
    arrays.c1_tanh[:] = np.nan
    assert first_not_finite(arrays) == "c1_conv"


@pytest.mark.parametrize(
    ("failure", "text", "status"),
    [
        (KeyboardInterrupt(), "error: rank 2 was ended by SIGINT\n  = note: in step 4, computing", 130),
        (
            BrokenPipeError(32, "Broken pipe"),
            "error: rank 2 cannot print: what read its output has ended\n  = note: in step 4, computing",
            141,
        ),
        (
            SystemExit(3),
            "error: rank 2 called sys.exit(3) before the program was done\n  = note: in step 4, computing",
            1,
        ),
        (
            ProgramError("no", code="E0715", help="yes"),
            "error[E0715]: no\n  = note: rank 2, in step 4, computing\n  = help: yes",
            1,
        ),
    ],
)
def test_describe(failure: BaseException, text: str, status: int) -> None:
    assert describe(failure, 2, Reading(4, "computing")) == (text, status)


def test_the_hub_names_a_rank_whose_connection_closes(capfd: pytest.CaptureFixture[str]) -> None:
    """As where a node fails: no mpiexec is in between."""
    limits = Limits(start=60, stall=60, silence=60)
    position = Position()
    with selectors.DefaultSelector() as selector:
        hub = Hub(3, True, position, limits, selector)
        spokes = {rank: Spoke(rank, hub.invitation, limits, selector) for rank in (1, 2)}
        position.at(7, "computing")
        spokes[2].tick(Reading(6, "computing"))
        deadline = time.monotonic() + 10
        while hub.verdict is None and time.monotonic() < deadline:
            for key, _ in selector.select(0.05):
                key.data()
            if hub.place_of(2).step == 6 and 2 in spokes:
                spokes.pop(2).close()
            hub.tick(position.read())
        while spokes[1].verdict is None and time.monotonic() < deadline:
            for key, _ in selector.select(0.05):
                key.data()
    assert (hub.verdict, spokes[1].verdict) == (1, 1)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "error: rank 2 is gone: its processes were killed, or its node failed"
    assert lines[1].endswith("s ago, in step 6, computing")
    assert lines[2] == "  = note: rank 0 is in step 7, computing"


def test_strangers_are_turned_away() -> None:
    limits = Limits(start=60, stall=60, silence=60)
    with selectors.DefaultSelector() as selector:
        hub = Hub(2, True, Position(), limits, selector)
        stranger = Spoke(1, {**hub.invitation, "token": "guess"}, limits, selector)
        stranger.report("error: a lie", 1)
        deadline = time.monotonic() + 10
        while not stranger.is_orphaned and time.monotonic() < deadline:
            for key, _ in selector.select(0.05):
                key.data()
        assert stranger.is_orphaned
        assert hub.verdict is None


def test_describe_what_was_given_no_memory() -> None:
    """No traceback, and a way out."""
    with pytest.raises(MemoryError) as raised:
        np.zeros(2**60, np.uint8)
    text, status = describe(raised.value, 1, Reading(4, "computing"))
    first, *notes, last = text.splitlines()
    assert first.startswith("error: rank 1 was given no more memory: Unable to allocate 1.00 EiB")
    assert notes[0] == "  = note: in step 4, computing"
    assert "`--resume`" in notes[1]
    assert last.startswith("  = help: ")
    assert status == 1


def test_describe_stall() -> None:
    waiting = Reading(3, "allreduce `b`", 9.0)
    assert describe_stall({0: waiting, 1: Reading(3, "computing")}, 10.0) == ""
    text = describe_stall({0: waiting, 1: Reading(3, "computing"), 2: Reading(2, "allreduce `b`", 1.0)}, 9.0)
    assert text.splitlines()[:3] == [
        "error: rank 0 has waited for 9 s: in step 3, waiting in allreduce `b`",
        "  = note: rank 1 is missing: in step 3, computing",
        "  = note: rank 2 is missing: in step 2, waiting in allreduce `b`",
    ]
    assert "all ranks are in it" in describe_stall({0: waiting, 1: waiting}, 9.0)
