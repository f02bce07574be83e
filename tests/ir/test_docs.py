"""The examples in docs/ir.md are what dlc makes of LeNet-5 today."""

from __future__ import annotations

import re
from pathlib import Path

from dlc import driver
from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.ir.text import to_text
from passes.lower import lower
from passes.planning.plan import plan
from passes.planning.search import Effort

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "ir.md"
SPEC = ROOT / "specs" / "lenet5.dlspec"
WIDTH = 118

KEPT = {
    "graph": (
        r"graph ", r"(stage|inputs|fields|outputs|loss|batch) ", r"value (image|c1\.conv\.weight|c1\.conv|c1\.tanh):",
        r"value c1\.conv\.weight@grad:", r"node (c1\.conv|c1\.tanh|c1\.conv@dw|c1\.conv\.weight@update):",
    ),
    "plan": (r"plan ", r"(ranks|batch|mesh|shards) ", r"op (c1\.conv|c1\.tanh):"),
    "program": (
        r"program ", r"(batch|dtype|loss|ranks|shards) ", r"group ", r"role ",
        r"buffer (transient|c1\.conv\.weight|bucket0|c1\.conv\.weight@grad|c1\.conv|c1\.conv\.columns):",
        r"segment (backward|update) ", r"compute c1\.(conv@dw|conv\.weight@update):", r"collective bucket",
        r"entry train_step", r"run (load|forward|backward|update)$",
    ),
}  # fmt: skip
"""The lines of each text that the document shows; what else a block holds is an ellipsis."""

VOLATILE = (
    (r"figure\([^)]*\)", "figure(…)"),  # seconds change whenever a cost model does
    (r'[^" ]*specs/lenet5', "specs/lenet5"),
)


def texts() -> dict[str, str]:
    """The three structures for two ranks of a machine that is the same everywhere."""
    core = Device("core", memory=2**30, bandwidth=1e10, compute=(("f32", 1e11),))
    memory = Link("memory", bandwidth=1e10, latency=1e-6)
    cluster = Cluster("laptop", (core,), (memory,), (Group("core", 2, "memory", device="core"),))
    source = driver.read(str(SPEC))
    options = driver.Options(ranks=2)
    job, context = driver.context_of(source, options)
    context = context.with_(cluster=cluster, ranks=2)
    graph = driver.training_graph(job, context, options)
    made = plan(graph, context, 2**30, Effort()).plan
    return {"graph": to_text(graph), "plan": to_text(made), "program": to_text(lower(graph, made, context))}


def shortened(text: str, kept: tuple[str, ...]) -> str:
    """The lines that match a pattern, inside blocks that do, and an ellipsis for each run of others."""
    lines: list[str] = []
    blocks: list[bool] = []
    for line in text.splitlines():
        margin = " " * (len(line) - len(line.lstrip()))
        closes = line.strip() == "}"
        inside = all(blocks)
        shown = blocks.pop() if closes else inside and any(re.match(margin + pattern, line) for pattern in kept)
        if line.endswith("{"):
            blocks.append(shown)
        if shown:
            lines.append(cut(line))
        elif inside and lines[-1] != f"{margin}…":
            lines.append(f"{margin}…")
    return "\n".join(lines)


def cut(line: str) -> str:
    """The line without what changes often, no wider than the page."""
    for pattern, short in VOLATILE:
        line = re.sub(pattern, short, line)
    return line if len(line) <= WIDTH else line[: WIDTH - 2].rstrip() + " …"


def with_examples(document: str) -> str:
    """The document with its examples made anew."""
    for name, text in texts().items():
        block = f"<!-- example: {name} -->\n```\n{shortened(text, KEPT[name])}\n```\n"
        start, rest = document.split(f"<!-- example: {name} -->\n", maxsplit=1)
        document = start + block + rest.split("```\n", maxsplit=2)[2]
    return document


def test_the_examples_are_true() -> None:
    """`python -m tests.ir.test_docs` makes them anew."""
    document = DOCUMENT.read_text(encoding="utf-8")
    assert document == with_examples(document)


if __name__ == "__main__":
    DOCUMENT.write_text(with_examples(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
