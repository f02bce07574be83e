"""A training step of LeNet-5: the emitted program on one and two ranks, PyTorch eager, and what the plan predicts.

    python -m benchmarks.lenet_step [--repeats 7] [--steps 200] [--record]

Each is a process of its own with one thread a rank; they take turns, so that what else the machine does hits all of
them. Prints the median step of each run's median, and the ratio to PyTorch's. Without PyTorch its row is left out.
`--record` writes benchmarks/records/lenet_step.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks import recording
from dlc.driver import Options, compile_spec, emit_files, read
from dlc.folders import write_folder
from dlc.launch import command_line

SPEC = Path(__file__).resolve().parent.parent / "specs" / "lenet5.dlspec"
RANKS = (1, 2)

TORCH = """
import sys, time, torch
from statistics import median
torch.set_num_threads(1)
torch.manual_seed(0)
net = torch.nn.Sequential(
    torch.nn.Conv2d(1, 6, 5), torch.nn.Tanh(), torch.nn.AvgPool2d(2),
    torch.nn.Conv2d(6, 16, 5), torch.nn.Tanh(), torch.nn.AvgPool2d(2),
    torch.nn.Conv2d(16, 120, 5), torch.nn.Tanh(), torch.nn.Flatten(),
    torch.nn.Linear(120, 84), torch.nn.Tanh(), torch.nn.Linear(84, 10))
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
loss = torch.nn.CrossEntropyLoss()
images, labels, times = torch.rand(1437, 1, 32, 32), torch.randint(10, (1437,)), []
for step in range(int(sys.argv[1])):
    begin = time.perf_counter()
    batch = torch.randint(1437, (32,))
    optimizer.zero_grad()
    loss(net(images[batch]), labels[batch]).backward()
    optimizer.step()
    times.append(time.perf_counter() - begin)
print(median(times))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dlc-lenet-") as folder:
        predicted = {f"dlc, {ranks} rank{'s' * (ranks > 1)}": _compile(folder, ranks) for ranks in RANKS}
        times: dict[str, list[float]] = {name: [] for name in predicted}
        if importlib.util.find_spec("torch") is not None:
            times["PyTorch eager, 1 thread"] = []
        for _ in range(options.repeats):
            for ranks, name in zip(RANKS, predicted, strict=True):
                times[name].append(_dlc(folder, ranks, options.steps))
            if len(times) > len(predicted):
                times["PyTorch eager, 1 thread"].append(_torch(options.steps))
    medians = {name: median(runs) for name, runs in times.items()}
    peer = medians.get("PyTorch eager, 1 thread")
    print(f"{'':26} {'step, median':>12} {'least':>9} {'predicted':>10} {'to PyTorch':>10}")
    for name, runs in times.items():
        guess = f"{predicted[name] * 1e3:8.2f}ms" if name in predicted else ""
        ratio = f"{medians[name] / peer:10.2f}" if peer else ""
        print(f"{name:26} {medians[name] * 1e3:10.2f}ms {min(runs) * 1e3:7.2f}ms {guess:>10} {ratio}")
    if options.record:
        recording.write("lenet_step", "seconds", steps=options.steps, medians=medians, runs=times, predicted=predicted)


def _compile(folder: str, ranks: int) -> float:
    """Write the program for some ranks; the plan's prediction of its step."""
    compiled = compile_spec(read(str(SPEC)), Options(ranks=ranks))
    write_folder(emit_files(compiled), os.path.join(folder, str(ranks)))
    return compiled.plan.predicted.step_seconds


def _dlc(folder: str, ranks: int, steps: int) -> float:
    command, environment = command_line(os.path.join(folder, str(ranks)), ranks, ["--steps", str(steps), "--json"])
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["step_seconds"])


def _torch(steps: int) -> float:
    done = subprocess.run([sys.executable, "-c", TORCH, str(steps)], capture_output=True, text=True, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    main()
