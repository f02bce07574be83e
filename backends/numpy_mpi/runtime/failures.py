"""What goes wrong in words that a user can act on."""

from __future__ import annotations


class ProgramError(Exception):
    """A mistake of the user, of a file or of the machine: its text is printed without a traceback, exit status 1.

    `code` is one of the compiler's error codes, "" where there is none.
    """

    def __init__(self, text: str, *, code: str = "", notes: tuple[str, ...] = (), help: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.notes = notes
        self.help = help

    def render(self, *notes: str) -> str:
        """The message in the compiler's form, with further notes behind its own."""
        lines = [f"error[{self.code}]: {self.text}" if self.code else f"error: {self.text}"]
        lines += [f"  = note: {note}" for note in (*self.notes, *notes)]
        lines += [f"  = help: {self.help}"] if self.help else []
        return "\n".join(lines)
