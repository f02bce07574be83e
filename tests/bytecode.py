"""Bytecode for the folders of emitted programs, which share nearly all of their modules' texts.

Each program that a test starts would compile sixty modules, on every one of its ranks: longer than most of them run.
"""

from __future__ import annotations

import marshal
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path

import pytest

from dlc import folders

SHARED = ("kernels", "runtime")
"""The parts of a program's folder that are the same in many."""


@pytest.fixture(scope="session", autouse=True)
def _programs_have_bytecode() -> Iterator[None]:
    """For all folders that this process writes; what `dlc run` writes as a process of its own has none."""
    place = folders._swap

    def placed(fresh: str, target: str, previous: str) -> None:
        for part in SHARED if Path(fresh, "runtime").is_dir() else ():
            for path in Path(fresh, part).rglob("*.py"):
                beside = path.parent / "__pycache__"
                beside.mkdir(exist_ok=True)
                (beside / f"{path.stem}.{sys.implementation.cache_tag}.pyc").write_bytes(_bytecode(path.read_bytes()))
        place(fresh, target, previous)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "_swap", placed)
        yield


@cache
def _bytecode(text: bytes) -> bytes:
    """A module's, with the hash of its text, by which Python sees that a test has changed the module (PEP 552)."""
    code = compile(text, "a module of a program", "exec", dont_inherit=True)
    return MAGIC_NUMBER + (0b11).to_bytes(4, "little") + source_hash(text) + marshal.dumps(code)
