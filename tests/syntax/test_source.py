"""Reading files: E0112, E0113, E0114, and characters that no grammar needs to see."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dlc.diagnostics import Diagnostic, DiagnosticError
from dlc.syntax.parser import parse
from dlc.syntax.source import MAX_BYTES, MAX_WORDS, Text, read_source, unclosed_brackets


def refused(path: Path) -> Diagnostic:
    with pytest.raises(DiagnosticError) as error:
        read_source(str(path))
    (diagnostic,) = error.value.diagnostics
    return diagnostic


def parse_errors(text: str) -> list[str]:
    with pytest.raises(DiagnosticError) as error:
        parse(text, "a.dlspec")
    return [f"{d.code} {d.primary.span if d.primary else '-'}" for d in error.value.diagnostics]


def test_missing_file(tmp_path: Path) -> None:
    found = refused(tmp_path / "none.dlspec")
    assert found.code == "E0112"
    assert found.message.endswith("cannot be read: no such file or directory")


def test_folder(tmp_path: Path) -> None:
    assert refused(tmp_path).message == f"`{tmp_path}` cannot be read: it is not a regular file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path / "pipe").code == "E0112"


def test_name_with_a_null_byte() -> None:
    found = refused(Path("a\0b"))
    assert found.code == "E0112"
    assert "\0" not in found.message


def test_size(tmp_path: Path) -> None:
    file = tmp_path / "large.dlspec"
    file.write_bytes(b"dlspec 1\n".ljust(MAX_BYTES, b"\n"))
    assert parse(read_source(str(file)), "large.dlspec").items == ()
    file.write_bytes(b"dlspec 1\n".ljust(MAX_BYTES + 1, b"\n"))
    assert refused(file).code == "E0113"
    assert parse_errors("dlspec 1\n".ljust(MAX_BYTES + 1)) == ["E0113 -"]


def test_number_of_words() -> None:
    list_of = "dlspec 1\nparam a = [{}1]\n"
    most = (MAX_WORDS - 8) // 2
    assert len(parse(list_of.format("1," * most), "a.dlspec").items) == 1
    assert parse_errors(list_of.format("1," * (most + 1))) == ["E0113 -"]


def test_other_encodings(tmp_path: Path) -> None:
    file = tmp_path / "a.dlspec"
    file.write_bytes("dlspec 1\n# é and ü\n".encode() + b"# \xc3\xa9\xff\n")
    found = refused(file)
    assert found.code == "E0114"
    assert found.primary is not None
    assert (found.primary.span.line, found.primary.span.column) == (3, 4)
    file.write_bytes("dlspec 1\n".encode("utf-16"))
    assert refused(file).code == "E0114"


def test_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    file = tmp_path / "a.dlspec"
    file.write_bytes(b"\xef\xbb\xbfdlspec 1\nparam a = = 1\n")
    assert read_source(str(file)).startswith("dlspec")
    assert parse_errors(file.read_text(encoding="utf-8")) == ["E0101 a.dlspec:2:11"]


@pytest.mark.parametrize("character", ["\0", "\x0b", "\x0c", "\x1b", "\x7f", "\x85", "\u202e", "\u2066", "\ud800"])
@pytest.mark.parametrize("place", ["{}", "# {}", '"{}"'])
def test_control_characters_stand_nowhere(character: str, place: str) -> None:
    errors = parse_errors(f"dlspec 1\nparam a = 1 {place.format(character)}\n")
    assert f"E0107 a.dlspec:2:{13 + place.index('{')}" in errors


def test_other_scripts_stand_in_texts_and_comments_only() -> None:
    text = 'dlspec 1\n# größer, 大きい\nparam a = "größer, 大きい"\n'
    assert len(parse(text, "a.dlspec").items) == 1
    assert parse_errors("dlspec 1\nparam größe = 1\n") == ["E0106 a.dlspec:2:9"]
    assert parse_errors("dlspec 1\nparam a = ٣\n") == ["E0106 a.dlspec:2:11"]
    assert parse_errors("dlspec 1\nparam ﬁ = 1\n") == ["E0106 a.dlspec:2:7"]


def test_carriage_returns() -> None:
    text = "dlspec 1\r\n\r\nparam a = 1 # one\r\nparam b = [1,\r\n  2]\r\n"
    assert parse(text, "a") == parse(text.replace("\r\n", "\n"), "a")
    assert parse_errors("dlspec 1\nparam a = 1\r") == ["E0107 a.dlspec:2:12"]


@pytest.mark.parametrize(
    ("text", "unclosed"),
    [
        ("a { b ( c }", [6]),
        ("a { b [ c ) ] }", []),
        ("a ( b { c ) }", [6]),
        ('a { "{" # {\n}', []),
        ("a {\n  b {\n  c\n}\n", [8]),
        ("a {\n  b {\n  }\n", [2]),
        (") ] }", []),
    ],
)
def test_unclosed_brackets(text: str, unclosed: list[int]) -> None:
    assert unclosed_brackets(Text.of(text, "a")) == unclosed
