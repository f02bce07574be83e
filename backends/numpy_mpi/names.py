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
    """Buffer name -> its identifier: `c1.tanh@grad` is `c1_tanh_grad`; where two collide the later is numbered."""
    found, taken = dict[str, str](), set[str]()
    for buffer in role.buffers:
        name = identifier(buffer.name)
        number = 2
        while name in taken:
            name = f"{identifier(buffer.name)}_{number}"
            number += 1
        taken.add(name)
        found[buffer.name] = name
    return found


def identifier(name: str) -> str:
    """An ASCII Python identifier that resembles a name."""
    text = re.sub(r"[^A-Za-z0-9_]+", "_", name, flags=re.ASCII).strip("_") or "value"
    return f"{text}_" if keyword.iskeyword(text) or text[0].isdigit() else text
