"""The parser that lark makes of grammar/dlspec.lark, kept in the user's cache folder.

Building it takes half a second, loading it a few milliseconds.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import lark

import grammar
from dlc.syntax.lexer import Newlines

GRAMMAR_FILE = Path(grammar.__file__).with_name("dlspec.lark")


@cache
def load_grammar() -> lark.Lark:
    """The parser with the starts `file` and `items`, from the cache where it holds one that fits."""
    source = GRAMMAR_FILE.read_text(encoding="utf-8")
    file = _cache_file(source)
    parser = _restore(file)
    if parser is None:
        parser = build_grammar(source)
        _keep(parser, file)
    return parser


def build_grammar(source: str, **options: Any) -> lark.Lark:
    """The parser, built anew; tests pass `strict = True`, which needs a package that users need not have."""
    return lark.Lark(
        source,
        parser="lalr",
        start=["file", "items"],
        postlex=Newlines(),
        propagate_positions=True,
        maybe_placeholders=True,
        **options,
    )


def _cache_file(source: str) -> Path:
    """Named after everything that the built parser depends on."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    key = f"{source}\0{lark.__version__}\0{sys.version}\0{sys.implementation.cache_tag}"
    return Path(os.path.expanduser(base), "dlc", f"grammar-{sha256(key.encode()).hexdigest()[:24]}.pickle")


def _restore(file: Path) -> lark.Lark | None:
    """The kept parser; None where there is none, another user could have written it, or it does not load."""
    try:
        with file.open("rb") as stream:
            status = os.fstat(stream.fileno())
            if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
                return None
            return lark.Lark.load(stream)
    except Exception:  # a damaged pickle can raise nearly anything, and the answer is always to build it anew
        return None


def _keep(parser: lark.Lark, file: Path) -> None:
    """Written whole or not at all; a folder that cannot be written only costs time."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".grammar-")
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as stream:
            parser.save(stream)
        os.replace(name, file)
    except OSError:
        with suppress(OSError):
            os.unlink(name)
