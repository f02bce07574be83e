"""What instances of a block differ in, as the parameters of its function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from backends.numpy_mpi.mesh.statements import NUMBER, Key, Keywords, Name, Ref, Statement, Token, Value, Words
from backends.numpy_mpi.mesh.tree import Path

OPTIONS = "options"
"""The kind of values that are dictionaries of keywords."""

Vector = tuple[Token, ...]
"""What stands at one place of a statement, in each instance."""


@dataclass(slots=True)
class Parameters:
    """The parameters of a function for blocks at these paths: by what each is in every instance, its name.

    Where instances have different keywords, `options` has those that not all have. The first such set of a function
    are its own further keywords, `also`; others are dictionaries.
    """

    paths: Sequence[Path]
    names: dict[Vector, str] = field(default_factory=dict)
    given: dict[str, Vector] = field(default_factory=dict)
    also: str = ""
    options: tuple[Keywords, ...] = ()

    def unified(self, alike: Sequence[Statement]) -> Statement:
        """One statement for those of all instances."""
        first = alike[0]
        rows = zip(*(statement.expressions for statement in alike), strict=True)
        found = [tuple(self._token(tokens) for tokens in zip(*row, strict=True)) for row in rows]
        keywords, options = self._keywords([statement.keywords for statement in alike])
        arguments = None if first.arguments is None else tuple(found[1:])
        note = first.note if len({statement.note for statement in alike}) == 1 else ""
        return replace(first, head=found[0], arguments=arguments, keywords=keywords, options=options, note=note)

    # --- the function and its calls --------------------------------------------------------------------------------

    def arrays(self, instance: int) -> list[Token]:
        """The arrays of others that a call passes."""
        return [vector[instance] for vector in self.given.values() if not isinstance(vector[0], Value)]

    def values(self, instance: int) -> Keywords:
        """The values that a call passes, by name."""
        pairs = ((name, vector[instance]) for name, vector in self.given.items() if isinstance(vector[0], Value))
        named = [(name, replace(token, title=name.rstrip("0123456789"))) for name, token in pairs]  # type: ignore[type-var]
        if not self.also:
            return tuple(named)
        if self._are_keywords:
            return (*named, *self.options[instance])
        return (*named, (self.also, _dictionary(self.options[instance])))

    def defaults(self) -> dict[str, str]:
        """What a value is in more than half of all instances."""
        found = {}
        for name, vector in self.given.items():
            if any(isinstance(token, Value) and token.kind == OPTIONS for token in vector):
                continue  # a dictionary is no default: all calls would share it
            texts = Counter(token.text for token in vector if isinstance(token, Value))
            if texts and texts.most_common(1)[0][1] * 2 > len(vector):
                found[name] = texts.most_common(1)[0][0]
        return found

    def signature(self) -> Iterator[str]:
        """The parameters in order: those with defaults last."""
        defaults = self.defaults()
        yield from (name for name, vector in self.given.items() if not isinstance(vector[0], Value))
        yield from (n for n, vector in self.given.items() if isinstance(vector[0], Value) and n not in defaults)
        if self.also and not self._are_keywords:
            yield self.also
        yield from (f"{name}={text}" for name, text in defaults.items())
        if self.also and self._are_keywords:
            yield f"**{self.also}"

    @property
    def _are_keywords(self) -> bool:
        """Whether options can be keywords of the function: none is called as one of its parameters."""
        return not {name for each in self.options for name, _ in each} & {
            *self.given,
            "a",
            "w",
            "g",
            "s",
            "at",
            "place",
        }

    # --- what differs ----------------------------------------------------------------------------------------------

    def _keywords(self, alike: Sequence[Keywords]) -> tuple[Keywords, str]:
        """(keywords that all instances have, the name of what has the others)."""
        found = [dict(keywords) for keywords in alike]
        common = [name for name in found[0] if all(name in each for each in found)]
        kept = tuple((name, self._token(tuple(each[name] for each in found))) for name in common)
        rest = tuple(tuple(pair for pair in keywords if pair[0] not in common) for keywords in alike)
        if not any(rest):
            return kept, ""
        if not self.also:
            self.also, self.options = self._free("options"), rest
        if rest == self.options:
            return kept, self.also
        return kept, self._name(tuple(_dictionary(each) for each in rest), "options")

    def _token(self, tokens: Vector) -> Token:
        first = tokens[0]
        match first:
            case str():
                return first
            case Ref() | Key() if first.inside(self.paths[0]):
                return first
            case Words():
                return self._words([token for token in tokens if isinstance(token, Words)])
            case Key() if not first.path and len(set(tokens)) == 1:
                return first
            case Value() if len({token.text for token in tokens if isinstance(token, Value)}) == 1:
                return first
            case Value(title=title):
                return self._name(tokens, title)
            case Ref(role=role):
                return self._name(tokens, role)
        return self._name(tokens, "of")

    def _words(self, alike: Sequence[Words]) -> Token:
        """One string for several: with parameters in it where they differ in numbers, else a parameter itself."""
        whole = tuple(Value(each.text, "shape") for each in alike)
        shapes = {tuple(piece if isinstance(piece, str) else None for piece in each.pieces) for each in alike}
        if len(shapes) > 1 or whole in self.names:
            return self._name(whole, "shape")
        found = [self._token(row) for row in zip(*(each.pieces for each in alike), strict=True)]
        pairs = zip(found, alike[0].pieces, strict=True)
        return Words(tuple(Name(new) if isinstance(new, str) and new != old else old for new, old in pairs))

    def _name(self, tokens: Vector, title: str) -> str:
        """The name of the parameter for what differs so."""
        vector = tuple(_plain(token) for token in tokens)
        if vector not in self.names:
            self.names[vector] = name = self._free(title)
            self.given[name] = tokens
        return self.names[vector]

    def _free(self, title: str) -> str:
        """The title, or with a number behind it where a parameter has that name."""
        name, number = title, 2
        while name in self.given or name == self.also:
            name, number = f"{title}{number}", number + 1
        return name


def _dictionary(keywords: Keywords) -> Value:
    told = ", ".join(f"{name}={token.text}" for name, token in keywords if isinstance(token, Value))
    return Value(f"dict({told})", "options", OPTIONS)


def _plain(token: Token) -> Token:
    """A token without what it is called: numbers, whatever they count, are one parameter where they are the same."""
    match token:
        case Ref():
            return replace(token, role="x")
        case Value(kind=kind):
            return replace(token, title="" if kind == NUMBER else token.title)
    return token
