"""Plain-text tables: columns as wide as their widest cell, numbers to the right."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> str:
    """Header, a rule, rows; the columns in `right` are aligned to the right, columns without any text are left out."""
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)] or list(range(len(header)))
    widths = {i: max(len(row[i]) for row in (header, *rows)) for i in kept}

    def line(cells: Sequence[str]) -> str:
        return "  ".join(cells[i].rjust(widths[i]) if i in right else cells[i].ljust(widths[i]) for i in kept).rstrip()

    return "\n".join([line(header), "  ".join("-" * widths[i] for i in kept), *map(line, rows)])


def percent(share: float) -> str:
    """`27 %`, `1.3 %`, `0.04 %`: two digits, all before the point."""
    text = f"{100 * share:.0f}" if abs(share) >= 0.0995 else f"{100 * share:.2g}"
    return f"{text} %"
