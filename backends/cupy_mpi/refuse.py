"""What this backend has no kernels for, and plans for processors may hold: refused with E0701 when it is emitted."""

from __future__ import annotations

from dlc.diagnostics import Diagnostic, Span
from dlc.ir.plan import Plan
from dlc.ir.request import Request
from dlc.messages.e07_run import E0701
from dlc.ops.blocks import BLOCKED
from dlc.ops.operator import LAYOUTS

INSTEAD = (
    f"its kernels have images in {', '.join(LAYOUTS)}: ask for `layout = auto` or one of these, "
    "or compile for processors, without `--backend cupy`"
)


def refusals(plan: Plan, request: Request) -> tuple[Diagnostic, ...]:
    """Layouts with channels in blocks, each where it is asked for: they are vectors of processors."""
    pins = {address: rule for rule in request.pins if rule.key == "layout" for address in rule.addresses}
    found: dict[tuple[Span | None, str], Diagnostic] = {}
    for op in plan.ops:
        if op.layout in BLOCKED:
            pin = pins.get(op.address)
            span = pin.value_span if pin else request.span("layout")
            what = f"`layout = {op.layout}` for `{pin.selector if pin else op.address}`"
            found.setdefault((span, op.layout), E0701.at(span, backend="cupy", what=what, helps=(INSTEAD,)))
    return tuple(found.values())
