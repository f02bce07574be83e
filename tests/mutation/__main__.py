"""`python -m tests.mutation [COUNT [BASE …]]`: plants COUNT faults of each kind in each base (12: some 6,000) and says
what became of them: how many the static check rejects, and each one that only a run shows, or nothing does."""

from __future__ import annotations

import os
import sys

from tests.mutation.bases import NAMES
from tests.mutation.judging import mutants, report


def main(arguments: list[str]) -> int:
    """1 where a fault survives."""
    count, names = int(arguments[0]) if arguments else 12, tuple(arguments[1:]) or NAMES
    found = list(mutants(count, names))
    print(report(found))
    return int(any(mutant.verdict == "survived" for mutant in found))


if __name__ == "__main__":
    os.environ.setdefault("DLC_KERNELS", "numpy")
    raise SystemExit(main(sys.argv[1:]))
