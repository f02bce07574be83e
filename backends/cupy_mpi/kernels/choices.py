"""What was timed on this device, kept in the program's folder: ranks agree on it, and so do runs that are resumed.

A choice is one small file. The rank that is first to write it decides: the others take what they find then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


class Choices:
    """Choices on a device of this name, in a folder; without one, or where it cannot be written, nothing is kept."""

    def __init__(self, folder: Path | None, device: str) -> None:
        self._folder, self._device = folder, device

    def get(self, question: str) -> str:
        """What was chosen; "" where nothing was."""
        path = self._path(question)
        if path is None:
            return ""
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["chosen"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def keep(self, question: str, chosen: str, milliseconds: Mapping[str, float]) -> str:
        """What is chosen from now on: this, unless another rank was first."""
        path = self._path(question)
        if path is None:
            return chosen
        times = {name: round(time, 4) for name, time in sorted(milliseconds.items(), key=lambda each: each[1])}
        told = {"question": question, "device": self._device, "chosen": chosen, "milliseconds": times}
        with contextlib.suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", encoding="utf-8") as written:
                written.write(json.dumps(told, indent=1) + "\n")
                written.flush()
                os.link(written.name, path)  # unlike a rename, it fails where there is one
        return self.get(question) or chosen

    def _path(self, question: str) -> Path | None:
        if self._folder is None:
            return None
        digest = hashlib.sha256(f"{self._device}\0{question}".encode()).hexdigest()[:16]
        return self._folder / f"{digest}.json"
