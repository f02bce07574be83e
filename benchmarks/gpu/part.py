"""One part of `python -m benchmarks.gpu`, as a process of its own; its last line is what it found, or what is wrong.

python -m benchmarks.gpu.part NAME --seconds 60 [--profile FILE] [--emulate]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from benchmarks.gpu import profile
from benchmarks.gpu.checks import CHECKS, CheckError
from benchmarks.gpu.networks import NETWORKS
from benchmarks.gpu.times import timed
from benchmarks.peers.ways import WayError
from dlc.diagnostics import DiagnosticError
from dlc.driver import SourcedError

PROFILE = "profile"
PARTS = (*CHECKS, PROFILE, *NETWORKS)
"""All names of parts: checks, what predictions go by, networks."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=PARTS)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--profile", type=Path, help="the part `profile` writes it, networks are predicted from it")
    parser.add_argument("--emulate", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what it has started ends with it
    if options.emulate:
        os.environ["DLC_EMULATE"] = "numpy"
    try:
        if options.name in CHECKS:
            found = CHECKS[options.name](options.emulate)
        elif options.name == PROFILE:
            found = profile.measured(options.emulate, options.profile)
        else:
            found = timed(options.name, options.emulate, options.seconds, profile.known(options.profile))
    except (CheckError, WayError) as error:
        found = {"wrong": str(error)}
    except (DiagnosticError, SourcedError) as error:
        found = {"wrong": "; ".join(each.message for each in error.diagnostics)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
