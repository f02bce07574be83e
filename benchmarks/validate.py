"""Predicted beside measured step times and memory of the networks of cpu_vs_pytorch, none of which a profile has seen.

    python -m benchmarks.validate [--only mlp,lenet5] [--profile profile.json] [--plans 4] [--ops] [--record]

This machine is calibrated first (`dlc calibrate`) unless a profile is given. Then each network is planned by it for one
rank of one thread with kernels in C, in f32 and without what its file asks of plans for other machines, and its program
run by `dlc validate`, by the processor's time, which other programs disturb less. Behind each network stand readings of
the machine's speed over the profile's usual ones: where they are not 1, the machine has changed its speed. `--plans N`
runs the best N - 1 other plans as well: is the planner's own the best, or within 5 % of it? `--ops` shows each kind of
call. `--record` writes benchmarks/records/validate.json after each network, so that an interrupt leaves those that
there are, and the new profile beside it; with `--profile` rows of other networks stay: it can be made in pieces.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import recording
from benchmarks.peers.networks import NETWORKS, SPECS
from dlc.cli import main as dlc
from dlc.inspect.op_times import OpTime, text
from dlc.inspect.speeds import Speed, speed_document, speed_lines
from dlc.inspect.trials import Trial, document, head, line, summary

RECORD, UNIT = (
    "validate",
    "seconds of a step, bytes that a process grows by; shares; readings of the machine's speed over the usual ones",
)

Speeds = dict[str, dict[str, Speed | None]]
"""Of each network how fast the machine was `before` and `behind`."""


def main() -> None:
    options = _arguments()
    with tempfile.TemporaryDirectory(prefix="dlc-validate-") as folder:
        profile = options.profile or str(
            recording.FOLDER / "profile.json" if options.record else Path(folder) / "profile.json"
        )
        if not options.profile:
            dlc(["calibrate", "-o", profile])
        print(f"\n{head()}", flush=True)
        names = options.only.split(",") if options.only else list(NETWORKS)
        trials, speeds = _before(names) if options.record and options.profile else ([], {})
        for name in names:
            rows, speeds[name] = _trials(name, profile, options, Path(folder))
            trials += rows
            for row in rows:
                print(line(row), flush=True)
                if row.ops:
                    print(f"\n{text(row.ops)}\n", flush=True)
            print(*(f"    {each}\n" for each in speed_lines(*speeds[name].values())), sep="", end="", flush=True)
            if options.record:
                found: dict[str, Any] = document(trials)
                told = {name: speed_document(*each.values())["speed"] for name, each in speeds.items()}
                recording.write(RECORD, UNIT, **found, speeds=told)
        print(f"\n{summary(trials)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="NAMES", help=f"some of {', '.join(NETWORKS)}")
    parser.add_argument("--profile", default="", help="one that `dlc calibrate` wrote on this machine")
    parser.add_argument("--seconds", default="3", help="how long each program runs (default: 3)")
    parser.add_argument("--plans", default="1", help="run so many plans of each network (default: 1)")
    parser.add_argument("--ops", action="store_true", help="show each kind of call")
    parser.add_argument("--record", action="store_true", help="write benchmarks/records/validate.json")
    return parser.parse_args()


def _trials(
    name: str, profile: str, options: argparse.Namespace, folder: Path
) -> tuple[list[Trial], dict[str, Speed | None]]:
    """The rows of a network, and how fast the machine was."""
    network, said = NETWORKS[name], io.StringIO()
    given = [f"{key}={value}" for key, value in network.given.items()]
    words = ["validate", str(_spec(network.spec, folder)), *given, "--profile", profile, "--kernels", "c"]
    words += ["--processor-time", "--seconds", options.seconds, "--plans", options.plans, "--json"]
    with contextlib.redirect_stdout(said):
        dlc([*words, *(["--ops"] * options.ops)])
    told = json.loads(said.getvalue())
    return [_row(row, network.spec, name) for row in told["trials"]], _speeds(told["speed"])


def _row(row: dict[str, Any], spec: str, name: str) -> Trial:
    known = {key: value for key, value in row.items() if key in Trial.__dataclass_fields__}
    ops = tuple(OpTime(**each) for each in known.pop("ops", ()))
    return Trial(**{**known, "spec": spec, "network": name}, ops=ops)


def _speeds(told: dict[str, Any]) -> dict[str, Speed | None]:
    return {when: None if each is None else Speed(**each) for when, each in told.items()}


def _spec(name: str, folder: Path) -> Path:
    """The file, or a copy without plan blocks, which are for other machines, and half precision, which processors do
    not have."""
    whole = text = (SPECS / f"{name}.dlspec").read_text(encoding="utf-8")
    text = re.sub(r"^plan .*?^\}\n", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^ *precision *=.*\n", "", text, flags=re.MULTILINE)
    if text == whole:
        return SPECS / f"{name}.dlspec"
    made = folder / f"{name}.dlspec"
    made.write_text(text, encoding="utf-8")
    return made


def _before(names: list[str]) -> tuple[list[Trial], Speeds]:
    """What the record has of other networks."""
    told = recording.before(RECORD)
    rows = [_row(row, row["spec"], row["network"]) for row in told.get("trials", []) if row["network"] not in names]
    kept = {name: _speeds(each) for name, each in told.get("speeds", {}).items() if name not in names}
    return (rows, kept) if kept else ([], {})  # a record of old has rows by another profile


if __name__ == "__main__":
    main()
