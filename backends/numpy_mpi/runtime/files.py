"""Files of a run: data inside the root, and weights that are never half written.

Arrays by name are kept as .npz, or as safetensors where a file is named so: a header in JSON, then the values, as
PyTorch programs share them (https://github.com/huggingface/safetensors). A flipped bit among the values is found by
the checksums of .npz alone.
"""

from __future__ import annotations

import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np

from .collectives import Array
from .failures import ProgramError
from .world import World

_ELEMENTS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
}  # fmt: skip
"""The element types of safetensors that NumPy has, but bool: weights are numbers."""


@dataclass(frozen=True, slots=True)
class Files:
    """The folder in which the data paths of the spec begin; nothing outside it is read."""

    root: Path

    def inside(self, path: str) -> Path:
        """A regular file inside the root; ProgramError for anything else: outside, missing, a link out, a device."""
        root = self.root.resolve()
        full = (root / path).resolve()
        if not full.is_relative_to(root):
            raise ProgramError(
                f"`{path}` lies outside the data folder",
                code="E0715",
                notes=(f"the data folder is {root}",),
                help="`--root DIR` names another one",
            )
        if not full.exists():
            raise ProgramError(
                f"there is no file `{path}`",
                code="E0715",
                notes=(f"the data folder is {root}",),
                help="`--root DIR` names another one",
            )
        if not full.is_file():
            raise ProgramError(f"`{path}` is not a regular file", code="E0715")
        return full


def save_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Writes arrays by name, as safetensors where the file is named so and as .npz else: whole or not at all.

    ProgramError where it cannot be written, or the package that writes it is not there.
    """
    if not is_safetensors(path):
        save_npz(path, arrays)
        return
    package = _safetensors(path)
    content = package.numpy.save({name: np.asarray(array, order="C") for name, array in arrays.items()})
    _replace(path, lambda file: file.write(content))


def save_npz(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Writes arrays by name as .npz, whole or not at all; ProgramError where it cannot be written."""
    _replace(path, lambda file: np.savez(file, allow_pickle=False, **dict(arrays)))


def _replace(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Writes to a temporary file, flushed to the disk, which then takes the name in one move.

    Whatever happens, `path` then holds the old content or the new, whole. ProgramError where it cannot be written.
    """
    target = Path(path)
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            temporary = file.name
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~umask())
        os.replace(temporary, target)
        flush_folder(target.parent)
    except OSError as cause:
        raise ProgramError(
            f"`{target}` cannot be written: {cause.strerror or cause}",
            code="E0716",
            notes=("what was there before is untouched",),
        ) from cause
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def require_place(path: str) -> None:
    """Refuses a file that could not be written at the end of a run, before the run; ProgramError names the cause."""
    if is_safetensors(path):
        _safetensors(path)
    target = Path(path)
    if target.is_dir():
        cause = "it is a folder"
    elif not target.parent.is_dir():
        cause = f"there is no folder `{target.parent}`"
    elif not os.access(target.parent, os.W_OK | os.X_OK):
        cause = f"nothing may be written into folder `{target.parent}`"
    else:
        return
    raise ProgramError(f"`{target}` cannot be written: {cause}", code="E0716")


def load_arrays(path: str | os.PathLike[str]) -> dict[str, Array]:
    """All arrays of a file by name: of safetensors where it is named so, else of .npz; ProgramError as those have."""
    return load_safetensors(path) if is_safetensors(path) else load_npz(path)


def is_safetensors(path: str | os.PathLike[str]) -> bool:
    """Whether a file is named as safetensors are."""
    return os.fspath(path).endswith(".safetensors")


def load_safetensors(path: str | os.PathLike[str]) -> dict[str, Array]:
    """All arrays of a safetensors file by name, bf16 as f32; ProgramError where it cannot be read."""
    package = _safetensors(path)
    try:
        stored = package.deserialize(Path(path).read_bytes())
        return {name: _values(name, **entry) for name, entry in stored}
    except (OSError, ValueError, package.SafetensorError) as cause:
        text = getattr(cause, "strerror", None) or f"it is damaged, or no safetensors file ({cause})"
        raise ProgramError(f"`{os.fspath(path)}` cannot be read as weights: {text}", code="E0716") from cause


def _values(name: str, *, shape: list[int], dtype: str, data: bytes) -> Array:
    """One tensor of a safetensors file; ValueError for a type of element that weights do not have here."""
    if dtype == "BF16":  # the upper half of an f32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << np.uint32(16)).view(np.float32).reshape(shape)
    if dtype not in _ELEMENTS:
        raise ValueError(f"`{name}` holds {dtype}, which cannot be read here")
    return np.frombuffer(data, _ELEMENTS[dtype]).reshape(shape)


def _safetensors(path: str | os.PathLike[str]) -> Any:
    """The package that reads and writes safetensors; ProgramError with the way out where it is not installed."""
    try:
        import_module("safetensors.numpy")
        return import_module("safetensors")
    except ImportError as cause:
        raise ProgramError(
            f"`{os.fspath(path)}` needs the package `safetensors`, which is not installed",
            code="E0716",
            help="`pip install safetensors` installs it; a name that ends in .npz needs nothing",
        ) from cause


def load_npz(path: str | os.PathLike[str]) -> dict[str, Array]:
    """All arrays of an .npz file by name, each checked against its CRC; ProgramError where it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error, struct.error) as cause:
        text = getattr(cause, "strerror", None) or "it is damaged, or no .npz file of arrays"
        raise ProgramError(f"`{os.fspath(path)}` cannot be read as weights: {text}", code="E0716") from cause


def save_weights(world: World, path: str | os.PathLike[str], weights: Mapping[str, Array]) -> None:
    """Rank 0 writes the weights, which are the same on all ranks; where it cannot, all raise its ProgramError."""
    on_rank_0(world, lambda: save_arrays(path, weights))


def load_weights(world: World, path: str | os.PathLike[str], weights: Mapping[str, Array]) -> None:
    """Rank 0 reads the file, all ranks get its values, in place and cast to their type.

    ProgramError on all ranks where names or shapes differ: it lists what is missing, what is unknown, what has another
    shape.
    """

    def read() -> None:
        stored = load_arrays(path)
        require_match(os.fspath(path), stored, weights)
        for name, array in weights.items():
            array[...] = stored[name]

    on_rank_0(world, read)
    for name, array in weights.items():
        world.broadcast(array, 0, name)


def on_rank_0(world: World, action: Callable[[], None]) -> None:
    """Runs the action on rank 0; its ProgramError is raised on all ranks."""
    failure: ProgramError | None = None
    if world.rank == 0:
        try:
            action()
        except ProgramError as error:
            failure = error
    told = world.bcast([failure.text, failure.code, list(failure.notes), failure.help] if failure else None)
    if told:
        text, code, notes, help = told
        raise ProgramError(text, code=code, notes=tuple(notes), help=help) from failure


def require_match(path: str, stored: Mapping[str, Array], weights: Mapping[str, Array]) -> None:
    """ProgramError where a file has other names, shapes or types than the weights: it lists the differences."""
    missing = [name for name in weights if name not in stored]
    unknown = [name for name in stored if name not in weights]
    shapes = [
        f"`{name}` is {stored[name].shape}, expected {weights[name].shape}"
        for name in weights
        if name in stored and stored[name].shape != weights[name].shape
    ]
    types = [
        f"`{name}` holds {stored[name].dtype}" for name in weights if name in stored and _is_no_number(stored[name])
    ]
    if not (missing or unknown or shapes or types):
        return
    notes = [f"missing: {listed(missing)}"] if missing else []
    notes += [f"not in this network: {listed(unknown)}"] if unknown else []
    notes += [*shapes[:10], *types[:10]]
    raise ProgramError(
        f"the weights in `{path}` are not those of this network",
        code="E0716",
        notes=tuple(notes),
        help="`--steps 0 --save w.npz` writes the network's own, with their names and shapes",
    )


def _is_no_number(array: Array) -> bool:
    return array.dtype.kind not in "iuf"


def listed(names: list[str]) -> str:
    """The first names in quotes, and how many more there are."""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(f"`{name}`" for name in names[:8]) + more


def flush_folder(folder: Path) -> None:
    """Makes the move itself durable, where the system lets folders be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def umask() -> int:
    """The permissions that new files do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
