"""The grammar has no conflicts, and its cache never gets in the way."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lark
import pytest

from dlc.syntax import grammar

SOURCE = grammar.GRAMMAR_FILE.read_text(encoding="utf-8")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    grammar.load_grammar.cache_clear()
    yield tmp_path / "dlc"
    grammar.load_grammar.cache_clear()


def kept(cache: Path) -> list[Path]:
    return sorted(cache.iterdir()) if cache.exists() else []


def reads() -> bool:
    grammar.load_grammar.cache_clear()
    tree = grammar.load_grammar().parse("dlspec 1\nparam a = (1 +\n 2)\n\nparam b = a\n", start="file")
    return len(tree.children) == 3


def test_grammar_is_lalr1_without_conflicts_or_colliding_terminals() -> None:
    grammar.build_grammar(SOURCE, strict=True)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("INT: /[0-9]+/", "INT.2: /[0-9.]+/"),
        ('labelled: or "as" NAME', 'labelled: or "as" NAME | or _ARROW link'),
    ],
)
def test_strict_building_would_find_them(right: str, wrong: str) -> None:
    assert right in SOURCE
    with pytest.raises((lark.exceptions.LexError, lark.exceptions.GrammarError), match=r"[Cc]ollision"):
        grammar.build_grammar(SOURCE.replace(right, wrong), strict=True)


def test_cache_is_written_once_and_read_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reads()
    (file,) = kept(cache)
    assert file.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(grammar, "build_grammar", None)
    assert reads()
    assert kept(cache) == [file]


@pytest.mark.parametrize("damage", [b"", b"\x80\x05", pickle.dumps({"data": 1, "memo": {}}), b"not a pickle"])
def test_damaged_cache_is_built_anew(cache: Path, damage: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reads()
    (file,) = kept(cache)
    file.write_bytes(damage)
    assert reads()
    monkeypatch.setattr(grammar, "build_grammar", None)
    assert reads()


def test_cache_that_others_can_write_is_not_trusted(cache: Path) -> None:
    assert reads()
    (file,) = kept(cache)
    file.write_bytes(pickle.dumps("planted"))
    file.chmod(0o666)
    assert grammar._restore(file) is None
    assert reads()
    assert file.stat().st_mode & 0o022 == 0


def test_folder_that_cannot_be_made_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert reads()
    assert kept(tmp_path) == [tmp_path / "file"]


def test_full_disk_leaves_no_half_written_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    assert reads()
    assert kept(cache) == []


def test_parsing_imports_neither_numpy_nor_networkx() -> None:
    program = "import dlc.syntax.formatter, sys; print({'numpy', 'networkx', 'mpi4py', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
