"""What every allreduce must do, on whatever world: shared by the tests on threads and those under MPI."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

LENGTHS = (0, 1, 2, 3, 7, 1000, 100_000)
DTYPES = ("float32", "float64")
ALGORITHMS = ("tree", "butterfly", "ring", "rabenseifner", "shared", "mpi")


def values_of(rank: int, length: int, dtype: str) -> np.ndarray[Any, Any]:
    """What a rank brings; differs in magnitude between ranks, so that the order of additions shows in the bits."""
    generator = np.random.Generator(np.random.Philox(key=[rank, length]))
    return (generator.standard_normal(length) * 10.0 ** (rank % 5)).astype(dtype)


def check_world(world: Any, algorithms: tuple[str, ...] = ALGORITHMS, lengths: tuple[int, ...] = LENGTHS) -> int:
    """Runs all cases twice on the same buckets; raises AssertionError on the first that fails; returns their number."""
    cases = 0
    for dtype in DTYPES:
        for length in lengths:
            contributions = [values_of(rank, length, dtype) for rank in range(world.size)]
            expected = np.sum(np.asarray(contributions, np.float64), axis=0)
            scale = np.sum(np.abs(np.asarray(contributions, np.float64)), axis=0)
            for algorithm in algorithms:
                name = f"{algorithm}.{dtype}.{length}"
                bucket = world.bucket(name, length, dtype, algorithm)
                assert bucket.shape == (length,), name
                assert not bucket.any(), name
                digests = []
                for _ in range(2):
                    bucket[...] = contributions[world.rank]
                    world.allreduce(bucket, algorithm, name)
                    error = np.abs(bucket - expected)
                    assert np.all(error <= world.size * np.finfo(dtype).eps * scale), (name, world.size)
                    digests.append(hashlib.sha256(bucket.tobytes()).hexdigest())
                everywhere = world.allgather(digests)
                assert all(rank == [digests[0]] * 2 for rank in everywhere), (name, world.size, everywhere)
                cases += 1
    return cases
