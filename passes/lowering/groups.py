"""Batch norm over groups of samples that lie on several ranks: what is summed between its phases."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phase:
    """One kernel of a phased op: the roles that it needs and gives, and those of them that are summed over ranks."""

    name: str
    needs: tuple[str, ...]
    gives: tuple[str, ...]
    summed: tuple[str, ...] = ()


GROUP_PHASES = {
    "forward": (
        Phase("sums", ("x",), ("sums",), ("sums",)),
        Phase("squares", ("x", "sums"), ("squares",), ("squares",)),
        Phase("apply", ("x", "scale", "shift", "sums", "squares"), ("y", "batch_mean", "batch_rstd")),
    ),
    "dx": (
        Phase("grad_sums", ("dy", "x", "batch_mean", "batch_rstd"), ("dy_sums", "dyx_sums"), ("dy_sums", "dyx_sums")),
        Phase(
            "grad_apply",
            ("dy", "x", "scale", "batch_mean", "batch_rstd", "dy_sums", "dyx_sums"),
            ("dx", "dscale", "dshift"),
        ),
    ),
}
