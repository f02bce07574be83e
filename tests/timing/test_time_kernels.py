"""Kernels are timed by the calls that emitted programs make: the same functions, arrays and keywords."""

import os
from pathlib import Path

import pytest

from backends.numpy_mpi.emission import Emission
from backends.numpy_mpi.kernels.native import find_compiler
from backends.numpy_mpi.mesh.settings import Settings, takes
from backends.numpy_mpi.text import literal
from backends.numpy_mpi.timing import Case, NoKernelError, Reading, time_kernels, turns_of
from backends.numpy_mpi.timing.cases import call_of, folder_of
from backends.numpy_mpi.timing.process import Round, Row, at_usual
from backends.numpy_mpi.timing.reference import COPIED_BYTES
from dlc import driver
from dlc.ir.program import Compute
from dlc.ir.storage import local
from dlc.ir.tensor import Axis, TensorType, tensor
from dlc.ops.operator import Shapes

SPECS = Path(__file__).resolve().parents[2] / "specs"
NETWORKS = {"lenet5": {"batch": "8"}, "resnet18": {"batch": "2", "size": "64"}, "lstm": {"batch": "2", "hidden": "16"}}
CONV = {"filters": 32, "window": (3, 3), "stride": (1, 1), "pad": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}


def image(*shape: int) -> TensorType:
    return TensorType("f32", tuple(map(Axis, ("batch", "channel", "height", "width"), shape)))


def convolution(kernels: str, algorithm: str) -> Case:
    weight = tensor("f32", out=32, **{"in": 16}, height=3, width=3)
    shapes = Shapes((image(2, 16, 8, 8), weight), (image(2, 32, 8, 8),), {**CONV, "bias": False})
    return Case("conv", "forward", shapes, algorithm, "NHWC", kernels)


def relu(kernels: str) -> Case:
    return Case(
        "relu", "forward", Shapes((image(2, 16, 8, 8),), (image(2, 16, 8, 8),), {}), layout="NHWC", kernels=kernels
    )


@pytest.mark.parametrize("network", NETWORKS)
def test_a_call_is_that_of_the_emitted_program(network: str) -> None:
    options = driver.Options(kernels="numpy", ranks=1, parameters=NETWORKS[network])
    made = driver.plan_spec(driver.read(str(SPECS / f"{network}.dlspec"), options.parameters), options)
    settings = Settings(Emission(made.graph, made.plan, made.program, made.context.training))
    (role,) = made.program.roles
    seen = 0
    for segment in role.segments:
        for compute in segment.instructions:
            if not isinstance(compute, Compute) or compute.kernel[0] in ("totals", "sums") or compute.members:
                continue  # of a fused call, whose figure is that of its members
            types = [tuple(local(role, role.buffer(n), role.largest_shard, 1) for n in names)
                     for names in (compute.inputs, compute.outputs)]  # fmt: skip
            op, stage, algorithm = compute.kernel
            call = call_of(Case(op, stage, Shapes(*types, dict(compute.attrs)), algorithm, compute.layout))
            told = {name: text for name, text in settings.told(compute).items() if name in call.told}
            assert call.function == settings.emission.kernel(compute).function or op == "sum"
            assert told == {name: literal(call.told[name]) for name in told}
            kernel = settings.emission.kernel(compute)
            assert {name for name in compute.runtime if takes(kernel, name)} <= call.told.keys()
            assert len(call.arrays) >= len(compute.inputs) + len(compute.outputs)
            seen += 1
    assert seen > 20


@pytest.mark.skipif(not find_compiler(), reason="there is no C compiler")
def test_every_case_is_timed_in_its_order() -> None:
    cases = [
        convolution("c", "direct"),
        relu("c"),
        convolution("c", "winograd(4)"),
        convolution("numpy", "im2col"),
        relu("numpy"),
    ]
    found = list(time_kernels(cases, rounds=4, seconds=0.2))
    assert [timing.case for timing in found] == cases
    assert all(0 < timing.seconds < 1 and timing.spread >= 0 and 3 <= timing.rounds <= 4 for timing in found)


def test_kernels_in_c_are_those_of_compiled_py() -> None:
    folder = folder_of([convolution("c", "direct"), convolution("c", "im2col"), relu("c")])
    assert [call.module for call in folder.calls] == ["compiled", "kernels.conv_im2col", "compiled"]
    assert {"kernels.c", "compiled.py", "kernels/dispatch.py"} <= folder.files.keys()
    assert b"direct_forward_3x3_16_to_32_0" in folder.files["kernels.c"]


def test_a_copy_goes_by_copies_and_a_product_by_products() -> None:
    """What a copy of a call's bytes takes at the moment is memory's share; of what caches hold there is none."""
    usual, now = Reading(1e-3, 1e-3, 1e-6), Reading(2e-3, 4e-3, 1e-6)
    assert at_usual(8e-3, 0.0, now, usual) == pytest.approx(4e-3)
    assert at_usual(8e-3, 2 * COPIED_BYTES, now, usual) == pytest.approx(2e-3)
    assert at_usual(8e-3, COPIED_BYTES, now, usual) == pytest.approx(1e-3 + 2e-3)
    assert at_usual(8e-3, COPIED_BYTES, usual, usual) == pytest.approx(8e-3)


def test_readings_stand_beside_the_rounds_of_one_thread() -> None:
    (one,), (two,) = (turns_of([relu("numpy")], threads) for threads in (1, 2))
    for each in (one, two):
        with each:
            each.turn()
            each.turn()
    assert [len(each.readings) for each in one.rounds] == [1, 1]
    assert all(seconds > 0 for each in one.rounds for seconds in each.readings[0])
    assert [each.readings for each in two.rounds] == [(), ()]
    (timing,) = two.timings(Reading(1.0, 1.0, 1.0))
    assert timing.seconds < 1.0  # nothing says how fast it was


def test_a_process_that_ends_says_why() -> None:
    (each,) = turns_of([relu("numpy")])
    with each:
        each._process.kill()
        each._process.wait()  # what is written to it now stays in the pipe's buffer
        with pytest.raises(RuntimeError, match="timing kernels failed"):
            each.turn()


def test_two_threads_are_set_for_the_process() -> None:
    (found,) = time_kernels([relu("numpy")], threads=2, rounds=3)
    assert found.seconds > 0


def test_rounds_in_which_threads_waited_for_cores_do_not_count() -> None:
    (turns,) = turns_of([relu("numpy")], threads=2)
    turns.rounds = [Round((Row(seconds, seconds, -1, waited),), ()) for seconds, waited in
                    ((9.0, 0.4), (1.0, 0.0), (8.0, 0.2), (2.0, 0.01))]  # fmt: skip
    (few,) = turns.timings()
    assert (few.held, few.rounds, turns.settled) == (True, 4, False)
    turns.rounds.append(Round((Row(1.5, 1.5, -1, 0.0),), ()))
    (enough,) = turns.timings()
    assert (enough.held, enough.rounds, enough.seconds, enough.best, turns.settled) == (False, 3, 1.5, 1.0, True)


@pytest.mark.skipif(not find_compiler(), reason="there is no C compiler")
@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the system does not tell who waits")
def test_two_threads_of_one_core_wait_and_more_rounds_are_made() -> None:
    shape = image(4, 32, 64, 64)
    case = Case("relu", "forward", Shapes((shape,), (shape,), {}), layout="NCHW", kernels="c")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # whatever is started now has it
    try:
        (found,) = time_kernels([case], threads=2, rounds=4, seconds=60.0)
    finally:
        os.sched_setaffinity(0, cores)
    assert (found.held, found.rounds) == (True, 3 * 4)


def test_what_has_no_kernel_is_said_before_anything_is_timed() -> None:
    with pytest.raises(NoKernelError, match="there is no kernel for relu sideways"):
        list(time_kernels([relu("numpy"), Case("relu", "sideways", relu("numpy").shapes)]))
