"""A checked file, and what the command line adds to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from dlc.diagnostics import Diagnostic, DiagnosticError, Sources

if TYPE_CHECKING:
    from dlc.cost.profile import Sample
    from dlc.expand.spec import Spec


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line adds to a spec: `-P` overrides, ranks, the cluster, and what `verify` changes.

    `fused` asks for fused kernels where the plan leaves that open. `measured` are kernels that were timed on this
    machine, in place of what the device's profile says.
    """

    parameters: Mapping[str, str] = field(default_factory=dict)
    ranks: int | None = None
    cluster: str | None = None
    precision: str | None = None
    exact: bool = False
    kernels: str | None = None
    fused: bool = False
    measured: tuple[Sample, ...] = ()
    dump_after: str | None = None
    dump: Callable[[str], None] = print


@dataclass(frozen=True, slots=True)
class Source:
    """A checked file with the texts that its spans point into."""

    spec: Spec
    texts: Sources

    @property
    def digest(self) -> str:
        """sha256 over the names and texts of all files."""
        text = "\0".join(f"{os.path.basename(name)}\0{self.texts[name]}" for name in sorted(self.texts))
        return sha256(text.encode()).hexdigest()


def read(path: str, parameters: Mapping[str, str] | None = None) -> Source:
    """Parse and expand a file; DiagnosticError with all its mistakes, `texts` in the error's `sources`."""
    from dlc.expand.build import expand

    texts: dict[str, str] = {}
    try:
        spec = expand(path, parameters or {}, sources=texts)
    except DiagnosticError as error:
        raise SourcedError(error.diagnostics, texts) from None
    return Source(spec, texts)


class SourcedError(DiagnosticError):
    """Mistakes in the input together with the texts that they point into."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...], sources: Sources) -> None:
        super().__init__(diagnostics)
        self.sources = sources


def check_file(path: str, parameters: Mapping[str, str] | None = None) -> tuple[tuple[Diagnostic, ...], Sources]:
    """Every message about a file, errors and warnings, and the texts that they point into."""
    try:
        source = read(path, parameters)
    except SourcedError as error:
        return error.diagnostics, error.sources
    return source.spec.warnings, source.texts
