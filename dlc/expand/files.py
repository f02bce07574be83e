"""The files of one compilation: the one that is named, and all that it imports."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from dataclasses import dataclass, field, replace

from dlc.diagnostics import DiagnosticError, Diagnostics, Label, Span
from dlc.messages import e02_names as messages
from dlc.syntax import ast
from dlc.syntax.source import read_source

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
        """Collect the items of a file, those of its imports before its own; mistakes are collected.

        `span` is where the file is imported.
        """
        from dlc.syntax.parser import parse

        real = os.path.realpath(path)
        refusal = self._refusal(real)
        if refusal is not None:
            self.diagnostics.add(messages.CANNOT_IMPORT.at(span, path=path, reason=refusal))
        if refusal is not None or real in self._read:
            return
        self._read.add(real)
        try:
            text = self.sources[path] = read_source(path)
            file = parse(text, path)
        except DiagnosticError as error:
            at = None if span is None else Label(span)
            self.diagnostics.extend(replace(mistake, primary=mistake.primary or at) for mistake in error.diagnostics)
            return
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
            self.diagnostics.add(messages.CANNOT_IMPORT.at(item.path_span, path=item.path, reason=reason))

    def _refusal(self, real: str) -> str | None:
        """Why a file must not be read here; None where it may."""
        if os.path.commonpath((self.root, real)) != self.root:
            return "it lies outside the folder of the file that is compiled"
        if real in self._open:
            circle = (os.path.relpath(step, self.root) for step in (*self._open[self._open.index(real) :], real))
            return f"it imports itself: {' -> '.join(circle)}"
        return None


def read_files(path: str, sources: MutableMapping[str, str], diagnostics: Diagnostics) -> tuple[str, list[ast.Item]]:
    """The root folder, and the items of a file and of all its imports."""
    root = os.path.dirname(os.path.realpath(path))
    files = Files(root, sources, diagnostics)
    files.read(path)
    return root, files.items
