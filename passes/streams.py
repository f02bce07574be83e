"""Random streams of ops: keyed by the seed and an address, so that no plan changes what is drawn."""

from __future__ import annotations

from hashlib import sha256


def stream_key(seed: int, address: str) -> tuple[int, int]:
    """The key of an op's stream of random numbers, as the kernels' `philox.key` makes it."""
    digest = sha256(f"{seed}:{address}".encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")
