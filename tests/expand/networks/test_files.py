"""Imports: where they may lead, and what is said where they may not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dlc.diagnostics import Diagnostics
from dlc.expand.files import read_files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inside").mkdir()
    return tmp_path / "inside"


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(("dlspec 1", *lines, "")))


def names(path: str) -> tuple[list[str], list[str], dict[str, str]]:
    """Names of the parameters that were read, messages, and sources."""
    diagnostics, sources = Diagnostics(), dict[str, str]()
    _, items = read_files(path, sources, diagnostics)
    return [getattr(item, "name", "") for item in items], [d.message for d in diagnostics.items], sources


def test_imports_are_relative_to_their_file(folder: Path) -> None:
    write(folder / "main.dlspec", 'import "sub/a.dlspec"', "param m = 1")
    write(folder / "sub" / "a.dlspec", 'import "../b.dlspec"', "param a = 1")
    write(folder / "b.dlspec", "param b = 1")
    found, errors, sources = names("inside/main.dlspec")
    assert (found, errors) == (["b", "a", "m"], [])
    assert list(sources) == ["inside/main.dlspec", "inside/sub/a.dlspec", "inside/b.dlspec"]


def test_a_file_that_two_import_is_read_once(folder: Path) -> None:
    write(folder / "main.dlspec", 'import "a.dlspec"', 'import "b.dlspec"')
    write(folder / "a.dlspec", 'import "c.dlspec"')
    write(folder / "b.dlspec", 'import "./c.dlspec"')
    write(folder / "c.dlspec", "param c = 1")
    assert names("inside/main.dlspec")[:2] == (["c"], [])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.dlspec", "`inside/none.dlspec` cannot be read: no such file or directory"),
        ("../out.dlspec", "cannot import `out.dlspec`: it lies outside the folder of the file that is compiled"),
        ("link.dlspec", "cannot import `inside/link.dlspec`: it lies outside the folder of the file that is compiled"),
        ("/etc/passwd", "cannot import `/etc/passwd`: it lies outside the folder of the file that is compiled"),
        ("folder", "`inside/folder` cannot be read: it is not a regular file"),
        ("pipe", "`inside/pipe` cannot be read: it is not a regular file"),
        ("latin", "the byte 0xe9 is not UTF-8"),
        ("large", "`inside/large` has more than 1 MiB"),
        ("main.dlspec", "cannot import `inside/main.dlspec`: it imports itself: main.dlspec -> main.dlspec"),
        ("a.dlspec", "cannot import `inside/main.dlspec`: it imports itself: main.dlspec -> a.dlspec -> main.dlspec"),
    ],
)
def test_what_cannot_be_imported(folder: Path, path: str, message: str) -> None:
    write(folder / "main.dlspec", f'import "{path}"')
    write(folder.parent / "out.dlspec")
    write(folder / "a.dlspec", 'import "main.dlspec"')
    (folder / "folder").mkdir()
    (folder / "link.dlspec").symlink_to(folder.parent / "out.dlspec")
    (folder / "latin").write_bytes(b"dlspec 1\n\xe9")
    (folder / "large").write_bytes(b" " * (2**20 + 1))
    os.mkfifo(folder / "pipe")
    assert names("inside/main.dlspec")[1] == [message]


def test_imports_are_bounded(folder: Path) -> None:
    write(folder / "main.dlspec", *(f'import "{n}.dlspec"' for n in range(103)))
    for n in range(103):
        write(folder / f"{n}.dlspec")
    assert names("inside/main.dlspec")[1] == ["cannot import `100.dlspec`: there are more than 100 imports"]


def test_a_mistake_in_an_imported_file_stands_there(folder: Path) -> None:
    write(folder / "main.dlspec", 'import "a.dlspec"', "param m = 1")
    write(folder / "a.dlspec", "parm a = 1")
    diagnostics = Diagnostics()
    read_files("inside/main.dlspec", {}, diagnostics)
    (error,) = diagnostics.errors
    assert error.primary is not None
    assert error.primary.span.file == "inside/a.dlspec"


def test_no_such_file(folder: Path) -> None:
    assert names("inside/main.dlspec")[1] == ["`inside/main.dlspec` cannot be read: no such file or directory"]
