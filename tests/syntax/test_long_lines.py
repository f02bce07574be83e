"""Messages about long lines show the part that matters."""

from __future__ import annotations

import pytest

from dlc.diagnostics import CLIPPED_TO, Label, Message, Span, render

FAULT = Message("E0199", "a fault", "")


def rendered(text: str, column: int, end: int) -> list[str]:
    span = Span("a", 1, column, 1, end)
    _, _, _, line, marks = render(FAULT.at(span), {"a": text}).split("\n")
    return [line.removeprefix("1 | "), marks.removeprefix("  | ")]


@pytest.mark.parametrize("column", [1, 2, 119, 120, 121, 122, 200, 500, 878, 879, 880, 881, 999, 1000])
def test_marks_stand_below_the_fault(column: int) -> None:
    text = "".join("x" if place == column else "." for place in range(1, 1001))
    line, marks = rendered(text, column, column + 1)
    assert len(line) <= CLIPPED_TO
    assert line[len(marks) - 1] == "x"
    assert marks == "^".rjust(len(marks))


def test_a_fault_longer_than_the_part_is_marked_to_its_end() -> None:
    line, marks = rendered("." * 1000, 500, 900)
    assert len(line) == len(marks) == CLIPPED_TO
    assert line.startswith("...")


def test_lines_of_usual_length_are_shown_whole() -> None:
    text = "x" * CLIPPED_TO
    assert rendered(text, CLIPPED_TO, CLIPPED_TO + 1) == [text, "^".rjust(CLIPPED_TO)]


def test_labels_of_long_lines_keep_their_words() -> None:
    label = Label(Span("a", 1, 900, 1, 901), "here")
    shown = render(FAULT.at(Span("a", 1, 1, 1, 2), secondary=[label]), {"a": "." * 1000})
    assert shown.endswith("- here")
    assert max(map(len, shown.split("\n"))) < CLIPPED_TO + 10
