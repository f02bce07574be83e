"""How long the static check takes to prove the Programs of the networks in specs/, at full size on four ranks.

    python -m benchmarks.proof [--only resnet1001,gpt2] [--plans data,pipeline] [--microbatches 16] [--record]

Each network is planned under each strategy for one machine with four cores that hold whatever it needs; the Program
that is proved is the one that would be emitted, casts of mixed precision included. Seconds are those of the processor,
the best of three, against a bound of one second. `instructions` counts those of all roles and segments, `rows` those
of all schedules. A strategy that the planner refuses for a network is left out, with its reason. `--record` writes
benchmarks/records/proof.json, with all figures so far where Ctrl-C stops it: to plan the largest takes minutes. What
else is in the record stays there.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import recording
from dlc.diagnostics import DiagnosticError
from dlc.driver import Compiled, Options, emitted_program, plan_spec, read
from dlc.proof import check

SPECS = Path(__file__).resolve().parents[1] / "specs"
BOUND = 1.0
RANKS = 4
PLANS = {
    "data": "strategy = data",
    "model": "strategy = model",
    "pipeline": "strategy = pipeline",
    "data and model": "strategy = hybrid(data = 2, model = 2)",
    "data in a pipeline": "strategy = hybrid(pipeline = 2, data = 2)",
}
"""What each plan block says."""

MACHINE = """
cluster machine {
  device core { kind = cpu
    memory = 64 TB
    bandwidth = 10 GB/s
    compute.f32 = 50 GFLOP/s
    compute.f64 = 25 GFLOP/s }
  link shm { bandwidth = 8 GB/s, latency = 1 us }
  topology { core[4] over shm }
}
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One proof: processor seconds; `problems` is 0 unless the check rejects the Program."""

    network: str
    plan: str
    mesh: str
    microbatches: int
    instructions: int
    rows: int
    seconds: float
    problems: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A strategy that a network cannot be planned under, and why."""

    network: str
    plan: str
    reason: str


def main() -> None:
    options = _arguments()
    found, refused = list[Row](), list[Refused]()
    print(f"{'':22} {'plan':20} {'mesh':28} {'microbatches':>12} {'instructions':>12} {'rows':>6} {'seconds':>8}")
    try:
        for made in measured(options.only, options.plans, options.microbatches, options.repeats):
            print(line(made), flush=True)
            if isinstance(made, Row):
                found.append(made)
            else:
                refused.append(made)
    except KeyboardInterrupt:
        print("stopped: these are all figures so far")
    worst = max(found, key=lambda row: row.seconds)
    print(f"{len(found)} proofs, slowest {worst.seconds:.2f} s ({worst.network}, {worst.plan}), bound {BOUND:g} s")
    if options.record:
        rows, reasons = _with_others("rows", found), _with_others("refused", refused)
        recording.write("proof", "processor seconds", bound=BOUND, rows=rows, refused=reasons)
    sys.exit(any(row.seconds > BOUND or row.problems for row in found))


def _with_others(key: str, found: Sequence[Row | Refused]) -> list[dict[str, object]]:
    """The figures for the record, behind those in it of networks and plans that were not measured now."""
    path = recording.FOLDER / "proof.json"
    known = json.loads(path.read_text(encoding="utf-8"))[key] if path.exists() else []
    anew = {(made.network, made.plan) for made in found}
    return [*(row for row in known if (row["network"], row["plan"]) not in anew), *recording.table(found)]


def line(made: Row | Refused) -> str:
    """A row of the table that is printed."""
    if isinstance(made, Refused):
        return f"{made.network:22} {made.plan:20} refused: {made.reason}"
    fault = f"  {made.problems} faults" if made.problems else ""
    counts = f"{made.microbatches:12} {made.instructions:12} {made.rows:6} {made.seconds:8.3f}"
    return f"{made.network:22} {made.plan:20} {made.mesh:28} {counts}{fault}"


def measured(names: Sequence[str], plans: Sequence[str], microbatches: int, repeats: int) -> Iterator[Row | Refused]:
    """Every network under every plan."""
    with tempfile.TemporaryDirectory(prefix="dlc-proof-") as folder:
        shutil.copytree(SPECS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("data"))
        for name in names:
            for plan in plans:
                try:
                    compiled = planned(Path(folder), name, plan, microbatches)
                except DiagnosticError as error:
                    yield Refused(name, plan, error.diagnostics[0].message)
                    continue
                yield row(name, plan, compiled, repeats)


def row(name: str, plan: str, compiled: Compiled, repeats: int) -> Row:
    """One Program, proved a few times."""
    program, seconds = emitted_program(compiled), list[float]()
    for _ in range(repeats):
        began = time.process_time()
        problems = check(program, compiled.graph)
        seconds.append(time.process_time() - began)
    return Row(
        name,
        plan,
        " x ".join(f"{extent} {axis}" for axis, extent in compiled.plan.mesh) or "one rank",
        compiled.plan.microbatches,
        sum(len(segment.instructions) for role in program.roles for segment in role.segments),
        sum(len(entry.schedule) for role in program.roles for entry in role.entries),
        min(seconds),
        len(problems),
    )


def planned(folder: Path, name: str, plan: str, microbatches: int) -> Compiled:
    """A network of specs/ under a plan on the machine; its own clusters and plans left out."""
    lines = [PLANS[plan]]
    if microbatches and "pipeline" in PLANS[plan]:
        lines.append(f"pipeline.microbatches = {microbatches}")
    text = (SPECS / f"{name}.dlspec").read_text(encoding="utf-8")
    text = re.sub(r"^(plan|cluster) [^{]*\{.*?^\}\n", "", text, flags=re.DOTALL | re.MULTILINE)
    network = re.search(r"^train (\w+)", text, re.MULTILINE)
    assert network is not None
    block = "\n  ".join(lines)
    path = folder / f"proved_{name}.dlspec"
    path.write_text(f"{text}\n{MACHINE}\nplan {network[1]} on machine {{\n  {block}\n}}\n", encoding="utf-8")
    return plan_spec(read(str(path)), Options(ranks=RANKS))


def _arguments() -> argparse.Namespace:
    known = tuple(sorted(path.stem for path in SPECS.glob("*.dlspec")))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", type=_among(known), default=known, help=f"of {', '.join(known)}")
    parser.add_argument("--plans", type=_among(tuple(PLANS)), default=tuple(PLANS), help=f"of {', '.join(PLANS)}")
    parser.add_argument("--microbatches", type=int, default=0, help="of pipelines, in place of the planner's choice")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--record", action="store_true")
    return parser.parse_args()


def _among(known: Sequence[str]) -> object:
    def names(text: str) -> tuple[str, ...]:
        found = tuple(text.split(","))
        unknown = [name for name in found if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: known are {', '.join(known)}")
        return found

    return names


if __name__ == "__main__":
    main()
