"""Lower bounds on a training step of any plan that the search knows: cost-models.md §5, last line.

A plan cuts each node into parts for the ranks, any way that its iteration space allows, and may do some of it several
times (replicated, recomputed, halos). So whatever the plan, over all ranks together a node takes at least

* the multiplications of the legal algorithm that multiplies least: 2 operations a multiply-add for a product, α²/(3m)²
  of that for F(m×m, 3×3), α = m + 2, and 4 for each output pixel and pair of channels for Fourier transforms, however
  large the tiles are (a complex product takes 8 and a real spectrum has half of its points). Additions, transforms and
  arithmetic that is no product are left out: their counts depend on how a node is cut;
* its operands' bytes once.

The busiest rank has at least the mean of that. `communication` is what every plan has to sum over all ranks: nothing
(0 bytes) unless the request fixes data parallelism, since replicated ops exchange nothing. `depth` is the longest chain
of nodes, each with one kernel's launch and its own chain of operations, one after the other on the fastest device.

Rates are the peaks of the cluster's devices, so a profile with higher rates than these may come below the bounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from dlc.cluster.topology import Cluster, Device
from dlc.cost.communication import allreduce_bound
from dlc.cost.compute import element_type, overhead
from dlc.cost.profile import Profile
from dlc.cost.rates import ordinary_peak
from dlc.ir.graph import Attrs, Graph, Node
from dlc.ir.plan import Bounds
from dlc.ir.tensor import TensorType
from dlc.ops import operator
from dlc.ops.conv_algorithms import conv_shape
from dlc.ops.operator import Algorithm, Operator, Shapes


@dataclass(frozen=True, slots=True)
class Least:
    """What every way to compute a node takes: one of `flops` (tensor cores can do it, how many), and `bytes`.

    `depth` operations follow each other in `kernels` 0 or 1.
    """

    dtype: str
    flops: tuple[tuple[bool, float], ...]
    bytes: int
    depth: int
    kernels: int

    def seconds(self, device: Device) -> float:
        """Of its multiplications, all on one device."""
        peaks = {True: device.peak(self.dtype), False: ordinary_peak(self.dtype, device)}
        return min((flops / peaks[tensor_cores] for tensor_cores, flops in self.flops), default=0.0)


def bounds(
    graph: Graph, cluster: Cluster, ranks: int, dtype: str, reduced_bytes: int, profile: Profile | None = None
) -> Bounds:
    """Bounds in seconds for a training graph on the first `ranks` ranks of a cluster.

    `reduced_bytes` are those that every plan has to sum over all ranks.
    """
    names = Counter(cluster.device_names[:ranks])
    devices = {cluster.device(name): count for name, count in names.items()}
    kinds, numbers = _kinds(graph)
    counts = Counter(numbers)
    slowest, everyone = min(devices, key=lambda device: device.bandwidth), tuple(range(ranks))
    traffic = sum(kinds[kind].bytes * count for kind, count in counts.items())
    launch = min(overhead(device, profile) for device in devices)
    peak = max(device.peak(dtype) for device in devices)
    chains = [least.kernels * launch + least.depth / peak for least in kinds]
    return Bounds(
        work=_work([(kinds[kind], count) for kind, count in counts.items()], devices),
        memory_traffic=traffic / sum(device.bandwidth * count for device, count in devices.items()),
        communication=allreduce_bound(reduced_bytes, everyone, cluster, slowest) if reduced_bytes else 0.0,
        depth=_longest(graph, [chains[kind] for kind in numbers]),
    )


def _work(counted: list[tuple[Least, int]], devices: Mapping[Device, int]) -> float:
    """A bound on the busiest device's time, by duality of the linear program that spreads nodes over devices.

    With t the time of a node on a device and any weights λ of the devices, Σ_nodes min_devices λ·t / Σ_devices λ is
    one; weights by speed, 1 / Σ_nodes t, make it the mean where devices are equal.
    """
    times = {device: [least.seconds(device) * count for least, count in counted] for device in devices}
    if not all(map(sum, times.values())):
        return 0.0
    weights = {device: 1.0 / sum(spent) for device, spent in times.items()}
    weighted = ([weights[device] * seconds for seconds in spent] for device, spent in times.items())
    least: float = sum(min(each) for each in zip(*weighted, strict=True))
    return least / sum(weights[device] * count for device, count in devices.items())


def _longest(graph: Graph, seconds: list[float]) -> float:
    """The longest path through the graph, each node with its seconds."""
    at: dict[str, float] = {}
    for node, spent in zip(graph.nodes, seconds, strict=True):
        begin = max([at.get(name, 0.0) for name in node.inputs], default=0.0)
        for name in node.outputs:
            at[name] = begin + spent
    return max(at.values(), default=0.0)


def _kinds(graph: Graph) -> tuple[list[Least], list[int]]:
    """What each kind of nodes takes, and the kind of each node: nodes of one op, pass, attributes and types."""
    numbers = _Numbers()
    types = {value.name: numbers.of(value.type) for value in graph.values}
    found: dict[tuple[object, ...], int] = {}
    kinds, each = list[Least](), list[int]()
    for node in graph.nodes:
        around = [types[name] for name in node.inputs], [types[name] for name in node.outputs]
        key = (node.op, node.stage, numbers.of(node.attrs), *around[0], -1, *around[1])
        if key not in found:
            found[key] = len(kinds)
            kinds.append(_least(graph, node))
        each.append(found[key])
    return kinds, each


class _Numbers:
    """Equal types, and equal attributes, have equal numbers; each object is compared with others once."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._equal: dict[TensorType | Attrs, int] = {}

    def of(self, thing: TensorType | Attrs) -> int:
        """Its number. The objects have to live as long as this does."""
        number = self._seen.get(id(thing))
        if number is None:
            number = self._seen[id(thing)] = self._equal.setdefault(thing, len(self._equal))
        return number


def _least(graph: Graph, node: Node) -> Least:
    op = _operator(node)
    inputs, outputs = (tuple(map(graph.type, names)) for names in (node.inputs, node.outputs))
    shapes = Shapes(inputs, outputs, dict(node.attrs))
    cost = op.cost(node.stage, shapes)
    legal = [found for found in op.algorithms if found.excluded(node.stage, shapes) is None]
    flops = tuple(dict.fromkeys(_multiplications(legal, node.stage, shapes, 2.0 * cost.macs))) if cost.macs else ()
    return Least(element_type(shapes), flops, cost.bytes, cost.depth, int(not op.view))


def _multiplications(legal: list[Algorithm], stage: str, shapes: Shapes, direct: float) -> Iterator[tuple[bool, float]]:
    """By each legal algorithm: whether tensor cores can do it, and how many operations."""
    for name in [algorithm.name for algorithm in legal] or [""]:
        if name.startswith("winograd"):
            m = 4 if "4" in name else 2
            yield False, direct * ((m + 2) / (3 * m)) ** 2
        elif name.startswith("fft"):
            conv = conv_shape(stage, shapes)
            pixels = conv.batch * prod(conv.x if stage == "dx" else conv.y)
            yield False, 4.0 * pixels * conv.channels * conv.filters / conv.groups
        else:
            yield True, direct


def _operator(node: Node) -> Operator:
    found = operator(node.op)
    if found is None:
        raise ValueError(f"{node.address} has the unknown operator {node.op}")
    return found
