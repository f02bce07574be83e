"""Plans of a small network under plan blocks of all kinds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from dlc.diagnostics import Diagnostic
from dlc.driver import Compiled, Options, SourcedError, plan_spec, read
from dlc.ir.check import check
from dlc.ir.program import Collective, Instruction
from tests.passes.lowering.compared import drawn, largest_error, parallel, serial

ROOT = Path(__file__).parents[3]
LENET = (ROOT / "specs" / "lenet5.dlspec").read_text(encoding="utf-8")
BLOCK = r"{} \w+.*? \{{.*?\n\}}\n"


def machine(cores: int, nodes: int = 1, memory: str = "4 GiB", more: str = "") -> str:
    """A cluster `machine` of one or several nodes; `more` are further settings of its device."""
    group = f"core[{cores}] over shm"
    return f"""cluster machine {{
  device core {{
    memory      = {memory}
    bandwidth   = 10 GB/s
    compute.f32 = 50 GFLOP/s
    {more}
  }}
  link shm {{ bandwidth = 8 GB/s, latency = 1 us }}
  link net {{ bandwidth = 1 GB/s, latency = 10 us }}
  topology {{ {group if nodes == 1 else f"node[{nodes}] over net {{ {group} }}"} }}
}}
"""


def spec(orders: str = "", cluster: str = machine(8), train: str = "", batch: int = 32) -> str:
    """LeNet-5 on a cluster with these lines in its plan block, and these more in its train block."""
    text = re.sub(BLOCK.format("cluster"), cluster, LENET, flags=re.DOTALL)
    text = re.sub(BLOCK.format("plan"), "", text, flags=re.DOTALL).replace("batch = 32", f"batch = {batch}", 1)
    text = text.replace("  seed      = 0\n", f"  seed      = 0\n{train}\n")
    return f"{text}\nplan lenet5 on machine {{\n{orders}\n}}\n"


def deep(orders: str = "", cluster: str = machine(4)) -> str:
    """A chain of sixteen equal layers, whose activations need more memory than its weights."""
    return f"""dlspec 1
network deep {{
  input x: f32[batch = 4096, feature = 64]
  body   = x -> repeat 16 {{ linear(64) -> relu }}
  logits = body -> linear(10)
  output logits
}}
{cluster}
train deep {{
  data      = synthetic
  loss      = cross_entropy(logits, data.label)
  optimizer = sgd
  lr        = constant(0.1)
  epochs    = 1
}}
plan deep on machine {{
{orders}
}}
"""


def planned(folder: Path, text: str, ranks: int | None = None, parameters: Mapping[str, str] | None = None) -> Compiled:
    """The plan of a spec's text, whose program has no faults."""
    path = folder / "net.dlspec"
    path.write_text(text, encoding="utf-8")
    given = parameters or {}
    made = plan_spec(read(str(path), given), Options(ranks=ranks, parameters=given))
    assert check(made.program) == ()
    return made


def refused(folder: Path, text: str, ranks: int | None = None) -> Diagnostic:
    """The one message with which a spec's text is refused."""
    try:
        planned(folder, text, ranks)
    except SourcedError as error:
        (found,) = error.diagnostics
        return found
    raise AssertionError("there is a plan")


def instructions(made: Compiled) -> list[Instruction]:
    """All instructions of a program's roles."""
    return [i for role in made.program.roles for segment in role.segments for i in segment.instructions]


def collectives(made: Compiled, kind: str) -> list[Collective]:
    """The collectives of one kind."""
    return [i for i in instructions(made) if isinstance(i, Collective) and i.kind == kind]


def error(made: Compiled) -> float:
    """How far a step of the plan's program is from the serial one."""
    given = drawn(made.graph)
    alone = serial(made.graph, given, made.context)
    worst, _ = largest_error(made.graph, parallel(made.graph, made.plan, given, made.context), alone)
    return worst
