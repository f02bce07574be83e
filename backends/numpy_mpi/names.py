"""Names in emitted programs: a buffer is an attribute of one of four namespaces."""

from __future__ import annotations

import keyword
import re

from dlc.ir.program import Buffer, Role

NAMESPACES = {"w": "weights", "s": "optimizer state", "g": "gradients of weights", "a": "activations"}


def namespace(buffer: Buffer) -> str:
    """`w` weights, statistics and constants; `s` states; `g` gradients and buckets; `a` all that follows the batch."""
    if buffer.kind in ("weight", "statistic", "constant"):
        return "w"
    if buffer.kind == "state":
        return "s"
    return "g" if buffer.kind in ("gradient", "bucket") and not buffer.type.batched else "a"


def identifiers(role: Role) -> dict[str, str]:
    """Buffer name -> its attribute: `c1.tanh@grad` is `c1_tanh_grad`, `c1.conv.weight@grad` in g `c1_conv_weight`.

    Where two of a namespace collide the later is numbered.
    """
    found, taken = dict[str, str](), set[tuple[str, str]]()
    for buffer in role.buffers:
        space = namespace(buffer)
        plain = identifier(buffer.name.removesuffix("@grad") if space == "g" else buffer.name)
        name, number = plain, 2
        while (space, name) in taken:
            name, number = f"{plain}_{number}", number + 1
        taken.add((space, name))
        found[buffer.name] = name
    return found


def identifier(name: str) -> str:
    """An ASCII Python identifier that resembles a name."""
    text = re.sub(r"[^A-Za-z0-9_]+", "_", name, flags=re.ASCII).strip("_") or "value"
    return f"{text}_" if keyword.iskeyword(text) or text[0].isdigit() else text
