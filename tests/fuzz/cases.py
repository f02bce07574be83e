"""The numbered cases: each is a text that depends on its number alone, and what dlc must answer to it."""

from __future__ import annotations

import re
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from dlc.diagnostics import Diagnostic, Sources, render_all
from dlc.driver import Options, SourcedError, check_file, compile_file, emit_files
from dlc.messages import MESSAGES
from tests.fuzz.generation import generate
from tests.fuzz.mutations import mutate
from tests.work import counted

SPECS = Path(__file__).resolve().parents[2] / "specs"
SAMPLES = (
    "lenet5.dlspec", "resnet50.dlspec", "gpt2.dlspec", "clusters/a100_pod.dlspec",
    "autoencoder.dlspec", "char_lm.dlspec", "gru.dlspec", "mlp.dlspec", "treenet.dlspec",
)  # fmt: skip

CALLS = 20_000_000  # some seconds: what runs away takes far longer
MEMORY = 512 * 2**20
PATIENCE = 30  # wall-clock seconds after which a case counts as hanging, whatever else the machine is doing

WITHOUT_PLACE = frozenset({"E0113", "E0114", "E0509", "E0709", "E0711"})
"""Messages about a whole file, or about what it needs and the machine has."""


@dataclass(frozen=True, slots=True)
class Case:
    """A text and where it came from."""

    number: int
    origin: str
    text: str


@cache
def samples() -> dict[str, str]:
    """The specs that are shipped."""
    return {name: (SPECS / name).read_text(encoding="utf-8") for name in SAMPLES}


def case(number: int) -> Case:
    """A fifth of the cases is generated, a fifth generated and damaged, the rest are damaged samples."""
    random = Random(number)
    texts = samples()
    match number % 5:
        case 0:
            return Case(number, "generated", generate(random))
        case 1:
            return Case(number, "generated, damaged", mutate(generate(random), list(texts.values()), random))
    name = random.choice(SAMPLES)
    return Case(number, name, mutate(texts[name], list(texts.values()), random))


def write(case: Case, folder: Path) -> Path:
    """The case as a file, with what the samples import beside it."""
    pod = folder / "clusters" / "a100_pod.dlspec"
    if not pod.exists():
        pod.parent.mkdir()
        pod.write_text(samples()["clusters/a100_pod.dlspec"], encoding="utf-8")
    file = folder / "case.dlspec"
    file.write_bytes(case.text.encode("utf-8", "surrogatepass"))
    return file


def faults(case: Case, folder: Path) -> list[str]:
    """What is wrong with dlc's answer; an exception is a fault too, and is left to the caller to see."""
    file = write(case, folder)
    with bounded(), counted(CALLS):
        diagnostics, sources = check_file(str(file))
    found = list(faults_of_messages(diagnostics, sources, folder))
    if not any(diagnostic.is_error for diagnostic in diagnostics) and case.origin != "resnet50.dlspec":
        found += _compiles(file, folder)
    return found


def _compiles(file: Path, folder: Path) -> list[str]:
    """A spec without mistakes compiles, or is refused with messages. Planning has a time of its own."""
    try:
        with bounded():
            emit_files(compile_file(str(file), Options()))
    except SourcedError as error:
        return list(faults_of_messages(error.diagnostics, error.sources, folder))
    return []


def faults_of_messages(diagnostics: tuple[Diagnostic, ...], sources: Sources, folder: Path) -> Iterator[str]:
    render_all(diagnostics, sources)
    for diagnostic in diagnostics:
        yield from (f"{diagnostic.code} {fault}: {diagnostic.message!r}" for fault in _faults_of(diagnostic, sources))


def _faults_of(diagnostic: Diagnostic, sources: Sources) -> Iterator[str]:
    """Where a message breaks the rules of language.md."""
    text = diagnostic.message
    if diagnostic.code not in MESSAGES:
        yield "has no explanation"
    if diagnostic.primary is None:
        if diagnostic.code not in WITHOUT_PLACE:
            yield "has no place"
    else:
        span = diagnostic.primary.span
        lines = sources.get(span.file, "").split("\n")
        if not 1 <= span.line <= len(lines) or not 1 <= span.column <= len(lines[span.line - 1]) + 1:
            yield f"points outside the text, at {span.line}:{span.column}"
    if not text or text[-1] in ".!" or re.match("[A-Z][a-z]", text):
        yield "is not a sentence in lower case without a full stop"
    if re.search(r"\binvalid\b|\bplease\b|Traceback|object at 0x|\bNone\b", text):
        yield "uses words that say nothing"
    if len(text) > 400:
        yield f"has {len(text)} characters"
    if not text.isprintable():
        yield "has control characters"


class HangingError(Exception):
    """A case did not end."""


@contextmanager
def bounded() -> Iterator[None]:
    """End what runs too long or takes much more memory than it may."""

    def ring(signum: int, frame: object) -> None:
        raise HangingError

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    previous = signal.signal(signal.SIGALRM, ring)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, hard))
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space() -> int:
    """Bytes of address space that this process has by now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
