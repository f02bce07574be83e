"""How fast a machine is against when its profile was made, beside predictions by that profile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

NOTABLE = 0.1
"""A machine whose speed differs by so much explains errors of that size."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of one thread now over a profile's usual ones: above 1 the machine is slower. None of what it lacks."""

    products: float | None = None
    copies: float | None = None
    calls: float | None = None

    @property
    def known(self) -> tuple[tuple[str, float], ...]:
        """What there is, with its name."""
        each = (("matrix products", self.products), ("copies", self.copies), ("calls", self.calls))
        return tuple((name, found) for name, found in each if found is not None)


def speed_lines(before: Speed | None, after: Speed | None) -> Iterator[str]:
    """What was timed before and behind the programs; nothing where there is no profile."""
    found = [each.known for each in (before, after) if each is not None]
    if not any(found):
        return
    ratios = {name: [dict(each)[name] for each in found if name in dict(each)] for name, _ in found[0]}
    each = ", ".join(f"{name} {' and '.join(f'{ratio:.2f}' for ratio in all_)}" for name, all_ in ratios.items())
    yield f"readings of the machine's speed, before and behind, in its usual times: {each}"
    if any(abs(ratio - 1.0) > NOTABLE for all_ in ratios.values() for ratio in all_):
        yield "the machine is not as fast as when it was calibrated: errors of that size say nothing of the formulas"


def speed_document(before: Speed | None, after: Speed | None) -> dict[str, object]:
    """The same as JSON: seconds now over those in the profile."""
    told = (("before", before), ("behind", after))
    return {"speed": {name: None if each is None else asdict(each) for name, each in told}}
