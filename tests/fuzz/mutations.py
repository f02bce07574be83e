"""Damage to .dlspec texts at three levels: characters, words, lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

_WORD = re.compile(r'"[^"\n]*"|#[^\n]*|[A-Za-z_][A-Za-z0-9_]*|[0-9][0-9A-Za-z_.]*|->|==|!=|<=|>=|\*\*|\.\.|[^\w\s]')

CHARACTERS = "aZ_09 \t\n\r(){}[]<>=!+-*/@.,;:#\"%&|^~$?`'\\\x00\x07\x1b\x7f\ufeff\u200b\u202eé×→“‘ﬁ٣😀"

WORDS = (
    "if", "then", "else", "and", "or", "not", "as", "where", "repeat", "return", "input", "output", "block", "network",
    "cluster", "train", "plan", "pin", "forbid", "limit", "mesh", "param", "import", "device", "link", "topology",
    "auto", "yes", "no", "same", "valid", "x", "conv", "linear", "bn", "dropout", "split", "replicate", "over",
    "**", "*", "[0]", "[0..3]", "[*]", "0", "1", "-1", "1.5", "1e309", "1e-400", "9007199254740991",
    "9007199254740992", "100000000000", "1" * 400, "3x3", "0x0", "1x2x3x4", "99999x99999", "4 GiB", "0 B",
    "5 epochs", "2 us", "900 GB/s", "GB", "3 parsecs", '"text"', '""', '"../../etc/passwd"',
    "{", "}", "(", ")", "[", "]", "->", "=", "==", ",", ";", ":",
    ".", "..", "+", "-", "/", "@", "<=", "dlspec 2", "f32[batch]", "i32[]", "data.label", "x.channel", "x.width / 0",
    "1 / 0", "1 % 0", "2 * 9007199254740991", "repeat 1000000000 { relu }", "(" * 150, "[" * 99, "-> relu " * 300,
    "not " * 200, "- " * 300,
)  # fmt: skip
"""Words that sit at the edges of what the language allows."""


def mutate(text: str, donors: Sequence[str], random: Random) -> str:
    """The text after one to four random changes; `donors` are texts that pieces are taken from."""
    for _ in range(random.choice((1, 1, 1, 1, 2, 3))):
        level = random.choice((_characters, _words, _meaning, _meaning, _meaning, _lines))
        text = level(text, donors, random)
    return text


def _characters(text: str, donors: Sequence[str], random: Random) -> str:
    at = random.randrange(len(text) + 1)
    end = min(len(text), at + random.choice((1, 1, 1, 2, 5, 40)))
    match random.randrange(6):
        case 0:
            return text[:at] + text[end:]
        case 1:
            return text[:at] + random.choice(CHARACTERS) + text[at:]
        case 2:
            return text[:at] + random.choice(CHARACTERS) + text[end:]
        case 3:
            return text[:at] + text[at:end][::-1] + text[end:]
        case 4:
            return text[:at] + text[at:end] * random.choice((2, 3, 50)) + text[end:]
        case _:
            return text[:at] if random.random() < 0.5 else text[at:]


def _words(text: str, donors: Sequence[str], random: Random) -> str:
    words = list(_WORD.finditer(text))
    if not words:
        return text + random.choice(WORDS)
    one, other = random.choice(words), random.choice(words)
    foreign = list(_WORD.finditer(random.choice(donors)))
    match random.randrange(6):
        case 0:
            new = ""
        case 1:
            new = f"{one.group()} {one.group()}"
        case 2:
            new = other.group()
        case 3:
            new = random.choice(foreign).group()
        case 4:
            new = f"{one.group()} {random.choice(WORDS)} "
        case _:
            new = random.choice(WORDS)
    return text[: one.start()] + new + text[one.end() :]


def _meaning(text: str, donors: Sequence[str], random: Random) -> str:
    """Another name for a name, another number for a number, another sign for a sign: the grammar often lets it pass."""
    words = [word for word in _WORD.finditer(text) if not word.group().startswith("#")]
    if not words:
        return text
    one = random.choice(words)
    alike = [word.group() for word in words if _kind(word.group()) == _kind(one.group())]
    alike += [word for word in WORDS if _kind(word) == _kind(one.group())]
    return text[: one.start()] + random.choice(alike) + text[one.end() :]


_KEYWORDS = frozenset(WORDS[: WORDS.index("auto")])
_SIGNS = {
    "+": "sum",
    "-": "sum",
    "*": "sum",
    "/": "sum",
    "@": "sum",
    "==": "compared",
    "<": "compared",
    ">": "compared",
}


def _kind(word: str) -> str:
    """Words of one kind may stand in each other's places."""
    if word in _KEYWORDS:
        return "keyword"
    if word[0].isalpha():
        return "name"
    if word[0].isdigit():
        return "window" if "x" in word else "quantity" if " " in word else "number"
    return "text" if word[0] == '"' else _SIGNS.get(word, word)


def _lines(text: str, donors: Sequence[str], random: Random) -> str:
    lines = text.split("\n")
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    foreign = random.choice(donors).split("\n")
    begin = random.randrange(len(foreign))
    match random.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(other, lines[at])
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines[at:at] = foreign[begin : begin + random.choice((1, 1, 3, 10))]
        case 4:
            del lines[at : at + random.choice((2, 5, 10))]
        case _:
            lines[at] = " ".join(lines[at : at + 2])
            del lines[at + 1 : at + 2]
    return "\n".join(lines)
