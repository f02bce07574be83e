"""What dlc writes, whole or not at all: programs' folders, plans, profiles. And what it reads back of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from errno import EISDIR
from typing import TYPE_CHECKING

from dlc.diagnostics import DiagnosticError
from dlc.messages.e07_run import E0702, E0705

if TYPE_CHECKING:
    from dlc.ir.plan import Plan

CACHES = ("__pycache__", ".ruff_cache", ".mypy_cache")
"""What tools leave in a program's folder."""


def write_folder(files: Mapping[str, bytes], out: str) -> None:
    """Write a program's folder whole or not at all: beside its place first, then renamed.

    Errors: E0705 where something else stands there, E0702 where it cannot be written; what was there stays.
    """
    target = os.path.realpath(out)
    _require_replaceable(target, {name.partition("/")[0] for name in files}, out)
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".dlc-", dir=os.path.dirname(target)) as scratch:
            fresh = os.path.join(scratch, "program")
            for name, content in files.items():
                path = os.path.join(fresh, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as stream:
                    stream.write(content)
                if name.endswith(".sh"):
                    os.chmod(path, 0o755)
            _swap(fresh, target, os.path.join(scratch, "previous"))
    except OSError as error:
        raise _unwritable(out, error) from None


def _swap(fresh: str, target: str, previous: str) -> None:
    """Put a folder in the place of another, which is moved aside, and back where that fails."""
    if not os.path.lexists(target):
        os.rename(fresh, target)
        return
    os.rename(target, previous)
    try:
        os.rename(fresh, target)
    except BaseException:
        os.rename(previous, target)
        raise


def _require_replaceable(target: str, own: set[str], out: str) -> None:
    """E0705 where a folder holds anything but a program that dlc wrote, or nothing; `own` are a program's entries."""
    if not os.path.lexists(target):
        return
    held = sorted(os.listdir(target)) if os.path.isdir(target) else []
    foreign = [name for name in held if name not in {*own, *CACHES}]
    if os.path.isdir(target) and not foreign and (not held or "train.py" in held):
        return
    notes = (f"dlc did not write `{foreign[0]}`, which is in it",) if foreign else ()
    what = "folder with a program of dlc and nothing else, so it is left alone"
    raise DiagnosticError((E0705.at(None, path=out, what=what, notes=notes),))


def _unwritable(path: str, error: OSError) -> DiagnosticError:
    """E0702 with the system's reason."""
    return DiagnosticError((E0702.at(None, path=path, cause=(error.strerror or str(error)).lower()),))


def read_plan(path: str) -> Plan:
    """A plan.json by itself. Errors: E0705 for a file that is no plan."""
    from dlc.ir.plan_json import plan_from_json

    try:
        with open(path, encoding="utf-8") as stream:
            return plan_from_json(stream.read())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise DiagnosticError((E0705.at(None, path=path, what="plan that dlc wrote"),)) from None


def write_plan(plan: Plan, path: str) -> None:
    """Write a plan.json whole or not at all. Errors: E0702 where it cannot be written."""
    from dlc.ir.plan_json import plan_to_json

    write_text(path, plan_to_json(plan))


def write_text(path: str, text: str) -> None:
    """Write a file whole or not at all, through links and with the permissions it had; E0702 where that fails."""
    write_bytes(path, text.encode())


def require_writable(path: str) -> None:
    """E0702 where a file cannot be written there: to be asked before what takes long to come by."""
    target = os.path.realpath(path)
    try:
        if os.path.isdir(target):
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".dlc-", dir=os.path.dirname(target)):
            pass
    except OSError as error:
        raise _unwritable(path, error) from None


def write_bytes(path: str, content: bytes) -> None:
    """The same as `write_text` for any content."""
    write_parts(path, (content,))


def write_parts(path: str, parts: Iterable[bytes]) -> None:
    """The same for content that comes part by part and is never in memory as a whole."""
    target = os.path.realpath(path)
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".dlc-", dir=os.path.dirname(target)) as scratch:
            fresh = os.path.join(scratch, "fresh")
            with open(fresh, "wb") as stream:
                stream.writelines(parts)
            if os.path.exists(target):
                shutil.copymode(target, fresh)
            os.replace(fresh, target)
    except OSError as error:
        raise _unwritable(path, error) from None
