"""Instruction sets that C is generated for: vector width, number of registers, the compiler's flags."""

from __future__ import annotations

from dataclasses import dataclass

from backends.numpy_mpi.kernels.native import processor

WIDTHS = {"f32": 4, "f64": 8}
"""Bytes of an element."""


@dataclass(frozen=True, slots=True)
class Target:
    """An instruction set: bytes of a vector, how many vector registers there are, the compiler's flags for it."""

    name: str
    vector_bytes: int
    registers: int
    flags: tuple[str, ...] = ()

    def lanes(self, dtype: str) -> int:
        """Elements of a vector."""
        return self.vector_bytes // WIDTHS[dtype]

    def pixels(self, vectors: int) -> int:
        """The most rows of `vectors` accumulators that leave registers for as many operands and one broadcast."""
        return max(1, (self.registers - vectors - 1) // vectors)


AVX512 = Target(
    "avx512", 64, 32, ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512")
)
AVX2 = Target("avx2", 32, 16, ("-mavx2", "-mfma"))
NEON = Target("neon", 16, 32)
PLAIN = Target("plain", 16, 16)
"""Vectors of 16 bytes that the compiler makes of what there is."""

TARGETS = {target.name: target for target in (AVX512, AVX2, NEON, PLAIN)}


FEATURES = {"avx512": ("avx512f", "avx512dq", "avx512bw", "avx512vl"), "avx2": ("avx2", "fma"), "neon": ("asimd",)}
"""What /proc/cpuinfo calls the instructions of a target."""


def target_at_hand() -> Target:
    """The widest target whose instructions this machine has; `PLAIN` where it does not tell."""
    known = set(processor().split())
    return next((t for t in (AVX512, AVX2, NEON) if known.issuperset(FEATURES[t.name])), PLAIN)


def tiles(target: Target, vectors: int, pixels: int) -> tuple[tuple[int, int], ...]:
    """Tiles (pixels, vectors) of accumulators for results of so many vectors and pixels in a row, best first.

    A tile costs its accumulators and, at a third each, its loads; what it computes beyond the result is lost.
    """
    found = {(min(target.pixels(v), pixels), v) for v in range(1, min(4, vectors) + 1)}
    even = {(-(-pixels // -(-pixels // p)), v) for p, v in found}
    return tuple(sorted(even, key=lambda tile: (_cost(tile, vectors, pixels), tile)))


def _cost(tile: tuple[int, int], vectors: int, pixels: int) -> float:
    """Relative time of a row of results."""
    p, v = tile
    full, rest = divmod(vectors, v)
    steps = -(-pixels // p)
    return steps * (full * _step(p, v) + (_step(p, rest) if rest else 0))


def _step(pixels: int, vectors: int) -> float:
    """Relative time of one step of a tile: a multiplication for each accumulator, weights twice as dear as pixels."""
    return max(4, pixels * vectors) + (pixels + 2 * vectors) / 3
