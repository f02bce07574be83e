"""Plans that are known from the literature, and their cost by the formulas of cost-models.md §5 and §6."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log2
from pathlib import Path

import pytest

from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.driver import Options, context_of, read, training_graph
from dlc.ir.graph import Graph
from dlc.ir.plan import OpPlan
from dlc.ir.request import Rule, Split
from passes.context import Context
from passes.planning.finish import finish
from passes.planning.plan import Planned, plan
from passes.planning.search import SHARDS, Effort
from passes.planning.solve import solve
from passes.planning.space import space
from passes.planning.step import Finished
from passes.planning.strategies import Strategy, strategy
from tests.passes.planning.random_networks import NOWHERE
from tests.passes.sample_networks import Network, context
from tests.published.predict import SPECS, print_table

F32 = 4
PLENTY = 2.0**50
DATA = ("data", "any")

SLOW = """cluster slow {
  device k40 {
    kind = gpu, memory = 12 GB, bandwidth = 288 GB/s, compute.f32 = 4.29 TFLOP/s, launch = 5 us, overlap = 0.8
  }
  link wire { LINK }
  topology { k40[8] over wire }
}
"""
LINKS = {
    "PCI Express 3.0, shared": "shared = yes, bandwidth = 12 GB/s, latency = 10 us",
    "Ethernet": "bandwidth = 10 Gbit/s, latency = 20 us",
}


@dataclass(frozen=True, slots=True)
class Job:
    """A network on a cluster."""

    graph: Graph
    context: Context

    @property
    def weights(self) -> int:
        return sum(value.type.elements for value in self.graph.of_kind("weight"))

    def step(self, chosen: Strategy) -> Finished:
        """The best choice under one strategy, whatever memory it needs."""
        everything = space(self.graph, self.context, [chosen])
        solved = solve(everything, chosen)
        assert solved is not None
        step = finish(everything, solved, PLENTY)
        assert step is not None
        return step


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("specs")
    shutil.copytree(SPECS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("data"))
    return folder


def job(folder: Path, network: str, cluster: str, parameters: Mapping[str, object], text: str = "") -> Job:
    """A network of specs/ on a cluster of specs/clusters/, or on that of `text`."""
    path = folder / f"{network}_on_{cluster}.dlspec"
    machine = text or f'import "clusters/{cluster}.dlspec"\n'
    path.write_text(
        f'dlspec 1\nimport "{network}.dlspec"\n{machine}plan {network} on {cluster} {{ strategy = auto }}\n'
    )
    options = Options({key: str(value) for key, value in parameters.items()}, cluster=cluster)
    found, around = context_of(read(str(path), options.parameters), options)
    return Job(training_graph(found, around, options), around)


# AlexNet on slow links: one weird trick (A. Krizhevsky, arXiv:1404.5997).


def found_plan(folder: Path, link: str) -> Planned:
    made = job(folder, "alexnet", "slow", {"batch": 128, "groups": 1}, SLOW.replace("LINK", LINKS[link]))
    return plan(made.graph, made.context, made.context.memory.bytes, Effort())


def split_axes(op: OpPlan) -> set[str]:
    return {split.axis for split in op.partition}


@pytest.mark.parametrize("link", LINKS)
def test_alexnet_on_slow_links(specs: Path, link: str) -> None:
    found = found_plan(specs, link)
    ops = {kind: [op for op in found.plan.ops if op.address.endswith(kind)] for kind in (".conv", ".linear")}
    rows = [(op.address, ", ".join(f"{s.axis} over {s.over}" for s in op.partition)) for op in found.plan.ops]
    print_table(f"AlexNet on 8 GPUs, {link}: {found.step.strategy}", ("op", "split"), rows)
    compared = [(each.name, each.step.objective) for each in found.compared if each.step is not None]
    print_table("J in seconds", ("plan", "J"), [("the plan found", found.step.objective), *compared])
    assert len(ops[".conv"]) == 5
    assert len(ops[".linear"]) == 3
    assert all(split_axes(op) == {"batch"} for op in ops[".conv"])
    assert all(split_axes(op) <= {"feature", "reduce"} and op.partition for op in ops[".linear"])
    trick = dict(compared)["one weird trick"]
    assert found.step.objective <= trick < 0.3 * dict(compared)["data parallelism"]


# Terms of J and of memory by hand.


def test_gradients_of_alexnet_through_nvswitch(specs: Path) -> None:
    """2|w|(P - 1)/P values, each added once; 2 lg P messages for a bucket of 25 MiB (cost-models.md §4 and §5)."""
    made = job(specs, "alexnet", "dgx_h100_pod", {"batch": 256, "groups": 1, "nodes": 1})
    assert made.weights == 62_378_344
    step, share = made.step(strategy(data=8, families=DATA)), 7 / 8
    size = made.weights * F32
    by_hand = 2 * size * share / 450e9 + size * share * 3 / 3352e9
    by_hand += size / (25 * 2**20) * 2 * log2(8) * (2e-6 + 4e-6)
    assert step.solved.line.sums.sum() == pytest.approx(by_hand, rel=0.1)
    last = step.solved.line.late.sum()  # nothing is left to hide the bucket of the first layers
    assert 0.0 < step.parts.sums <= last < by_hand


def test_gradients_of_resnet50_on_a_shared_bus(specs: Path) -> None:
    """All that four ranks send goes over one bus: P · 2|w|(P - 1)/P values."""
    made = job(specs, "resnet101", "titanx_pcie", {"batch": 128, "blocks": "[3, 4, 6, 3]"})
    assert made.weights == 25_557_032
    step = made.step(strategy(data=4, families=DATA))
    assert step.solved.line.sums.sum() == pytest.approx(4 * 2 * made.weights * F32 * 3 / 4 / 12e9, rel=0.05)
    work = 3 * 2 * 4.089e9 * 32  # operations of 32 images: three forward passes, but for the first layer
    assert 0.9 * work / 6.144e12 < step.parts.compute < 2 * work / 6.144e12


def gpt(folder: Path, nodes: int = 1, **more: object) -> Job:
    sizes = {"hidden": 2048, "heads": 16, "tokens": 1024, "depth": 8, "batch": 64, "nodes": nodes}
    return job(folder, "gpt_96", "dgx_h100_pod", {**sizes, **more})


@pytest.mark.parametrize("shard", SHARDS)
def test_weights_gradients_and_states_of_adam(specs: Path, shard: str) -> None:
    """A weight, its gradient and two states: 16 bytes, of which ZeRO 1, 2, 3 divide 8, 12, 16 by P (§5, §6)."""
    made = gpt(specs)
    divided = {"none": 0, "optimizer": 8, "gradients": 12, "weights": 16}[shard]
    step = made.step(strategy(data=8, families=DATA, shard=shard))
    assert step.solved.line.fixed.sum() == pytest.approx(made.weights * (16 - divided + divided / 8), rel=1e-3)


def test_work_of_a_transformer(specs: Path) -> None:
    """96 B s l h² (1 + s/(6h) + V/(16 l h)) operations with the forward pass twice, 3/4 with one (§5), and the memory
    traffic of attention in full precision."""
    made, (b, s, layers, h, v) = gpt(specs), (64, 1024, 8, 2048, 50257)
    work = 96 * b * s * layers * h**2 * (1 + s / (6 * h) + v / (16 * layers * h))
    step = made.step(strategy(data=8, families=DATA))
    assert 1.0 < step.parts.compute / (0.75 * work / 8 / 66.9e12) < 1.6
    again = made.step(strategy(data=8, families=DATA, recompute="all"))
    forward = step.solved.line.forward
    assert again.parts.recomputed <= forward.sum()
    assert again.parts.objective == pytest.approx(step.parts.objective + again.parts.recomputed, rel=1e-9)


def test_the_bubble_of_a_pipeline(specs: Path) -> None:
    """(m + p - 1) t for 1F1B, (m + (p - 1)/v) t for v chunks, t for the slowest stage and a microbatch (§5)."""
    made = gpt(specs, depth=16)
    for schedule, chunks in (("one_f_one_b", 1), ("interleaved", 2)):
        asked = replace(made.context.request, schedule=schedule)
        pipe = strategy(pipeline=4, data=2, families=DATA, microbatches=8, schedule=schedule, chunks=chunks)
        step = Job(made.graph, made.context.with_(request=asked)).step(pipe)
        costs = step.solved.line
        slot = float((costs.forward + costs.backward + costs.weights).sum()) / 4
        makespan = step.parts.objective - step.parts.sums - step.parts.update
        assert makespan == pytest.approx((8 + 3 / chunks) * slot, rel=0.05)


def test_activations_in_flight(specs: Path) -> None:
    """1F1B holds up to p - s microbatches on stage s (§5): the first stage has all p of its quarter of the ops."""
    made = gpt(specs, depth=16)
    asked = replace(made.context.request, schedule="one_f_one_b")
    pipe = strategy(pipeline=4, data=2, families=DATA, microbatches=8, schedule="one_f_one_b")
    step = Job(made.graph, made.context.with_(request=asked)).step(pipe)
    costs, end = step.solved.line, step.bounds[1]
    held = 4 * costs.saved[:end].sum() + costs.fixed[:end].sum()
    assert held <= step.peaks[0] <= held + costs.transient[:end].max() + 1


# Megatron's pair: a column split, then a row split, one allreduce forward and one backward (arXiv:1909.08053).


def decoders(count: int, machine: Cluster) -> Job:
    """Perceptrons of a decoder, in which the batch and the sequence are not to be split."""
    net = Network(8)
    x = net("linear", net("flatten", net.image(4, 16)), features=1024)
    for _ in range(count):
        inner = net("gelu", net("linear", x, features=4096))
        x = net("add", x, net("linear", inner, features=1024))
    graph = net.trained(x, classes=16)
    around = context(8, machine)
    every = tuple(node.address for node in graph.nodes if node.stage in ("forward", "loss"))
    forbids = (Rule("partition", (Split("batch", "model"),), every, "**", NOWHERE, NOWHERE),)
    return Job(graph, replace(around, request=replace(around.request, forbids=forbids)))


def test_a_pair_of_linear_layers_needs_one_allreduce_each_way() -> None:
    fast = Device("gpu", "gpu", 2**36, 3e12, (("f32", 60e12),), 4e-6)
    group = Group("gpu", 8, "wire", device="gpu")
    machine = Cluster("eight", (fast,), (Link("wire", 50e9, 2e-6, shape="switch"),), (group,))
    few, many = (decoders(count, machine).step(strategy(model=8)) for count in (2, 6))
    pair = (many.parts.moves - few.parts.moves) / 4
    size = 8 * 1024 * F32
    allreduce = min(2 * log2(8) * 6e-6 + 2 * size * 7 / 8 / 50e9, log2(8) * (6e-6 + size / 50e9))
    assert pair == pytest.approx(2 * allreduce, rel=0.15)
