"""Predicted beside measured step times and memory of the networks of cpu_vs_pytorch, none of which a profile has seen.

    python -m benchmarks.validate [--only mlp,lenet5] [--profile profile.json] [--seconds 3] [--ops] [--record]

This machine is calibrated first (`dlc calibrate`) unless a profile is given. Then each network is planned by it for one
rank of one thread with kernels in C, and its program run by `dlc validate`, by the processor's time, which other
programs disturb less. `--ops` shows each kind of call. `--record` writes benchmarks/records/validate.json after each
network, so that an interrupt leaves those that there are, and the new profile beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import recording
from benchmarks.peers.networks import NETWORKS, SPECS
from dlc.cli import main as dlc
from dlc.inspect.op_times import OpTime, text
from dlc.inspect.trials import Trial, document, head, line, summary

RECORD = Path(__file__).parent / "records" / "profile.json"


def main() -> None:
    options = _arguments()
    with tempfile.TemporaryDirectory(prefix="dlc-validate-") as folder:
        profile = options.profile or str(RECORD if options.record else Path(folder) / "profile.json")
        if not options.profile:
            dlc(["calibrate", "-o", profile])
        print(f"\n{head()}", flush=True)
        trials = list[Trial]()
        for name in options.only.split(",") if options.only else NETWORKS:
            trials.append(_trial(name, profile, options))
            print(line(trials[-1]), flush=True)
            if trials[-1].ops:
                print(f"\n{text(trials[-1].ops)}\n", flush=True)
            if options.record:
                found: dict[str, Any] = document(trials)
                recording.write("validate", "seconds of a step, bytes that a process grows by; shares", **found)
        print(f"\n{summary(trials)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="NAMES", help=f"some of {', '.join(NETWORKS)}")
    parser.add_argument("--profile", default="", help="one that `dlc calibrate` wrote on this machine")
    parser.add_argument("--seconds", default="3", help="how long each program runs (default: 3)")
    parser.add_argument("--ops", action="store_true", help="show each kind of call")
    parser.add_argument("--record", action="store_true", help="write benchmarks/records/validate.json")
    return parser.parse_args()


def _trial(name: str, profile: str, options: argparse.Namespace) -> Trial:
    """The row of a network."""
    network, said = NETWORKS[name], io.StringIO()
    given = [f"{key}={value}" for key, value in network.given.items()]
    words = ["validate", str(SPECS / f"{network.spec}.dlspec"), *given, "--profile", profile, "--kernels", "c"]
    words += ["--processor-time", "--seconds", options.seconds, "--json", *(["--ops"] * options.ops)]
    with contextlib.redirect_stdout(said):
        dlc(words)
    (row,) = json.loads(said.getvalue())["trials"]
    known = {key: value for key, value in row.items() if key in Trial.__dataclass_fields__}
    ops = tuple(OpTime(**each) for each in known.pop("ops", ()))
    return Trial(**{**known, "spec": network.spec, "network": name}, ops=ops)


if __name__ == "__main__":
    main()
