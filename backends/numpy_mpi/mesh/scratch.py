"""The table of what kernels work in: `"stage1[1:3].main.reduce.conv": "forward 16384; dx 16384"`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from backends.numpy_mpi.mesh.tree import Path
from backends.numpy_mpi.text import literal

WIDTH = 80
"""So many letters of names stand in one row."""


def lines(rooms: Mapping[Path, str]) -> list[str]:
    """A row for each text, with the ops (the last step of a path) whose kernels work in that."""
    by_text: dict[str, list[Path]] = {}
    for path, text in rooms.items():
        by_text.setdefault(text, []).append(path)
    found: list[str] = []
    for text, paths in by_text.items():
        names = [_dotted(each) for each in _ranges(paths)]
        while names:
            count = _fitting(names)
            found.append(f"    {literal(' '.join(names[:count]))}: {literal(text)},")
            names = names[count:]
    return found


def _fitting(names: Sequence[str]) -> int:
    """How many of these names stand in one row."""
    length = 0
    for count, name in enumerate(names):
        length += len(name) + 1
        if count and length > WIDTH:
            return count
    return len(names)


Range = tuple[str | int | slice, ...]


def _ranges(paths: Sequence[Path]) -> Iterator[Range]:
    """Paths of which those that differ in one number, by one, are one with a range."""
    known: dict[Path, list[int]] = {}
    plain: list[Path] = []
    for path in paths:
        at = next((at for at, step in enumerate(path) if isinstance(step, int)), None)
        plain.append(path if at is None else (*path[:at], -1, *path[at + 1 :]))
        if at is not None:
            known.setdefault(plain[-1], []).append(int(path[at]))
    for path in dict.fromkeys(plain):
        at = path.index(-1) if -1 in path else None
        for start, stop in _runs(sorted(known.get(path, []))) if at is not None else ((0, 0),):
            number = start if stop == start + 1 else slice(start, stop)
            yield path if at is None else (*path[:at], number, *path[at + 1 :])


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where numbers that follow each other begin, and where they end."""
    start = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] != numbers[end - 1] + 1:
            yield numbers[start], numbers[end - 1] + 1
            start = end


def _dotted(path: Range) -> str:
    text = ""
    for step in path:
        if isinstance(step, slice):
            text += f"[{step.start}:{step.stop}]"
        else:
            text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
