"""Algorithms and layouts as planned within a memory, where nothing else can make a plan smaller."""

from __future__ import annotations

from itertools import product

import pytest

from dlc.cluster.topology import Cluster, Device, Group, Link
from dlc.diagnostics import Diagnostic, DiagnosticError
from dlc.ir.graph import Graph
from dlc.ir.request import Limit, Rule
from dlc.ir.training import Choice
from dlc.ops.operator import LAYOUTS
from dlc.units import format_bytes
from passes.context import Context
from tests.passes.planning.planned import PLACE, ROOMY, planned
from tests.passes.sample_networks import Network, context, laptop, lenet


def asked(limit: int, ranks: int = 1, **request: object) -> Context:
    """A device with room for all, and a limit; nothing but options of ops can make a plan smaller."""
    limits = (Limit("memory", limit, PLACE),)
    return context(ranks, laptop(ranks, **ROOMY), **{"limits": limits, **ALONE, **request})


ALONE = {
    "strategy": Choice("data"),
    "recompute": "none",
    "microbatches": 1,
    "shard": "none",
    "spans": (("shard", PLACE), ("recompute", PLACE), ("pipeline.microbatches", PLACE)),
}


def free(ranks: int = 1, **request: object) -> Context:
    return asked(2**31, ranks, limits=(), **request)


def small(batch: int) -> Graph:
    """One convolution and a linear layer."""
    net = Network(batch)
    return net.trained(net("tanh", net("conv", net.image(2, 12), filters=4, window=3)))


def refusal(graph: Graph, given: Context) -> Diagnostic:
    with pytest.raises(DiagnosticError) as error:
        planned(graph, given)
    (found,) = error.value.diagnostics
    assert found.code == "E0509"
    return found


@pytest.mark.parametrize("ranks", [1, 2])
def test_what_fits_is_the_best_plan(ranks: int) -> None:
    graph = lenet(8)
    best = planned(graph, free(ranks))
    needed = best.predicted.peak_bytes
    for limit in (needed, 2**40):
        made = planned(graph, asked(limit, ranks))
        assert (made.ops, made.predicted) == (best.ops, best.predicted)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_limit_is_kept_by_options_of_fewer_bytes(ranks: int) -> None:
    graph = lenet(8)
    best = planned(graph, free(ranks))
    limit = best.predicted.peak_bytes - 1
    made = planned(graph, asked(limit, ranks))
    assert made.predicted.peak_bytes <= limit
    assert made.predicted.objective >= best.predicted.objective


def test_the_memory_of_the_smallest_device_counts() -> None:
    """Data parallelism gives every rank the same arrays, so the smallest device has to hold them."""
    graph = lenet(8)
    needed = planned(graph, free(2)).predicted.peak_bytes
    cores = [
        Device(name, memory=memory, bandwidth=1e10, compute=(("f32", 5e10),))
        for name, memory in (("large", 2**32), ("small", needed - 1))
    ]
    groups = tuple(Group(core.name, 1, None, device=core.name) for core in cores)
    shm = Link("shm", 1e10, 1e-6)
    both = Cluster("both", tuple(cores), (shm,), (Group("node", 1, "shm", groups),))
    assert planned(graph, context(2, both, **ALONE)).predicted.peak_bytes < needed


def test_the_layout_of_the_plan_is_kept_where_memory_is_short() -> None:
    graph, fitted = small(8), 0
    for layout in LAYOUTS:
        limit = planned(graph, free(layout=layout)).predicted.peak_bytes - 1
        try:
            made = planned(graph, asked(limit, layout=layout))
        except DiagnosticError:
            continue
        fitted += 1
        assert {op.layout for op in made.ops if op.layout and "flatten" not in op.address} == {layout}
    assert fitted


def test_no_reason_names_a_setting_that_nobody_wrote() -> None:
    graph = lenet(8)
    made = planned(graph, asked(planned(graph, free()).predicted.peak_bytes - 1))
    assert not [op for op in made.ops if "pinned" in (op.reason.kind, op.layout_reason.kind)]


@pytest.mark.parametrize("ranks", [1, 2])
def test_no_plan_that_pins_can_make_is_smaller_than_the_smallest(ranks: int) -> None:
    """Every algorithm in every layout, and every layout of the op behind it."""
    graph = small(8)
    conv, tanh = "n0.conv", "n1.tanh"
    names = ("direct", "im2col", "winograd(2)", "winograd(4)", "fft", "fft_tiled")
    sizes = []
    for algorithm, layout, other in product(names, LAYOUTS, LAYOUTS):
        settings = (("algorithm", algorithm, conv), ("layout", layout, conv), ("layout", other, tanh))
        pins = tuple(Rule(key, value, (address,), address, PLACE, PLACE) for key, value, address in settings)
        sizes.append(planned(graph, free(ranks, pins=pins)).predicted.peak_bytes)
    assert planned(graph, asked(min(sizes), ranks)).predicted.peak_bytes <= min(sizes)


@pytest.mark.parametrize("ranks", [1, 3])
def test_what_does_not_fit_is_told(ranks: int) -> None:
    found = refusal(small(9), asked(8_000, ranks))
    assert found.message.startswith(f"no plan fits {format_bytes(8_000)} per device")
    assert found.primary is not None
    assert found.primary.span == PLACE
    assert all(kind in found.notes[0] for kind in ("weights", "gradients", "optimizer state", "activations"))
