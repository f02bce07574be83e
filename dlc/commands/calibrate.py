"""Measure this machine, in two minutes at most, and write what was found as a profile.

A device of a cluster uses it with `profile = "profile.json"`: then plans, and what they predict, rest on what this
machine takes for kernels, copies, matrix products and messages. Measured are a fixed list of kernels of both families
on drawn shapes, with one thread and with all cores, and messages between processes under mpiexec. Other programs on the
machine disturb that: figures that are too unsteady are left out, and counted. Ctrl-C ends it with what there is.

`--gpu` measures the first GPU in place of the processor, by its own events: launches, memory, matrix products in five
element types, kernels, copies to the device and from it, and messages between ranks. With `--emulate` it goes through
all of that at tiny sizes on the processor, and writes nothing.
"""

from __future__ import annotations

import json
import os
import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from dlc.commands.answer import Answer, Status, UsageError
from dlc.commands.progress import progress
from dlc.folders import require_writable, write_text

if TYPE_CHECKING:
    from dlc.cost.profile import Profile

EXAMPLES = """\
  dlc calibrate                            # writes profile.json
  dlc calibrate -o machines/laptop.json
  dlc calibrate --quick                    # fewer rounds and shapes
  dlc calibrate --only gemm,mpi
  dlc calibrate --gpu -o machines/h200.json"""

BUSY = 0.5
"""Processes that are running besides, in the mean of a minute, from which on the answer says so."""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("-o", dest="out", metavar="profile.json", default="profile.json", help="the file to write")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, every second shape, half a minute or so")
    parser.add_argument(
        "--only",
        metavar="PART,PART",
        type=lambda text: tuple(filter(None, text.split(","))),
        help="measure some of calls, step, bandwidth, gemm, c, numpy (the families of kernels), mpi; of a GPU launch, "
        "bandwidth, gemm, kernels, copies, mpi; and keep what the file has of the others",
    )
    parser.add_argument("--gpu", action="store_true", help="measure the first GPU; it needs CuPy (docs/gpu.md)")
    parser.add_argument("--emulate", action="store_true", help="with --gpu: go through it without one, write nothing")


def run(arguments: Namespace) -> Answer:
    """The profile, written, and a table of it; status 130 where it was interrupted.

    E0702 where it cannot be written, before anything is measured; UsageError for parts that there are none of, and
    where there is no GPU.
    """
    if arguments.gpu or arguments.emulate:
        return _of_gpu(arguments)
    from dlc.calibration.joined import joined
    from dlc.calibration.measure import PARTS, QUICK, THOROUGH, measure
    from dlc.calibration.report import document, report
    from dlc.cost.profile_json import profile_document

    parts = _chosen(arguments.only, PARTS, "")
    require_writable(arguments.out)  # before a minute or two go into it
    before, begin = _load(), time.perf_counter()
    kept = _before(arguments.out) if arguments.only else None
    found = measure(parts, QUICK if arguments.quick else THOROUGH, progress, None if kept is None else kept.usual)
    taken, profile = time.perf_counter() - begin, found.profile()
    write_text(arguments.out, _lines(profile_document(profile if kept is None else joined(kept, profile))))
    closing = [f'wrote {arguments.out} in {taken:.0f} s; a device uses it: `profile = "{arguments.out}"`']
    if before > BUSY:
        closing.append(f"the machine was busy, {before:.1f} processes were running: measure again when it is not")
    if found.interrupted:
        closing.append("it was interrupted: the profile has what was measured by then")
    text = "\n".join([report(profile, found), "", *closing])
    status = Status.INTERRUPTED if found.interrupted else Status.DONE
    return Answer(text, {**document(profile, found), "seconds": taken, "load": before, "wrote": arguments.out}, status)


def _of_gpu(arguments: Namespace) -> Answer:
    """The same of the first GPU; emulated nothing is written."""
    from backends.cupy_mpi.timing import GpuError
    from dlc.calibration.gpu import EMULATED_EFFORT, PARTS, QUICK, THOROUGH, measure_gpu
    from dlc.calibration.gpu_report import document, report

    if not arguments.gpu:
        raise UsageError("--emulate goes with --gpu: the processor is measured as it is")
    parts = _chosen(arguments.only, PARTS, " of a GPU")
    if not arguments.emulate:
        require_writable(arguments.out)
    begin = time.perf_counter()
    try:
        found = measure_gpu(parts, EMULATED_EFFORT if arguments.emulate else QUICK if arguments.quick else THOROUGH,
                            progress)  # fmt: skip
    except GpuError as error:
        raise UsageError(f"--gpu: {error}") from None
    taken, profile = time.perf_counter() - begin, found.profile()
    text = _lines(_written(profile, arguments))
    closing = "the processor stood for a GPU: these figures say nothing, and nothing was written"
    if not arguments.emulate:
        write_text(arguments.out, text)
        closing = f'wrote {arguments.out} in {taken:.0f} s; a GPU of a cluster uses it: `profile = "{arguments.out}"`'
    if found.interrupted:
        closing += "\nit was interrupted: the profile has what was measured by then"
    wrote = None if arguments.emulate else arguments.out
    status = Status.INTERRUPTED if found.interrupted else Status.DONE
    return Answer(
        f"{report(profile, found)}\n\n{closing}",
        {**document(profile, found), "seconds": taken, "wrote": wrote},
        status,
    )


def _written(profile: Profile, arguments: Namespace) -> dict[str, object]:
    """The document of a GPU's profile, with what the file has of parts that were not measured now."""
    from dlc.calibration.joined import joined
    from dlc.cost.profile_json import profile_document, read_profile

    if arguments.only and not arguments.emulate:
        try:
            with open(arguments.out, encoding="utf-8") as stream:
                old = read_profile(json.load(stream))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            old = None
        if old is not None and old.fingerprint == profile.fingerprint:
            profile = joined(old, profile)
    return profile_document(profile)


def _lines(document: dict[str, object]) -> str:
    """JSON with a line for each entry: small, and still to be read."""
    parts = []
    for name, value in document.items():
        rows = value if isinstance(value, (list, tuple)) and value else None
        if rows is None:
            parts.append(f"{json.dumps(name)}: {json.dumps(value)}")
            continue
        parts.append(f"{json.dumps(name)}: [\n" + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n ]")
    return "{\n " + ",\n ".join(parts) + "\n}\n"


def _before(path: str) -> Profile | None:
    """The profile that is there, if it is one of this machine."""
    from dlc.cluster.fingerprint import differences
    from dlc.cost.profile_json import read_profile

    try:
        with open(path, encoding="utf-8") as stream:
            found = read_profile(json.load(stream))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if found.fingerprint and not differences(found.fingerprint) else None


def _load() -> float:
    """How many processes were running in the mean of the last minute; 0 where that cannot be asked."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0


def _chosen(names: tuple[str, ...] | None, parts: tuple[str, ...], of: str) -> tuple[str, ...]:
    """The parts that are asked for, all where nothing is said; UsageError for one that there is not."""
    unknown = [name for name in names or () if name not in parts]
    if unknown or names == ():
        raise UsageError(f"--only: there is no part `{','.join(unknown)}`{of}, there are {', '.join(parts)}")
    return names or parts
