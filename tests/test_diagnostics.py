"""How messages are shown: marks under source lines, and their order."""

from __future__ import annotations

from dlc.diagnostics import CLIPPED_TO, DiagnosticError, Label, Message, Span, render, render_all

FAULT = Message("E0199", "a fault", "")
DOUBT = Message("W0199", "a doubt", "")


def span(line: int, column: int, end: int, file: str = "a") -> Span:
    return Span(file, line, column, line, end)


def test_a_line_with_two_labels_is_shown_once() -> None:
    first = Label(span(1, 9, 11), "first here")
    shown = render(FAULT.at(span(1, 13, 18), "again", secondary=[first]), {"a": "linear(10, 12345)"})
    assert shown.split("\n")[2:] == [
        "  |",
        "1 | linear(10, 12345)",
        "  |         -- first here",
        "  |             ^^^^^ again",
    ]


def test_equal_lines_at_different_places_are_both_shown() -> None:
    other = Label(span(2, 1, 2))
    assert render(FAULT.at(span(1, 1, 2), secondary=[other]), {"a": "x\nx"}).count("| x") == 2
    abroad = Label(span(1, 1, 2, "b"))
    assert render(FAULT.at(span(1, 1, 2), secondary=[abroad]), {"a": "x", "b": "x"}).count("| x") == 2


def test_far_parts_of_a_long_line_are_shown_apart() -> None:
    text = "".join(chr(97 + place // 100) for place in range(1000))
    shown = render(FAULT.at(span(1, 1, 2), secondary=[Label(span(1, 900, 901))]), {"a": text}).split("\n")
    assert [line.startswith("1 | ") for line in shown].count(True) == 2
    assert max(map(len, shown)) <= CLIPPED_TO + 4


def test_errors_are_shown_before_warnings() -> None:
    found = [DOUBT.at(None), FAULT.at(None), FAULT.at(span(1, 1, 2)), DOUBT.at(span(1, 1, 2))]
    expected = [found[1], found[2], found[0], found[3]]
    assert list(DiagnosticError(found).diagnostics) == expected
    assert render_all(found, {"a": "x"}) == "\n\n".join(render(each, {"a": "x"}) for each in expected)
