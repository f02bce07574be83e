"""A profile that was measured in parts: what is new takes the place of what was there."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from typing import TypeVar

from dlc.calibration.measure import with_spread
from dlc.cost.profile import Profile

Row = TypeVar("Row")


def joined(old: Profile, new: Profile) -> Profile:
    """Both of them; of what both have, the new. Their machine is the same."""
    return with_spread(
        replace(
            new,
            call=new.call if new.call is not None else old.call,
            launch=new.launch if new.launch is not None else old.launch,
            copies=_rows(old.copies, new.copies, lambda each: each.way),
            usual=new.usual if new.usual is not None else old.usual,
            own=new.own if new.own is not None else old.own,
            bandwidth=new.bandwidth or old.bandwidth,
            gemm=_rows(old.gemm, new.gemm, lambda table: (table.dtype, table.threads)),
            samples=_rows(old.samples, new.samples, lambda each: (each.key, each.kernels, each.threads)),
            rates=_rows(old.rates, new.rates, lambda each: each.threads),
            messages=_rows(old.messages, new.messages, lambda each: (each.kind, each.algorithm, each.ranks)),
        )
    )


def _rows(old: Iterable[Row], new: Iterable[Row], key: Callable[[Row], Hashable]) -> tuple[Row, ...]:
    return tuple({key(row): row for rows in (old, new) for row in rows}.values())
