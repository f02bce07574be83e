"""Generations of checkpoints on the disk: written so that a crash at any moment leaves whole ones, read with checks.

Rank 0 alone comes here; checkpoint.py says what a generation is and when one is written.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import tempfile
import zipfile
import zlib
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import numpy as np

from .collectives import Array
from .files import flush_folder, umask

Manifest = dict[str, Any]

MANIFEST = "manifest.json"
SCHEMA = 1
KEPT = 2  # generations: that of the last step and the one before it

_NAME, _WRITTEN, _REMOVED = "step-", ".writing-", ".removed-"
_DAMAGE = (ValueError, OSError, EOFError, KeyError, TypeError, zipfile.BadZipFile, zlib.error, struct.error)
"""What reading a damaged file may raise."""


@dataclass
class Generation:
    """A checkpoint in a folder, whole or not: `fault` says. `manifest` is empty before that."""

    path: Path
    manifest: Manifest = field(default_factory=dict)
    _files: dict[str, Any] = field(default_factory=dict, repr=False)

    @staticmethod
    def name_of(step: int) -> str:
        """The name of the checkpoint behind so many steps."""
        return f"{_NAME}{step:09}"

    @property
    def step(self) -> int:
        """How many steps were done, by its name."""
        return int(self.path.name.removeprefix(_NAME))

    def fault(self) -> str:
        """What is broken, "" where everything is as it was written: each tensor is read, one after the other."""
        try:
            kept = json.loads((self.path / MANIFEST).read_bytes())
            if not isinstance(kept, dict) or kept.pop("digest", "") != _digest_of(kept):
                return f"the checksum of {MANIFEST} is another one"
            if kept["schema"] != SCHEMA:
                return f"{MANIFEST} is of version {kept['schema']}, this program reads {SCHEMA}"
        except FileNotFoundError:
            return f"it has no {MANIFEST}"
        except _DAMAGE as cause:
            return f"{MANIFEST} cannot be read: {_text(cause)}"
        self.manifest = kept
        faults = [fault for name in kept["tensors"] if (fault := self._fault_of(name))]
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        return "; ".join(faults[:3]) + more

    def read(self, name: str) -> Array:
        """A tensor, whole; ValueError where it is not what was written."""
        entry = self.manifest["tensors"][name]
        file = entry["file"]
        if file not in self._files:
            self._files[file] = np.load(self.path / file, allow_pickle=False)
        array: Array = self._files[file][name]
        if list(array.shape) != entry["shape"] or array.dtype.str != entry["dtype"]:
            raise ValueError("its shape or type is another one")
        if digest_of(array) != entry["sha256"]:
            raise ValueError("its checksum is another one")
        return array

    def close(self) -> None:
        """Close its files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _fault_of(self, name: str) -> str:
        try:
            self.read(name)
        except _DAMAGE as cause:
            return f"`{name}` in {self.manifest['tensors'][name]['file']}: {_text(cause)}"
        return ""


def generations(folder: Path) -> list[Generation]:
    """The checkpoints of a folder, the last one first."""
    names = [path.name.removeprefix(_NAME) for path in folder.glob(f"{_NAME}*")] if folder.is_dir() else []
    steps = sorted((int(name) for name in names if name.isascii() and name.isdigit()), reverse=True)
    return [Generation(folder / Generation.name_of(step)) for step in steps]


class Writing:
    """A generation while it is written, a tensor at a time; `finish` says what failed, nothing is raised."""

    def __init__(self, folder: Path, step: int) -> None:
        self._target = folder / Generation.name_of(step)
        self._failure = ""
        self._folder = Path()
        self._open: dict[str, tuple[IO[bytes], zipfile.ZipFile]] = {}
        self._tensors: dict[str, dict[str, object]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for old in (*folder.glob(f"{_WRITTEN}*"), *folder.glob(f"{_REMOVED}*")):  # of runs that were killed
                shutil.rmtree(old, ignore_errors=True)
            self._folder = Path(tempfile.mkdtemp(prefix=_WRITTEN, dir=folder))
            os.chmod(self._folder, 0o777 & ~umask())
        except OSError as cause:
            self._failure = _text(cause)

    def add(self, name: str, array: Array) -> None:
        """Write a whole tensor: into the file of weights, or that of what the optimizer keeps of one."""
        if self._failure:
            return
        file = "state.npz" if "@" in name else "weights.npz"
        try:
            entry = zipfile.ZipInfo(f"{name}.npy")  # without the time: equal tensors make equal files
            with self._archive(file).open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
            self._tensors[name] = {
                "file": file,
                "shape": list(array.shape),
                "dtype": array.dtype.str,
                "sha256": digest_of(array),
            }
        except (OSError, ValueError) as cause:
            self._failure = _text(cause)

    def finish(self, manifest: Manifest) -> str:
        """Flush everything to the disk, the manifest last, and give it its name; what failed, or ""."""
        try:
            if not self._failure:
                self._close()
                kept = {"schema": SCHEMA, **manifest, "tensors": self._tensors}
                text = json.dumps({**kept, "digest": _digest_of(kept)}, indent=1)
                with open(self._folder / MANIFEST, "w", encoding="ascii") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                flush_folder(self._folder)
                self._take_place()
        except (OSError, ValueError) as cause:
            self._failure = _text(cause)
        finally:
            self._discard()
        return self._failure

    def _archive(self, file: str) -> zipfile.ZipFile:
        if file not in self._open:
            stream = open(self._folder / file, "wb")  # noqa: SIM115 - closed by _close or _discard
            self._open[file] = (stream, zipfile.ZipFile(stream, "w"))
        return self._open[file][1]

    def _close(self) -> None:
        for stream, archive in self._open.values():
            archive.close()
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()
        self._open.clear()

    def _take_place(self) -> None:
        """What has this name is of the same step, from before a run that went on from an older one: it was broken."""
        if self._target.exists():
            remove(self._target)
        os.rename(self._folder, self._target)
        flush_folder(self._target.parent)

    def _discard(self) -> None:
        """Close what is open, and remove what has not got its name."""
        for stream, archive in self._open.values():
            with contextlib.suppress(OSError, ValueError):
                archive.close()
            with contextlib.suppress(OSError, ValueError):
                stream.close()
        self._open.clear()
        if self._folder.name.startswith(_WRITTEN):
            shutil.rmtree(self._folder, ignore_errors=True)


def prune(folder: Path, step: int) -> None:
    """Keep the checkpoint of this step and the one before it; later ones are of a past that was given up as broken."""
    before = [generation for generation in generations(folder) if generation.step < step]
    kept = {step, *(generation.step for generation in before[: KEPT - 1])}
    for generation in generations(folder):
        if generation.step not in kept:
            with contextlib.suppress(OSError):
                remove(generation.path)


def remove(path: Path) -> None:
    """Remove a generation: in one move it is none any more, however long its files take."""
    aside = path.with_name(f"{_REMOVED}{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(path, aside)
    shutil.rmtree(aside, ignore_errors=True)


def digest_of(array: Array) -> str:
    """SHA-256 of a tensor's values as they lie in memory, in the order of its axes."""
    return sha256(np.ascontiguousarray(array).data.cast("B") if array.size else b"").hexdigest()


def _digest_of(manifest: Manifest) -> str:
    return sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _text(cause: BaseException) -> str:
    """In words that a user can act on."""
    if isinstance(cause, KeyError):
        return f"it has no {cause}"
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__)
