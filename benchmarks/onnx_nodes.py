"""ONNX's own node tests, by op: how many dlc claims and passes, and how far it is off.

    python -m benchmarks.onnx_nodes --record

Each test is imported and computed by the kernels that programs are made of (tests/frontends/node_tests.py says how). A
test is claimed where the importer covers every node of its graph: op, version, attributes and types. `--record` writes
records/onnx_nodes.json, with each claimed test and the reason for each other one of covered ops, and the table in
records/onnx_nodes.md. Exit status 1 where a claimed test fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version

from benchmarks import recording
from dlc.frontends.onnx.coverage import TABLE
from tests.frontends.node_tests import Outcome, outcomes

UNITS = ("ulp", "ulp_of_largest")
HEADING = ("op", "versions", "claimed", "passed", "not claimed", "largest error", "of the largest element")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write the record")
    options = parser.parse_args()
    found = list(outcomes())
    claimed = [outcome for outcome in found if outcome.claimed]
    failed = [outcome for outcome in claimed if not outcome.passed]
    text = table(found)
    print(text)
    for outcome in failed:
        print(f"FAILED {outcome.name}: off by {outcome.ulp:.0f} ULP")
    if options.record:
        write(found, text)
    return bool(failed)


def of_op(found: Iterable[Outcome], op: str) -> list[Outcome]:
    """Its own tests, and those of function bodies that have a node of it."""
    return [outcome for outcome in found if op in outcome.ops and (outcome.claimed or outcome.ops == (op,))]


def table(found: Sequence[Outcome]) -> str:
    """A row an op, in the order of their names."""
    rows = [HEADING, tuple("---" for _ in HEADING)]
    for op in sorted(TABLE):
        tests = of_op(found, op)
        claimed = [outcome for outcome in tests if outcome.claimed]
        passed = sum(outcome.passed for outcome in claimed)
        worst = [max((getattr(o, unit) for o in claimed), default=0.0) for unit in UNITS]
        versions = ", ".join(map(str, TABLE[op].versions))
        rows.append(
            (f"`{op}`", versions, str(len(claimed)), str(passed), str(len(tests) - len(claimed)), *map(_ulp, worst))
        )
    claimed = [outcome for outcome in found if outcome.claimed]
    total = str(len(claimed)), str(sum(outcome.passed for outcome in claimed))
    rows.append(("all tests", "", *total, "", *(_ulp(max(getattr(o, u) for o in claimed)) for u in UNITS)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _ulp(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


EXPLANATION = """\
# ONNX's node tests

What `python -m benchmarks.onnx_nodes --record` found with onnx {onnx}: {claimed} of its {all} node tests are claimed,
and {passed} pass. A test counts for each op in its graph, so columns do not add up to the last row.

* A test is claimed where the importer covers each node of its graph: op, version, attributes, types. Why a test of a
  covered op is not, stands in [onnx_nodes.json](onnx_nodes.json).
* Errors are in units of the last place: the largest by element, and beside the largest element of the output. The
  first is large where terms cancel: elements near zero of a sum of large terms. The one pool that is far off is
  compared with results that its test writes with four digits. All are within the tests' own tolerances (relative 1e-3,
  absolute 1e-7).
* Where an input can be a weight or a value, a test is run both ways, and the worse one counts.
* Outputs that dlc does not compute, such as the mean of a layer norm, are not compared: {partial} tests have some.

"""


def write(found: Sequence[Outcome], text: str) -> None:
    """Both files of the record."""
    claimed = [outcome for outcome in found if outcome.claimed]
    others = [outcome for outcome in found if not outcome.claimed and set(outcome.ops) <= set(TABLE)]
    recording.write(
        "onnx_nodes",
        "ULP",
        onnx=version("onnx"),
        claimed={o.name: {"ops": list(o.ops), "ulp": o.ulp, "ulp_of_largest": o.ulp_of_largest} for o in claimed},
        not_claimed={o.name: o.reason for o in others},
    )
    explained = EXPLANATION.format(
        onnx=version("onnx"),
        all=f"{len(found):,}",
        claimed=len(claimed),
        passed="all" if all(o.passed for o in claimed) else sum(o.passed for o in claimed),
        partial=sum(o.compared[0] < o.compared[1] for o in claimed),
    )
    path = recording.FOLDER / "onnx_nodes.md"
    path.write_text(f"{explained}{text}\n", encoding="utf-8")
    print(f"wrote benchmarks/records/{path.name}")


if __name__ == "__main__":
    sys.exit(main())
