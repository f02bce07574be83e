"""Started under mpiexec with the folder of the package `runtime`: small values, rows, messages, shared memory."""

import sys

import numpy as np

sys.path.insert(0, sys.argv[1])

from runtime.mpi_world import MpiWorld

world = MpiWorld()
rank, size = world.rank, world.size

for value in (None, 3, [1, {"two": 2.5}], b"\x00bytes", "ü" * 10_000):
    for root in range(size):
        assert world.bcast(value if rank == root else "other", root) == value
assert world.allgather(rank) == list(range(size))
assert world.gather(rank, size - 1) == (list(range(size)) if rank == size - 1 else None)

array = np.full((3, 2), float(rank))
world.broadcast(array, size - 1, "weights")
assert (array == size - 1).all()

counts = [2 if r else 3 for r in range(size)]
rows = world.gather_rows(np.full((counts[rank], 4), rank, np.float32), counts)
assert (rows is None) == (rank > 0)
if rows is not None:
    assert rows[:, 1].tolist() == [r for r in range(size) for _ in range(counts[r])]

right, left = (rank + 1) % size, (rank - 1) % size
large = np.full(1 << 20, float(rank))  # beyond what MPI sends without the receiver
other = np.empty_like(large)
world.exchange(large, right, other, left, "ring")
assert (other == left).all()

shared = world.shared_array((size, 5), np.int64, "shared")
assert not shared.any()
world.barrier()
shared[rank] = rank
world.barrier()
assert (shared == np.arange(size)[:, None]).all()

half = world.bucket("half", 9, np.float16, "butterfly")
half[:] = 0.5
world.allreduce(half, "butterfly", "half")
assert (half == size / 2).all()

world.barrier()
if rank == 0:
    print("done")
