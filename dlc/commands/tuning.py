"""`--tune` of the commands that plan: kernels are measured before, and each says what was."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from dlc import driver
from dlc.cluster.detect import usable_cores
from dlc.commands.answer import UsageError
from dlc.commands.progress import Line

if TYPE_CHECKING:
    from dlc.cluster.topology import Device
    from dlc.driver import Compiled, Options, Source
    from dlc.tuning import Measured
    from passes.planning.search import Effort


def tuned(source: Source, options: Options, arguments: Namespace, effort: Effort | None = None) -> Options:
    """The options with the kernels that a plan asks for measured, where `--tune` asks for that."""
    if not arguments.tune:
        return options
    _, context = driver.context_of(source, options)
    kinds = {device.kind: device for device in context.cluster.devices}
    if other := next((device for kind, device in kinds.items() if kind != "cpu"), None):
        raise UsageError(f"`--tune` measures the processor at hand, and device `{other.name}` is a {other.kind}")

    def plan(kernels: Measured) -> Compiled:
        return driver.plan_spec(source, replace(options, measured=kernels), effort)

    return replace(options, measured=measured(plan, context.cluster.device_of(0), arguments.tune_budget))


def measured(plan: Callable[[Measured], Compiled], device: Device, budget: float) -> Measured:
    """The kernels that a plan asks for; what was measured and what was not is said on the standard error."""
    from dlc.tuning import tune

    with Line() as line:
        found = tune(plan, device, budget, lambda done, of: line.show(f"measuring kernels: {done} of {of}"))
    if found.left_out:
        more = "`--tune-budget` allows more, and what there is is kept"
        print(f"measured {found.timed} kernels, {found.left_out} are left out: {more}", file=sys.stderr)
    if found.held:
        why = f"their {device.cores} threads had to wait for cores, of which this machine has {usable_cores()}"
        way = "measure again when nothing else runs, or plan for fewer threads"
        print(f"{found.held} kernels are left out, {why}: {way}", file=sys.stderr)
    return found.kernels
