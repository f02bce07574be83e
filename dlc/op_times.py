"""`dlc validate --ops`: where a step's time goes, call by call, beside what was predicted of each.

The program of one rank runs with a stopwatch around each kernel; each call is matched with the instruction that it
carries out, in order.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator

from backends.numpy_mpi.emission import Emission
from backends.numpy_mpi.timing.steps import LOAD, Step, time_step
from dlc.cost.price import Prices, default_price
from dlc.driver import Compiled, emit_files, emitted_program
from dlc.folders import write_folder
from dlc.inspect.op_times import BESIDES, OpTime
from dlc.ir.program import TRAIN_STEP, Compute, Instruction, Load, Role
from dlc.ir.ranks import schedule
from dlc.ops import operator


class StepError(Exception):
    """A program whose step could not be timed; the text says why."""


def op_times(compiled: Compiled, steps: int, threads: int, timeout: float) -> tuple[OpTime, ...]:
    """The calls of a step of a program of one rank, in order, and last what it does besides; medians of so many steps.

    Errors: StepError where the program fails or is not done within `timeout` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="dlc-validate-") as scratch:
        folder = os.path.join(scratch, compiled.plan.network)
        write_folder(emit_files(compiled), folder)
        try:
            step = time_step(folder, compiled.source.spec.root or os.curdir, steps, threads, timeout=timeout)
        except RuntimeError as error:
            raise StepError(str(error)) from None
        except subprocess.TimeoutExpired:
            raise StepError(f"it did not make {steps} steps in {timeout:.0f} s") from None
    return tuple(matched(compiled, step))


def matched(compiled: Compiled, step: Step) -> Iterator[OpTime]:
    """The calls of a step, each with the instruction that it carries out.

    Functions that carry out none, such as conversions of views, have no address.
    """
    program = emitted_program(compiled)
    emission = Emission(compiled.graph, compiled.plan, program, compiled.context.training)
    (role,) = program.roles
    waiting = [(_function(emission, each), each) for each in _instructions(role)]
    prices = default_price(program, compiled.context.cluster, compiled.context.profile)
    besides = prices.step_work
    for _, each in waiting:
        besides += prices.call_work(each, role, role.largest_shard) if isinstance(each, Compute) else 0.0
    for call in step.calls:
        at = next((at for at, (function, _) in enumerate(waiting) if function == call.name), None)
        if at is None:
            yield OpTime("", call.name, "", "", "c" if call.compiled else "numpy", call.seconds)
        else:
            yield _described(role, waiting.pop(at)[1], "c" if call.compiled else "numpy", call.seconds, prices)
    yield OpTime("", BESIDES, "", "", "", step.besides, besides)


def _function(emission: Emission, instruction: Instruction) -> str:
    return emission.kernel(instruction).function if isinstance(instruction, Compute) else LOAD


def _instructions(role: Role) -> Iterator[Compute | Load]:
    segments = {segment.name: segment for segment in role.segments}
    for row in schedule(role, TRAIN_STEP):
        yield from (made for made in segments[row.segment].instructions if isinstance(made, Compute | Load))


def _described(role: Role, made: Compute | Load, family: str, taken: float, prices: Prices) -> OpTime:
    predicted = prices(made, role, role.largest_shard)
    if isinstance(made, Load):
        return OpTime("", LOAD, "", "", "", taken, predicted)
    predicted -= prices.call_work(made, role, role.largest_shard)  # Python's work is in no call
    op, stage, algorithm = made.kernel
    way = " ".join(filter(None, (algorithm, made.layout)))
    shapes = prices.shapes(made, role)
    moved, macs, source = sum(t.bytes for t in (*shapes.inputs, *shapes.outputs)), 0, ""
    known = operator(op)
    if known is not None and not made.members:
        macs = known.cost(stage, shapes).macs if stage in PRODUCTS else 0
        source = prices.source(made, role)
    return OpTime(made.address, op, stage, way, family, taken, predicted, source, macs, moved)


PRODUCTS = ("forward", "dx", "dw")
"""Passes whose products are counted; anything else is told by the bytes that it moves."""
