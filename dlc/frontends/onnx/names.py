"""Names of ONNX, which are any text, as names of dlc."""

from __future__ import annotations

import re

RESERVED = frozenset(
    {
        *("if", "then", "else", "and", "or", "not", "as", "where", "input", "output", "return", "repeat"),
        *("batch", "data", "yes", "no"),
    }
)
"""Words that begin or join something else in a network, or mean something else in a train block."""


def identifier(name: str) -> str:
    """Letters, digits and `_`, of each run of other characters one `_`: `/layer1/conv1/Conv` is `layer1_conv1_Conv`."""
    kept = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "value"
    return f"n{kept}" if kept[0].isdigit() else kept


class Names:
    """Gives out names, each once: `conv1`, `conv1_2`, `conv1_3`."""

    def __init__(self) -> None:
        self._taken = set(RESERVED)

    def free(self, name: str) -> str:
        """The identifier of a name, or the first numbered one that is not taken."""
        wanted = identifier(name)
        number, free = 1, wanted
        while free in self._taken:
            number += 1
            free = f"{wanted}_{number}"
        self._taken.add(free)
        return free
