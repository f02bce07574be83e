"""Which newlines count: the grammar's post-lexer."""

from __future__ import annotations

from collections.abc import Iterator

from lark.lark import PostLex
from lark.lexer import Token

ENDS_A_STATEMENT = frozenset({"NAME", "INT", "FLOAT", "QUANTITY", "STRING", "WINDOW", "RPAR", "RSQB", "RBRACE"})


class Newlines(PostLex):
    """Drops newlines inside ( ) and [ ] and after a token that cannot end a statement.

    A newline before a token that goes on with the statement is no token to begin with: the pattern of `_NL` sees to it.
    """

    always_accept = ("_NL",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        """The tokens that the parser sees."""
        brackets: list[str] = []
        ends_a_statement = False
        for token in stream:
            if token.type == "_NL":
                if not ends_a_statement or (brackets and brackets[-1] != "{"):
                    continue
            elif token in ("(", "[", "{"):
                brackets.append(str(token))
            elif token in (")", "]", "}") and brackets:
                brackets.pop()
            ends_a_statement = token.type in ENDS_A_STATEMENT
            yield token
