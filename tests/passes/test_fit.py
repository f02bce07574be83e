"""Plans that fit the memory: the best one that does, or what the smallest needs and ways out that are ways out."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from math import ceil

import pytest

from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.cost.memory import bytes_by_kind, peak_bytes
from dlc.diagnostics import Diagnostic, DiagnosticError, Span
from dlc.ir.graph import Graph
from dlc.ir.request import Limit, Rule
from dlc.ops.operator import LAYOUTS
from dlc.units import format_bytes
from passes.choose import choose
from passes.context import Context
from passes.fit import fit
from passes.lower import lower
from tests.passes.sample_networks import Network, context, laptop, lenet

PLACE = Span("net.dlspec", 41, 3, 41, 9)
ROOMY = {"memory": 2**32}


def asked(limit: int, ranks: int = 1, **request: object) -> Context:
    """A device with room for all, and a limit."""
    limits = (Limit("memory", limit, PLACE),)
    return context(ranks, laptop(ranks, **ROOMY), limits=limits, **request)


def peak(graph: Graph, ranks: int = 1, **request: object) -> int:
    return choose(graph, context(ranks, laptop(ranks, **ROOMY), **request)).predicted.peak_bytes


def refusal(graph: Graph, given: Context) -> Diagnostic:
    with pytest.raises(DiagnosticError) as error:
        fit(graph, given)
    (found,) = error.value.diagnostics
    assert found.code == "E0509"
    return found


def small(batch: int) -> Graph:
    """One convolution and a linear layer."""
    net = Network(batch)
    return net.trained(net("tanh", net("conv", net.image(2, 12), filters=4, window=3)))


def smallest(graph: Graph, ranks: int = 1) -> int:
    """Bytes of the smallest plan, as the refusal of a limit of one byte tells them, rounded up."""
    number, unit = refusal(graph, asked(1, ranks)).message.rpartition("needs ")[2].split()
    return ceil(float(number) * 1.005 * {"KiB": 2**10, "MiB": 2**20}[unit])


@pytest.mark.parametrize("ranks", [1, 2])
def test_what_fits_is_the_best_plan(ranks: int) -> None:
    graph = lenet(8)
    needed = peak(graph, ranks)
    assert fit(graph, asked(needed, ranks)) == choose(graph, asked(needed, ranks))
    assert fit(graph, asked(2**40, ranks)).predicted.peak_bytes == needed


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_limit_is_kept_by_smaller_workspaces(ranks: int) -> None:
    graph = lenet(8)
    best = choose(graph, context(ranks, laptop(ranks, **ROOMY)))
    limit = best.predicted.peak_bytes - 1
    plan = fit(graph, asked(limit, ranks))
    assert plan.predicted.peak_bytes <= limit
    assert plan.predicted.objective >= best.predicted.objective
    program = lower(graph, plan, asked(limit, ranks))
    assert peak_bytes(program) == plan.predicted.peak_bytes
    scratch = [bytes_by_kind(lower(graph, made, asked(limit, ranks)))["workspace"] for made in (plan, best)]
    assert scratch[0] <= scratch[1]


def test_the_memory_of_the_smallest_device_counts() -> None:
    """Data parallelism gives every rank the same arrays, so the smallest device has to hold them."""
    graph = lenet(8)
    needed = peak(graph, 2)
    cores = [
        Device(name, memory=memory, bandwidth=1e10, compute=(("f32", 5e10),))
        for name, memory in (("large", 2**32), ("small", needed - 1))
    ]
    groups = tuple(Group(core.name, 1, None, device=core.name) for core in cores)
    both = Cluster("both", tuple(cores), (Link("shm", 1e10, 1e-6),), (Group("node", 1, None, groups),))
    assert fit(graph, context(2, both)).predicted.peak_bytes < needed


def test_the_layout_of_the_plan_is_kept() -> None:
    graph = small(8)
    for layout in ("NCHW", "NHWC", "CHWN"):
        limit = peak(graph, layout=layout) - 1
        try:
            plan = fit(graph, asked(limit, layout=layout))
        except DiagnosticError:
            continue
        assert {op.layout for op in plan.ops if op.layout and "flatten" not in op.address} == {layout}


def test_no_reason_names_a_setting_that_nobody_wrote() -> None:
    graph = lenet(8)
    plan = fit(graph, asked(peak(graph) - 1))
    assert not [op for op in plan.ops if "pinned" in (op.reason.kind, op.layout_reason.kind)]


@pytest.mark.parametrize("ranks", [1, 3])
def test_what_does_not_fit_is_told(ranks: int) -> None:
    graph = small(9)
    least = smallest(graph, ranks)
    assert fit(graph, asked(least, ranks)).predicted.peak_bytes <= least
    found = refusal(graph, asked(ceil(least * 0.98), ranks))
    assert found.message.startswith(f"no plan fits {format_bytes(ceil(least * 0.98))} per device")
    assert found.primary is not None
    assert found.primary.span == PLACE
    kinds = ("weights", "gradients", "optimizer state", "activations", "workspace")
    assert all(kind in found.notes[0] for kind in kinds)


@pytest.mark.parametrize("ranks", [1, 2])
def test_no_plan_that_pins_can_make_is_smaller_than_the_smallest(ranks: int) -> None:
    """Every algorithm in every layout, and every layout of the op behind it."""
    graph = small(8)
    conv, tanh = "n0.conv", "n1.tanh"
    algorithms = ("direct", "im2col", "winograd(2)", "winograd(4)", "fft", "fft_tiled")
    sizes = []
    for algorithm, layout, other in product(algorithms, LAYOUTS, LAYOUTS):
        settings = (("algorithm", algorithm, conv), ("layout", layout, conv), ("layout", other, tanh))
        pins = tuple(Rule(key, value, (address,), address, PLACE, PLACE) for key, value, address in settings)
        sizes.append(peak(graph, ranks, pins=pins, allreduce="mpi"))
    least = fit(graph, asked(min(sizes), ranks)).predicted.peak_bytes
    assert least <= min(sizes)


def proposals(found: Diagnostic, pattern: str) -> list[int]:
    return [int(match[1]) for text in found.helps if (match := re.search(pattern, text))]


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_repairs_that_are_proposed_work(ranks: int) -> None:
    limit = smallest(small(8), ranks)
    graph = small(40)
    found = refusal(graph, asked(limit, ranks))
    (batch,) = proposals(found, r"a batch of (\d+) fits")
    assert fit(small(batch), asked(limit, ranks)).predicted.peak_bytes <= limit
    (more,) = proposals(found, r"`-n (\d+)`")
    assert fit(graph, asked(limit, more)).predicted.peak_bytes <= limit
    (size,) = proposals(found, r"`limit memory <= (\d+) [KM]iB`")
    allowed = size * (2**20 if any("MiB`" in text for text in found.helps) else 2**10)
    assert fit(graph, asked(allowed, ranks)).predicted.peak_bytes <= allowed


def test_what_no_batch_can_repair_is_said() -> None:
    found = refusal(small(4), asked(8_000))
    assert proposals(found, r"a batch of (\d+) fits") == []
    assert found.helps[0].startswith("even one sample a rank does not fit into ")
    with pytest.raises(DiagnosticError):
        fit(small(1), asked(8_000))


def test_a_limit_above_the_memory_is_not_proposed() -> None:
    graph = small(8)
    given = context(1, laptop(1, memory=int(smallest(graph) * 0.9)))
    assert not [text for text in refusal(graph, given).helps if "limit memory" in text]


def test_ranks_that_a_cluster_cannot_have_are_not_proposed() -> None:
    graph = small(40)
    limit = smallest(small(8), 4)
    torus = laptop(4, **ROOMY)
    (link,) = torus.links
    torus = replace(torus, links=(replace(link, shape="torus", dimensions=(2, 2)),))
    given = context(4, torus, limits=(Limit("memory", limit, PLACE),))
    assert proposals(refusal(graph, given), r"`-n (\d+)`") == []


def test_a_network_without_scratch_memory_has_nothing_to_save() -> None:
    net = Network(4)
    graph = net.trained(net("relu", net.image(3, 8)))
    needed = peak(graph)
    assert f"the smallest needs {format_bytes(needed)}" in refusal(graph, asked(needed - 1)).message
