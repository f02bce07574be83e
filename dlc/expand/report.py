"""How the mistakes of an expansion are reported: once for each place, and not without end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dlc.diagnostics import Diagnostic, DiagnosticError, Diagnostics, Span, similar
from dlc.messages import e02_names as messages

Report = Callable[[Diagnostic], None]

MOST_MISTAKES = 100
MOST_CANDIDATES = 1000


@dataclass(slots=True)
class OncePerPlace:
    """Reports a code once for each place, however often, and by whatever way, that place is expanded.

    After a hundred errors the stage ends (DiagnosticError): nobody reads more, and hostile input could go on for long.
    """

    diagnostics: Diagnostics
    errors: int = 0
    seen: set[tuple[str, Span | None]] = field(default_factory=set)

    def __call__(self, diagnostic: Diagnostic) -> None:
        """Keep a message, if it is the first of its code at its place."""
        key = (diagnostic.code, diagnostic.primary.span if diagnostic.primary else None)
        if key in self.seen:
            return
        self.seen.add(key)
        self.diagnostics.items.append(diagnostic)
        self.errors += diagnostic.is_error
        if self.errors >= MOST_MISTAKES:
            raise DiagnosticError(self.diagnostics.items)


ELSEWHERE: Mapping[str, str] = {
    "avg_pool": "avgpool",
    "batch_norm": "bn",
    "batchnorm": "bn",
    "cat": "concat",
    "dense": "linear",
    "depthwise": "depthwise_conv",
    "fc": "linear",
    "gap": "global_avgpool",
    "max_pool": "maxpool",
    "swish": "silu",
    "view": "reshape",
}
"""What other libraries call operators -> their names here."""


def undefined(name: str, span: Span, where: str, known: Mapping[str, str]) -> Diagnostic:
    """E0201, with the nearest known name; `known` maps names to what they are: a value, an operator."""
    near = similar(name, known) if len(known) <= MOST_CANDIDATES else None
    helps = (f"there is {known[near]} with a similar name: `{near}`",) if near else ()
    if name.lower() in ("true", "false"):
        helps = (f"the two truth values are `yes` and `no`: write `{'yes' if name.lower() == 'true' else 'no'}`",)
    elif ELSEWHERE.get(name.lower()) in known:
        helps = (f"it is called `{ELSEWHERE[name.lower()]}` here",)
    return messages.UNDEFINED.at(span, name=name, where=where, helps=helps)
