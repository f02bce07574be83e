"""Sums over each channel of a group in C, and functions that go through the groups."""

from __future__ import annotations

from dataclasses import dataclass

from .bn_groups import BLOCK, CHUNK, GROUPS, NARROW, SMALL, SPAN, WIDE, WIDEST, Make, Names, parameters
from .source import CFunction, fill
from .target import Target

SUMS = """\
/* $what: so many rows `together`, added to `sums` of channels. */
static inline __attribute__((always_inline)) void ${sums}_add($declared, const $real *restrict mean, long apart,
    long width, long together, $real *restrict sums)
{
    #pragma omp simd
    for (long c = 0; c < width; c++) {
        $real $zeros;
        UNROLL for (long k = 0; k < together; k++) {
            const long i = k * apart + c;
            $row_terms
        }
        $row_totals
    }
}

/* The same over a stretch of one channel. */
static inline void ${sums}_stretch($declared, $real middle, long length, double *restrict sums)
{
    for (long from = 0; from < length; from += $chunk) {
        const long to = least(length, from + $chunk);
        $real $zeros;
        #pragma omp simd reduction(+ : $names)
        for (long i = from; i < to; i++) {
            $stretch_terms
        }
        $stretch_totals
    }
}

/* One group with channels innermost: parts of segments of rows, then their sums. */
static inline void ${sums}_rows($declared, const $real *restrict mean, $targets, $real *restrict parts,
    long rows, long channels, long segments)
{
    #pragma omp parallel if (rows * channels > $small)
    {
        #pragma omp for collapse(2) schedule(static)
        for (long s = 0; s < segments; s++)
            for (long c = 0; c < channels; c += $block) {
                const long from = rows * s / segments, to = rows * (s + 1) / segments;
                const long width = least($block, channels - c), chunk = most(64, $chunk / width);
                double total[$outs * $block] = {0};
                for (long r = from; r < to; r += chunk) {
                    const long end = least(to, r + chunk);
                    $real sums[$outs * $block];
                    for (long i = 0; i < $outs; i++)
                        memset(sums + i * $block, 0, width * sizeof *sums);
                    long k = r;
                    for (; k + 4 <= end; k += 4) {
                        const long at = k * channels + c;
                        ${sums}_add($passed_at, mean + c, channels, width, 4, sums);
                    }
                    for (; k < end; k++) {
                        const long at = k * channels + c;
                        ${sums}_add($passed_at, mean + c, channels, width, 1, sums);
                    }
                    for (long i = 0; i < $outs; i++)
                        for (long j = i * $block; j < i * $block + width; j++)
                            total[j] += sums[j];
                }
                for (long i = 0; i < $outs; i++)
                    for (long j = 0; j < width; j++)
                        parts[(s * $outs + i) * channels + c + j] = ($real)total[i * $block + j];
            }
        #pragma omp for schedule(static)
        for (long c = 0; c < channels; c += $block) {
            const long width = least($block, channels - c);
            double total[$outs * $block] = {0};
            for (long s = 0; s < segments * $outs; s++)
                for (long i = 0; i < width; i++)
                    total[s % $outs * $block + i] += parts[s * channels + c + i];
            for (long i = 0; i < width; i++) {
                $finished_rows
            }
        }
    }
}
"""

BLOCK_SUMS = """\
/* The sums of a block of channels over so many samples, `apart`, of `rows` rows. */
static inline __attribute__((always_inline)) void ${sums}_block($declared, const $real *restrict mean, long samples,
    long apart, long rows, long block, double *restrict total)
{
    for (long i = 0; i < samples; i++)
        for (long r = 0; r < rows; r += $chunk / 16) {
            const long end = least(rows, r + $chunk / 16);
            $real sums[$outs * $block];
            for (long j = 0; j < $outs; j++)
                for (long c = 0; c < block; c++)
                    sums[j * $block + c] = 0;
            long k = r;
            for (; k + 8 <= end; k += 8) {
                const long at = i * apart + k * block;
                ${sums}_add($passed_at, mean, block, block, 8, sums);
            }
            for (; k < end; k++) {
                const long at = i * apart + k * block;
                ${sums}_add($passed_at, mean, block, block, 1, sums);
            }
            for (long j = 0; j < $outs; j++)
                for (long c = 0; c < block; c++)
                    total[j * $widest + c] += sums[j * $block + c];
        }
}
"""

SPAN_SUMS = """\
/* One group in any layout. */
static inline void ${sums}_span($declared, const $real *restrict mean, $targets, $real *restrict parts,
    struct bn_span span, long n, long channels, long pixels, long order, long segments)
{
    if (!order) {
        const long at = span.from * pixels * channels;
        ${sums}_rows($passed_at, mean, $target_names, parts, (span.to - span.from) * pixels, channels, segments);
        return;
    }
    const struct bn_place place = bn_place(span, n, channels, pixels, order);
    #pragma omp parallel for schedule(static) if (place.rows * place.length * channels > $small)
    for (long c = 0; c < channels; c++) {
        double total[$outs] = {0};
        for (long r = 0; r < place.rows; r++) {
            const long at = place.begin + c * place.channel_apart + r * place.apart;
            ${sums}_stretch($passed_at, $middle, place.length, total);
        }
        $finished
    }
}
"""

TABLE = """\
/* $title */
void $name($parameters, $real *restrict scratch, long n, long channels, long pixels, long order, long group, long count,
    long position, long first, long whole, long rows, long width, long segments)
{
$start    for (long from = 0; from < n;) {
        const struct bn_span span = bn_span(from, n, group, count, position, first, whole);
        const long at = span.row * width;
        from = span.to;
$body    }
}
"""


@dataclass(frozen=True, slots=True)
class Sums:
    """What is summed up for each channel: the name of its functions, arrays that are read, a term for each sum.

    Terms are of element i of the arrays and of the channel's `mean`.
    """

    name: str
    what: str
    reads: tuple[str, ...]
    terms: tuple[str, ...]
    targets: tuple[str, ...]
    gradient: str = ""

    def values(self, target: Target, real: str) -> dict[str, object]:
        """What templates are filled with."""
        numbered = tuple(enumerate(self.terms))
        return {
            "real": real,
            "lanes": target.lanes(real),
            "sums": f"{real}_{self.name}",
            "what": self.what,
            "block": BLOCK,
            "chunk": CHUNK,
            "small": SMALL,
            "narrow": NARROW,
            "wide": WIDE,
            "widest": WIDEST,
            "gradient": self.gradient,
            "declared": ", ".join(f"const {real} *restrict {name}" for name in self.reads),
            "passed": ", ".join(self.reads),
            "passed_at": ", ".join(f"{name} + at" for name in self.reads),
            "targets": ", ".join(f"{real} *restrict {name}" for name in self.targets),
            "target_names": ", ".join(self.targets),
            "outs": len(self.terms),
            "names": ", ".join(f"s{k}" for k, _ in numbered),
            "zeros": ", ".join(f"s{k} = 0" for k, _ in numbered),
            "middle": "mean[c]" if any("$mean" in term for term in self.terms) else "0",
            "row_terms": " ".join(f"s{k} += {term};" for k, term in numbered).replace("$mean", "mean[c]"),
            "stretch_terms": " ".join(f"s{k} += {term};" for k, term in numbered).replace("$mean", "middle"),
            "row_totals": " ".join(f"sums[{k * BLOCK} + c] += s{k};" for k, _ in numbered),
            "stretch_totals": " ".join(f"sums[{k}] += s{k};" for k, _ in numbered),
            "finished_rows": " ".join(
                f"{name}[c + i] = ({real})total[{k * BLOCK} + i];" for k, name in enumerate(self.targets)
            ),
            "finished": " ".join(f"{name}[c] = ({real})total[{k}];" for k, name in enumerate(self.targets)),
        }

    def shared(self, target: Target, real: str, *texts: str) -> tuple[str, ...]:
        """Texts that functions share."""
        return (SPAN, *(fill(text, **self.values(target, real)) for text in texts))


def phase(op: str, title: str, sums: Sums, body: str, reads: Names, writes: Names, *texts: str) -> Make:
    """A function that goes through the groups; what it writes is zero where no group is at hand."""
    extents = {"dx": "", "dscale": "channels", "dshift": "channels"}

    def make(target: Target, real: str) -> CFunction:
        zeroed = {name: extents.get(name, "rows * width") for name in writes}
        start = "".join(f"    memset({n}, 0, {extent} * sizeof *{n});\n" for n, extent in zeroed.items() if extent)
        values = sums.values(target, real) | {"name": f"{op}_{real}", "title": title, "start": start}
        text = fill(TABLE, **values, body=body, parameters=parameters(real, reads, writes))
        numbers = (*GROUPS, "rows", "width", "segments")
        shared = sums.shared(target, real, *texts)
        return CFunction(f"{op}_{real}", text, (*reads, *writes, "scratch"), numbers, shared=shared)

    return make
