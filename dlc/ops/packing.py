"""Weights packed once for several calls: what a call reads that way, and the call that packs it.

Kernels in C read weights in an order of their own. A call of pass `pack` puts them in that order, in a buffer that the
calls for several microbatches then name in `packs`. Both say by the same words what the order is.
"""

from __future__ import annotations

from collections.abc import Callable

from dlc.ir.graph import Attrs
from dlc.ir.program import Buffer, Compute

PACK = "pack"
"""The pass that packs; its op says for which op and pass: `conv_dx`."""

WIDTH = "width"
"""The attribute with the columns of a convolution's image, which its tiles depend on."""

OPERANDS: dict[tuple[str, str], slice] = {
    ("conv", "forward"): slice(1, None),
    **dict.fromkeys((("conv", "dx"), ("linear", "forward"), ("linear", "dx")), slice(1, 2)),
}
"""(op, pass) -> which operands are packed: the weight, and a bias that is packed with it."""

Order = tuple[tuple[str, str, str], Attrs, str]
"""Kernel, attributes and layout of the call that packs."""


def operands(made: Compute) -> tuple[str, ...]:
    """The operands of a call that may be packed; none of calls that read nothing so."""
    return made.inputs[OPERANDS[made.kernel[:2]]] if made.kernel[:2] in OPERANDS else ()


def order_for(made: Compute, buffer: Callable[[str], Buffer]) -> Order:
    """The order in which a call wants what is packed."""
    op, stage, algorithm = made.kernel
    image = buffer(made.inputs[0] if stage == "forward" else made.outputs[0])
    attrs: Attrs = (*made.attrs, (WIDTH, image.type.extent("width"))) if "width" in image.type.names else made.attrs
    return (f"{op}_{stage}", PACK, algorithm), attrs, made.layout


def order_of(made: Compute) -> Order:
    """The order in which a call packs."""
    return made.kernel, made.attrs, made.layout
