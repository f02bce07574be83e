"""Readers of sequences: a text as the numbers of its characters, and files of tokens, cut into windows.

A sample is a window of `seq` tokens, its field `next` the same window one token later. Windows do not overlap, so the
test set holds no token that is trained on as an input; what is left behind the last window is not used.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from .collectives import Array
from .data import Column, Dataset, Samples, split
from .failures import ProgramError
from .files import Files
from .readers import data_error

NEXT = "next"

_CODE_POINTS = 0x110000
_LARGEST = 2**31 - 1  # tokens are fed as int32
_MARK = "\ufeff"


def text(
    files: Files,
    file: str,
    *,
    seq: int,
    input: str = "text",
    classes: int | None = None,
    test: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """A UTF-8 text by characters: character i of its distinct ones, sorted by code point, is token i.

    Characters count as they stand in the file, line ends too; a byte-order mark at its start does not. ProgramError
    where there are more than `classes` distinct ones.
    """
    path = files.inside(file)
    codes = np.frombuffer(_characters(path).encode("utf-32-le"), np.uint32)
    seen = np.zeros(_CODE_POINTS, bool)
    seen[codes] = True
    count = int(seen.sum())
    if classes is not None and count > classes:
        raise ProgramError(
            f"{path.name} has {count} distinct characters, the network has classes for {classes}",
            code="E0715",
            notes=(f"the file is {path}",),
            help=f"an embedding and logits of {count}",
        )
    numbers = (np.cumsum(seen) - 1).astype(np.min_scalar_type(count - 1))
    samples = _windows(path, numbers[codes], seq, input)
    said = f"{path.name}: {len(codes):,} characters, {count} of them distinct; {len(samples):,} windows of {seq}"
    return replace(split(samples, test, seed), about=said)


def tokens(files: Files, file: str, *, seq: int, input: str = "tokens", test: float = 0.0, seed: int = 0) -> Dataset:
    """One list of whole numbers from 0 up: an .npy file, the array `tokens` of an .npz file, or 16-bit little-endian
    numbers in a .bin file.
    """
    path = files.inside(file)
    return split(_windows(path, _token_numbers(path), seq, input), test, seed)


def _windows(path: Path, tokens: Array, seq: int, input: str) -> Samples:
    """[windows, seq] twice: the second begins one token later."""
    count = (len(tokens) - 1) // seq
    if count < 1:
        needed = f"a window of {seq} and the one after it take {seq + 1}"
        raise data_error(path, f"holds {len(tokens)} tokens, {needed}")
    columns = {name: tokens[start : start + count * seq].reshape(count, seq) for name, start in ((input, 0), (NEXT, 1))}
    return Samples({name: Column(values) for name, values in columns.items()}, path.name)


def _characters(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as cause:
        raise data_error(path, f"cannot be read: {cause.strerror or cause}") from cause
    except UnicodeDecodeError as cause:
        line = cause.object.count(b"\n", 0, cause.start) + 1
        found = f"byte {cause.start} (0x{cause.object[cause.start]:02x}, line {line})"
        raise data_error(path, f"is no UTF-8 text: {found} begins no character") from cause
    text = text.removeprefix(_MARK)
    if not text:
        raise data_error(path, "holds no text")
    return text


def _token_numbers(path: Path) -> Array:
    """The file's tokens, all of them from 0 to 2³¹ − 1."""
    values = _stored(path)
    if values.dtype.kind not in "iu" or values.ndim != 1:
        shape = "x".join(map(str, values.shape)) or "a single number"
        raise data_error(path, f"holds values of type {values.dtype} ({shape}), expected one list of whole numbers")
    wrong = np.flatnonzero((values < 0) | (values > _LARGEST))
    if len(wrong):
        raise data_error(path, f"token {wrong[0]} is {values[wrong[0]]}, tokens are 0 to {_LARGEST}")
    return values


def _stored(path: Path) -> Array:
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        if path.suffix == ".npz":
            if not zipfile.is_zipfile(path):
                raise data_error(path, "cannot be read as .npz: it is no zip archive")
            with np.load(path, allow_pickle=False) as archive:
                if "tokens" not in archive.files:
                    raise data_error(path, f"has no array `tokens`, it has {', '.join(archive.files) or 'none'}")
                return np.asarray(archive["tokens"])
        if path.suffix == ".bin":
            return np.frombuffer(path.read_bytes(), "<u2")
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as cause:
        raise data_error(path, f"cannot be read as {path.suffix}: {cause}") from cause
    raise data_error(path, "is not named .npy, .npz or .bin")
