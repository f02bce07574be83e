"""The machine at hand as a cluster, for a file that has none. Cores and memory are asked for, speeds are guessed.

The guesses are typical of a desktop or server core and never measured here: a measurement differs from run to run,
and the same file must give the same plan. `dlc calibrate` measures.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from dlc.cluster.topology import Cluster, Device, Group, Link

NAME = "machine"
GUESS = (
    "the speeds of `machine` are guesses: 10 GB/s and 50 GFLOP/s a core, 8 GB/s and 1 us between cores; "
    "write a `cluster` block to state them"
)
"""What a report says beside figures that rest on the detected cluster."""

BANDWIDTH = 10e9  # bytes per second of one core's share of a desktop's memory
SPEED = 50e9  # FLOP/s of one core in float32: 3 GHz, 8 lanes, a multiply-add a cycle
LINK_BANDWIDTH = 8e9  # bytes per second of one copy through shared memory
LATENCY = 1e-6  # seconds of one message between processes of one machine

_CGROUP = Path("/sys/fs/cgroup")


def detect() -> Cluster:
    """One device a usable core, each with its share of the memory, over the machine's shared memory."""
    cores = usable_cores()
    core = Device(
        "core",
        kind="cpu",
        memory=usable_memory() // cores,
        bandwidth=BANDWIDTH,
        compute=(("f32", SPEED),),
    )
    return Cluster(
        NAME, (core,), (Link("shm", LINK_BANDWIDTH, LATENCY),), (Group("core", cores, "shm", device="core"),)
    )


def machine(ranks: int, threads: int = 1) -> Cluster:
    """The machine as so many ranks of so many cores each, whether or not it has them."""
    found = detect()
    (core,), (group,) = found.devices, found.topology
    rank = replace(
        core,
        cores=threads,
        memory=usable_memory() // ranks,
        bandwidth=core.bandwidth * threads,
        compute=tuple((dtype, rate * threads) for dtype, rate in core.compute),
    )
    return replace(found, devices=(rank,), topology=(replace(group, count=ranks),))


def usable_cores() -> int:
    """The cores that this process may use: its affinity, and the container's quota where there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _first_line(_CGROUP / "cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit() and int(period):
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def usable_memory() -> int:
    """Bytes of memory: the machine's, or the container's limit where it is lower; 8 GiB where neither can be asked."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        machine = 8 * 2**30
    limit = _first_line(_CGROUP / "memory.max")
    return min(machine, int(limit)) if limit.isdigit() and int(limit) else machine


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError):
        return ""
