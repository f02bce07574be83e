"""Measure this machine, in two minutes at most, and write what was found as a profile.

A device of a cluster uses it with `profile = "profile.json"`: then plans, and what they predict, rest on what this
machine takes for kernels, copies, matrix products and messages. Measured are a fixed list of kernels of both families
on drawn shapes, with one thread and with all cores, and messages between processes under mpiexec. Other programs on the
machine disturb that: figures that are too unsteady are left out, and counted. Ctrl-C ends it with what there is.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from dlc.commands.answer import Answer, Status
from dlc.commands.progress import progress
from dlc.folders import require_writable, write_text

if TYPE_CHECKING:
    from dlc.cost.profile import Profile

EXAMPLES = """\
  dlc calibrate                            # writes profile.json
  dlc calibrate -o machines/laptop.json
  dlc calibrate --quick                    # fewer rounds and shapes
  dlc calibrate --only gemm,mpi"""

BUSY = 0.5
"""Processes that are running besides, in the mean of a minute, from which on the answer says so."""


def configure(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("-o", dest="out", metavar="profile.json", default="profile.json", help="the file to write")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, every second shape, half a minute or so")
    parser.add_argument(
        "--only",
        metavar="PART,PART",
        type=_parts,
        help="measure some of calls, step, bandwidth, gemm, c, numpy (the families of kernels), mpi, and keep what the "
        "file has of the others",
    )


def run(arguments: Namespace) -> Answer:
    """The profile, written, and a table of it; status 130 where it was interrupted.

    E0702 where it cannot be written, before anything is measured.
    """
    from dlc.calibration.joined import joined
    from dlc.calibration.measure import PARTS, QUICK, THOROUGH, measure
    from dlc.calibration.report import document, report
    from dlc.cost.profile_json import profile_document

    require_writable(arguments.out)  # before a minute or two go into it
    before, begin = _load(), time.perf_counter()
    found = measure(arguments.only or PARTS, QUICK if arguments.quick else THOROUGH, progress)
    taken, profile = time.perf_counter() - begin, found.profile()
    kept = _before(arguments.out) if arguments.only else None
    write_text(arguments.out, _lines(profile_document(profile if kept is None else joined(kept, profile))))
    closing = [f'wrote {arguments.out} in {taken:.0f} s; a device uses it: `profile = "{arguments.out}"`']
    if before > BUSY:
        closing.append(f"the machine was busy, {before:.1f} processes were running: measure again when it is not")
    if found.interrupted:
        closing.append("it was interrupted: the profile has what was measured by then")
    text = "\n".join([report(profile, found), "", *closing])
    status = Status.INTERRUPTED if found.interrupted else Status.DONE
    return Answer(text, {**document(profile, found), "seconds": taken, "load": before, "wrote": arguments.out}, status)


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


def _parts(text: str) -> tuple[str, ...]:
    from dlc.calibration.measure import PARTS

    names = tuple(filter(None, text.split(",")))
    unknown = [name for name in names if name not in PARTS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"there is no part `{','.join(unknown)}`, there are {', '.join(PARTS)}")
    return names
