"""The files of one compilation: the one that is named, and all that it imports."""

from __future__ import annotations

import os
import stat
from collections.abc import MutableMapping
from dataclasses import dataclass, field

from dlc.diagnostics import DiagnosticError, Diagnostics, Span
from dlc.messages import e02_names as messages
from dlc.syntax import ast

MOST_BYTES = 2**20
MOST_IMPORTS = 100


@dataclass(slots=True)
class Files:
    """Reads a file and its imports; each file is read once.

    `root` is the folder, without symbolic links, that imports stay inside. `sources` receives every text that was read,
    by the file's name as messages show it.
    """

    root: str
    sources: MutableMapping[str, str]
    diagnostics: Diagnostics
    items: list[ast.Item] = field(default_factory=list)
    imports: int = 0
    _open: list[str] = field(default_factory=list)
    _read: set[str] = field(default_factory=set)

    def read(self, path: str, span: Span | None = None) -> None:
        """Collect the items of a file, those of its imports before its own; mistakes are collected."""
        from dlc.syntax.parser import parse

        real = os.path.realpath(path)
        try:
            self._check(real)
            if real in self._read:
                return
            self._read.add(real)
            text = self.sources[path] = _text(path)
            file = parse(text, path)
        except _RefusedError as refusal:
            self.diagnostics.add(messages.CANNOT_READ.at(span, path=path, reason=refusal))
        except DiagnosticError as error:
            self.diagnostics.extend(error.diagnostics)
        else:
            self._open.append(real)
            self._collect(file)
            self._open.pop()

    def _collect(self, file: ast.File) -> None:
        for item in file.items:
            if isinstance(item, ast.Import):
                self._import(item, file.path)
            else:
                self.items.append(item)

    def _import(self, item: ast.Import, importer: str) -> None:
        self.imports += 1
        if self.imports <= MOST_IMPORTS:
            self.read(os.path.normpath(os.path.join(os.path.dirname(importer), item.path)), item.path_span)
        elif self.imports == MOST_IMPORTS + 1:
            reason = f"there are more than {MOST_IMPORTS} imports"
            self.diagnostics.add(messages.CANNOT_READ.at(item.path_span, path=item.path, reason=reason))

    def _check(self, real: str) -> None:
        """Refuse a file that must not be read here."""
        if os.path.commonpath((self.root, real)) != self.root:
            raise _RefusedError("it lies outside the folder of the file that is compiled")
        if real in self._open:
            circle = (os.path.relpath(step, self.root) for step in (*self._open[self._open.index(real) :], real))
            raise _RefusedError(f"it imports itself: {' -> '.join(circle)}")


class _RefusedError(Exception):
    """A file cannot be read; the text is the reason."""


def _text(path: str) -> str:
    """The text of a regular file of at most 1 MiB."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise _RefusedError("it is not a regular file")
        with open(path, "rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise _RefusedError(f"it has {status.st_size:,} bytes, a file has at most {MOST_BYTES:,}")
        return content.decode()
    except UnicodeDecodeError as error:
        raise _RefusedError(f"byte {error.start + 1} is not UTF-8 text") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise _RefusedError(reason[:1].lower() + reason[1:]) from None


def read_files(path: str, sources: MutableMapping[str, str], diagnostics: Diagnostics) -> tuple[str, list[ast.Item]]:
    """The root folder, and the items of a file and of all its imports."""
    root = os.path.dirname(os.path.realpath(path))
    files = Files(root, sources, diagnostics)
    files.read(path)
    return root, files.items
