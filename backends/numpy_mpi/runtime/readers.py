"""Readers of data sets: UCI digits, MNIST, CIFAR-10, .npz files, and synthetic samples; sequences.py has text.

Every reader gives a Dataset and says in a ProgramError which file, which row and what is wrong.
"""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .collectives import Array
from .data import Column, Dataset, Samples, random_bits, split
from .failures import ProgramError
from .files import Files

LABEL = "label"

_PATTERN_STREAM = 2**63 + 1
_LABEL_STREAM = 2**63 + 2
_NOISE_STREAM = 2**63 + 3
_PLACES = 8  # streams of one array lie so far from those of the next

_IDX_TYPE = 0x08  # unsigned bytes, the only type that MNIST's files use
_CIFAR_ROW = 1 + 3 * 32 * 32
_CIFAR_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_CIFAR_TEST = ("test_batch.bin",)


def digits(scale: int = 1, *, input: str = "image", test: float = 0.0, seed: int = 0) -> Dataset:
    """The 1,797 UCI handwritten digits (see digits.LICENSE.md), each pixel repeated `scale` times either way.

    Images are [sample, 1, 8·scale, 8·scale] with values 0 to 1 in steps of 1/16; labels are 0 to 9.
    """
    path = Path(__file__).with_name("digits.npz")
    try:
        with np.load(path, allow_pickle=False) as file:
            images, labels = file["images"], file["labels"]
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, struct.error) as cause:
        raise ProgramError(
            f"`{path}` cannot be read: {getattr(cause, 'strerror', None) or cause}",
            code="E0715",
            help="`dlc compile` writes the program's folder anew",
        ) from cause
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)[:, None]
    return split(_labelled(input, images, 16.0, labels, "digits"), test, seed)


def mnist(files: Files, folder: str, *, pad: int = 0, input: str = "image") -> Dataset:
    """MNIST's four IDX files, also with .gz behind their names: [sample, 1, 28 + 2·pad, 28 + 2·pad], values 0 to 1.

    Format: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
    """

    def part(prefix: str) -> Samples:
        images_file = _plain_or_gz(files, folder, f"{prefix}-images-idx3-ubyte")
        labels_file = _plain_or_gz(files, folder, f"{prefix}-labels-idx1-ubyte")
        images, labels = _idx(images_file, 3), _idx(labels_file, 1)
        if len(images) != len(labels):
            raise data_error(labels_file, f"has {len(labels)} labels, {images_file.name} has {len(images)} images")
        _require_labels(labels, 10, labels_file)
        images = np.pad(images, ((0, 0), (pad, pad), (pad, pad)))[:, None]
        return _labelled(input, images, 255.0, labels, images_file.name)

    return Dataset(part("train"), part("t10k"))


def cifar10(files: Files, folder: str, *, input: str = "image") -> Dataset:
    """CIFAR-10's binary version: rows of one label byte and 3x32x32 pixels; [sample, 3, 32, 32], values 0 to 1.

    Format: A. Krizhevsky, "The CIFAR-10 dataset", binary version.
    """

    def part(names: tuple[str, ...]) -> Samples:
        rows = np.concatenate([_cifar_rows(files.inside(f"{folder}/{name}")) for name in names])
        images = rows[:, 1:].reshape(-1, 3, 32, 32)
        return _labelled(input, images, 255.0, rows[:, 0], f"{folder}/{names[0]}")

    return Dataset(part(_CIFAR_TRAIN), part(_CIFAR_TEST))


def npz(files: Files, file: str, *, names: Sequence[str], test: float = 0.0, seed: int = 0) -> Dataset:
    """Arrays of one .npz file, named as the network's inputs and the fields, first axis the sample."""
    return split(_arrays(files.inside(file), names), test, seed)


def own_samples(file: str, shapes: Mapping[str, tuple[int, ...]], classes: Mapping[str, int]) -> Samples:
    """What to predict on instead of the test set: an .npz file, anywhere, with arrays named as the inputs.

    `shapes` gives each input's shape without the sample, `classes` how many classes the integers of some may name.
    ProgramError where the file does not hold that, or no sample.
    """
    path = Path(file)
    if not path.is_file():
        raise ProgramError(f"there is no file `{file}`", code="E0715")
    samples = _arrays(path, tuple(shapes))
    if not len(samples):
        raise data_error(path, "holds no sample")
    samples.require(shapes, {name: count for name, count in classes.items() if name in shapes})
    return samples


def _arrays(path: Path, names: Sequence[str]) -> Samples:
    try:
        if not zipfile.is_zipfile(path):
            raise data_error(path, "cannot be read as .npz: it is no zip archive")
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive.files]
            if missing:
                raise data_error(path, f"has no array `{missing[0]}`, it has {', '.join(archive.files) or 'none'}")
            arrays = {name: np.asarray(archive[name]) for name in names}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, struct.error) as cause:
        raise data_error(path, f"cannot be read as .npz: {cause}") from cause
    first = names[0]
    for name, values in arrays.items():
        _require_numbers(path, name, values)
        if len(values) != len(arrays[first]):
            raise data_error(path, f"has {len(values)} rows of `{name}` and {len(arrays[first])} of `{first}`")
    return Samples({name: Column(values) for name, values in arrays.items()}, path.name)


def synthetic(
    shapes: Mapping[str, tuple[int, ...]],
    *,
    below: Mapping[str, int] | None = None,
    next: str = "",
    samples: int = 1024,
    classes: int = 10,
    test: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """Samples that can be learned: each class has a pattern of its own, each sample noise on it; `label` is the class.

    `shapes` gives the shape of each input and field without the sample. Patterns and noise are uniform in ±1, in
    float32; those named in `below` hold integers below that number, of which noise replaces a quarter. `next` names
    an input along whose first axis the field `next` is one place ahead.
    """
    labels = (random_bits(seed, _LABEL_STREAM, samples) % np.uint64(classes)).astype(np.int32)
    columns = {LABEL: Column(labels)}
    for place, (name, shape) in enumerate(shapes.items()):
        longer = (shape[0] + 1, *shape[1:]) if name == next else shape
        bound = (below or {}).get(name)
        streams = (_PATTERN_STREAM + _PLACES * place, _NOISE_STREAM + _PLACES * place)
        values = (
            _numbers(seed, streams, labels, longer) if bound is None else _tokens(seed, streams, labels, longer, bound)
        )
        columns[name] = Column(values[:, : shape[0]] if name == next else values)
        if name == next:
            columns["next"] = Column(values[:, 1:])
    return split(Samples(columns, "synthetic data"), test, seed)


def _numbers(seed: int, streams: tuple[int, int], labels: Array, shape: tuple[int, ...]) -> Array:
    """The pattern of each label, with noise on it."""
    size, classes = math.prod(shape), int(labels.max(initial=0)) + 1
    patterns = _uniform(seed, streams[0], classes * size).reshape(classes, *shape)
    return np.asarray(patterns[labels] + _uniform(seed, streams[1], len(labels) * size).reshape(len(labels), *shape))


def _tokens(seed: int, streams: tuple[int, int], labels: Array, shape: tuple[int, ...], below: int) -> Array:
    """The pattern of each label, with one value in four, on average, replaced by noise."""
    size, classes, bound = math.prod(shape), int(labels.max(initial=0)) + 1, np.uint64(below)
    patterns = (random_bits(seed, streams[0], classes * size) % bound).reshape(classes, *shape)
    noise = random_bits(seed, streams[1], len(labels) * size).reshape(len(labels), *shape)
    kept = noise & np.uint64(3) != 0
    return np.where(kept, patterns[labels], (noise >> np.uint64(2)) % bound).astype(np.int32)


def _labelled(input: str, images: Array, divisor: float, labels: Array, source: str) -> Samples:
    return Samples({input: Column(images, divisor), LABEL: Column(labels.astype(np.int32))}, source)


def _plain_or_gz(files: Files, folder: str, name: str) -> Path:
    try:
        return files.inside(f"{folder}/{name}")
    except ProgramError as missing:
        try:
            return files.inside(f"{folder}/{name}.gz")
        except ProgramError:
            raise missing from None


def _idx(path: Path, axes: int) -> Array:
    """An IDX file of bytes: two zero bytes, the type, the number of axes, their extents (big endian), the values."""
    data = _read(path)
    header = 4 + 4 * axes
    if len(data) < header:
        raise data_error(path, f"expected a header of {header} bytes, found {len(data)} bytes")
    if data[:4] != bytes([0, 0, _IDX_TYPE, axes]):
        raise data_error(
            path, f"expected an IDX file of bytes with {axes} axes, found one that begins {data[:4].hex()}"
        )
    shape = struct.unpack(f">{axes}I", data[4:header])
    expected = header + math.prod(shape)
    if len(data) != expected:
        raise data_error(path, f"expected {expected} bytes, found {len(data)}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _read(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as cause:
        raise data_error(path, f"cannot be read: {cause}") from cause


def _cifar_rows(path: Path) -> Array:
    data = _read(path)
    if not data or len(data) % _CIFAR_ROW:
        raise data_error(path, f"expected rows of {_CIFAR_ROW} bytes, found {len(data)} bytes")
    rows = np.frombuffer(data, np.uint8).reshape(-1, _CIFAR_ROW)
    _require_labels(rows[:, 0], 10, path)
    return rows


def _require_labels(labels: Array, classes: int, path: Path) -> None:
    wrong = np.flatnonzero(labels >= classes)
    if len(wrong):
        raise data_error(path, f"row {wrong[0]}: the label is {labels[wrong[0]]}, labels are 0 to {classes - 1}")


def _require_numbers(path: Path, name: str, values: Array) -> None:
    """Values along samples, of a type that can be computed with, and finite."""
    if values.ndim == 0:
        raise data_error(path, f"`{name}` is a single number, expected one row per sample")
    if values.dtype.kind not in "biuf":
        raise data_error(path, f"`{name}` has values of type {values.dtype}, expected whole or real numbers")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0][0])
        raise data_error(path, f"row {row}: `{name}` holds a value that is not finite")


def _uniform(seed: int, stream: int, count: int) -> Array:
    """float32 values in [−1, 1): the upper 24 bits of each word."""
    bits = random_bits(seed, stream, count) >> np.uint64(40)
    return (bits.astype(np.float32) * np.float32(2.0**-23)) - np.float32(1.0)


def data_error(path: Path, cause: str) -> ProgramError:
    """E0715 for a file that cannot be used: its name, the cause, its whole path."""
    return ProgramError(f"{path.name}: {cause}", code="E0715", notes=(f"the file is {path}",))
