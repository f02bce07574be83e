"""Samples in memory, their split, their order, and each rank's share of a batch.

What is drawn here depends on the seed and the epoch only: random bits come straight from Philox counters, whose stream
NumPy promises to keep, and never from the number of ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from .collectives import Array
from .failures import ProgramError

_SPLIT_STREAM = 2**63  # epochs count from 0, so no epoch ever draws from this stream


@dataclass(frozen=True, slots=True)
class Column:
    """One input or field of all samples, first axis the sample. What is fed is values / divisor; bytes stay bytes."""

    values: Array
    divisor: float = 1.0


@dataclass(frozen=True, slots=True)
class Samples:
    """Columns of equal length, by the names of the network's inputs and the fields; `source` is named in messages.

    `numbers` are the rows that the samples are in the source; None where they are all of them, in order.
    """

    columns: dict[str, Column]
    source: str
    numbers: Array | None = None

    def __len__(self) -> int:
        return min((len(column.values) for column in self.columns.values()), default=0)

    @property
    def names(self) -> tuple[str, ...]:
        """Inputs and fields."""
        return tuple(self.columns)

    def rows(self, indices: Array) -> Samples:
        """The samples at those places, in that order."""
        columns = {name: replace(column, values=column.values[indices]) for name, column in self.columns.items()}
        return replace(self, columns=columns, numbers=indices if self.numbers is None else self.numbers[indices])

    def require(self, shapes: Mapping[str, tuple[int, ...]], classes: Mapping[str, int], help: str = "") -> None:
        """Raises ProgramError unless each array has its shape (without the sample), and integers name classes."""
        for name, shape in shapes.items():
            values = self._column(name).values
            if values.shape[1:] != tuple(shape):
                raise ProgramError(
                    f"{self.source} has `{name}` of shape {_by(values.shape[1:])}, the network takes {_by(shape)}",
                    code="E0715",
                    help=help,
                )
        for name, count in classes.items():
            values = self._column(name).values
            wrong = (values < 0) | (values >= count)
            if values.dtype.kind == "f":
                wrong |= values % 1 != 0
            if wrong.any():
                place = tuple(np.argwhere(wrong)[0])
                row = place[0] if self.numbers is None else self.numbers[place[0]]
                raise ProgramError(
                    f"{self.source}, row {row}: `{name}` is {values[place]}, classes are 0 to {count - 1}",
                    code="E0715",
                )

    def _column(self, name: str) -> Column:
        if name not in self.columns:
            known = ", ".join(f"`{known}`" for known in self.columns)
            raise ProgramError(f"{self.source} has no `{name}`", code="E0715", notes=(f"it has {known}",))
        return self.columns[name]


@dataclass(frozen=True, slots=True)
class Dataset:
    """What to train on and what to test on; the test set may be empty. `about` tells what was found in the files."""

    train: Samples
    test: Samples
    about: str = ""

    def require(self, shapes: Mapping[str, tuple[int, ...]], classes: Mapping[str, int] | None = None) -> None:
        """Raises ProgramError unless both parts hold what the network takes, and there is a sample to train on."""
        if not len(self.train):
            raise ProgramError(f"{self.train.source} has no sample to train on", code="E0715")
        for samples in (self.train, self.test):
            samples.require(shapes, classes or {}, "the network's input and the data need the same shape")


def random_bits(seed: int, stream: int, count: int) -> Array:
    """That many uniform 64-bit words: the Philox4x64 stream of the key (seed, stream)."""
    return np.asarray(np.random.Philox(key=np.array([seed % 2**64, stream], np.uint64)).random_raw(count), np.uint64)


def permutation(seed: int, stream: int, count: int) -> Array:
    """The numbers 0 to count − 1 in the order of their random words."""
    return np.argsort(random_bits(seed, stream, count), kind="stable")


def split(samples: Samples, test: float, seed: int) -> Dataset:
    """Sets a share `test` (0 to 1) of the samples apart, drawn by the seed; both parts keep the original order."""
    count = round(len(samples) * test)
    if count == 0:
        return Dataset(samples, samples.rows(np.arange(0)))
    order = permutation(seed, _SPLIT_STREAM, len(samples))
    return Dataset(samples.rows(np.sort(order[count:])), samples.rows(np.sort(order[:count])))


@dataclass(slots=True)
class Loader:
    """The batches of an epoch after epoch, the same whatever the number of ranks.

    Batch i of an epoch is a run of the epoch's permutation of all samples (their own order without `shuffle`). A last
    partial batch is dropped or kept. `layouts` names inputs that the network holds in another order of axes than batch,
    channel, height, width, such as NHWC: their samples are brought into it once, here.
    """

    samples: Samples
    batch: int
    seed: int = 0
    shuffle: bool = True
    last: Literal["drop", "keep"] = "drop"
    layouts: dict[str, str] = field(default_factory=dict)
    _columns: dict[str, Column] = field(init=False, repr=False)
    _epoch: int = field(init=False, default=-1, repr=False)
    _order: Array = field(init=False, repr=False)
    _taken: dict[str, Array] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.steps_per_epoch == 0 and len(self.samples):
            raise ProgramError(
                f"{self.samples.source} has {len(self.samples)} samples, fewer than one batch of {self.batch}",
                code="E0715",
                help="a smaller batch, or `last = keep` in the data set",
            )
        self._order = np.arange(len(self.samples))
        self._columns = {
            name: replace(column, values=_in_layout(column.values, self.layouts.get(name, "")))
            for name, column in self.samples.columns.items()
        }

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self.samples), self.batch)
        return whole + (self.last == "keep" and rest > 0)

    def indices(self, step: int) -> Array:
        """The samples of the global batch of that step; steps count on from epoch to epoch."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self.shuffle and epoch != self._epoch:
            self._order = permutation(self.seed, epoch, len(self.samples))
            self._epoch = epoch
        return self._order[place * self.batch : (place + 1) * self.batch]

    def fill(self, indices: Array, buffers: Mapping[str, Array]) -> None:
        """Writes those samples into the buffers, which have room for exactly them along their batch axis."""
        for name, buffer in buffers.items():
            column = self._columns[name]
            axis = self.layouts.get(name, "N").index("N")
            if column.divisor == 1.0 and column.values.dtype == buffer.dtype:
                np.take(column.values, indices, axis=axis, out=buffer, mode="clip")  # indices are ours, so in range
                continue
            taken = self._room(name, column.values, axis, len(indices))
            np.take(column.values, indices, axis=axis, out=taken, mode="clip")
            np.divide(taken, column.divisor, out=buffer, casting="unsafe") if column.divisor != 1.0 else np.copyto(
                buffer, taken, casting="unsafe"
            )

    def fill_part(self, indices: Array, name: str, buffer: Array, axis: int, part: tuple[slice, ...]) -> None:
        """Writes a part of those samples into a buffer, whose axis of that number counts them.

        `part` says for each axis which indices the buffer has.
        """
        whole = (*[slice(0, n) for at, n in enumerate(self._columns[name].values.shape) if at != axis],)
        others = part[:axis] + part[axis + 1 :]
        if others == whole:
            self.fill(indices, {name: buffer})
            return
        column = self._columns[name]
        samples, rows = np.moveaxis(column.values, axis, 0), np.moveaxis(buffer, axis, 0)
        for place, index in enumerate(indices):
            if column.divisor == 1.0:
                np.copyto(rows[place], samples[index][others], casting="unsafe")
            else:
                np.divide(samples[index][others], column.divisor, out=rows[place], casting="unsafe")

    def _room(self, name: str, values: Array, axis: int, count: int) -> Array:
        """Scratch of the stored type for `count` samples, made once for the largest batch."""
        if name not in self._taken or len(self._taken[name]) < count * (values.size // max(1, values.shape[axis])):
            self._taken[name] = np.empty(
                max(count, self.batch) * values.size // max(1, values.shape[axis]), values.dtype
            )
        shape = (*values.shape[:axis], count, *values.shape[axis + 1 :])
        return self._taken[name][: np.prod(shape, dtype=int)].reshape(shape)


def _in_layout(values: Array, layout: str) -> Array:
    """Logical order NCHW brought into `layout`; anything else stays as it is."""
    if layout in ("", "NCHW"):
        return values
    if len(layout) > 4:  # channels in blocks
        n, c, *pixels = values.shape
        block = int(layout[4:-1])
        return np.moveaxis(values.reshape(n, c // block, block, *pixels), 2, -1).reshape(values.shape)
    return np.ascontiguousarray(values.transpose([*map("NCHW".index, layout)]))


def _by(shape: tuple[int, ...] | Any) -> str:
    return "x".join(map(str, shape)) or "a single number"
