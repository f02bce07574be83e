"""Clusters of unlike devices: how fast each is at this network, shards of the batch and stages in proportion."""

from __future__ import annotations

from itertools import count

from dlc.ir.graph import Graph
from passes.context import Context
from passes.options import Rules
from passes.planning.network import Network, OpKind
from passes.planning.prices import Prices
from passes.planning.strategies import Strategy, strategy


def speeds(net: Network, rules: Rules, context: Context) -> tuple[float, ...]:
    """How fast each rank's device computes a step of the network, the slowest as 1; () where all are alike."""
    devices = context.cluster.device_names[: context.ranks]
    kinds = {name: context.cluster.device(name) for name in dict.fromkeys(devices)}
    if len(kinds) == 1:
        return ()
    sample = strategy(data=context.ranks, families=("data", "any"))
    seconds: dict[str, float] = {}
    for name, device in kinds.items():
        prices = Prices(net, rules, device, context.profile, fused=context.fuses(device.kernels))
        prices.prepare([sample])
        whole = net.graph.batch
        ops = (kind for kind in (net.kinds[index] for index in net.variables) if isinstance(kind, OpKind))
        seconds[name] = sum(prices.cheapest(kind, context.ranks, whole) for kind in ops)
    slowest = max(seconds.values())
    return tuple(slowest / seconds[name] for name in devices)


def proportional(batch: int, relative: tuple[float, ...]) -> tuple[int, ...]:
    """Samples of each rank in proportion to its speed: whole numbers that add up, the largest remainders rounded up.

    Every rank has one sample at least, as far as the batch goes.
    """
    total = sum(relative)
    exact = [batch * speed / total for speed in relative]
    found = [max(1, int(share)) for share in exact]
    order = sorted(range(len(relative)), key=lambda i: (found[i] - exact[i], i))
    for i in order[: max(0, batch - sum(found))]:
        found[i] += 1
    while sum(found) > batch:
        found[max(range(len(found)), key=lambda i: (found[i] / relative[i], -i))] -= 1
    return tuple(found)


def uneven_data_parallelism(graph: Graph, relative: tuple[float, ...]) -> Strategy | None:
    """Data parallelism in which faster ranks have more samples; None where all are alike or a rank would have none.

    All ranks are priced as the slowest device: one with k times its speed does k times the samples in the same time;
    or some more, where those would be whole groups of a batch norm and the shares are not, so that ranks exchange sums.
    """
    if not relative or graph.batch < len(relative):
        return None
    shares = proportional(graph.batch, relative)
    slow = max(-int(-share // speed) for share, speed in zip(shares, relative, strict=True))
    attributes = {node.attr("group") for node in graph.forward if node.op == "bn"}
    cut = [g for g in attributes if isinstance(g, int) and any(share % g for share in shares)]
    slow = next(each for each in count(slow) if all(each % g for g in cut))
    return strategy(data=len(relative), families=("data", "any"), shares=shares, effective=slow * len(relative))
