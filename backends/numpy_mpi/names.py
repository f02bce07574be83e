"""Names in emitted programs."""

from __future__ import annotations

import keyword
import re


def identifier(name: str) -> str:
    """An ASCII Python identifier that resembles a name."""
    text = re.sub(r"[^A-Za-z0-9_]+", "_", name, flags=re.ASCII).strip("_") or "value"
    return f"{text}_" if keyword.iskeyword(text) or text[0].isdigit() else text
