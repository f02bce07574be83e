"""Folders and files are written whole or not at all, and what is not dlc's is left alone (E0702, E0705)."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dlc.diagnostics import Diagnostic, DiagnosticError
from dlc.driver import emit_files
from dlc.folders import write_folder, write_text
from tests.driver.conftest import Compile, spec

FILES = {"train.py": b"# new", "kernels/conv.py": b"x = 1\n" * 4000, "launch.sh": b"#!/bin/sh", "plan.json": b"{}"}
OLD = dict.fromkeys(FILES, b"# old")


def written(folder: Path) -> dict[str, bytes]:
    """Path in the folder -> content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(files: Mapping[str, bytes], out: Path) -> Diagnostic:
    with pytest.raises(DiagnosticError) as error:
        write_folder(files, str(out))
    (found,) = error.value.diagnostics
    return found


def only(parent: Path, *names: str) -> bool:
    """Whether a folder holds these entries and nothing that was left behind."""
    return sorted(os.listdir(parent)) == sorted(names)


def test_a_folder_is_written_whole(tmp_path: Path) -> None:
    write_folder(FILES, str(tmp_path / "deep" / "build"))
    assert written(tmp_path / "deep" / "build") == FILES
    assert os.access(tmp_path / "deep" / "build" / "launch.sh", os.X_OK)
    assert only(tmp_path / "deep", "build")


@pytest.mark.parametrize("trailing", ["", "/"])
def test_programs_of_dlc_and_empty_folders_are_replaced(tmp_path: Path, trailing: str) -> None:
    (tmp_path / "build").mkdir()
    for files in (OLD, FILES):
        write_folder(files, f"{tmp_path / 'build'}{trailing}")
        assert written(tmp_path / "build") == files
    (tmp_path / "build" / "__pycache__").mkdir()
    write_folder(OLD, str(tmp_path / "build"))
    assert written(tmp_path / "build") == OLD
    assert only(tmp_path, "build")


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "build").symlink_to(tmp_path / "disk")
    write_folder(FILES, str(tmp_path / "build"))
    assert (tmp_path / "build").is_symlink()
    assert written(tmp_path / "disk") == FILES


def test_emitted_programs_are_replaced_by_themselves(tmp_path: Path, compiled: Compile) -> None:
    files = emit_files(compiled(spec()))
    for _ in range(2):
        write_folder(files, str(tmp_path / "build"))
    found = written(tmp_path / "build")
    assert {name: content for name, content in found.items() if "__pycache__" not in name} == files


@pytest.mark.parametrize(
    "foreign",
    [{"notes.txt": b"mine"}, {**OLD, "weights.npz": b"mine"}, {"plan.json": b"a plan, and no program"}],
    ids=["another folder", "a program and weights", "a plan alone"],
)
def test_folders_of_others_are_left_alone(tmp_path: Path, foreign: dict[str, bytes]) -> None:
    (tmp_path / "build").mkdir()
    for name, content in foreign.items():
        (tmp_path / "build" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "build" / name).write_bytes(content)
    found = refused(FILES, tmp_path / "build")
    assert found.code == "E0705"
    assert written(tmp_path / "build") == foreign
    assert only(tmp_path, "build")


def test_a_file_in_the_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "build").write_bytes(b"mine")
    assert refused(FILES, tmp_path / "build").code == "E0705"
    assert (tmp_path / "build").read_bytes() == b"mine"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    found = refused(FILES, tmp_path / "file" / "deep" / "build")
    assert found.code == "E0702"
    assert found.message.endswith("cannot be written: not a directory")


@pytest.fixture
def full_disk() -> Iterator[int]:
    """No file may grow beyond so many bytes: writing fails in the middle of one, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    yield 8192
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_previous_program(tmp_path: Path, full_disk: int) -> None:
    write_folder(OLD, str(tmp_path / "build"))
    assert len(FILES["kernels/conv.py"]) > full_disk
    found = refused(FILES, tmp_path / "build")
    assert (found.code, found.message.partition(": ")[2]) == ("E0702", os.strerror(errno.EFBIG).lower())
    assert written(tmp_path / "build") == OLD
    assert only(tmp_path, "build")


def test_a_full_disk_leaves_the_previous_plan(tmp_path: Path, full_disk: int) -> None:
    plan = tmp_path / "plan.json"
    write_text(str(plan), "old")
    with pytest.raises(DiagnosticError) as error:
        write_text(str(plan), "new" * full_disk)
    assert [d.code for d in error.value.diagnostics] == ["E0702"]
    assert plan.read_text(encoding="utf-8") == "old"
    assert only(tmp_path, "plan.json")


@pytest.mark.parametrize("failing", [1, 2])
def test_a_move_that_fails_leaves_the_previous_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    write_folder(OLD, str(tmp_path / "build"))
    rename, calls = os.rename, list[str]()

    def failing_rename(source: str, target: str) -> None:
        calls.append(target)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing_rename)
    found = refused(FILES, tmp_path / "build")
    assert found.message.endswith("cannot be written: no space left on device")
    assert written(tmp_path / "build") == OLD
    assert only(tmp_path, "build")


def test_files_keep_their_permissions_and_links(tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    target.write_text("old", encoding="utf-8")
    target.chmod(0o640)
    (tmp_path / "link.json").symlink_to(target)
    write_text(str(tmp_path / "link.json"), "new")
    assert (tmp_path / "link.json").is_symlink()
    assert (target.read_text(encoding="utf-8"), target.stat().st_mode & 0o777) == ("new", 0o640)
