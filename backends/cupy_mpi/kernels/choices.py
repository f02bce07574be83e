"""What was timed on this device, kept in the program's folder: ranks agree on it, and so do runs that are resumed.

A choice is one small file. Ranks decide together, if they have one to do so (runtime/agreement.py); else the first one
to write the file decides, and others take what they find then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Choices:
    """Choices on a device of this name, in a folder; without one, or where it cannot be written, nothing is kept.

    `agreement` is of all ranks (runtime/agreement.py).
    """

    def __init__(self, folder: Path | None, device: str, agreement: Any = None) -> None:
        self._folder, self._device, self._agreement = folder, device, agreement
        self._waiting: dict[str, Mapping[str, float]] = {}

    @property
    def turn(self) -> int:
        """Another one when the ranks have decided."""
        return 0 if self._agreement is None else int(self._agreement.turn)

    def get(self, question: str) -> str:
        """What was chosen; "" where nothing was."""
        if self._agreement is not None and (known := self._agreement.known.get(self._key(question), "")):
            return str(known)
        path = self._path(question)
        if path is None:
            return ""
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["chosen"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def keep(self, question: str, chosen: str, milliseconds: Mapping[str, float]) -> str:
        """What is chosen from now on: this, unless another rank was first. "" where the ranks are to decide that."""
        if self._agreement is not None and self._agreement.waits:
            self._agreement.ask(self._key(question), chosen)
            self._waiting[question] = milliseconds
            return ""
        found = self._kept(question, chosen, milliseconds)
        if self._agreement is not None:
            self._agreement.known[self._key(question)] = found
        return found

    def decided(self) -> None:
        """The ranks have decided what was left to them: it is written."""
        while self._waiting:
            question, milliseconds = self._waiting.popitem()
            self._kept(question, self.get(question), milliseconds)

    def _kept(self, question: str, chosen: str, milliseconds: Mapping[str, float]) -> str:
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

    def _key(self, question: str) -> str:
        return f"{self._device}: {question}"

    def _path(self, question: str) -> Path | None:
        if self._folder is None:
            return None
        digest = hashlib.sha256(f"{self._device}\0{question}".encode()).hexdigest()[:16]
        return self._folder / f"{digest}.json"
