"""How fast a machine is against when its profile was made, beside predictions by that profile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

NOTABLE = 0.1
"""A machine whose speed differs by so much explains errors of that size."""

NAMES = {"products": "matrix products", "copies": "copies", "calls": "calls"}


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of one thread now over a profile's usual ones: above 1 the machine is slower."""

    products: float
    copies: float
    calls: float


def speed_lines(before: Speed | None, after: Speed | None) -> Iterator[str]:
    """How long readings took before and behind the programs; nothing where a profile has none."""
    found = [asdict(each) for each in (before, after) if each is not None]
    if not found:
        return
    ratios = {name: [each[key] for each in found] for key, name in NAMES.items()}
    each = ", ".join(f"{name} {' and '.join(f'{ratio:.2f}' for ratio in all_)}" for name, all_ in ratios.items())
    yield f"what this machine takes before and behind, over its usual time in the profile: {each}"
    if any(abs(ratio - 1.0) > NOTABLE for all_ in ratios.values() for ratio in all_):
        yield "its speed is not that of when it was calibrated: errors of that size may be the machine's"


def speed_document(before: Speed | None, after: Speed | None) -> dict[str, object]:
    """The same as JSON."""
    told = (("before", before), ("behind", after))
    return {"speed": {name: None if each is None else asdict(each) for name, each in told}}
