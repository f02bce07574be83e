"""How long `dlc plan` takes from start to end, how much memory, and how near to the best its plans are proved to be.

    python -m benchmarks.planner [--only resnet50,gpt2_xl] [--devices 64,512] [--memory 16GiB] [--json] [--record]

Each plan is made by a fresh process, with the modules compiled to bytecode as an installed program has them, for a pod
of DGX H100 servers with that many GPUs. The gap is the plan's own: how far its cost may lie above the best one's, 0
where it is proved to be the best. With `--memory` a plan must keep
each GPU's peak below so many bytes. `--json` ends with one line of JSON; `--record` writes
benchmarks/records/planner.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import recording

SPECS = Path(__file__).resolve().parents[1] / "specs"
CLUSTER = "dgx_h100_pod"
GPUS_A_SERVER = 8
DEVICES = (8, 64, 512, 4096)

IMAGES: tuple[tuple[int, int], ...] = ((64, 32), (512, 16), (4096, 8))
SEQUENCES: tuple[tuple[int, int], ...] = ((8, 8), (64, 4), (512, 2), (4096, 1))
"""(up to so many devices, samples of the batch for each): batches grow more slowly than machines."""

GROUP = {"group": "8"}
"""Samples that batch norm works on: any microbatch of 8 will do."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network of specs/ with the parameters that make it; `samples` as `IMAGES`."""

    spec: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    samples: tuple[tuple[int, int], ...] = IMAGES


NETWORKS: Mapping[str, Network] = {
    "alexnet": Network("alexnet"),
    "vgg16": Network("vgg16"),
    "googlenet": Network("googlenet"),
    "resnet50": Network("resnet101", {"blocks": "[3, 4, 6, 3]", "v1": "no", **GROUP}),  # in float32, without pins
    "resnet152": Network("resnet152", GROUP),
    "densenet121": Network("densenet121", GROUP),
    "resnet1001": Network("resnet1001", GROUP),
    "gpt2_xl": Network("gpt2_xl", samples=SEQUENCES),
    "gpt_96": Network("gpt_96", {"hidden": "2048", "heads": "16", "tokens": "1024"}, SEQUENCES),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One plan: wall-clock seconds and peak bytes of its process; its gap as a share, None where it says nothing.

    `variables` and `options` are those of the search, `parts` its seconds part by part. `failure` is why there is no
    plan.
    """

    network: str
    devices: int
    seconds: float
    gap: float | None
    peak_bytes: int
    step_seconds: float | None = None
    variables: int | None = None
    options: int | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""


HEAD = f"{'':12} {'GPUs':>5} {'seconds':>8} {'peak':>8} {'gap':>8} {'step':>11} {'variables':>9} {'options':>8}  parts"
SHORT = ("network", "devices", "seconds", "gap", "peak_bytes")
"""What a row of `--json` has."""


def main() -> None:
    options = _arguments()
    found = list[Row]()
    print(HEAD)
    with tempfile.TemporaryDirectory(prefix="dlc-planner-") as folder:
        shutil.copytree(SPECS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("data"))
        planned(FIRST, DEVICES[0], written(FIRST, Path(folder), options.memory), options.timeout)
        for row in rows(options, Path(folder)):
            print(line(row), flush=True)
            found.append(row)
    times, peak = [row.seconds for row in found], max(row.peak_bytes for row in found) / 1e9
    print(f"median {median(times):.2f} s, worst {max(times):.2f} s, {peak:.2f} GB")
    if options.record:
        name = "planner_limited" if options.memory else "planner"
        table = [{**asdict(row), "parts": dict(row.parts)} for row in found]
        recording.write(name, "seconds, bytes", memory=options.memory, cluster=CLUSTER, rows=table)
    if options.json:
        print(json.dumps({"rows": [{key: getattr(row, key) for key in SHORT} for row in found]}))
    sys.exit(any(row.failure for row in found))


def rows(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """The plans that the command line asks for."""
    for name in options.only:
        spec = written(name, folder, options.memory)
        for devices in options.devices:
            yield planned(name, devices, spec, options.timeout)


FIRST = "alexnet"
"""Planned before the others, and not counted: its process compiles the modules."""


def written(name: str, folder: Path, memory: str | None) -> Path:
    """The file of `text`."""
    spec = folder / f"planned_{name}.dlspec"
    spec.write_text(text(name, memory), encoding="utf-8")
    return spec


def text(name: str, memory: str | None) -> str:
    """A spec that trains a network of specs/ on the pod, under a limit of memory where one is given."""
    network = NETWORKS[name].spec
    limit = f"  limit memory <= {memory}\n" if memory else ""
    imports = f'import "{network}.dlspec"\nimport "clusters/{CLUSTER}.dlspec"\n'
    return f"dlspec 1\n{imports}plan {network} on {CLUSTER} {{\n  strategy = auto\n{limit}}}\n"


def planned(name: str, devices: int, spec: Path, timeout: float) -> Row:
    """Plan in a fresh process."""
    network = NETWORKS[name]
    samples = next(samples for most, samples in network.samples if devices <= most or most == network.samples[-1][0])
    parameters = {**network.parameters, "batch": str(samples * devices), "nodes": str(devices // GPUS_A_SERVER)}
    words = [word for key, value in parameters.items() for word in ("-P", f"{key}={value}")]
    command = [sys.executable, "-m", "dlc", "plan", str(spec), "--on", CLUSTER, "--json", *words]
    seconds, peak, status, output = measured(command, timeout, spec.parent / "bytecode")
    if status:
        return Row(name, devices, seconds, None, peak, failure=failure(output, status))
    document = json.loads(output)
    search = document.get("search", {})
    return Row(
        name,
        devices,
        seconds,
        document.get("gap", search.get("gap")),
        peak,
        document["predicted"]["step_seconds"],
        search.get("variables"),
        search.get("options"),
        search.get("seconds", {}),
    )


def measured(command: Sequence[str], timeout: float, bytecode: Path) -> tuple[float, int, int, str]:
    """Wall-clock seconds, peak bytes, exit status and output of a process; killed after `timeout` seconds.

    The output is what it printed, and where it failed, what it complained of. `bytecode` is the folder of the modules'.
    """
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(bytecode)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as complaints:
        begin = time.perf_counter()
        process = subprocess.Popen(command, cwd=SPECS.parent, env=environment, stdout=printed, stderr=complaints)
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        complaints.seek(0)
        output = printed.read() + (complaints.read() if process.returncode else "")
    unit = 1 if sys.platform == "darwin" else 1024
    return wall, usage.ru_maxrss * unit, process.returncode, output


def failure(output: str, status: int) -> str:
    """The first message of a process that made no plan."""
    if status < 0:
        return f"killed by signal {-status}"
    found = re.search(r'"(?:message|title|text)": "([^"]+)"', output) or re.search(r"(\w*Error.*|error.*)", output)
    return found.group(1) if found else f"exit status {status}"


def line(row: Row) -> str:
    """A row of the table that is printed."""
    if row.failure:
        return f"{row.network:12} {row.devices:5} {row.seconds:8.2f} {row.peak_bytes / 1e6:6.0f}MB  {row.failure}"
    gap = "-" if row.gap is None else f"{row.gap:.3%}"
    parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in row.parts.items())
    step = f"{(row.step_seconds or 0.0) * 1e3:.2f} ms"
    head = f"{row.network:12} {row.devices:5} {row.seconds:8.2f} {row.peak_bytes / 1e6:6.0f}MB {gap:>8} {step:>11}"
    return f"{head} {row.variables or '-':>9} {row.options or '-':>8}  {parts}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", type=_networks, default=tuple(NETWORKS), help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--devices", type=_counts, default=DEVICES, help="numbers of GPUs, multiples of 8")
    parser.add_argument("--memory", type=_size, help="bytes that a GPU may hold, such as 16GiB")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds after which a process is killed")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--record", action="store_true")
    return parser.parse_args()


def _networks(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in NETWORKS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: known are {', '.join(NETWORKS)}")
    return names


def _counts(text: str) -> tuple[int, ...]:
    counts = tuple(int(part) for part in text.split(","))
    if any(count <= 0 or count % GPUS_A_SERVER for count in counts):
        raise argparse.ArgumentTypeError(f"a server has {GPUS_A_SERVER} GPUs: {text} are not multiples of that")
    return counts


def _size(text: str) -> str:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]i?B)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text} is not a size such as 16GiB")
    return f"{found[1]} {found[2]}"


if __name__ == "__main__":
    main()
